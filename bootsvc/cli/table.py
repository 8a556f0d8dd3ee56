"""Tables as Warewulf prints them: left aligned, two blanks between columns, a row of dashes under the header."""

import json
from collections.abc import Iterable, Sequence
from typing import NamedTuple

EMPTY = "--"


class Table(NamedTuple):
    """Rows under a header, to be shown as text or handed to a program."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]

    def text(self) -> str:
        return table(self.header, self.rows)

    def records(self) -> list[dict[str, str]]:
        """A mapping a row; its keys are the titles in small letters."""
        keys = [title.lower() for title in self.header]
        return [dict(zip(keys, row, strict=True)) for row in self.rows]


def as_json(value: object) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False) + "\n"


def as_yaml(value: object) -> str:
    from bootsvc.yamlpatch import emit

    if not isinstance(value, dict | list) or not value:
        return as_json(value)
    return emit(value)


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str = EMPTY) -> str:
    """The table's lines, each ended by a newline; an empty cell shows `empty`."""
    lines = [list(header), ["-" * len(title) for title in header], *([cell or empty for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    # One template for all lines: a table may have 200 000 of them.
    line_of = "  ".join(f"{{:<{width}}}" for width in widths).format
    return "".join(f"{line_of(*line).rstrip()}\n" for line in lines)
