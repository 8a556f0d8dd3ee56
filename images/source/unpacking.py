"""What all sources of tar archives share: layers, or one archive of a whole tree, unpacked in a thread and reported."""

import asyncio
import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from images.crew import Crew, MalformedBlob
from images.errors import Error
from images.interruptible import Stopped, run_interruptible
from images.layer_reader import Job, decode
from images.layers import Layer, MalformedLayer
from images.progress import ArchiveAdvanced, ArchiveUnpacking, LayerAdvanced, LayerUnpacking, Progress, XattrSkipped
from images.rootfs import Rootfs
from images.tree import Tree

_REPORTS = 200
"""So often at most is the progress of one archive told."""


class MalformedArchive(Error):
    def __init__(self, path: Path, reason: str, *, hint: str = "make or copy the file again") -> None:
        super().__init__(f"{str(path)!r} cannot be imported: {reason}", hint=hint)
        self.path = path
        self.reason = reason


class Unpacking:
    """The layers of an image, lowest first, on their way into a tree; use it with `with`, before anything runs in a thread.

    They are read at once and in any order, but applied one after the other. `current` is the one whose turn it is.
    """

    def __init__(self, layers: Sequence[Layer], rootfs: Path) -> None:
        self._layers = layers
        self._rootfs = rootfs
        self._crew = Crew(rootfs, len(layers))
        self.current: Layer | None = None

    def __enter__(self) -> "Unpacking":
        self._crew.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._crew.__exit__(kind, exc, trace)

    def begin(self, digest: str) -> None:
        """The blob of that digest has come."""
        for number, layer in enumerate(self._layers):
            if layer.digest == digest:
                algorithm = layer.diff_id.partition(":")[0]
                path = os.fsencode(layer.path)
                self._crew.give(Job(number=number, path=path, offset=layer.offset, size=layer.size, algorithm=algorithm))

    async def apply(self, progress: Progress) -> None:
        """Apply every layer, once it has come. Raises MalformedLayer, UnsafePath, UnpackFailed, WorkerDied, OSError."""
        with Rootfs(self._rootfs) as root:
            tree = Tree(root, self._crew.contents)
            for number, layer in enumerate(self._layers):
                self.current = layer
                progress(LayerUnpacking(digest=layer.digest))
                await self._apply(number, layer, tree, progress)
            await _finish(tree, progress)

    async def _apply(self, number: int, layer: Layer, tree: Tree, progress: Progress) -> None:
        def report(done: int) -> None:
            # By now it is there.
            size = layer.path.stat().st_size if layer.size is None else layer.size
            progress(LayerAdvanced(digest=layer.digest, size=size, done=done))

        try:
            digest = await _apply(self._crew, number, tree, report)
        except MalformedBlob as exc:
            raise MalformedLayer(layer.digest, exc.reason) from exc
        if digest != layer.diff_id:
            raise MalformedLayer(layer.digest, f"its contents have the digest {digest}, the image says {layer.diff_id}")


async def unpack_layers(layers: Sequence[Layer], rootfs: Path, progress: Progress) -> None:
    """Apply layers that are all there, lowest first. Raises what `Unpacking.apply` raises."""
    with Unpacking(layers, rootfs) as unpacking:
        for digest in dict.fromkeys(layer.digest for layer in layers):
            unpacking.begin(digest)
        await unpacking.apply(progress)


async def unpack_tar(path: Path, rootfs: Path, progress: Progress) -> None:
    """Unpack the archive of a whole tree, compressed or not. Raises MalformedArchive, UnsafePath and UnpackFailed."""
    progress(ArchiveUnpacking(path=path))
    with open_archive(path):
        size = path.stat().st_size
    with Crew(rootfs, 1) as crew, Rootfs(rootfs) as root:
        tree = Tree(root, crew.contents)
        crew.give(Job(number=0, path=os.fsencode(path), algorithm=None, whiteouts=False))
        try:
            await _apply(crew, 0, tree, lambda done: progress(ArchiveAdvanced(name=path.name, size=size, done=done)))
        except MalformedBlob as exc:
            raise MalformedArchive(path, exc.reason) from exc
        await _finish(tree, progress)


async def _apply(crew: Crew, number: int, tree: Tree, report: Callable[[int], None]) -> str | None:
    """Apply what a worker reads; the digest of all of it."""
    tree.begin_layer()

    async for data in crew.batches(number):
        report(await run_interruptible(partial(_apply_batch, tree, data)))
    return crew.digest(number)


def _apply_batch(tree: Tree, data: bytes, _stopped: Stopped) -> int:
    batch = decode(data)
    tree.apply(batch.operations)
    return batch.done


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


def chunks_at(file: BinaryIO, position: int, size: int = 1 << 16) -> Iterator[bytes]:
    """What stands in the file from `position` on."""
    file.seek(position)
    return iter(lambda: file.read(size), b"")
