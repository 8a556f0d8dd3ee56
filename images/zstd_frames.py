"""The frames of a zstd file, walked without decompressing them (RFC 8878 section 3.1).

The decompressor takes a file that was cut off for one that ends.
"""

import os
from typing import BinaryIO

_MAGIC = 0xFD2FB528
_SKIPPABLE = range(0x184D2A50, 0x184D2A60)
_DICTIONARY_ID = (0, 1, 2, 4)
_CONTENT_SIZE = (0, 2, 4, 8)
_RLE = 1


def check_frames(stream: BinaryIO) -> None:
    """Read the headers and go back to the beginning. Raises EOFError if the last frame is not whole."""
    end = stream.seek(0, os.SEEK_END)
    position = 0
    while position < end:
        position = _skip_frame(stream, position, end)
    stream.seek(0)
    if position > end:
        raise EOFError("it ends too early")


def _skip_frame(stream: BinaryIO, position: int, end: int) -> int:
    """Where the frame at `position` ends; what is no frame is left to the decompressor to complain of, up to the `end`."""
    stream.seek(position)
    magic = _number(stream, 4)
    if magic in _SKIPPABLE:
        return position + 8 + _number(stream, 4)
    if magic != _MAGIC:
        return end
    descriptor = _number(stream, 1)
    is_single_segment = bool(descriptor & 0x20)
    content_size = _CONTENT_SIZE[descriptor >> 6] or int(is_single_segment)
    position += 5 + (not is_single_segment) + _DICTIONARY_ID[descriptor & 3] + content_size
    is_last = False
    while not is_last:
        stream.seek(position)
        header = _number(stream, 3)
        is_last = bool(header & 1)
        position += 3 + (1 if (header >> 1) & 3 == _RLE else header >> 3)
    return position + (4 if descriptor & 4 else 0)


def _number(stream: BinaryIO, size: int) -> int:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("it ends too early")
    return int.from_bytes(data, "little")
