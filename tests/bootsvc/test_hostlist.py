import pytest
from hypothesis import given
from hypothesis import strategies as st

from bootsvc.hostlist import HostlistError, compress, expand


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("n[01-03]", "n01 n02 n03"),
        ("r[1-2]n[01-02]", "r1n01 r1n02 r2n01 r2n02"),
        ("n[1-3,5]", "n1 n2 n3 n5"),
        ("n[09-11]", "n09 n10 n11"),
        ("n[001-3]", "n001 n002 n003"),
        ("n[1-2],n1", "n1 n2 n1"),
        ("n[7]-ib", "n7-ib"),
        ("[1-2]", "1 2"),
        ("n1", "n1"),
    ],
)
def test_expand(text: str, names: str) -> None:
    assert expand(text) == names.split()


@pytest.mark.parametrize(
    ("text", "column", "reason"),
    [
        ("n[3-1]", 3, "the range 3-1 runs backwards"),
        ("n[1-2-3]", 3, "'1-2-3' is neither a number nor a range"),
        ("n[1-]", 3, "'1-' is neither"),
        ("n[-1]", 3, "'-1' is neither"),
        ("n[]", 3, "a number is missing"),
        ("n[1,,2]", 5, "a number is missing"),
        ("a,n[1-2", 4, "[ without ] after it"),
        ("n1]", 3, "] without [ before it"),
        ("n[[1]]", 3, "a bracket inside a bracket"),
        ("n[ 1-2]", 3, "' 1-2' is neither"),
        ("m[1-2],n[a]", 10, "'a' is neither"),
        ("", 1, "a name is missing"),
        ("a,", 3, "a name is missing"),
        ("n[1-999999999]", 3, "more than 100000 names"),
        ("n[1-400]m[1-400]", 1, "more than 100000 names"),
        ("n[" + "9" * 5000 + "]", 3, "neither a number"),
    ],
)
def test_what_does_not_parse(text: str, column: int, reason: str) -> None:
    with pytest.raises(HostlistError) as caught:
        expand(text)
    assert caught.value.column == column
    assert reason in caught.value.message


@pytest.mark.parametrize(
    ("names", "text"),
    [
        ("n01 n02 n3", "n[01-02],n3"),
        ("a n1 b n2", "a,n[1-2],b"),
        ("n1 n1 n3", "n[1,1,3]"),
        ("n1", "n1"),
        ("a a", "a,a"),
        ("r1n01 r1n02 r2n01", "r1n[01-02],r2n01"),
        ("n9 n10", "n9,n10"),
        ("", ""),
    ],
)
def test_compress(names: str, text: str) -> None:
    assert compress(names.split()) == text


@given(st.lists(st.from_regex(r"[a-c]{1,2}[0-9]{0,3}(-x)?", fullmatch=True), min_size=1, max_size=20))
def test_compressed_names_come_back(names: list[str]) -> None:
    assert sorted(expand(compress(names))) == sorted(names)
