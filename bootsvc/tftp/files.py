"""Files that TFTP may hand out: names under a set of roots, and nothing else of this machine."""

import os
import stat
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from images.errors import Error

LINKED_DIRS = (Path("/boot"),)
"""Where a link in a root may lead, to a file of the same name: Debian's `ipxe` package keeps `ipxe.efi` in /boot."""
MAX_NETASCII = 1 << 24
"""Bytes of a file that may be converted in memory."""


class NoSuchFile(Error):
    """The name is no file under a root."""

    def __init__(self, name: str) -> None:
        super().__init__(f"no file {name!r} to serve by TFTP", hint="install the `ipxe` package, or set `paths: ipxesource:`")


class Forbidden(Error):
    """The name leads out of the roots, or to something that is not a regular file."""

    def __init__(self, name: str) -> None:
        super().__init__(f"{name!r} is not below a directory that TFTP serves", hint="name a file below `paths: ipxesource:`")


class OpenFile:
    """A regular file that is open for reading; blocks come out of the page cache."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self.size = os.fstat(fd).st_size

    def read(self, offset: int, count: int) -> bytes:
        return os.pread(self._fd, count, offset)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Memory:
    """Bytes in memory, as a file."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read(self, offset: int, count: int) -> bytes:
        return self._data[offset : offset + count]

    def close(self) -> None:
        """Nothing is held."""


def open_file(roots: Iterable[Path], name: str) -> OpenFile:
    """Open the first match; a leading slash means the root itself. Raises NoSuchFile or Forbidden."""
    # Windows-minded ROMs send backslashes.
    relative = PurePosixPath(name.replace("\\", "/").lstrip("/"))
    if not relative.parts or ".." in relative.parts or "\0" in name:
        raise Forbidden(name)
    for root in roots:
        try:
            resolved = (root / relative).resolve(strict=True)
            top = root.resolve(strict=True)
            folder = (root / relative).parent.resolve(strict=True)
        except (OSError, RuntimeError):
            continue
        linked = resolved.parent in LINKED_DIRS and resolved.name == relative.name and folder.is_relative_to(top)
        if not resolved.is_relative_to(top) and not linked:
            raise Forbidden(name)
        try:
            fd = os.open(resolved, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as exc:
            raise NoSuchFile(name) from exc
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise Forbidden(name)
        return OpenFile(fd)
    raise NoSuchFile(name)
