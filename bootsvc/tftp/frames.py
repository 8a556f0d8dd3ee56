"""DATA packets that are ready to be sent: machines of one kind fetch the same loader."""

from collections import OrderedDict
from typing import Protocol

from bootsvc.net.batch import Memory
from bootsvc.tftp.packet import frame_data

MAX_FRAMED, MAX_FRAMED_TOTAL = 8 << 20, 64 << 20
"""Bytes of one file whose packets are kept in memory, and of all of them."""
MAX_FRAMED_BLOCKS = 20_000
Version = tuple[int, int, int, int, int]
"""Size, times, inode and device of a file."""


class Versioned(Protocol):
    """A file that is what it was when it was opened, or says that it is not."""

    @property
    def size(self) -> int: ...
    @property
    def version(self) -> Version: ...
    def read(self, offset: int, count: int) -> bytes: ...
    def unchanged(self) -> bool: ...


class Frames:
    """All DATA packets of a file but the last one, each `size` bytes, one after the other from block 1 on.

    Block `n` lies at the address `origin + n * size`.
    """

    __slots__ = ("memory", "origin", "size")

    def __init__(self, data: bytes, blksize: int) -> None:
        """`data` is whole blocks, fewer than 65536."""
        blocks = range(0, len(data), blksize)
        self.memory = Memory(b"".join(frame_data(number, data[at : at + blksize]) for number, at in enumerate(blocks, 1)))
        self.size = blksize + 4
        self.origin = self.memory.address - self.size


class FrameCache:
    """The frames of the files that were asked for last, by version and blksize; made once, sent to all."""

    def __init__(self) -> None:
        self._known: OrderedDict[tuple[Version, int], Frames] = OrderedDict()
        self._total = 0

    def find(self, file: Versioned, blksize: int) -> Frames | None:
        """None for a file that is too large, or that is being written to."""
        key = (file.version, blksize)
        known = self._known.get(key)
        if known is not None:
            self._known.move_to_end(key)
            return known
        whole = file.size // blksize
        if whole == 0 or whole > MAX_FRAMED_BLOCKS or file.size > MAX_FRAMED:
            return None
        data = file.read(0, whole * blksize)
        if len(data) != whole * blksize or not file.unchanged():
            return None
        made = self._known[key] = Frames(data, blksize)
        self._total += len(made.memory.data)
        while self._total > MAX_FRAMED_TOTAL:
            _, old = self._known.popitem(last=False)
            self._total -= len(old.memory.data)
        return made
