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
from images.growing import Growth
from images.interruptible import Stopped, run_interruptible
from images.layer_reader import Job, decode
from images.layers import Layer, MalformedLayer
from images.progress import ArchiveAdvanced, ArchiveUnpacking, LayerAdvanced, LayerUnpacking, Progress, XattrSkipped
from images.rootfs import Rootfs, UnsafePath
from images.tree import Tree


class MalformedArchive(Error):
    def __init__(self, path: Path, reason: str, *, hint: str = "make or copy the file again") -> None:
        super().__init__(f"{str(path)!r} cannot be imported: {reason}", hint=hint)
        self.path = path
        self.reason = reason


class StartedOver(Exception):
    """A blob came anew from its first byte after a worker had read of what came before: the tree may be wrong."""


class Unpacking:
    """The layers of an image, lowest first, on their way into a tree; use it with `with`, before anything runs in a thread.

    They are read at once and in any order, but applied one after the other. `current` is the one whose turn it is.
    """

    def __init__(self, layers: Sequence[Layer], rootfs: Path) -> None:
        self._layers = layers
        self._rootfs = rootfs
        self._crew = Crew(rootfs, len(layers))
        self._come = {layer.digest: asyncio.Event() for layer in layers}
        self._growths: dict[str, Growth] = {}
        self._begun_anew: set[str] = set()
        self.current: Layer | None = None

    def __enter__(self) -> "Unpacking":
        self._crew.__enter__()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._crew.__exit__(kind, exc, trace)
        for growth in self._growths.values():
            growth.close()

    def follow(self, digest: str, size: int, file: int, start: int) -> None:
        """The blob of that digest and size comes, and is written to the open `file` from `start` on.

        A worker reads it meanwhile; nothing counts before `finish` says that it was what it should be.
        """
        growth = self._growths.get(digest)
        if growth is not None and (not start or not growth.is_of(file)):
            self._begun_anew.add(digest)
        elif growth is None and not start:
            self._growths[digest] = growth = Growth(file)
            self._give(self._numbers(digest)[0], growth, size)

    def advance(self, digest: str, done: int) -> None:
        """So many bytes of a blob that is followed are there now."""
        growth = self._growths.get(digest)
        if growth is not None and digest not in self._begun_anew:
            growth.tell(done)

    def finish(self, digest: str) -> None:
        """The blob of that digest is there, and what it should be. Raises StartedOver."""
        if digest in self._begun_anew:
            raise StartedOver
        for number in self._numbers(digest)[digest in self._growths :]:
            self._give(number)
        self._come[digest].set()

    def _numbers(self, digest: str) -> list[int]:
        return [number for number, layer in enumerate(self._layers) if layer.digest == digest]

    def _give(self, number: int, growth: Growth | None = None, size: int | None = None) -> None:
        layer = self._layers[number]
        job = Job(
            number=number,
            path=os.fsencode(layer.path),
            offset=layer.offset,
            size=layer.size if size is None else size,
            algorithm=layer.diff_id.partition(":")[0],
        )
        self._crew.give(job, growth)

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
            size = layer.size
            if size is None and self._come[layer.digest].is_set():
                size = layer.path.stat().st_size
            if size is not None:
                progress(LayerAdvanced(digest=layer.digest, size=size, done=done))

        try:
            digest = await _apply(self._crew, number, tree, report)
        except (MalformedBlob, UnsafePath) as exc:
            # Of a blob that is not what it should be, that is what there is to say.
            await self._come[layer.digest].wait()
            if isinstance(exc, UnsafePath):
                raise
            raise MalformedLayer(layer.digest, exc.reason) from exc
        await self._come[layer.digest].wait()
        if digest != layer.diff_id:
            raise MalformedLayer(layer.digest, f"its contents have the digest {digest}, the image says {layer.diff_id}")


async def unpack_layers(layers: Sequence[Layer], rootfs: Path, progress: Progress) -> None:
    """Apply layers that are all there, lowest first. Raises what `Unpacking.apply` raises."""
    with Unpacking(layers, rootfs) as unpacking:
        for digest in dict.fromkeys(layer.digest for layer in layers):
            unpacking.finish(digest)
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


def chunks_at(file: BinaryIO, position: int, size: int = 1 << 16) -> Iterator[bytes]:
    """What stands in the file from `position` on."""
    file.seek(position)
    return iter(lambda: file.read(size), b"")
