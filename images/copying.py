"""Copy a tree faithfully: hard links, holes, owners, times and xattrs; shares the blocks where the file system can.

What is mounted below the tree is left out.
"""

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from images.attributes import hint_for, read_xattrs, set_attributes, set_open_attributes, xattr_path
from images.decompress import Interrupted
from images.errors import Error
from images.mounts import find_mounts
from images.rootfs import Directory, show

_DIRECTORY_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE_FLAGS = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FICLONE = 0x40049409
"""ioctl of linux/fs.h that shares a file's blocks; Python 3.11's fcntl has no name for it."""
_PIECE = 8 << 20
"""Bytes that are copied between two looks at whether to go on."""
_NO_CLONE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)


class CopyFailed(Error):
    def __init__(self, path: bytes, exc: OSError) -> None:
        super().__init__(f"cannot copy {show(path)!r} into the image: {exc.strerror}", hint=hint_for(exc))
        self.path = path


def copy_tree(
    source: Path, target: Path, *, stopped: Callable[[], bool], copied: Callable[[int], None] | None = None
) -> dict[str, str]:
    """Copy all below `source`, and its own attributes, into the empty `target`. Blocks.

    `copied` is told how many bytes of files have been copied. Returns the names of xattrs that could not be stored, each with
    the first path. Raises CopyFailed; Interrupted once `stopped` says so.
    """
    copier = _Copier(os.open(target, _DIRECTORY_FLAGS), find_mounts(source), stopped, copied or (lambda done: None))
    try:
        copier.copy(os.open(source, _DIRECTORY_FLAGS))
    finally:
        os.close(copier.target)
    return copier.skipped


def copy_size(source: Path, *, stopped: Callable[[], bool]) -> int:
    """Bytes of files that `copy_tree` would copy where no blocks can be shared. Blocks. Raises OSError or Interrupted."""
    mounts = find_mounts(source)
    seen: set[tuple[int, int]] = set()
    size, pending = 0, [(os.fsencode(source), b"")]
    while pending:
        if stopped():
            raise Interrupted
        folder, path = pending.pop()
        with os.scandir(folder) as entries:
            for entry in entries:
                below = path + b"/" + entry.name if path else entry.name
                if below in mounts:
                    continue
                if entry.is_dir(follow_symlinks=False):
                    pending.append((entry.path, below))
                elif entry.is_file(follow_symlinks=False):
                    status = entry.stat(follow_symlinks=False)
                    key = (status.st_dev, status.st_ino)
                    if status.st_nlink == 1 or key not in seen:
                        size += min(status.st_size, status.st_blocks * 512)
                    if status.st_nlink > 1:
                        seen.add(key)
    return size


@dataclass(frozen=True, slots=True, kw_only=True)
class _Frame:
    """A directory being copied."""

    source: Directory
    target: Directory
    names: Iterator[bytes]


