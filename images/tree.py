"""The tree that layers are applied to: performs operations, decides nothing."""

import os
import stat
from collections.abc import Iterable

from images.attributes import clear_xattrs, hint_for, set_attributes, set_open_attributes
from images.errors import Error
from images.layers import Link, Move, Opaque, Operation, Put, Whiteout
from images.rootfs import (
    Directory,
    Rootfs,
    UnsafePath,
    find_status,
    show,
)
from images.tar import Entry, Kind

_NODE_TYPES = {Kind.CHARACTER: stat.S_IFCHR, Kind.BLOCK: stat.S_IFBLK, Kind.FIFO: stat.S_IFIFO}

Entries = list[tuple[bytes, os.stat_result]]


class UnpackFailed(Error):
    """The operating system refused an operation."""

    def __init__(self, path: bytes, exc: OSError) -> None:
        super().__init__(f"cannot write {show(path)!r} into the image: {exc.strerror}", hint=hint_for(exc))
        self.path = path


class Tree:
    """A staging tree that layers are applied to, lowest first; `finish` comes after the last.

    `contents` is the open folder of files that are ready to be moved, on the tree's file system.
    """

    def __init__(self, root: Rootfs, contents: int) -> None:
        self._root = root
        self._contents = contents
        self._times = {b"": os.fstat(root.root.fd).st_mtime_ns}
        """Directories' times: set at the end, because every entry made in a directory changes them."""
        self._begun = False
        self._upper: set[bytes] | None = None
        """What the current layer placed, with all parents; None in the first layer, which hides nothing."""
        self._moved: set[bytes] = set()
        """Directories that took their place with all that was staged in them, by the names that they were staged under."""
        self.skipped: dict[str, str] = {}
        """Names of xattrs that could not be stored, each with the first path."""

    def begin_layer(self) -> None:
        """What comes next is of the next layer."""
        self._upper = set() if self._begun else None
        self._begun = True

    def apply(self, plan: Iterable[Operation]) -> None:
        """Perform operations of the current layer, which were staged together. Raises UnsafePath and UnpackFailed."""
        self._moved.clear()
        for operation in plan:
            self._root.settle()
            try:
                match operation:
                    case Put() | Move() if operation.staged.rpartition(b"/")[0] in self._moved:
                        self._note(operation)
                    case Move():
                        self._move(operation)
                    case Put():
                        self._put(operation)
                    case Link():
                        self._link(operation)
                    case Whiteout():
                        self._whiteout(operation.path)
                    case Opaque():
                        self._opaque(operation.path)
            except UnsafePath as exc:
                raise UnsafePath(operation.path, exc.reason) from exc
            except OSError as exc:
                raise UnpackFailed(operation.path, exc) from exc

    def finish(self) -> None:
        """Give the directories their times."""
        self._root.forget()
        for directory in self._root.visit(self._times):
            time = self._times[directory.path]
            os.utime(directory.fd, ns=(time, time))

    def _parent(self, path: bytes, mtime_ns: int) -> tuple[Directory, bytes]:
        """The directory that an entry goes into, made if missing, and the entry's name."""
        head, _, name = path.rpartition(b"/")
        directory, made = self._root.make_directory(head)
        for missing in made:
            self._times[missing] = mtime_ns
        if self._upper is not None:
            place = directory.child(name)
            while place not in self._upper:
                self._upper.add(place)
                place = place.rpartition(b"/")[0]
        return directory, name

    def _put(self, put: Put) -> None:
        entry = put.entry
        if entry.kind is Kind.DIRECTORY:
            directory, name = self._parent(put.path, entry.mtime_ns)
            self._note_skipped(put.path, self._put_directory(directory, name, put))
            return
        if not put.path:
            raise UnsafePath(entry.name, f"makes the root a {entry.kind.value}")
        directory, name = self._parent(put.path, entry.mtime_ns)
        self._make_way(directory, name)
        self._note_skipped(put.path, make_special(directory, name, entry))

    def _move(self, move: Move) -> None:
        if not move.path:
            raise UnsafePath(move.path, f"makes the root a {Kind.FILE.value}")
        directory, name = self._parent(move.path, move.mtime_ns)
        # rename(2) would replace what is there, but a directory, and a link that paths were resolved through.
        self._make_way(directory, name)
        os.rename(move.staged, name, src_dir_fd=self._contents, dst_dir_fd=directory.fd)
        self._note_skipped(move.path, move.skipped)

    def _note_skipped(self, path: bytes, xattrs: Iterable[bytes]) -> None:
        for xattr in xattrs:
            self.skipped.setdefault(show(xattr), show(path))

    def _make_way(self, directory: Directory, name: bytes) -> None:
        status = find_status(directory, name)
        if status is not None:
            self._root.remove(directory, name, status)

    def _note(self, operation: Put | Move) -> None:
        """It is in place, for its directory came with all that was in it."""
        path = operation.path
        if self._upper is not None:
            self._upper.add(path)
        if isinstance(operation, Move):
            self._note_skipped(path, operation.skipped)
        elif operation.entry.kind is Kind.DIRECTORY:
            self._moved.add(operation.staged)
            self._times[path] = operation.entry.mtime_ns

    def _put_directory(self, directory: Directory, name: bytes, put: Put) -> list[bytes]:
        entry = put.entry
        status = find_status(directory, name)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            self._root.remove(directory, name, status)
            status = None
        place = directory.child(name)
        self._times[place] = entry.mtime_ns
        # A path that leads through links ends elsewhere, and deeper perhaps: there each entry has to find its own place.
        if status is None and put.staged and place == put.path:
            os.rename(put.staged, name, src_dir_fd=self._contents, dst_dir_fd=directory.fd)
            self._moved.add(put.staged)
            return []
        if status is None:
            os.mkdir(name, 0o700, dir_fd=directory.fd)
        fd = os.open(name or b".", os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=directory.fd)
        try:
            if status is not None:
                clear_xattrs(fd)
            return set_open_attributes(fd, uid=entry.uid, gid=entry.gid, mode=entry.mode, mtime_ns=None, xattrs=entry.xattrs)
        finally:
            os.close(fd)

    def _link(self, link: Link) -> None:
        head, _, target = link.target.rpartition(b"/")
        source = self._root.find_directory(head)
        status = find_status(source, target) if source is not None and target else None
        if source is None or status is None or not link.path:
            raise UnsafePath(link.path, f"is a hard link to {show(link.target)!r}, which the image does not have")
        if stat.S_ISDIR(status.st_mode):
            raise UnsafePath(link.path, f"is a hard link to the directory {show(link.target)!r}")
        directory, name = self._parent(link.path, status.st_mtime_ns)
        present = find_status(directory, name)
        if present is not None and os.path.samestat(present, status):
            return
        if present is not None:
            self._root.remove(directory, name, present)
        try:
            os.link(target, name, src_dir_fd=source.fd, dst_dir_fd=directory.fd, follow_symlinks=False)
        except FileNotFoundError:
            reason = f"is a hard link to {show(link.target)!r}, which it replaces itself"
            raise UnsafePath(link.path, reason) from None

    def _whiteout(self, path: bytes) -> None:
        if self._upper is None:
            return
        head, _, name = path.rpartition(b"/")
        directory = self._root.find_directory(head)
        status = None if directory is None else find_status(directory, name)
        if directory is not None and status is not None:
            self._hide_all(directory, [(name, status)])

    def _opaque(self, path: bytes) -> None:
        directory = None if self._upper is None else self._root.find_directory(path)
        if directory is not None:
            self._hide_all(directory, _entries(directory))

    def _hide_all(self, directory: Directory, entries: Entries) -> None:
        """Remove what lower layers have; what this layer placed stays, wherever in it the marker stands."""
        placed: list[Directory | None] = [directory]
        while placed:
            current = placed.pop()
            if current is None:
                continue
            for name, status in entries if current is directory else _entries(current):
                path = current.child(name)
                if self._upper is None or path not in self._upper:
                    self._root.remove(current, name, status)
                elif stat.S_ISDIR(status.st_mode):
                    placed.append(self._root.find_directory(path))


def make_special(directory: Directory, name: bytes, entry: Entry) -> list[bytes]:
    """Make a link or special file that is not there; names of the xattrs that did not fit."""
    mode: int | None = entry.mode
    if entry.kind is Kind.SYMLINK:
        os.symlink(entry.linkname, name, dir_fd=directory.fd)
        mode = None
    else:
        device = os.makedev(entry.major, entry.minor)
        os.mknod(name, _NODE_TYPES[entry.kind] | 0o600, device, dir_fd=directory.fd)
    return set_attributes(
        directory, name, uid=entry.uid, gid=entry.gid, mode=mode, mtime_ns=entry.mtime_ns, xattrs=entry.xattrs
    )


def _entries(directory: Directory) -> Entries:
    names = [os.fsencode(name) for name in os.listdir(directory.fd)]
    return [(name, os.lstat(name, dir_fd=directory.fd)) for name in names]
