"""What a node gets: its generation, its kernel and its overlays, as files to send; built on demand, one at a time per node."""

import asyncio
import logging
import os
import threading
import time
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakKeyDictionary

from bootsvc import overlays
from bootsvc.config import Config
from bootsvc.overlay_build import Builder, Target
from bootsvc.overlays import HeadNode
from bootsvc.registry import Registry
from images import cpio, index
from images.atomic import write_whole
from images.catalog import Catalog, ImageNotFound
from images.errors import Error
from images.generation import Generation, Kernel, end_archive
from images.generations import ImageNotBuilt
from images.interruptible import run_interruptible
from images.kernel import choose_kernel
from images.rendition import find_or_make, rendition_path
from images.view import ImageView
from netboot.errors import OverlayNotFound
from netboot.node import Node
from netboot.overlay_library import Library
from netboot.overlay_render import Renderer, Results
from netboot.urls import Stage

log = logging.getLogger(__name__)

NOTE_SECONDS = 60
"""How often it is noted on disk that the same generation was handed out again."""
MAX_GENERATIONS = 256
"""Manifests kept in memory."""
MAX_VIEWS = 8
"""Indexes of generations kept in memory; each costs some ten megabytes, and few are booted at one time."""
END = "end-"
"""Before the name of the generation in the etag of its last archive, which holds nothing but that name."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """Something to send: files with their sizes in bytes, one after the other, then zeros up to `size`; `etag` unquoted."""

    parts: Sequence[tuple[Path, int]]
    size: int
    etag: str

    @classmethod
    def of_file(cls, path: Path, etag: str) -> "Artifact":
        """One file, whole. Raises FileNotFoundError."""
        size = path.stat().st_size
        return cls(parts=((path, size),), size=size, etag=etag)

    @property
    def unpadded(self) -> "Artifact":
        """Without the zeros at the end, which old versions of gzip complain about."""
        return replace(self, size=sum(size for _, size in self.parts))


_Joined = list[asyncio.Future[Artifact | None]]
"""Those who wait for another's build; None when that was given up."""


class NoImage(Error):
    def __init__(self, node: Node) -> None:
        super().__init__(f"node {node.id} has no image", hint=f"run `wwctl node set {node.id} --image NAME`")


class NoKernel(Error):
    def __init__(self, node: Node, wanted: str) -> None:
        what = f"no kernel {wanted!r}" if wanted else "no kernel"
        super().__init__(
            f"image {node.image_name} has {what}", hint="install a kernel in the image, or correct the node's kernel version"
        )


