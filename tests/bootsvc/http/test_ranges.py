"""Range, If-Range and If-None-Match as RFC 9110 has them, against a plain reading of its text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootsvc.http.ranges import is_known, parse_range, range_applies

sizes = st.integers(0, 50)


@given(sizes, st.integers(0, 60), st.integers(0, 60) | st.none())
def test_first_and_last(size: int, first: int, last: int | None) -> None:
    found = parse_range(f"bytes={first}-{'' if last is None else last}", size)
    if last is not None and last < first:
        assert found is None
        return
    assert found is not None
    data = bytes(range(size))
    assert data[found[0] : found[1]] == data[first : None if last is None else last + 1]
    assert (found[0] < found[1]) == (first < size)


@given(sizes, st.integers(0, 60))
def test_suffix(size: int, length: int) -> None:
    found = parse_range(f"bytes=-{length}", size)
    assert found is not None
    data = bytes(range(size))
    assert data[found[0] : found[1]] == (data[-length:] if length else b"")


@given(st.text(max_size=30))
def test_whatever_comes(header: str) -> None:
    found = parse_range(header, 100)
    assert found is None or 0 <= found[0] <= found[1] <= 100 or found[0] == found[1]


@pytest.mark.parametrize(
    "header", ["", "bytes", "bytes=", "bytes=-", "bytes=1-2,4-5", "rows=1-2", "bytes=٣-٤", "bytes=1-" + "9" * 99]
)
def test_ignored(header: str) -> None:
    assert parse_range(header, 10) is None


def test_a_unit_has_no_case() -> None:
    assert parse_range("Bytes= 1-2 ", 10) == (1, 3)


def test_conditions() -> None:
    assert range_applies(None, "a")
    assert range_applies('"a"', "a")
    assert not range_applies('W/"a"', "a")
    assert not range_applies("Wed, 21 Oct 2015 07:28:00 GMT", "a")
    assert is_known('"b", W/"a"', "a")
    assert is_known("*", "a")
    assert not is_known(None, "a")
    assert not is_known('"ab"', "a")
