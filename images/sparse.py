"""Maps of sparse files in tar archives, old GNU format and pax 0.0, 0.1 and 1.0 (GNU tar manual, "Sparse Formats")."""

from collections.abc import Callable

from images.pax import MAX_EXTENSION, Malformed, Records, parse_decimal, parse_number

SparseMap = tuple[tuple[int, int], ...]
"""(offset, length) of each stored piece, ascending; all between is a hole."""

BLOCK = 512
_SLOT = 24
Take = Callable[[int], bytes]
"""Gives exactly so many of the archive's next bytes."""


def read_gnu(header: bytes, take: Take) -> tuple[int, SparseMap]:
    """Full size and map of an old GNU sparse file; its extension blocks are taken from the archive."""
    pieces, more = _parse_slots(header[386:482]), header[482]
    while more:
        if _SLOT * len(pieces) > MAX_EXTENSION:
            raise Malformed("a sparse map is too long")
        block = take(BLOCK)
        pieces += _parse_slots(block[:504])
        more = block[504]
    return parse_number(header[483:495]), pieces


def read_pax(records: Records, take: Take) -> tuple[int, SparseMap, int]:
    """Full size, map, and how many of the stored bytes held the map."""
    size = parse_decimal(records.get(b"GNU.sparse.realsize") or records.get(b"GNU.sparse.size") or b"")
    if records.get(b"GNU.sparse.major") == b"1" and records.get(b"GNU.sparse.minor") == b"0":
        return (size, *_read_lines(take))
    text = records.get(b"GNU.sparse.map", b"")
    return size, _pair([parse_decimal(part) for part in text.split(b",")]) if text else (), 0


def check(pieces: SparseMap, *, size: int, stored: int) -> None:
    """The pieces ascend, lie within the file and are what the archive stores."""
    end = 0
    for offset, length in pieces:
        if offset < end or length < 0:
            raise Malformed("a sparse map is not in order")
        end = offset + length
    if end > size or sum(length for _, length in pieces) != stored:
        raise Malformed("a sparse map does not fit the file")


def _read_lines(take: Take) -> tuple[SparseMap, int]:
    """Format 1.0: decimal lines before the contents, a count first, filled up to whole blocks."""
    text, lines, wanted = bytearray(), 0, 1
    while lines < wanted:
        if len(text) > MAX_EXTENSION:
            raise Malformed("a sparse map is too long")
        block = take(BLOCK)
        text += block
        lines += block.count(b"\n")
        if wanted == 1 and lines:
            wanted += 2 * parse_decimal(bytes(text.partition(b"\n")[0]))
    return _pair([parse_decimal(bytes(line)) for line in text.split(b"\n")[1:wanted]]), len(text)


def _parse_slots(block: bytes) -> SparseMap:
    slots = (block[at : at + _SLOT] for at in range(0, len(block), _SLOT))
    return tuple((parse_number(slot[:12]), parse_number(slot[12:])) for slot in slots if slot[0])


def _pair(numbers: list[int]) -> SparseMap:
    if len(numbers) % 2:
        raise Malformed("a sparse map has an odd number of values")
    return tuple(zip(numbers[::2], numbers[1::2], strict=True))
