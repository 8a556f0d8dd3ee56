"""Files of a layer, written into a folder of their own before the tree has a place for them.

So several layers can be read at once, while each takes its place only after those below it.
"""

import os
import stat
from collections.abc import Iterable, Iterator

from images.attributes import set_open_attributes, set_xattrs
from images.layers import Move, Operation, Put
from images.tar import Entry, Kind, Reader
from images.tree import UnpackFailed

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS = 0o777


def stage(plan: Iterable[Operation], reader: Reader, folder: int, prefix: bytes = b"") -> Iterator[Operation]:
    """The plan of what `reader` reads, with every file written to the open `folder`, under `prefix` and a number.

    A `Put` of a file comes out as a `Move`; the other operations as they are. Raises UnpackFailed, and what the plan raises.
    """
    number = 0
    made = _probe(folder, prefix + b"probe")
    for operation in plan:
        if not isinstance(operation, Put) or operation.entry.kind is not Kind.FILE:
            yield operation
            continue
        entry = operation.entry
        name = b"%s%x" % (prefix, number)
        number += 1
        try:
            skipped = _write(folder, name, entry, reader, made)
        except OSError as exc:
            raise UnpackFailed(operation.path, exc) from exc
        yield Move(path=operation.path, staged=name, mtime_ns=entry.mtime_ns, skipped=tuple(skipped))


def _probe(folder: int, name: bytes) -> tuple[int, int] | None:
    """Owner and group of a file that is made in the folder; None where it does not get the mode that it is made with."""
    fd = os.open(name, _FLAGS, _PERMISSIONS, dir_fd=folder)
    try:
        status = os.fstat(fd)
    finally:
        os.close(fd)
        os.unlink(name, dir_fd=folder)
    return (status.st_uid, status.st_gid) if stat.S_IMODE(status.st_mode) == _PERMISSIONS else None


def _write(folder: int, name: bytes, entry: Entry, reader: Reader, made: tuple[int, int] | None) -> list[bytes]:
    # Most files need neither chown(2) nor chmod(2). Set-ID bits come last always: writing may clear them.
    is_right = made == (entry.uid, entry.gid) and entry.mode & ~_PERMISSIONS == 0
    fd = os.open(name, _FLAGS, entry.mode if is_right else 0o600, dir_fd=folder)
    try:
        if entry.sparse is not None:
            os.ftruncate(fd, entry.size)
        for offset, piece in reader.data() if entry.size else ():
            while (written := os.pwrite(fd, piece, offset)) < len(piece):
                piece, offset = piece[written:], offset + written
        if is_right:
            skipped = set_xattrs(fd, entry.xattrs) if entry.xattrs else []
            os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))
            return skipped
        return set_open_attributes(
            fd, uid=entry.uid, gid=entry.gid, mode=entry.mode, mtime_ns=entry.mtime_ns, xattrs=entry.xattrs
        )
    finally:
        os.close(fd)
