"""Our lines in a file of the head node that others write to, too: between two marks, and the rest is not touched."""

BEGIN = "# Do not edit after this line"
"""Warewulf's mark in /etc/hosts: it keeps what stands before it, and writes all that follows."""
END = "# Edit after this line: what stands here is kept"


def replace_block(text: str, block: str) -> str:
    """`text` with `block` between the marks, at its end when it has none; an empty block takes the marks away.

    Where Warewulf wrote the file there is no second mark, and all that follows the first is Warewulf's. A line elsewhere that
    is also in the block goes, for a program would read it twice.
    """
    lines, ours = _lines(text), _lines(block)
    before, after = lines, []
    if BEGIN in lines:
        at = lines.index(BEGIN)
        before, rest = lines[:at], lines[at + 1 :]
        after = rest[rest.index(END) + 1 :] if END in rest else []
    said = {line for line in ours if line.strip() and not line.startswith("#")}
    before, after = ([line for line in part if line not in said] for part in (before, after))
    while before and not before[-1].strip():
        before.pop()
    middle = [*([""] if before else []), BEGIN, *ours, END] if ours else []
    made = [*before, *middle, *after]
    return "".join(f"{line}\n" for line in made)


def _lines(text: str) -> list[str]:
    """Only line feeds end a line: a form feed or a carriage return is of the line that others wrote."""
    return text.removesuffix("\n").split("\n") if text else []
