"""A file read by one process while another still writes it: the writer says through an eventfd(2) how far it has come."""

import io
import os
from typing import BinaryIO, cast


class Growth:
    """The writer's side: `file` is for the reader, `event` counts the bytes told of."""

    def __init__(self, file: int) -> None:
        # Not a duplicate: that would keep the lock of a writer that closes its own.
        self.file = os.open(f"/proc/self/fd/{file}", os.O_RDONLY | os.O_CLOEXEC)
        self.event = os.eventfd(0, os.EFD_CLOEXEC)
        self._told = 0

    def tell(self, done: int) -> None:
        """So many bytes are there now."""
        if done > self._told:
            os.eventfd_write(self.event, done - self._told)
            self._told = done

    def is_of(self, file: int) -> bool:
        """Whether that open file is the one."""
        return os.path.sameopenfile(self.file, file)

    def close(self) -> None:
        os.close(self.file)
        os.close(self.event)


def open_growing(file: int, event: int, size: int) -> BinaryIO:
    """Of another process's `Growth`, whose two descriptors it closes: reading waits for what is not there yet of `size`."""
    return cast(BinaryIO, _Growing(file, event, size))


class _Growing(io.RawIOBase):
    def __init__(self, file: int, event: int, size: int) -> None:
        self._file = file
        self._event = event
        self._size = size
        self._there = 0
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def read(self, size: int = -1) -> bytes:
        """Fewer than `size` bytes only at the end. The position is ours: the descriptor's is the writer's."""
        left = max(self._size - self._at, 0)
        wanted = left if size < 0 else min(size, left)
        while self._there < self._at + wanted:
            self._there += os.eventfd_read(self._event)
        data = os.pread(self._file, wanted, self._at) if wanted else b""
        self._at += len(data)
        return data

    def seek(self, position: int, whence: int = io.SEEK_SET) -> int:
        self._at = position + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        return self._at

    def tell(self) -> int:
        return self._at

    def close(self) -> None:
        if not self.closed:
            os.close(self._file)
            os.close(self._event)
        super().close()
