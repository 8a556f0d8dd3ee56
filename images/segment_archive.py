"""Write one segment as a newc archive, uncompressed, in blocks that a processor's own cache holds."""

import hashlib
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import msgspec

from images import cpio
from images.errors import Error
from images.index import Entry
from images.segments import OWN_FOLDER, OwnFile

BLOCK = 256 << 10
"""Bytes that are compressed in one go, unless the caller has a block of another size."""

READ = 256 << 10
"""Bytes of a file that are read in one go, so that the cache still holds them when they are hashed."""

Emit = Callable[[memoryview], object]
"""Is given a block, which is overwritten afterwards."""

ALWAYS_EMPTY = frozenset({b"var/log/lastlog", b"var/log/faillog"})
"""Sparse logs, as large as the highest uid says; newc would write every hole."""


# O_NONBLOCK: whoever put a FIFO in the file's place meanwhile must not stop the build.
_READING = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_EMPTY = hashlib.sha256().digest()


OUTLINE = "newc+sha256"
"""The algorithm of an outline's digest."""


class Outline(msgspec.Struct, frozen=True, kw_only=True):
    """What an archive is, unpacked: `size` in bytes, and the sha256 of the archive with each content (and what pads it)
    replaced by the content's own sha256. It says as much as one of all bytes, and no content is hashed twice for it."""

    digest: str
    size: int


class ChangedWhileRead(Error):
    """A file was written to between the scan and the end of its archiving."""

    def __init__(self, path: bytes) -> None:
        super().__init__(
            f"{path.decode(errors='backslashreplace')!r} changed while it was being read",
            hint="leave the image alone while it is built, then build again",
        )


def archive_special(entries: Sequence[Entry], own: Sequence[OwnFile], emit: Emit) -> Outline:
    """Segment 0: directories in path order, so that every parent exists; then our files, links and special files."""
    archive = _Archive(emit, bytearray(BLOCK))
    for head, content in _special(entries, own):
        archive.put_head(head)
        if content:
            archive.put_content(content)
    return archive.end()


def _special(entries: Sequence[Entry], own: Sequence[OwnFile]) -> Iterator[tuple[bytes, bytes]]:
    yield from ((_head(e), b"") for e in entries if e.is_directory)
    if any(file.path.startswith(OWN_FOLDER + b"/") for file in own):
        yield cpio.header(cpio.Entry(path=OWN_FOLDER, mode=stat.S_IFDIR | 0o755)), b""
    for file in own:
        entry, content = cpio.file_entry(file.path, file.content, mode=file.mode)
        yield cpio.header(entry), content
    links = Counter(e.inode for e in entries if e.nlink > 1)
    numbers = {inode: number for number, inode in enumerate(links, start=1)}
    for e in entries:
        if e.is_symlink:
            # The kernel makes no hard links between symbolic links: each name is a link of its own on the node.
            yield _head(e, size=len(e.target)), e.target
        elif not e.is_directory:
            yield _head(e, number=numbers.get(e.inode, 0), nlink=links.get(e.inode, 1)), b""


def size_at_most(entries: Sequence[Entry]) -> int:
    """Bytes that `archive_regular` of these entries makes, or a few more."""
    size = cpio.HEADER_SIZE + 16
    for entry in entries:
        size += entry.size + cpio.HEADER_SIZE + len(entry.path) + 9
    return size


def archive_regular(
    rootfs: Path, entries: Sequence[Entry], digests: dict[bytes, bytes], emit: Emit, block: bytearray | memoryview | None = None
) -> Outline:
    """A segment of regular files; the sha256 of each content is put into `digests` by path.

    What is emitted are full `block`s, and what remains at the end: all of the archive at once, when it is large enough.
    Raises ChangedWhileRead, cpio.CpioError for a file that newc cannot hold, or OSError.
    """
    archive = _Archive(emit, bytearray(BLOCK) if block is None else block)
    folder = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        at = 0
        while at < len(entries):
            last, number = entries[at], at + 1
            if last.nlink > 1:
                *before, last = _names(entries, at)
                nlink = 1 + len(before)
                for entry in before:
                    archive.put_head(_file_head(entry, size=0, number=number, nlink=nlink))
            else:
                before, nlink = [], 1
            size = 0 if last.path in ALWAYS_EMPTY else last.size
            archive.put_head(_file_head(last, size=size, number=number, nlink=nlink))
            digests[last.path] = digest = archive.put_file(folder, last) if size else _EMPTY
            for entry in before:
                digests[entry.path] = digest
            at += nlink
        return archive.end()
    finally:
        os.close(folder)


