"""What a node gets: its generation, its kernel and its overlays, as files to send; built on demand, one at a time per node."""

import asyncio
import hashlib
import logging
import stat
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bootsvc.config import Config
from bootsvc.registry import Registry
from images import cpio, index
from images.catalog import Catalog, ImageNotBuilt, ImageNotFound, write_whole
from images.compress import Compression, compressor
from images.errors import Error
from images.generation import Generation, Kernel, end_archive
from images.kernel import choose_kernel
from images.view import ImageView
from netboot.errors import OverlayNotFound
from netboot.node import Node
from netboot.overlay import Overlay, load, render_items, shipped
from netboot.overlay_archive import archive
from netboot.template import RenderContext, Server
from netboot.urls import Stage

log = logging.getLogger(__name__)

MAX_VIEWS = 8
"""Indexes of generations kept in memory; each costs some ten megabytes, and few are booted at one time."""
OWN_INIT = "wwinit"
"""Warewulf's overlay of that name brings its init; ours is part of every image, so the name needs no files."""


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
    """`server` is asked anew for each build, because the head node's keys and configuration may change."""

    def __init__(
        self, config: Config, catalog: Catalog, registry: Callable[[], Registry], server: Callable[[], Server]
    ) -> None:
        self._catalog = catalog
        self._overlay_folders: Sequence[Path] = (config.paths.overlays, shipped())
        self._built = config.paths.provision / "overlays"
        self._registry = registry
        self._server = server
        self._views: OrderedDict[str, ImageView] = OrderedDict()
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._warned: set[str] = set()

    def generation(self, node: Node) -> Generation:
        """The current generation of the node's image; raises NoImage, ImageNotFound or ImageNotBuilt."""
        if not node.image_name:
            raise NoImage(node)
        current = self._catalog.current(node.image_name)
        if current is None:
            if not self._catalog.exists(node.image_name):
                raise ImageNotFound(node.image_name, self._catalog.names())
            raise ImageNotBuilt(node.image_name)
        return current

    def published(self, digest: str) -> Generation | None:
        """The generation of this name (`sha256:…`), current or not."""
        return self._catalog.generation(digest)

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

    def end(self, generation: Generation) -> Artifact:
        """The last archive of a boot, which names its generation."""
        path = generation.folder / "end"
        if not path.exists():
            write_whole(path, end_archive(generation.digest))
        return Artifact.of_file(path, f"end-{generation.digest}")

    async def overlay(self, node: Node, stage: Stage, generation: Generation) -> Artifact:
        """The node's system or runtime overlay for this generation, rendered now. Raises OverlayError."""
        async with self._locks[node.id]:
            return await asyncio.to_thread(self._build_overlay, node, stage, generation)

    def _build_overlay(self, node: Node, stage: Stage, generation: Generation) -> Artifact:
        names = node.system_overlay if stage is Stage.SYSTEM else node.runtime_overlay
        context = RenderContext(node=node, nodes=self._registry().nodes, server=self._server())
        items = render_items(self._load(names), context)
        data = _compressed(archive(items, self._view(generation)))
        folder = self._built / node.id
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = folder / f"__{stage.value.upper()}__.img"
        write_whole(path, data)
        return Artifact.of_file(path, f"sha256:{hashlib.sha256(data).hexdigest()}")

    def _load(self, names: Sequence[str]) -> list[Overlay]:
        """The overlays of these names; one that does not exist is said once, and the boot goes on without it."""
        loaded = []
        for name in names:
            if name == OWN_INIT and not any((folder / name).is_dir() for folder in self._overlay_folders):
                continue
            try:
                loaded.append(load(name, self._overlay_folders))
            except OverlayNotFound as exc:
                if name not in self._warned:
                    log.warning("%s (%s)", exc.message, exc.hint)
                self._warned.add(name)
        return loaded

    def _view(self, generation: Generation) -> ImageView:
        """The tree of a generation, for the links that overlays must follow."""
        view = self._views.get(generation.digest)
        if view is None:
            parsed = index.parse(generation.index_path.read_bytes())
            if parsed is None:
                raise ImageNotBuilt(generation.manifest.image)
            view = ImageView(parsed.entries)
            self._views[generation.digest] = view
            while len(self._views) > MAX_VIEWS:
                self._views.popitem(last=False)
        return view


def _compressed(data: bytes) -> bytes:
    """gzip, which every kernel unpacks, ended with zeros on a multiple of four (DESIGN section 3)."""
    stream = compressor(Compression.GZIP)
    packed = stream.compress(data) + stream.flush()
    return packed + cpio.padding(len(packed))


def authorized_keys(home: Path, site: Path) -> tuple[str, ...]:
    """The lines that let root of the head node into its nodes: root's own keys and authorized_keys, and the site's file."""
    sources = [*sorted((home / ".ssh").glob("id_*.pub")), home / ".ssh" / "authorized_keys", site]
    lines: dict[str, None] = {}
    for source in sources:
        if source.is_file() and stat.S_ISREG(source.stat().st_mode):
            lines.update(dict.fromkeys(line.strip() for line in source.read_text(errors="replace").splitlines()))
    return tuple(line for line in lines if line and not line.startswith("#"))
