"""What the commands say to a person: warnings, questions, colour."""

import logging
import os
import re
import sys

from bootsvc.process.journal import is_journal, marked

_COLOURS = {"red": "31", "yellow": "33", "grey": "90"}
_LONE_BYTE = re.compile(r"\\udc([89a-f][0-9a-f])")
"""How Python writes a byte of a file's name that is not UTF-8."""


def say(text: str) -> None:
    """What a command is about to do, on standard output; a reader who has gone (`| head -1`) does not stop it."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def warn(message: str, hint: str | None = None) -> None:
    """Something that does not stop the command, on standard error."""
    _tell(f"wwctl: warning: {message}", hint, logging.WARNING)


def complain(message: str, hint: str | None = None) -> None:
    """An error, on standard error."""
    _tell(f"wwctl: {message}", hint, logging.ERROR)


def _tell(sentence: str, hint: str | None, level: int) -> None:
    text = _LONE_BYTE.sub(r"\\x\1", f"{sentence}\n({hint})" if hint else sentence)
    print(marked(text, level) if is_journal(2) else text, file=sys.stderr)


def confirm(question: str) -> bool:
    """Ask; only y and yes mean yes; anything else, also the end of the input, means no."""
    print(f"{question}? [y/N] ", end="", flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print()
    return answer.strip() in ("y", "yes")


def colour(text: str, name: str | None) -> str:
    """`text` in a colour where standard output is a terminal and NO_COLOR is not set."""
    if name is None or not sys.stdout.isatty() or os.environ.get("NO_COLOR"):
        return text
    return f"\033[{_COLOURS[name]}m{text}\033[0m"
