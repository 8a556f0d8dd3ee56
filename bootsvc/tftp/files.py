"""Files that TFTP may hand out: names under a set of roots, and nothing else of this machine."""

import os
import stat
from bisect import bisect_right
from collections.abc import Iterable
from itertools import accumulate
from pathlib import Path, PurePosixPath

from bootsvc.artifacts import Artifact
from bootsvc.tftp.frames import FrameCache, Frames, Version
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
    """A regular file that is open for reading; blocks come out of the page cache. If it is replaced, this stays the old one."""

    def __init__(self, fd: int, frames: FrameCache | None = None) -> None:
        self._fd = fd
        self._frames = frames
        self.version = self._look()
        self.size = self.version[0]

    def _look(self) -> Version:
        status = os.fstat(self._fd)
        return status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino, status.st_dev

    def read(self, offset: int, count: int) -> bytes:
        return os.pread(self._fd, count, offset)

    def unchanged(self) -> bool:
        return self._look() == self.version

    def framed(self, blksize: int) -> Frames | None:
        return self._frames.find(self, blksize) if self._frames is not None else None

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

    def unchanged(self) -> bool:
        return True

    def framed(self, blksize: int) -> Frames | None:
        return None

    def close(self) -> None:
        """Nothing is held."""


class Parts:
    """An artifact as one file: its parts one after the other, then zeros. One part is open at a time."""

    def __init__(self, artifact: Artifact) -> None:
        """Raises OSError when the first part cannot be read."""
        self.size = artifact.size
        self._parts = [path for path, _ in artifact.parts]
        sizes = [size for _, size in artifact.parts]
        self._starts = [0, *accumulate(sizes)]
        self._number = -1
        self._file: OpenFile | None = None
        if self._parts:
            self._open(0)

    def read(self, offset: int, count: int) -> bytes:
        """Raises OSError, also when a part is not as long any more as the artifact says."""
        count = min(count, self.size - offset)
        end = self._starts[-1]
        pieces = []
        while count > 0 and offset < end:
            number = bisect_right(self._starts, offset) - 1
            wanted = min(count, self._starts[number + 1] - offset)
            data = self._open(number).read(offset - self._starts[number], wanted)
            if len(data) != wanted:
                raise OSError(f"{self._parts[number]} is shorter than it was")
            pieces.append(data)
            offset, count = offset + wanted, count - wanted
        return b"".join([*pieces, bytes(count)])

    def _open(self, number: int) -> OpenFile:
        if self._file is None or number != self._number:
            if not self.unchanged():
                raise OSError(f"{self._parts[self._number]} has changed")
            self.close()
            opened = OpenFile(os.open(self._parts[number], os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
            if opened.size != self._starts[number + 1] - self._starts[number]:
                opened.close()
                raise OSError(f"{self._parts[number]} has another size than it had")
            self._file, self._number = opened, number
        return self._file

    def unchanged(self) -> bool:
        return self._file is None or self._file.unchanged()

    def framed(self, blksize: int) -> Frames | None:
        return None

    def close(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


Source = OpenFile | Memory | Parts


def open_file(roots: Iterable[Path], name: str, frames: FrameCache | None = None) -> OpenFile:
    """Open the first match; a leading slash means the root itself. Raises NoSuchFile or Forbidden."""
    try:
        fd = os.open(find_file(roots, name), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as exc:
        raise NoSuchFile(name) from exc
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise Forbidden(name)
    return OpenFile(fd, frames)


def find_file(roots: Iterable[Path], name: str) -> Path:
    """The first match, whatever it is, with no link left in its path. Raises NoSuchFile or Forbidden."""
    # Windows-minded ROMs send backslashes.
    relative = PurePosixPath(name.replace("\\", "/").lstrip("/"))
    if not relative.parts or ".." in relative.parts or "\0" in name:
        raise Forbidden(name)
    for root in roots:
        path = root / relative
        try:
            resolved = Path(os.path.realpath(path, strict=True))
            if resolved == path:
                # No link is on the way, thus neither in the root's own path.
                return resolved
            top = root.resolve(strict=True)
            folder = path.parent.resolve(strict=True)
        except (OSError, RuntimeError):
            continue
        linked = resolved.parent in LINKED_DIRS and resolved.name == relative.name and folder.is_relative_to(top)
        if not resolved.is_relative_to(top) and not linked:
            raise Forbidden(name)
        return resolved
    raise NoSuchFile(name)
