"""Operations below one root directory; links are resolved as chroot(2) would, and nothing outside is ever touched.

Paths are bytes relative to the root, without `.`, `..` or empty components; b"" is the root itself. Every step is an
openat with O_NOFOLLOW, so a link is never followed by the kernel, only by `Rootfs.directory`, within the root.
"""

import errno
import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import TracebackType

import msgspec

from images.errors import Error
from images.mounts import find_mounts
from images.protection import unprotect, unprotect_entry

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_LINKS = 40
"""Links followed for one path, as the kernel's limit (path_resolution(7))."""
MAX_PATH = 4096 - 512
"""Longest path below the root; leaves room for where the tree itself stands (PATH_MAX is 4096)."""
MAX_DEPTH = 512
"""Directories that one may lie in another; each of them is open for a moment, and tools that walk a tree have stacks."""
_MAX_OPEN = 192
"""Directories kept open between operations; with MAX_DEPTH well below the usual limit of 1024 descriptors."""


def show(path: bytes) -> str:
    """A path as an error prints it: what is not UTF-8 is escaped."""
    text = path.decode("utf-8", "backslashreplace")
    return text if len(text) <= 200 else f"{text[:100]}...{text[-90:]}"


class UnsafePath(Error):
    """A path that would leave the root, or that leads through something that is no directory."""

    def __init__(self, path: bytes, reason: str) -> None:
        super().__init__(
            f"entry {show(path)!r} {reason}", hint="the image is broken or hostile: nothing of it was kept; rebuild it"
        )
        self.path = path
        self.reason = reason


class Directory(msgspec.Struct, frozen=True, kw_only=True):
    """An open directory; `path` has no link in it."""

    fd: int
    path: bytes

    def child(self, name: bytes) -> bytes:
        return self.path + b"/" + name if self.path else name


class Rootfs:
    """A root that only we change; open it with `with`."""

    def __init__(self, root: Path) -> None:
        self.root = Directory(fd=os.open(root, _DIRECTORY_FLAGS), path=b"")
        self._open: dict[bytes, Directory] = {}
        self._resolved: dict[bytes, Directory] = {}
        self._stale = False

    def __enter__(self) -> "Rootfs":
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self.forget()
        os.close(self.root.fd)

    def forget(self) -> None:
        """Close the directories kept open: what was handed out before is void."""
        for directory in self._open.values():
            os.close(directory.fd)
        self._open.clear()
        self._resolved.clear()
        self._stale = False

    def settle(self) -> None:
        """Call between two operations: drops what the last one made untrue, and bounds the open descriptors."""
        if self._stale or len(self._open) > _MAX_OPEN:
            self.forget()

    def find_directory(self, path: bytes) -> Directory | None:
        """Resolve to an open directory; None if there is none. Raises UnsafePath."""
        return self._resolve(path, made=None)

    def make_directory(self, path: bytes) -> tuple[Directory, list[bytes]]:
        """Resolve to an open directory, missing ones made (0755, root's); also the paths made. Raises UnsafePath."""
        made: list[bytes] = []
        directory = self._resolve(path, made=made)
        assert directory is not None
        return directory, made

    def _resolve(self, path: bytes, made: list[bytes] | None) -> Directory | None:
        if not path:
            return self.root
        if (found := self._resolved.get(path)) is not None:
            return found
        current, pending = self._nearest(path)
        if len(pending) > MAX_DEPTH:
            raise UnsafePath(path, f"lies below more than {MAX_DEPTH} directories")
        links, lexical, link = 0, len(pending), ""
        while pending:
            # What a link's target names must exist; only what the entry itself names may be made.
            from_link = len(pending) > lexical
            name = pending.pop()
            lexical = min(lexical, len(pending))
            if name == b"..":
                if not current.path:
                    raise UnsafePath(path, f"goes through {link}, which points outside the image")
                current = self._canonical(current.path.rpartition(b"/")[0])
                continue
            following = self._enter(current, name)
            if isinstance(following, bytes):
                links += 1
                link = f"the link {show(current.child(name))!r} to {show(following)!r}"
                if links > _MAX_LINKS:
                    raise UnsafePath(path, f"goes through {link} and too many other links")
                pending += [part for part in following.split(b"/")[::-1] if part not in (b"", b".")]
                current = self.root if following.startswith(b"/") else current
                continue
            if following is None:
                if made is None:
                    return None
                if from_link:
                    raise UnsafePath(path, f"goes through {link}, which points at nothing in the image")
                following = self._make(current, name)
                made.append(following.path)
            current = following
            if current.path.count(b"/") >= MAX_DEPTH:
                raise UnsafePath(path, f"lies below more than {MAX_DEPTH} directories")
        if len(current.path) > MAX_PATH:
            raise UnsafePath(path, "has too long a path")
        self._resolved[path] = current
        return current

    def _nearest(self, path: bytes) -> tuple[Directory, list[bytes]]:
        """The longest resolved directory above `path`, and the components below it, last one first."""
        pending: list[bytes] = []
        while path:
            if (found := self._resolved.get(path)) is not None:
                return found, pending
            path, _, name = path.rpartition(b"/")
            pending.append(name)
        return self.root, pending

    def _canonical(self, path: bytes) -> Directory:
        """A directory whose path has no links; it stood open on the way here."""
        return self._open[path] if path else self.root

    def _enter(self, parent: Directory, name: bytes) -> Directory | bytes | None:
        """The directory `name`, or the target of the link `name`, or None if nothing has that name."""
        path = parent.child(name)
        if (found := self._open.get(path)) is not None:
            return found
        try:
            fd = os.open(name, _DIRECTORY_FLAGS, dir_fd=parent.fd)
        except FileNotFoundError:
            return None
        except OSError as exc:
            if exc.errno not in (errno.ENOTDIR, errno.ELOOP):
                raise
            try:
                return os.readlink(name, dir_fd=parent.fd)
            except OSError:
                raise UnsafePath(path, f"lies below {show(path)!r}, which is no directory") from exc
        return self._keep(Directory(fd=fd, path=path))

    def _make(self, parent: Directory, name: bytes) -> Directory:
        os.mkdir(name, 0o700, dir_fd=parent.fd)
        directory = self._keep(Directory(fd=os.open(name, _DIRECTORY_FLAGS, dir_fd=parent.fd), path=parent.child(name)))
        # Neither umask nor a set-group-ID parent may have a say.
        os.fchown(directory.fd, 0, 0)
        os.fchmod(directory.fd, 0o755)
        return directory

    def _keep(self, directory: Directory) -> Directory:
        self._open[directory.path] = directory
        return directory

    def visit(self, paths: Iterable[bytes]) -> Iterator[Directory]:
        """Those of these directories that are there, each open until the next; a path with a link in it is not there."""
        opened = [self.root]
        try:
            for path in sorted(paths, key=lambda path: path.split(b"/")):
                while not _within(path, opened[-1].path):
                    os.close(opened.pop().fd)
                try:
                    for name in path[len(opened[-1].path) :].strip(b"/").split(b"/") if path != opened[-1].path else ():
                        fd = os.open(name, _DIRECTORY_FLAGS, dir_fd=opened[-1].fd)
                        opened.append(Directory(fd=fd, path=opened[-1].child(name)))
                except OSError as exc:
                    if exc.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                        raise
                    continue
                yield opened[-1]
        finally:
            for directory in opened[1:]:
                os.close(directory.fd)

    def remove(self, directory: Directory, name: bytes, status: os.stat_result) -> None:
        """Remove an entry of any type, with all below it; `status` is its lstat."""
        if stat.S_ISDIR(status.st_mode):
            self._stale = True
            _remove_tree(directory.fd, name)
        else:
            self._stale = self._stale or stat.S_ISLNK(status.st_mode)
            os.unlink(name, dir_fd=directory.fd)


