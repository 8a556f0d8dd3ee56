"""Host lists as Warewulf writes them: `n[01-03,5]` stands for n01 n02 n03 n5; several brackets give the product.

Unlike Warewulf, text that does not parse is an error with its place, never a list that is silently empty.
"""

import re
from collections.abc import Iterable, Iterator
from itertools import product

from images.errors import Error

MAX_NAMES = 100_000
"""Names that one host list may stand for; `n[1-999999999]` is a slip of the finger."""

_RANGE = re.compile(r"([0-9]{1,18})(?:-([0-9]{1,18}))?")
_NUMBERED = re.compile(r"(.*?)([0-9]+)", re.DOTALL)


class HostlistError(Error):
    """A host list that does not parse; `column` counts from 1."""

    def __init__(self, text: str, column: int, reason: str) -> None:
        super().__init__(f"host list {text!r}, column {column}: {reason}", hint="n[01-03,5] stands for n01 n02 n03 n5")
        self.text, self.column = text, column


def expand(text: str) -> list[str]:
    """All names that the list stands for, in its order; duplicates stay. Raises HostlistError."""
    names: list[str] = []
    for start, item in _split(text):
        for name in _expand_item(text, start, item):
            names.append(name)
            if len(names) > MAX_NAMES:
                raise HostlistError(text, start + 1, f"this stands for more than {MAX_NAMES} names")
    return names


def compress(names: Iterable[str]) -> str:
    """The host list of these names: grouped by prefix and number of digits in order of first appearance.

    Order within a group and duplicates stay: `n1 n1 n3` gives `n[1,1,3]`.
    """
    groups: dict[tuple[str, int], list[int]] = {}
    for name in names:
        found = _NUMBERED.fullmatch(name)
        key = (found[1], len(found[2])) if found else (name, 0)
        groups.setdefault(key, []).append(int(found[2]) if found else 0)
    return ",".join(_fold(prefix, width, numbers) for (prefix, width), numbers in groups.items())


def _fold(prefix: str, width: int, numbers: list[int]) -> str:
    if width == 0:
        return ",".join([prefix] * len(numbers))
    if len(numbers) == 1:
        return f"{prefix}{numbers[0]:0{width}}"
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1][1] = number
        else:
            runs.append([number, number])
    texts = (f"{a:0{width}}" if a == b else f"{a:0{width}}-{b:0{width}}" for a, b in runs)
    return f"{prefix}[{','.join(texts)}]"


def _split(text: str) -> Iterator[tuple[int, str]]:
    """The items between the commas outside brackets, with their offsets."""
    start, opened = 0, -1
    for index, char in enumerate(text):
        if char == "[":
            if opened >= 0:
                raise HostlistError(text, index + 1, "a bracket inside a bracket")
            opened = index
        elif char == "]":
            if opened < 0:
                raise HostlistError(text, index + 1, "] without [ before it")
            opened = -1
        elif char == "," and opened < 0:
            yield _item(text, start, index)
            start = index + 1
    if opened >= 0:
        raise HostlistError(text, opened + 1, "[ without ] after it")
    yield _item(text, start, len(text))


def _item(text: str, start: int, end: int) -> tuple[int, str]:
    if not text[start:end].strip():
        raise HostlistError(text, start + 1, "a name is missing")
    return start, text[start:end]


def _expand_item(text: str, start: int, item: str) -> Iterator[str]:
    parts: list[list[str]] = []
    position = start
    for index, piece in enumerate(re.split(r"[\[\]]", item)):
        parts.append([piece] if index % 2 == 0 else _numbers(text, position, piece))
        position += len(piece) + 1
    return map("".join, product(*parts))


def _numbers(text: str, start: int, inside: str) -> list[str]:
    """The numbers between two brackets; a range has as many digits as its first number."""
    numbers: list[str] = []
    position = start
    for part in inside.split(","):
        found = _RANGE.fullmatch(part)
        if not found:
            what = f"{part!r} is neither a number nor a range" if part else "a number is missing"
            raise HostlistError(text, position + 1, what)
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first:
            raise HostlistError(text, position + 1, f"the range {part} runs backwards")
        if last - first >= MAX_NAMES:
            raise HostlistError(text, position + 1, f"the range {part} stands for more than {MAX_NAMES} names")
        numbers += (f"{number:0{len(found[1])}}" for number in range(first, last + 1))
        position += len(part) + 1
    return numbers
