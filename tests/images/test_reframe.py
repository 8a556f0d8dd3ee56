"""Archives joined into one: no trailer inside, inodes moved apart, whatever the chunks are."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images import cpio, reframe
from images.cpio import CpioError, Entry

ENTRIES = [
    (Entry(path=b"d", mode=0o040755), b""),
    (Entry(path=b"a", mode=0o100644, ino=1, nlink=2), b""),
    (Entry(path=b"b", mode=0o100644, ino=1, nlink=2, size=5), b"hello"),
    (Entry(path=b"TRAILER!!", mode=0o100644, ino=3, size=300), bytes(300)),
    (Entry(path=b"empty", mode=0o100644, ino=4), b""),
]
ARCHIVE = cpio.archive(ENTRIES)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = [0, *sorted(cuts), len(data)]
    return [data[start:stop] for start, stop in pairwise(edges)]


@given(st.lists(st.integers(0, len(ARCHIVE)), max_size=8), st.integers(0, 1 << 20))
def test_any_chunks_give_the_entries_with_moved_inodes(cuts: list[int], first: int) -> None:
    body = b"".join(reframe.body(pieces(ARCHIVE, cuts), first))
    assert len(body) == len(ARCHIVE) - len(cpio.TRAILER)
    found = [(entry.path, entry.ino, entry.nlink, bytes(content)) for entry, content in cpio.parse(body)]
    assert found == [(e.path, e.ino + first if e.ino else 0, e.nlink, content) for e, content in ENTRIES]


@pytest.mark.parametrize("size", range(0, len(ARCHIVE) - len(cpio.TRAILER), 7))
def test_a_cut_archive_is_an_error(size: int) -> None:
    with pytest.raises(CpioError):
        list(reframe.body([ARCHIVE[:size]], 0))


def test_what_is_no_archive_is_an_error() -> None:
    with pytest.raises(CpioError, match="newc"):
        list(reframe.body([bytes(200)], 0))


def test_a_header_with_letters_where_digits_are_due() -> None:
    with pytest.raises(CpioError):
        list(reframe.body([ARCHIVE[:54] + b"zzzzzzzz" + ARCHIVE[62:]], 0))
