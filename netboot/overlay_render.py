"""Overlays → what one node gets of them; what does not depend on the node is rendered once for all nodes."""

import hashlib
import os
import stat
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from netboot.engine import Output, RenderContext, Rendering, Server
from netboot.engines import render, suffix_of
from netboot.head_files import FileCache, FileRead, NotedFiles
from netboot.node import Node
from netboot.overlay import Item, Overlay, checked, is_our_own
from netboot.reads import ReadPath, Trace, digest
from netboot.seen_server import Place, SeenServer

OWN_INIT = "wwinit"
"""Warewulf's overlay of that name brings its init; ours is part of every image, so that /init of a site's copy is left out."""
COMMON = frozenset(("nodes", "server"))
"""What a template may read without being the node's own."""
MAX_TEMPLATES = 1024
"""Templates of which something is kept; each edit of one makes another."""
MAX_KINDS, MAX_RESULTS, MAX_OF_ALL_NODES = 8, 256, 2
"""Results kept of one template: sets of reads, and values of each; one that tells of all nodes may be a megabyte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    """What a node gets, by path, what is taken off it, and all that this depended on beyond the overlays themselves."""

    items: Mapping[bytes, Item]
    removals: Sequence[bytes] = ()
    reads: frozenset[ReadPath] = frozenset()
    files: frozenset[FileRead] = frozenset()


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """What one item of an overlay becomes on a node: itself, or what its template makes."""

    items: tuple[Item, ...]
    reads: frozenset[ReadPath]
    files: frozenset[FileRead]


_Key = tuple[object, ...]
_Kind = tuple[frozenset[ReadPath], frozenset[FileRead]]


class Results:
    """What templates made, by what they had read: `Renderer`s that follow one another share it. For several threads."""

    def __init__(self) -> None:
        self.files = FileCache()
        self._kept: dict[_Key, dict[_Kind, dict[bytes, Made]]] = {}
        self._lock = threading.Lock()
        self._making: dict[_Key, threading.Lock] = {}
        self.places = 1
        """On how many networks nodes see the head node, each by another address."""

    def making(self, key: _Key) -> threading.Lock:
        """Held while a template is rendered: of a cluster that boots at once, one node does what all need."""
        with self._lock:
            while len(self._making) >= MAX_TEMPLATES:
                del self._making[next(iter(self._making))]
            return self._making.setdefault(key, threading.Lock())

    def find(self, key: _Key, values: Callable[[frozenset[ReadPath]], bytes]) -> Made | None:
        with self._lock:
            kinds = list(self._kept.get(key, {}).items())
        for (reads, files), by_values in kinds:
            found = by_values.get(values(reads))
            if found is not None and self.are_current(files):
                return found
        return None

    def keep(self, key: _Key, made: Made, values: bytes) -> None:
        if ("node", "id") in made.reads:
            return
        with self._lock:
            while len(self._kept) >= MAX_TEMPLATES:
                del self._kept[next(iter(self._kept))]
            kinds = self._kept.setdefault(key, {})
            by_values = kinds.setdefault((made.reads, made.files), {})
            by_values[values] = made
            # The oldest go first: dictionaries keep their order.
            limit = (MAX_OF_ALL_NODES if any(path[0] == "nodes" for path in made.reads) else MAX_RESULTS) * self.places
            while len(by_values) > limit:
                del by_values[next(iter(by_values))]
            while len(kinds) > MAX_KINDS:
                del kinds[next(iter(kinds))]

    def are_current(self, reads: Iterable[FileRead]) -> bool:
        """Whether every file of the head node holds what it held then."""
        return all(self.files.look(read)[1] == read.digest for read in reads)


class Renderer:
    """Renders for the nodes and the head node as they are at one moment."""

    def __init__(
        self, nodes: Sequence[Node], server: Server, *, places: Sequence[Place] = (), results: Results | None = None
    ) -> None:
        """`server` is the head node on the boot network, and `places` are its other networks."""
        self.nodes = nodes
        self.seen = SeenServer(server, places)
        self.results = results or Results()
        self.results.places = 1 + len(places)
        self._context = RenderContext(node=Node(), nodes=nodes, server=server)
        self._common: dict[tuple[int, frozenset[ReadPath]], bytes] = {}
        self._of_nodes: dict[frozenset[ReadPath], bytes] = {}
        self._lock = threading.Lock()

    def context(self, node: Node, *, kernel_version: str = "", now: datetime | None = None) -> RenderContext:
        """What a template of no overlay in particular would see."""
        return replace(self._context, node=node, server=self.seen.by(node), kernel_version=kernel_version, now=now)

    def render(self, overlays: Sequence[Overlay], context: RenderContext) -> Placed:
        """What the overlays put on the context's node, by path; a later overlay wins. Raises OverlayError."""
        placed: dict[bytes, Item] = {}
        removals: dict[bytes, None] = {}
        reads: set[ReadPath] = set()
        files: set[FileRead] = set()
        for overlay in overlays:
            for path in overlay.removals:
                for below in [known for known in placed if known == path or known.startswith(path + b"/")]:
                    del placed[below]
                removals[path] = None
            named = replace(context, overlay=overlay.name)
            for item in overlay.items:
                made = self.make(item, named)
                reads |= made.reads
                files |= made.files
                for one in made.items:
                    if overlay.name == OWN_INIT and is_our_own(one.path):
                        continue
                    placed[checked(overlay.name, one.path)] = one
                    if not stat.S_ISDIR(one.mode):
                        removals.pop(one.path, None)
        return Placed(items=placed, removals=tuple(removals), reads=frozenset(reads), files=frozenset(files))

    def values(self, reads: Iterable[ReadPath], context: RenderContext) -> bytes:
        """A digest of what the context says at these paths; the part that all nodes of a network share is worked out once."""
        common = frozenset(path for path in reads if path[0] in COMMON)
        own = digest((path for path in reads if path[0] not in COMMON), context)
        key = int(context.server.address), common
        with self._lock:
            found = self._common.get(key)
            if found is None:
                found = self._common[key] = self._digest_common(common, context)
        return hashlib.sha256(own + found).digest()

    def _digest_common(self, common: frozenset[ReadPath], context: RenderContext) -> bytes:
        """What is read of all nodes is the same on every network, and takes long."""
        of_nodes = frozenset(path for path in common if path[0] == "nodes")
        found = self._of_nodes.get(of_nodes)
        if found is None:
            found = self._of_nodes[of_nodes] = digest(of_nodes, context)
        return found + digest(common - of_nodes, context)

    def make(self, item: Item, context: RenderContext) -> Made:
        """What one item of the context's overlay becomes. Raises OverlayError."""
        path = os.fsdecode(item.path)
        if not stat.S_ISREG(item.mode) or suffix_of(path) is None:
            return Made(items=(item,), reads=frozenset(), files=frozenset())
        key = (context.overlay, *item.fingerprint())
        with self.results.making(key):
            found = self.results.find(key, lambda reads: self.values(reads, context))
            if found is None:
                trace, files = Trace(), NotedFiles(self.results.files)
                rendering = render(item.content, context, trace, files, path=path)
                reads = frozenset(trace.paths)
                found = Made(items=_items(item, rendering, reads), reads=reads, files=frozenset(files.reads))
                self.results.keep(key, found, self.values(reads, context))
            return found


def _items(template: Item, rendering: Rendering, reads: frozenset[ReadPath]) -> tuple[Item, ...]:
    if rendering.aborted:
        return ()
    alike = all(path[0] in COMMON for path in reads)
    return tuple(_item(template, output, alike=alike) for output in rendering.outputs)


def _item(template: Item, output: Output, *, alike: bool) -> Item:
    path = os.fsencode(output.path.lstrip("/"))
    if output.target is not None:
        content, mode = os.fsencode(output.target), stat.S_IFLNK | 0o777
    else:
        content, mode = output.text.encode(errors="surrogateescape"), template.mode
    known = hashlib.sha256(content).hexdigest() if alike else ""
    return replace(template, path=path, mode=mode, content=content, alike=alike, digest=known)


def render_items(overlays: Sequence[Overlay], context: RenderContext) -> Placed:
    """For one node alone. Raises OverlayError."""
    return Renderer(context.nodes, context.server).render(overlays, context)
