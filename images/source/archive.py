"""A tar archive whose members are read where they lie; a compressed one is first unpacked into a nameless file."""

import os
import posixpath
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from contextlib import asynccontextmanager, closing
from pathlib import Path
from typing import BinaryIO

from images.blobs import BlobStore, CacheFailed
from images.decompress import LayerStream, MalformedCompression
from images.interruptible import in_loop, run_interruptible
from images.pax import MalformedTar
from images.progress import ArchiveAdvanced, Progress
from images.source.unpacking import MalformedArchive, chunks_at, open_archive
from images.sparse import BLOCK
from images.tar import Entry, Kind, Reader
from images.window import Window

_MAX_MEMBERS = 100_000
"""An image has a file a layer and a few more."""
_MAX_LINKS = 8


class Archive:
    """Where each member of an uncompressed tar lies; links among them are followed."""

    def __init__(self, path: Path, windows: dict[str, Window], links: dict[str, str]) -> None:
        self.path = path
        """The file as the user named it."""
        self._windows = windows
        self._links = links

    def locate(self, name: str) -> Window | None:
        """The contents of the file `name`; None if there is none."""
        name = posixpath.normpath(name)
        for _ in range(_MAX_LINKS):
            if (window := self._windows.get(name)) is not None:
                return window
            if name not in self._links:
                return None
            name = self._links[name]
        return None


@asynccontextmanager
async def open_members(path: Path, blobs: Path, progress: Progress) -> AsyncIterator[Archive]:
    """The archive at `path`, compressed or not. Raises MalformedArchive and CacheFailed."""
    with closing(open_archive(path)) as file:
        if is_plain_tar(file):
            yield await run_interruptible(lambda stopped: list_members(file, path, path))
            return
        size = os.fstat(file.fileno()).st_size
    store = BlobStore(blobs)
    with store.scratch() as scratch:
        report = in_loop(lambda done: progress(ArchiveAdvanced(name=path.name, size=size, done=done)), size)

        def unpack(stopped: Callable[[], bool]) -> None:
            with LayerStream(lambda: open_archive(path), algorithm=None, stopped=stopped, advanced=report) as stream:
                spool(stream, scratch, blobs)

        try:
            await run_interruptible(unpack)
        except MalformedCompression as exc:
            raise MalformedArchive(path, exc.message) from exc
        yield await run_interruptible(lambda stopped: list_members(scratch, nameless(scratch), path))


def nameless(scratch: BinaryIO) -> Path:
    """By what path we, and who is forked, open a file that has no name (proc_pid_fd(5)); good while `scratch` is open."""
    return Path(f"/proc/{os.getpid()}/fd/{scratch.fileno()}")


def spool(chunks: Iterable[bytes], scratch: BinaryIO, blobs: Path) -> None:
    """Raises CacheFailed."""
    for chunk in chunks:
        view = memoryview(chunk)
        try:
            while view:
                view = view[scratch.write(view) :]
        except OSError as exc:
            raise CacheFailed(blobs, exc) from exc


def is_plain_tar(file: BinaryIO) -> bool:
    """Whether it begins with the header of a tar entry."""
    return first_entry(chunks_at(file, 0)) is not None


def first_entry(chunks: Iterator[bytes]) -> Entry | None:
    """None if there is no tar entry at the beginning."""
    try:
        return next(iter(Reader(chunks)), None)
    except MalformedTar:
        return None


def list_members(file: BinaryIO, openable: Path, shown: Path) -> Archive:
    """Read the headers, skip the contents. Blocks. Raises MalformedArchive."""
    windows: dict[str, Window] = {}
    links: dict[str, str] = {}
    size = os.fstat(file.fileno()).st_size
    for entry, start in entries_of(file, shown):
        name = posixpath.normpath(os.fsdecode(entry.name)).lstrip("/")
        windows.pop(name, None)
        links.pop(name, None)
        if entry.kind is Kind.FILE:
            if start + entry.size > size or entry.sparse is not None:
                raise MalformedArchive(shown, f"it ends in the middle of {name!r}")
            windows[name] = Window(path=openable, offset=start, size=entry.size)
        elif entry.kind is Kind.SYMLINK:
            links[name] = posixpath.normpath(posixpath.join(posixpath.dirname(name), os.fsdecode(entry.linkname)))
        elif entry.kind is Kind.HARDLINK:
            links[name] = posixpath.normpath(os.fsdecode(entry.linkname))
    return Archive(shown, windows, links)


def entries_of(file: BinaryIO, shown: Path) -> Iterator[tuple[Entry, int]]:
    """Each entry and where its contents begin; the contents are skipped. Raises MalformedArchive."""
    position = 0
    for _ in range(_MAX_MEMBERS):
        reader = Reader(chunks_at(file, position))
        try:
            entry = next(iter(reader), None)
        except MalformedTar as exc:
            reason = f"broken tar archive at byte {position + exc.offset}: {exc.reason}"
            raise MalformedArchive(shown, reason) from exc
        if entry is None:
            return
        start = position + reader.offset
        yield entry, start
        position = start + entry.size + -entry.size % BLOCK
    raise MalformedArchive(shown, f"it has more than {_MAX_MEMBERS} members", hint="is it an image's archive?")
