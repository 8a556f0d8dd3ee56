"""Which paths of an image stay out of the built one: shell patterns, one a line, as Warewulf's /etc/warewulf/excludes.

A pattern is matched against the whole path from the root (leading and trailing `/` do not count). `*` and `?` do not cross `/`,
`[…]` is a character class, and `\\` takes its meaning from what follows, as in Go's path.Match. A matching directory takes
everything below it along. Lines that begin with `#` are comments.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from images.errors import Error

EXCLUDES_FILE = "etc/warewulf/excludes"
_CLASS = re.compile(r"((?:\\.|[^\\])(?:\\.|[^]\\])*)\]", re.DOTALL)
"""What follows the `[` of a character class; a `]` that comes first, or after a backslash, belongs to it."""


def read_excludes(rootfs: Path) -> list[str]:
    """The patterns that the image itself carries; none when it has no such file. Raises NoExcludesFile."""
    path = rootfs / EXCLUDES_FILE
    if not path.is_symlink() and not path.exists():
        return []
    if path.is_symlink() or not path.is_file():
        # A link would lead out of the image; and what an administrator wrote somewhere must not be passed over in silence.
        raise NoExcludesFile
    lines = [line.strip() for line in path.read_text(errors="surrogateescape").split("\n")]
    return [pattern for line in lines if not line.startswith("#") and (pattern := line.strip("/"))]


def literal(path: str) -> str:
    """The pattern that matches this path and no other."""
    return re.sub(r"[\\*?\[]", r"\\\g<0>", path)


class NoExcludesFile(Error):
    def __init__(self) -> None:
        super().__init__(f"/{EXCLUDES_FILE} of the image is no regular file", hint="make it one, or remove it from the image")


class BadPattern(Error):
    def __init__(self, pattern: str, reason: str) -> None:
        super().__init__(f"{pattern!r} in /{EXCLUDES_FILE} is no pattern: {reason}", hint="mend the line in the image")


class Excludes:
    def __init__(self, patterns: Sequence[str]) -> None:
        regex = "|".join(f"(?:{_checked(pattern)})" for pattern in patterns)
        self._regex = re.compile(regex.encode(errors="surrogateescape"), re.DOTALL) if patterns else None

    @property
    def empty(self) -> bool:
        """Whether nothing is excluded."""
        return self._regex is None

    def match(self, path: bytes) -> bool:
        return self._regex is not None and self._regex.fullmatch(path) is not None


def _checked(pattern: str) -> str:
    regex = _translate(pattern)
    try:
        re.compile(regex)
    except re.error as exc:
        raise BadPattern(pattern, str(exc)) from exc
    return regex


def _translate(pattern: str) -> str:
    """One shell pattern as a regular expression."""
    out, at = [], 0
    while at < len(pattern):
        char = pattern[at]
        at += 1
        found = _CLASS.match(pattern, at) if char == "[" else None
        if char == "*":
            out.append("[^/]*")
        elif char == "?":
            out.append("[^/]")
        elif found is not None:
            body = re.sub(
                r"\\(.)", lambda char: char[1] if char[1].isalnum() else char[0], found[1].replace("[", "\\["), flags=re.DOTALL
            )
            out.append("[" + (f"^/{body[1:]}" if body[0] in "!^" else body) + "]")
            at = found.end()
        elif char == "\\" and at < len(pattern):
            out.append(re.escape(pattern[at]))
            at += 1
        else:
            out.append(re.escape(char))
    return "".join(out)
