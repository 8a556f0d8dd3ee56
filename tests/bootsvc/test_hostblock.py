"""Our lines in /etc/hosts and /etc/exports: the rest of the file stays."""

import pytest

from bootsvc.hostblock import BEGIN, END, replace_block

BLOCK = "10.0.0.1 n1\n10.0.0.2 n2\n"
OURS = f"{BEGIN}\n{BLOCK}{END}\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", OURS),
        ("127.0.0.1 localhost\n", f"127.0.0.1 localhost\n\n{OURS}"),
        ("127.0.0.1 localhost", f"127.0.0.1 localhost\n\n{OURS}"),
        (f"a\n\n{BEGIN}\nold\n{END}\nmine\n", f"a\n\n{OURS}mine\n"),
        (f"a\n{BEGIN}\nWarewulf's\nlines\n", f"a\n\n{OURS}"),
        ("10.0.0.1 n1\na\n", f"a\n\n{OURS}"),
    ],
)
def test_replace(before: str, after: str) -> None:
    assert replace_block(before, BLOCK) == after
    assert replace_block(after, BLOCK) == after


def test_an_empty_block_takes_the_marks_away() -> None:
    assert replace_block(f"a\n\n{OURS}b\n", "") == "a\nb\n"
    assert replace_block("a\n", "") == "a\n"


def test_lines_of_others_stay_to_the_byte() -> None:
    text = "127.0.0.1 localhost\r\n# a\x0cb\u2028c\x85d\n"
    assert replace_block(text, "10.0.0.1 n1\n").startswith(text)
    assert replace_block(replace_block(text, "10.0.0.1 n1\n"), "") == text