class _Copier:
    def __init__(self, target: int, mounts: set[bytes], stopped: Callable[[], bool], copied: Callable[[int], None]) -> None:
        self.target = target
        self.skipped: dict[str, str] = {}
        self._mounts = mounts
        self._stopped = stopped
        self._copied = copied
        self._done = 0
        self._linked: dict[tuple[int, int], bytes] = {}
        self._clones = True

    def copy(self, source: int) -> None:
        """Depth first; a directory's attributes come last, because every entry made in it changes its times."""
        frames = [self._frame(Directory(fd=source, path=b""), Directory(fd=os.dup(self.target), path=b""))]
        path = b"/"
        try:
            while frames:
                if self._stopped():
                    raise Interrupted
                frame = frames[-1]
                name = next(frame.names, None)
                if name is None:
                    path = frame.source.path
                    self._finish(frame)
                    _close(frames.pop())
                    continue
                path = frame.source.child(name)
                status = os.lstat(name, dir_fd=frame.source.fd)
                if stat.S_ISDIR(status.st_mode):
                    frames.append(self._descend(frame, name))
                else:
                    self._copy_entry(frame, name, status)
        except OSError as exc:
            raise CopyFailed(path, exc) from exc
        finally:
            for frame in frames:
                _close(frame)

    def _frame(self, source: Directory, target: Directory) -> _Frame:
        listed = [] if source.path in self._mounts else os.listdir(source.fd)
        return _Frame(source=source, target=target, names=map(os.fsencode, iter(listed)))

    def _descend(self, frame: _Frame, name: bytes) -> _Frame:
        path = frame.source.child(name)
        os.mkdir(name, 0o700, dir_fd=frame.target.fd)
        source = os.open(name, _DIRECTORY_FLAGS, dir_fd=frame.source.fd)
        try:
            target = os.open(name, _DIRECTORY_FLAGS, dir_fd=frame.target.fd)
        except OSError:
            os.close(source)
            raise
        return self._frame(Directory(fd=source, path=path), Directory(fd=target, path=path))

    def _finish(self, frame: _Frame) -> None:
        self._set_open(frame.source.fd, frame.target.fd, frame.source.path)

    def _copy_entry(self, frame: _Frame, name: bytes, status: os.stat_result) -> None:
        path = frame.source.child(name)
        if stat.S_ISSOCK(status.st_mode):
            # A socket is its listener's, who is not copied.
            return
        if status.st_nlink > 1 and path not in self._mounts:
            key = (status.st_dev, status.st_ino)
            first = self._linked.setdefault(key, path)
            if first != path:
                os.link(first, name, src_dir_fd=self.target, dst_dir_fd=frame.target.fd, follow_symlinks=False)
                return
        if stat.S_ISREG(status.st_mode):
            self._copy_file(frame, name)
            return
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(name, dir_fd=frame.source.fd), name, dir_fd=frame.target.fd)
        else:
            os.mknod(name, stat.S_IFMT(status.st_mode) | 0o600, status.st_rdev, dir_fd=frame.target.fd)
        skipped = set_attributes(
            frame.target,
            name,
            uid=status.st_uid,
            gid=status.st_gid,
            mode=None if stat.S_ISLNK(status.st_mode) else stat.S_IMODE(status.st_mode),
            mtime_ns=status.st_mtime_ns,
            xattrs=read_xattrs(xattr_path(frame.source, name)),
        )
        self._note(skipped, path)

    def _copy_file(self, frame: _Frame, name: bytes) -> None:
        path = frame.source.child(name)
        source = os.open(name, _READ_FLAGS, dir_fd=frame.source.fd)
        try:
            target = os.open(name, _WRITE_FLAGS, 0o600, dir_fd=frame.target.fd)
            try:
                if path not in self._mounts:
                    self._copy_data(source, target)
                self._set_open(source, target, path)
            finally:
                os.close(target)
        finally:
            os.close(source)

    def _copy_data(self, source: int, target: int) -> None:
        status = os.fstat(source)
        if not status.st_size or (self._clones and self._clone(source, target)):
            return
        if status.st_blocks * 512 >= status.st_size:
            self._send(source, target, 0, status.st_size)
            return
        os.ftruncate(target, status.st_size)
        end = 0
        while end < status.st_size:
            try:
                start = os.lseek(source, end, os.SEEK_DATA)
            except OSError as exc:
                if exc.errno == errno.ENXIO:
                    return
                raise
            end = os.lseek(source, start, os.SEEK_HOLE)
            self._send(source, target, start, end - start)

    def _send(self, source: int, target: int, offset: int, size: int) -> None:
        os.lseek(target, offset, os.SEEK_SET)
        while size:
            if self._stopped():
                raise Interrupted
            sent = os.sendfile(target, source, offset, min(size, _PIECE))
            if not sent:
                raise OSError(errno.EIO, "it became shorter while it was read")
            offset, size = offset + sent, size - sent
            self._done += sent
            self._copied(self._done)

    def _clone(self, source: int, target: int) -> bool:
        try:
            fcntl.ioctl(target, _FICLONE, source)
        except OSError as exc:
            if exc.errno not in _NO_CLONE:
                raise
            self._clones = False
            return False
        return True

    def _set_open(self, source: int, target: int, path: bytes) -> None:
        status = os.fstat(source)
        skipped = set_open_attributes(
            target,
            uid=status.st_uid,
            gid=status.st_gid,
            mode=stat.S_IMODE(status.st_mode),
            mtime_ns=status.st_mtime_ns,
            xattrs=read_xattrs(source),
        )
        self._note(skipped, path)

    def _note(self, skipped: list[bytes], path: bytes) -> None:
        for name in skipped:
            self.skipped.setdefault(show(name), show(path))


def _close(frame: _Frame) -> None:
    os.close(frame.source.fd)
    os.close(frame.target.fd)
