"""Cut a tree's entries into segments, and write one as a compressed newc archive.

Segment 0 holds our own files (`/init`), directories, symbolic links, special files and the xattr record; the others hold
regular files in path order. A cut follows a path whose hash says so, so that one changed file touches one segment and an
added file does not shift the rest. A hard-link group stays in the segment of its first path: the kernel forgets inodes at a
trailer.
"""

import hashlib
import os
import stat
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from images import cpio
from images.errors import Error
from images.index import Entry

TARGET = 8 << 20
"""Mean unpacked size of a segment, in bytes: smaller ones compress worse, larger ones make a small change dear."""
MINIMUM = 2 << 20
MAXIMUM = 32 << 20
READ_SIZE = 1 << 20

OWN_FOLDER = b".bootsvc"
ALWAYS_EMPTY = frozenset({b"var/log/lastlog", b"var/log/faillog"})
"""Sparse logs, as large as the highest uid says; newc would write every hole."""


class ChangedWhileRead(Error):
    """A file was written to between the scan and the end of its archiving."""

    def __init__(self, path: bytes) -> None:
        super().__init__(
            f"{path.decode(errors='backslashreplace')!r} changed while it was being read",
            hint="leave the image alone while it is built, then build again",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class OwnFile:
    """A file of ours in segment 0, such as `/init`; it hides an image's file of the same path."""

    path: bytes
    mode: int
    content: bytes


def plan(entries: Sequence[Entry], own: Sequence[OwnFile]) -> list[list[Entry]]:
    """The entries of each segment, in the order of the concatenation; `entries` must be in path order."""
    hidden = {file.path for file in own}
    kept = [e for e in entries if e.path not in hidden and e.path != OWN_FOLDER and not e.path.startswith(OWN_FOLDER + b"/")]
    regular = [e for e in kept if e.is_regular]
    return [[e for e in kept if not e.is_regular], *_cut(_with_links_together(regular))]


def _with_links_together(regular: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Every file alone, or its hard-link group at the place of the first path."""
    groups: dict[int, list[Entry]] = {}
    for entry in regular:
        if entry.nlink > 1:
            groups.setdefault(entry.inode, []).append(entry)
    for entry in regular:
        if entry.nlink == 1:
            yield [entry]
        elif groups[entry.inode][0] is entry:
            yield groups[entry.inode]


def _cut(groups: Iterable[list[Entry]]) -> Iterator[list[Entry]]:
    segment: list[Entry] = []
    size = 0
    for group in groups:
        weight = group[0].size + cpio.HEADER_SIZE * len(group) + sum(len(e.path) for e in group)
        if segment and size + weight > MAXIMUM:
            yield segment
            segment, size = [], 0
        segment += group
        size += weight
        if size >= MINIMUM and zlib.crc32(group[0].path) * (TARGET - MINIMUM) < (weight << 32):
            yield segment
            segment, size = [], 0
    if segment:
        yield segment


def archive_special(entries: Sequence[Entry], own: Sequence[OwnFile]) -> Iterator[bytes]:
    """Segment 0: directories first in path order, so that every parent exists; then our files, links and special files."""
    yield from (_head(e) for e in entries if e.is_directory)
    if any(file.path.startswith(OWN_FOLDER + b"/") for file in own):
        yield cpio.header(cpio.Entry(path=OWN_FOLDER, mode=stat.S_IFDIR | 0o755))
    for file in own:
        entry, content = cpio.file_entry(file.path, file.content, mode=file.mode)
        yield cpio.header(entry) + content + cpio.padding(len(content))
    links = Counter(e.inode for e in entries if e.nlink > 1)
    numbers = {inode: number for number, inode in enumerate(links, start=1)}
    for e in entries:
        if e.is_symlink:
            # The kernel makes no hard links between symbolic links: each name is a link of its own on the node.
            yield _head(e, size=len(e.target)) + e.target + cpio.padding(len(e.target))
        elif not e.is_directory:
            yield _head(e, number=numbers.get(e.inode, 0), nlink=links.get(e.inode, 1))
    yield cpio.TRAILER


def archive_regular(rootfs: Path, entries: Sequence[Entry], digests: dict[bytes, bytes]) -> Iterator[bytes]:
    """A segment of regular files; the sha256 of each content is put into `digests` by path.

    Raises ChangedWhileRead, or cpio.CpioError for a file that newc cannot hold.
    """
    at = 0
    while at < len(entries):
        group = [e for e in entries[at : at + entries[at].nlink] if e.inode == entries[at].inode]
        yield from _archive_group(rootfs, group, at + 1, digests)
        at += len(group)
    yield cpio.TRAILER


def _archive_group(rootfs: Path, group: Sequence[Entry], number: int, digests: dict[bytes, bytes]) -> Iterator[bytes]:
    """One file under all its names: newc gives the content with the last of them."""
    for entry in group[:-1]:
        yield _head(entry, size=0, number=number, nlink=len(group))
    last = group[-1]
    size = 0 if last.path in ALWAYS_EMPTY else last.size
    yield _head(last, size=size, number=number, nlink=len(group))
    digest = hashlib.sha256()
    for chunk in _content(rootfs, last, size):
        digest.update(chunk)
        yield chunk
    yield cpio.padding(size)
    digests.update((entry.path, digest.digest()) for entry in group)


def _content(rootfs: Path, entry: Entry, size: int) -> Iterator[bytes]:
    if size == 0:
        return
    # O_NONBLOCK: whoever put a FIFO in the file's place meanwhile must not stop the build.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    descriptor = os.open(os.path.join(os.fsencode(rootfs), entry.path), flags)
    try:
        left = size
        while left and (chunk := os.read(descriptor, min(READ_SIZE, left))):
            left -= len(chunk)
            yield chunk
        after = os.fstat(descriptor)
        if left or (after.st_size, after.st_mtime_ns) != (entry.size, entry.mtime_ns):
            raise ChangedWhileRead(entry.path)
    finally:
        os.close(descriptor)


def _head(entry: Entry, *, size: int = 0, number: int = 0, nlink: int = 1) -> bytes:
    return cpio.header(
        cpio.Entry(
            # At the top of an archive this name is its end.
            path=b"./" + entry.path if entry.path == cpio.END else entry.path,
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
