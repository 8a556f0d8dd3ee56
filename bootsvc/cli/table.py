"""Tables as Warewulf prints them: left aligned, two blanks between columns, a row of dashes under the header."""

from collections.abc import Iterable, Sequence

EMPTY = "--"


def table(header: Sequence[str], rows: Iterable[Sequence[str]], *, empty: str = EMPTY) -> str:
    """The table's lines, each ended by a newline; an empty cell shows `empty`."""
    lines = [list(header), ["-" * len(title) for title in header], *([cell or empty for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return "".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() + "\n" for line in lines
    )
