"""Names that nothing has, with the closest that something has."""

from collections.abc import Sequence
from difflib import get_close_matches

from images.errors import Error


class UnknownName(Error):
    """A name that nothing has, with the closest one that something has."""

    def __init__(self, what: str, name: str, known: Sequence[str]) -> None:
        super().__init__(f"there is no {what} {name!r}", hint=closest(name, known) or _listed(what, known))
        self.name = name


def closest(name: str, known: Sequence[str]) -> str | None:
    """The question whether another name was meant, or None when none is close."""
    found = get_close_matches(name, known, n=1)
    return f"did you mean {found[0]!r}?" if found else None


def _listed(what: str, known: Sequence[str]) -> str:
    shown = ", ".join(sorted(known)[:8]) + (", …" if len(known) > 8 else "")
    return f"these exist: {shown}" if known else f"no {what} exists yet"
