"""A piece of a file, read as if it were a file of its own."""

import io
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """`size` bytes of the file `path` from `offset` on."""

    path: Path
    offset: int
    size: int

    def read(self) -> bytes:
        with open_window(self.path, self.offset, self.size) as stream:
            return stream.read()


def open_window(path: Path, offset: int, size: int) -> BinaryIO:
    """`size` bytes from `offset` on; a file that is shorter just ends."""
    return cast(BinaryIO, _Window(path.open("rb", buffering=0), offset, size))


class _Window(io.RawIOBase):
    def __init__(self, file: io.FileIO, offset: int, size: int) -> None:
        self._file = file
        self._offset = offset
        self._size = size
        self._at = 0
        file.seek(offset)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        left = max(self._size - self._at, 0)
        data = self._file.read(left if size < 0 else min(size, left)) or b""
        self._at += len(data)
        return data

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]  # typeshed's Buffer has no length
        got = self._file.readinto(memoryview(buffer)[: self._size - self._at])
        self._at += got
        return got

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = min(max(base + position, 0), self._size)
        self._file.seek(self._offset + self._at)
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        self._file.close()
        super().close()