def _within(path: bytes, folder: bytes) -> bool:
    return not folder or path == folder or path.startswith(folder + b"/")


def find_status(directory: Directory, name: bytes) -> os.stat_result | None:
    """lstat of an entry; None if there is none."""
    try:
        return os.lstat(name, dir_fd=directory.fd) if name else os.fstat(directory.fd)
    except FileNotFoundError:
        return None


def remove_tree(path: Path) -> None:
    """Remove a directory with all below it, however deep; no link is followed.

    Raises OSError, EBUSY for a tree in which something is mounted: that is not ours to empty.
    """
    mounts = find_mounts(path.resolve())
    if mounts:
        place = os.fsdecode(min(mounts))
        raise OSError(errno.EBUSY, "something is mounted in it", str(path / place))
    parent = os.open(path.parent, _DIRECTORY_FLAGS & ~os.O_NOFOLLOW)
    try:
        _remove_tree(parent, os.fsencode(path.name))
    finally:
        os.close(parent)


def _remove_tree(parent: int, top: bytes) -> None:
    """Depth first with one open directory at a time: a tree may be deeper than Python's stack and the descriptors allow."""
    names = [top]
    current = os.open(top, _DIRECTORY_FLAGS, dir_fd=parent)
    try:
        while names:
            below = _empty(current)
            following = os.open(b".." if below is None else below, _DIRECTORY_FLAGS, dir_fd=current)
            os.close(current)
            current = following
            if below is None:
                os.rmdir(names.pop(), dir_fd=current)
            else:
                names.append(below)
    finally:
        os.close(current)


def _empty(fd: int) -> bytes | None:
    """Remove all that one step removes; the name of a directory that is not empty, or None if none is left."""
    below = None
    with os.scandir(fd) as entries:
        for entry in entries:
            name = os.fsencode(entry.name)
            remove = os.rmdir if entry.is_dir(follow_symlinks=False) else os.unlink
            try:
                remove(name, dir_fd=fd)
            except PermissionError:
                unprotect(fd)
                if entry.is_dir(follow_symlinks=False) or entry.is_file(follow_symlinks=False):
                    unprotect_entry(fd, name)
                # Whether a directory is empty is found out at the next step.
                if remove is os.rmdir:
                    below = name
                else:
                    remove(name, dir_fd=fd)
            except OSError as exc:
                if exc.errno != errno.ENOTEMPTY:
                    raise
                below = name
    return below
