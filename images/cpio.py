"""The newc cpio codec: what a Linux kernel unpacks as an initramfs.

Source: the kernel's Documentation/driver-api/early-userspace/buffer-format.rst.
"""

import stat
from collections.abc import Iterable, Iterator

import msgspec

from images.errors import Error

MAGIC = b"070701"
HEADER_SIZE = 110
MAX_FIELD = 0xFFFFFFFF
"""Every field is eight hex digits: 4 GiB files, 32-bit ids and times until 2106."""
MAX_NAME = 4096
"""Bytes of a path with its NUL (PATH_MAX); the kernel leaves out longer ones without a word."""

END = b"TRAILER!!!"
"""The path that ends an archive."""


class CpioError(Error):
    """An entry that newc cannot carry, or bytes that are not newc."""


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One archive entry; `path` is relative to the root, `.` for the root itself, `mode` holds the type too.

    `mtime` is in seconds since 1970. Entries of one hard-link group share `ino` and have the group's size as `nlink`; only the
    last of them carries the content.
    """

    path: bytes
    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    size: int = 0
    ino: int = 0
    nlink: int = 1
    rdev_major: int = 0
    rdev_minor: int = 0


_END_OF_NAME = [bytes(1 + -(HEADER_SIZE + size) % 4) for size in range(4)]
"""The NUL and the padding that follow a name, by its size (with the NUL) modulo four."""
_HEADER = MAGIC + b"%08X" * 7 + b"00000000" * 2 + b"%08X" * 3 + b"00000000%b%b"
_FILE_HEADER = MAGIC + b"%08X" * 7 + b"00000000" * 4 + b"%08X" + b"00000000%b%b"


def header(entry: Entry) -> bytes:
    """The header, the name and their padding; the content and `padding(entry.size)` follow.

    Raises CpioError for a file of 4 GiB or more; times outside the field are clamped.
    """
    e = entry
    name_size = _name_size(e.path, e.size)
    fields = (e.ino, e.mode, e.uid, e.gid, e.nlink, min(max(e.mtime, 0), MAX_FIELD), e.size, e.rdev_major, e.rdev_minor)
    return _HEADER % (*fields, name_size, e.path, _END_OF_NAME[name_size % 4])


def file_header(path: bytes, *, ino: int, mode: int, uid: int, gid: int, nlink: int, mtime: int, size: int) -> bytes:
    """The same of a regular file, in half the time: for one who writes tens of thousands and has no Entry of each."""
    name_size = _name_size(path, size)
    fields = (ino, mode, uid, gid, nlink, min(max(mtime, 0), MAX_FIELD), size, name_size, path, _END_OF_NAME[name_size % 4])
    return _FILE_HEADER % fields


def _name_size(path: bytes, size: int) -> int:
    """With the NUL; raises CpioError for what does not fit in a header."""
    if size > MAX_FIELD:
        raise CpioError(
            f"{path.decode(errors='backslashreplace')!r} has {size} bytes; an initramfs holds files below 4 GiB",
            hint="move the file out of the image, or name it in the image's /etc/warewulf/excludes",
        )
    name_size = len(path) + 1
    if name_size > MAX_NAME:
        raise CpioError(
            f"a path of {len(path)} bytes is too long for an initramfs: {_shortened(path)}",
            hint="shorten it, or name one of its folders in the image's /etc/warewulf/excludes",
        )
    return name_size


def _shortened(path: bytes) -> str:
    text = path.decode(errors="backslashreplace")
    return repr(f"{text[:40]}…{text[-40:]}")


def padding(size: int) -> bytes:
    """The zeros that follow `size` bytes up to the next multiple of four."""
    return bytes(-size % 4)


TRAILER = header(Entry(path=END, mode=0))


def archive(entries: Iterable[tuple[Entry, bytes]]) -> bytes:
    """A whole small archive with its trailer; `Entry.size` must be the content's length."""
    return body(entries) + TRAILER


def body(entries: Iterable[tuple[Entry, bytes]]) -> bytes:
    """The entries of a small archive without its trailer; `Entry.size` must be the content's length."""
    return b"".join(header(entry) + content + padding(len(content)) for entry, content in entries)


def parse(data: bytes | memoryview) -> Iterator[tuple[Entry, memoryview]]:
    """Entries and contents of every archive in `data`, zeros between archives skipped as the kernel does.

    Raises CpioError, and nothing else, for anything that is not newc.
    """
    view, position = memoryview(data), 0
    while position < len(view):
        if view[position] == 0:
            position += 1
            continue
        entry, content, position = _parse_entry(view, position)
        if entry.path != END:
            yield entry, content


def _parse_entry(view: memoryview, position: int) -> tuple[Entry, memoryview, int]:
    head = bytes(view[position : position + HEADER_SIZE])
    if len(head) < HEADER_SIZE or head[:6] != MAGIC:
        raise CpioError(f"no newc header at byte {position}")
    try:
        values = [int(head[at : at + 8], 16) for at in range(6, HEADER_SIZE, 8)]
    except ValueError as exc:
        raise CpioError(f"a newc header field at byte {position} is not hexadecimal") from exc
    ino, mode, uid, gid, nlink, mtime, size, _, _, rdev_major, rdev_minor, name_size, _ = values
    name_end = position + HEADER_SIZE + name_size
    start = position + (HEADER_SIZE + name_size + 3) // 4 * 4
    end = start + size
    if name_size < 1 or end > len(view):
        raise CpioError(f"the newc archive is truncated after byte {position}")
    entry = Entry(
        path=bytes(view[position + HEADER_SIZE : name_end - 1]),
        mode=mode,
        uid=uid,
        gid=gid,
        mtime=mtime,
        size=size,
        ino=ino,
        nlink=nlink,
        rdev_major=rdev_major,
        rdev_minor=rdev_minor,
    )
    return entry, view[start:end], end + -size % 4


def file_entry(path: bytes, content: bytes, *, mode: int = 0o644) -> tuple[Entry, bytes]:
    """A root-owned regular file, for the small archives that we make ourselves."""
    return Entry(path=path, mode=stat.S_IFREG | mode, size=len(content)), content
