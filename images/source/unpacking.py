"""What all sources of tar archives share: layers, or one archive of a whole tree, unpacked in a thread and reported."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from images.decompress import LayerStream, MalformedCompression
from images.errors import Error
from images.interruptible import run_interruptible
from images.layers import Layer, plan_layer, unpack_layer
from images.pax import MalformedTar
from images.progress import ArchiveAdvanced, ArchiveUnpacking, LayerAdvanced, LayerUnpacking, Progress, XattrSkipped
from images.rootfs import Rootfs
from images.tar import Reader
from images.tree import Tree

_REPORTS = 200
"""So often at most is the progress of one archive told."""


class MalformedArchive(Error):
    def __init__(self, path: Path, reason: str, *, hint: str = "make or copy the file again") -> None:
        super().__init__(f"{str(path)!r} cannot be imported: {reason}", hint=hint)
        self.path = path
        self.reason = reason


async def unpack_layers(layers: AsyncIterator[Layer], rootfs: Path, progress: Progress) -> None:
    """Apply the layers, lowest first, each when it comes. Raises what `unpack_layer` raises."""
    with Rootfs(rootfs) as root:
        tree = Tree(root)
        first = True
        async for layer in layers:
            progress(LayerUnpacking(digest=layer.digest))
            await _unpack_layer(layer, tree, progress, first=first)
            first = False
        await _finish(tree, progress)


async def _unpack_layer(layer: Layer, tree: Tree, progress: Progress, *, first: bool) -> None:
    size = layer.path.stat().st_size if layer.size is None else layer.size
    report = in_loop(lambda done: progress(LayerAdvanced(digest=layer.digest, size=size, done=done)), size)
    await run_interruptible(lambda stopped: unpack_layer(layer, tree, first=first, stopped=stopped, advanced=report))


async def unpack_tar(path: Path, rootfs: Path, progress: Progress) -> None:
    """Unpack the archive of a whole tree, compressed or not. Raises MalformedArchive, UnsafePath and UnpackFailed."""
    progress(ArchiveUnpacking(path=path))
    size = path.stat().st_size
    report = in_loop(lambda done: progress(ArchiveAdvanced(name=path.name, size=size, done=done)), size)
    with Rootfs(rootfs) as root:
        tree = Tree(root)

        def work(stopped: Callable[[], bool]) -> None:
            with LayerStream(lambda: open_archive(path), algorithm=None, stopped=stopped, advanced=report) as stream:
                chunks = iter(stream)
                tree.apply(plan_layer(Reader(chunks), whiteouts=False), first=True)
                # What stands behind the end is read, too: a damaged file shows only at its end that it is damaged.
                for _ in chunks:
                    pass

        try:
            await run_interruptible(work)
        except (MalformedTar, MalformedCompression) as exc:
            raise MalformedArchive(path, exc.message) from exc
        await _finish(tree, progress)


async def _finish(tree: Tree, progress: Progress) -> None:
    await run_interruptible(lambda stopped: tree.finish())
    for name, path in tree.skipped.items():
        progress(XattrSkipped(name=name, path=path))


def open_archive(path: Path) -> BinaryIO:
    """Raises MalformedArchive."""
    try:
        return path.open("rb")
    except OSError as exc:
        raise MalformedArchive(path, exc.strerror or str(exc), hint="check that it is a file that you may read") from exc


def in_loop(report: Callable[[int], None], size: int | None) -> Callable[[int], None]:
    """`report`, to be called from a thread but run in the event loop; calls that tell little new are dropped."""
    loop = asyncio.get_running_loop()
    step = max((size or 0) // _REPORTS, 1 << 20)
    told = 0

    def call(done: int) -> None:
        nonlocal told
        if done - told >= step or (done == size and done != told):
            told = done
            loop.call_soon_threadsafe(report, done)

    return call


async def in_order(layers: Iterable[Layer]) -> AsyncIterator[Layer]:
    """Layers that are all there already."""
    for layer in layers:
        yield layer


def chunks_at(file: BinaryIO, position: int, size: int = 1 << 16) -> Iterator[bytes]:
    """What stands in the file from `position` on."""
    file.seek(position)
    return iter(lambda: file.read(size), b"")