class Artifacts:
    """`head` is asked anew for each build, because the head node's keys, configuration and addresses may change."""

    def __init__(
        self, config: Config, catalog: Catalog, registry: Callable[[], Registry], head: Callable[[], HeadNode]
    ) -> None:
        self._catalog = catalog
        library = Library(overlays.folders(config))
        self._builder = Builder(config.paths.provision / "overlays", library, self._say_once)
        self._results = Results()
        self._known_renderer: Renderer | None = None
        self.secure = config.http.secure
        """Whether runtime overlays go to privileged ports only, so that boot scripts do not name them."""
        self._registry = registry
        self._head = head
        self._generations: OrderedDict[str, Generation] = OrderedDict()
        self._ends: WeakKeyDictionary[Generation, Artifact] = WeakKeyDictionary()
        self._views: OrderedDict[str, ImageView] = OrderedDict()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._asked: dict[tuple[str, Stage, str], tuple[Node, _Joined]] = {}
        """Overlays that somebody waits to build, and who joins gets."""
        self._warned: set[str] = set()
        self._handed: dict[str, float] = {}
        self._rendering = asyncio.Lock()
        self._reading = threading.Lock()

    def generation(self, node: Node) -> Generation:
        """The current generation of the node's image, which it now has a lease of.

        Raises NoImage, ImageNotFound or ImageNotBuilt.
        """
        if not node.image_name:
            raise NoImage(node)
        for _ in range(2):  # between the two steps it may be replaced, and pruned
            digest = self._catalog.generations.current_digest(node.image_name)
            current = None if digest is None else self._known(digest)
            if current is not None and self._hand_out(current):
                return current
        if not self._catalog.exists(node.image_name):
            raise ImageNotFound(node.image_name, self._catalog.names())
        raise ImageNotBuilt(node.image_name)

    def is_current(self, node: Node, generation: str) -> bool:
        """Whether `generation` would give this one, without reading it."""
        return self._catalog.generations.current_digest(node.image_name) == generation

    def published(self, digest: str) -> Generation | None:
        """The generation of this name (`sha256:…`), current or not; whoever asks has a lease of it."""
        found = self._known(digest)
        return found if found is not None and self._hand_out(found) else None

    def _known(self, digest: str) -> Generation | None:
        """A generation never changes, so its manifest is read once; whether it is still there, `_hand_out` sees."""
        found = self._generations.get(digest)
        if found is None:
            found = self._catalog.generation(digest)
            if found is not None:
                self._generations[digest] = found
                while len(self._generations) > MAX_GENERATIONS:
                    self._generations.popitem(last=False)
        return found

    def _hand_out(self, generation: Generation) -> bool:
        """Note that a node is given this generation, so that it is not pruned for a day; False when it has gone already."""
        now = time.time()
        if now - self._handed.get(generation.digest, 0) < NOTE_SECONDS and os.path.isdir(generation.folder):
            return True
        try:
            self._catalog.generations.mark_handed(generation.digest, now)
        except FileNotFoundError:
            self._generations.pop(generation.digest, None)
            return False
        except OSError as exc:
            # A full disk is no reason not to boot.
            log.warning("that %s was handed out could not be noted: %s", generation.digest, exc)
        self._handed = {digest: at for digest, at in self._handed.items() if now - at < NOTE_SECONDS}
        self._handed[generation.digest] = now
        return True

    def kernel(self, node: Node, generation: Generation) -> Kernel:
        """The kernel that the node boots, from this generation; raises NoKernel."""
        chosen = choose_kernel(generation.manifest.kernels, node.kernel.version)
        if chosen is None:
            raise NoKernel(node, node.kernel.version)
        return chosen

    def blob(self, digest: str) -> Artifact:
        """A kernel or a segment by its digest (`sha256:…`); raises FileNotFoundError."""
        try:
            return Artifact.of_file(self._catalog.kernels.path(digest), digest)
        except FileNotFoundError:
            return Artifact.of_file(self._catalog.segments.path(digest), digest)

    def image(self, generation: Generation) -> Artifact:
        """All segments as one file; raises FileNotFoundError when the store has lost one of them."""
        missing = generation.missing()
        if missing:
            raise FileNotFoundError(f"generation {generation.digest} lacks {missing[0]}")
        return Artifact(parts=tuple(generation.image_files()), size=generation.image_size, etag=generation.digest)

    async def gzip_image(self, generation: Generation) -> Artifact:
        """The image as `gzip -d | cpio -i` takes it; made at the first call, one at a time.

        Raises RenditionFailed or StoreBusy.
        """
        stored = self._catalog.generations
        path = rendition_path(stored.provision, generation.digest)
        if not path.exists():
            async with self._rendering:
                await run_interruptible(lambda stopped: find_or_make(stored, generation, stopped))
        return Artifact.of_file(path, f"gz-{generation.digest}")

    def end(self, generation: Generation) -> Artifact:
        """The last archive of a boot, which names its generation."""
        found = self._ends.get(generation)
        if found is None:
            path = generation.folder / "end"
            if not path.exists():
                write_whole(path, end_archive(generation.digest))
            found = self._ends[generation] = Artifact.of_file(path, f"{END}{generation.digest}")
        return found

    async def overlay(self, node: Node, stage: Stage, generation: Generation) -> Artifact:
        """The node's system or runtime overlay for this generation, rendered now. Raises OverlayError."""
        key = node.id, stage, generation.digest
        while True:
            known = self._asked.get(key)
            if known is None or known[0] is not node:
                return await self._lead(key, node, stage, generation)
            # Each waits for a future of its own, because who goes away must not cancel what others wait for.
            joined: asyncio.Future[Artifact | None] = asyncio.get_running_loop().create_future()
            known[1].append(joined)
            built = await joined
            if built is not None:
                return built

    async def _lead(self, key: tuple[str, Stage, str], node: Node, stage: Stage, generation: Generation) -> Artifact:
        """Build for all who ask until it begins: what they get is as fresh as if each had built for itself."""
        joined: _Joined = []
        own = self._asked[key] = node, joined
        try:
            async with self._locks[node.id]:
                self._forget(key, own)
                built = await asyncio.to_thread(self._build_overlay, node, stage, generation)
        except BaseException as exc:
            self._forget(key, own)
            for each in joined:
                if each.done():
                    continue
                if isinstance(exc, Exception):
                    each.set_exception(exc)
                else:
                    # Only who led was cancelled.
                    each.set_result(None)
            raise
        for each in joined:
            if not each.done():
                each.set_result(built)
        return built

    def _forget(self, key: tuple[str, Stage, str], own: tuple[Node, _Joined]) -> None:
        if self._asked.get(key) is own:
            del self._asked[key]

    def _build_overlay(self, node: Node, stage: Stage, generation: Generation) -> Artifact:
        kernel = choose_kernel(generation.manifest.kernels, "")
        target = Target(
            node=node,
            stage=stage,
            generation=generation.digest,
            view=lambda: self._view(generation),
            kernel_version=kernel.version if kernel else "",
        )
        built = self._builder.build(target, self._renderer())
        length = sum(size for _, size in built.parts)
        return Artifact(parts=built.parts, size=length + len(cpio.padding(length)), etag=built.digest)

    def _renderer(self) -> Renderer:
        """The same one while nothing changes, for it knows what all nodes together say."""
        nodes, (server, places) = self._registry().nodes, self._head()
        with self._reading:
            known = self._known_renderer
            if known is None or known.nodes is not nodes or (known.seen.boot, known.seen.places) != (server, places):
                known = self._known_renderer = Renderer(nodes, server, places=places, results=self._results)
            return known

    def _say_once(self, missing: OverlayNotFound) -> None:
        if missing.name not in self._warned:
            log.warning("%s (%s)", missing.message, missing.hint)
        self._warned.add(missing.name)

    def _view(self, generation: Generation) -> ImageView:
        """The tree of a generation, for the links that overlays must follow."""
        with self._reading:  # a cluster that boots a new generation asks for it all at once
            view = self._views.get(generation.digest)
            if view is None:
                parsed = index.parse(generation.index_path.read_bytes())
                if parsed is None:
                    raise ImageNotBuilt(generation.manifest.image)
                view = self._views[generation.digest] = ImageView(parsed.entries)
            self._views.move_to_end(generation.digest)
            while len(self._views) > MAX_VIEWS:
                self._views.popitem(last=False)
            return view
