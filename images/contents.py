"""What a layer holds, made in a folder of its own before the tree has a place for it.

So several layers can be read at once, while each takes its place only after those below it. A directory is made with all
that follows it in the archive and lies in it: where the tree has nothing of that name, it takes its place as a whole.
"""

import os
import stat
from collections.abc import Iterable, Iterator

from images.attributes import set_open_attributes, set_xattrs
from images.layers import Move, Operation, Put
from images.rootfs import MAX_DEPTH, Directory
from images.tar import Entry, Kind, Reader
from images.tree import UnpackFailed, make_special

_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_PERMISSIONS = 0o777
_ORDINARY = _PERMISSIONS | stat.S_ISVTX
"""Modes of directories that have no say in what is made in them."""


class Contents:
    """Makes what `reader` reads in the open `folder`, under names of `prefix` and a number."""

    def __init__(self, reader: Reader, folder: int, prefix: bytes = b"") -> None:
        self._reader = reader
        self._folder = Directory(fd=folder, path=b"")
        self._prefix = prefix
        self._number = 0
        self._made = _probe(folder, prefix + b"probe")
        self._keeps_directories = self._made is not None and not os.fstat(folder).st_mode & stat.S_ISGID
        self._directories: dict[bytes, bytes] = {}
        """By path, where one is staged: one directory, and those in it."""
        self._inside: set[bytes] = set()
        """Paths of all that is staged in them."""

    def settle(self) -> None:
        """What is staged may be moved now: nothing more is put into a directory."""
        self._directories.clear()
        self._inside.clear()

    def stage(self, plan: Iterable[Operation]) -> Iterator[Operation]:
        """The plan of what the reader reads, with the names that things are staged under.

        A `Put` of a file comes out as a `Move`. What comes between two calls of `settle` is to be performed together: when
        the first of it is, the last of it must be staged. Raises UnpackFailed, and what the plan raises.
        """
        for operation in plan:
            if isinstance(operation, Put):
                try:
                    operation = self._stage(operation)
                except OSError as exc:
                    raise UnpackFailed(operation.path, exc) from exc
            else:
                self.settle()
            yield operation

    def _stage(self, put: Put) -> Operation:
        path, entry = put.path, put.entry
        place = self._find_place(path)
        if place is None:
            self.settle()
        if entry.kind is Kind.FILE:
            place = place or self._new_name()
            skipped = _write(self._folder.fd, place, entry, self._reader, self._made)
            return Move(path=path, staged=place, mtime_ns=entry.mtime_ns, skipped=tuple(skipped))
        if entry.kind is Kind.DIRECTORY and self._may_keep(path, entry):
            place = place or self._new_name()
            os.mkdir(place, entry.mode, dir_fd=self._folder.fd)
            self._directories[path] = place
            return Put(path=path, entry=entry, staged=place)
        if entry.kind is not Kind.DIRECTORY and place is not None and not entry.xattrs:
            make_special(self._folder, place, entry)
            return Put(path=path, entry=entry, staged=place)
        self.settle()
        return put

    def _find_place(self, path: bytes) -> bytes | None:
        """The name in a staged directory, if that is where the path leads and nothing has it yet."""
        head, _, name = path.rpartition(b"/")
        directory = self._directories.get(head)
        if directory is None or path in self._inside:
            return None
        self._inside.add(path)
        return directory + b"/" + name

    def _new_name(self) -> bytes:
        name = b"%s%x" % (self._prefix, self._number)
        self._number += 1
        return name

    def _may_keep(self, path: bytes, entry: Entry) -> bool:
        """What is made in it must get owner, mode and xattrs as if made elsewhere; the tree's limits hold here, too."""
        ordinary = (entry.uid, entry.gid) == self._made and not entry.mode & ~_ORDINARY and not entry.xattrs
        return ordinary and self._keeps_directories and path != b"" and path.count(b"/") < MAX_DEPTH - 1


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