def _names(entries: Sequence[Entry], at: int) -> Sequence[Entry]:
    """All names of the file at this place; newc gives the content with the last of them."""
    first = entries[at]
    return [e for e in entries[at : at + first.nlink] if e.inode == first.inode]


class _Archive:
    """Fills a block, which is emitted when it is full, and filled anew."""

    def __init__(self, emit: Emit, block: bytearray | memoryview) -> None:
        self._emit = emit
        self._block = memoryview(block)
        self._filled = 0
        self._emitted = 0
        self._outline = hashlib.sha256()

    def end(self) -> Outline:
        self.put_head(cpio.TRAILER)
        self._flush()
        return Outline(digest=f"{OUTLINE}:{self._outline.hexdigest()}", size=self._emitted)

    def put_head(self, head: bytes) -> None:
        self._outline.update(head)
        self._put(head)

    def put_content(self, content: bytes) -> None:
        self._outline.update(hashlib.sha256(content).digest())
        self._put(content)
        self._put(cpio.padding(len(content)))

    def _put(self, data: bytes) -> None:
        end = self._filled + len(data)
        while end > len(self._block):
            room = len(self._block) - self._filled
            self._block[self._filled :] = data[:room]
            self._filled += room
            self._flush()
            data, end = data[room:], len(data) - room
        self._block[self._filled : end] = data
        self._filled = end

    def _flush(self) -> None:
        self._emit(self._block[: self._filled])
        self._emitted += self._filled
        self._filled = 0

    def put_file(self, folder: int, entry: Entry) -> bytes:
        """Read the file straight into the block, as often as it takes, and fill up to a multiple of four. Gives its sha256."""
        descriptor = os.open(entry.path, _READING, dir_fd=folder)
        try:
            digest = hashlib.sha256()
            left = entry.size
            while left:
                if self._filled == len(self._block):
                    self._flush()
                target = self._block[self._filled : self._filled + min(left, READ)]
                count = os.readv(descriptor, (target,))
                if count == 0:
                    break
                digest.update(target if count == len(target) else target[:count])
                self._filled += count
                left -= count
            after = os.fstat(descriptor)
            if left or after.st_size != entry.size or after.st_mtime_ns != entry.mtime_ns:
                raise ChangedWhileRead(entry.path)
        finally:
            os.close(descriptor)
        if entry.size % 4:
            self._put(cpio.padding(entry.size))
        found = digest.digest()
        self._outline.update(found)
        return found


def _file_head(entry: Entry, *, size: int, number: int, nlink: int) -> bytes:
    return cpio.file_header(
        _name(entry),
        mode=entry.mode,
        uid=entry.uid,
        gid=entry.gid,
        mtime=entry.mtime_ns // 1_000_000_000,
        size=size,
        ino=number,
        nlink=nlink,
    )


def _head(entry: Entry, *, size: int = 0, number: int = 0, nlink: int = 1) -> bytes:
    return cpio.header(
        cpio.Entry(
            path=_name(entry),
            mode=entry.mode,
            uid=entry.uid,
            gid=entry.gid,
            mtime=entry.mtime_ns // 1_000_000_000,
            size=size,
            ino=number,
            nlink=nlink,
            rdev_major=os.major(entry.rdev),
            rdev_minor=os.minor(entry.rdev),
        )
    )


def _name(entry: Entry) -> bytes:
    """At the top of an archive one name is its end."""
    return b"./" + entry.path if entry.path == cpio.END else entry.path
