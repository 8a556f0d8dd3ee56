"""The marks by which a template's `file` and `softlink` cut what it writes into several files.

A mark begins and ends with half of a surrogate pair, which neither nodes.conf nor a file that was read can bring into a text.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

FILE, LINK, END = "\ud800F", "\ud800L", "\ud801"
MARK = "\ud800([FL])([^\ud801]*)\ud801"
"""A regular expression; its groups are the kind and the name."""


class Piece(NamedTuple):
    """One file: its path, what was written for it, and with a target that it is a symbolic link."""

    path: str
    text: str
    target: str | None


class BrokenMark(ValueError):
    """Half of a mark came to a file."""

    def __init__(self) -> None:
        super().__init__("what file and softlink give is no text: no other function may change it")


def cut(text: str, mark: re.Pattern[str], path: str, named: Callable[[str], str] = str) -> Iterator[Piece]:
    """The files of a text; `mark` is MARK with what goes with it, `named` makes a path of a name.

    What stands before the first `file` belongs to `path`, where there is no `file`; a link has its last target. Raises
    BrokenMark.
    """
    pieces = mark.split(text)
    if any(half in piece for piece in (*pieces[::3], *pieces[2::3]) for half in ("\ud800", "\ud801")):
        raise BrokenMark
    name, content, target, begun = path, [pieces[0]], None, False
    for kind, word, following in zip(pieces[1::3], pieces[2::3], pieces[3::3], strict=True):
        if kind == "L":
            target = word
            content.append(following)
            continue
        if begun or target is not None:
            yield Piece(name, "".join(content), target)
        name, content, target, begun = named(word), [following], None, True
    yield Piece(name, "".join(content), target)
