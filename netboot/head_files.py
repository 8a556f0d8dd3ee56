"""Files of the head node that templates include: read once while they stay the same, and noted with what they held."""

import errno
import hashlib
import os
import stat
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import msgspec

from images.rootfs import Rootfs, UnsafePath

YOUNG_NS = 2_000_000_000
"""A file that changed less than this before it was read may change again without a new time; it is read anew."""
MAX_LINKS = 40
MAX_INCLUDED = 16 << 20
"""Bytes of a file that a template may include; its text comes into every node's memory."""


class FileRead(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """A file, a link, or a file below an image's root, and the sha256 of what it held; None: it was not there."""

    path: str
    root: str = ""
    link: bool = False
    digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    key: tuple[int, ...]
    settled: bool
    content: bytes
    digest: str


class FileCache:
    """Contents by path, as long as `stat` says that nothing changed; for several threads."""

    def __init__(self) -> None:
        self._known: dict[str, _Known] = {}
        self._lock = threading.Lock()

    def look(self, read: FileRead) -> tuple[bytes | None, str | None]:
        """What the file holds now, and its digest; `read.digest` plays no part."""
        try:
            if read.link:
                content = os.fsencode(os.readlink(read.path))
                return content, _digest(content)
            return self._file(read)
        except (OSError, UnsafePath, ValueError):
            return None, None

    def _file(self, read: FileRead) -> tuple[bytes, str]:
        descriptor = _open_below(Path(read.root), read.path) if read.root else os.open(read.path, _FLAGS)
        with os.fdopen(descriptor, "rb") as file:
            info = os.fstat(descriptor)
            if not stat.S_ISREG(info.st_mode) or info.st_size > MAX_INCLUDED:
                raise OSError(errno.EINVAL, "not a file to include", read.path)
            key = (info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
            name = f"{read.root}\0{read.path}"
            with self._lock:
                known = self._known.get(name)
            if known is None or known.key != key or not known.settled:
                content = file.read()
                known = _Known(key=key, settled=is_settled(info), content=content, digest=_digest(content))
                with self._lock:
                    self._known[name] = known
        return known.content, known.digest


_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK
"""Without O_NONBLOCK a named pipe would hold the build up for ever."""


def is_settled(info: os.stat_result) -> bool:
    """Whether the file is so old that its next change must show in its times."""
    return max(info.st_mtime_ns, info.st_ctime_ns) < time.time_ns() - YOUNG_NS


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _open_below(root: Path, path: str) -> int:
    """Open a file as it would be found in a chroot; raises OSError or UnsafePath."""
    parts = _normal(os.fsencode(path))
    with Rootfs(root) as tree:
        for _ in range(MAX_LINKS):
            if not parts:
                raise IsADirectoryError(errno.EISDIR, "a directory", path)
            parent = tree.find_directory(b"/".join(parts[:-1]))
            if parent is None:
                raise FileNotFoundError(errno.ENOENT, "no such file", path)
            try:
                return os.open(parts[-1], _FLAGS | os.O_NOFOLLOW, dir_fd=parent.fd)
            except OSError as exc:
                if exc.errno != errno.ELOOP:
                    raise
            target = os.readlink(parts[-1], dir_fd=parent.fd)
            parts = _normal(target if target.startswith(b"/") else parent.path + b"/" + target)
    raise OSError(errno.ELOOP, "too many links", path)


def _normal(path: bytes) -> list[bytes]:
    """The components, `..` taken back; the parent has no links, so that this is what the kernel would do."""
    done: list[bytes] = []
    for part in path.split(b"/"):
        if part == b"..":
            done = done[:-1]
        elif part not in (b"", b"."):
            done.append(part)
    return done


class NotedFiles:
    """The files of one rendering, each noted with its digest."""

    def __init__(self, cache: FileCache) -> None:
        self._cache = cache
        self.reads: set[FileRead] = set()

    def read(self, path: Path, root: Path | None = None) -> bytes | None:
        return self._note(FileRead(path=str(path), root="" if root is None else str(root)))

    def read_link(self, path: Path) -> str | None:
        target = self._note(FileRead(path=str(path), link=True))
        return None if target is None else os.fsdecode(target)

    def _note(self, asked: FileRead) -> bytes | None:
        content, digest = self._cache.look(asked)
        self.reads.add(msgspec.structs.replace(asked, digest=digest))
        return content
