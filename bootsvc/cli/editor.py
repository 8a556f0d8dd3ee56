"""The person's editor, and what it leaves."""

import os
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from bootsvc.cli.terminal import complain, confirm
from images.errors import Error

T = TypeVar("T")


def run_editor(path: Path) -> None:
    """Let the person edit a file. Raises Error when the editor cannot run, or ends with a status that says no."""
    editor = shlex.split(os.environ.get("EDITOR") or "/bin/vi")
    try:
        status = subprocess.run([*editor, str(path)], check=False).returncode
    except OSError as exc:
        raise Error(f"cannot run the editor {editor[0]!r}: {exc.strerror}", hint="$EDITOR names the one to use") from exc
    if status != 0:
        raise Error(f"the editor {editor[0]!r} ended with status {status}; nothing is changed")


def edit_until_fit(path: Path, read: Callable[[], T]) -> T | None:
    """Run the editor until what it leaves can stand, which `read` says by raising no Error; None when the person gives up."""
    while True:
        run_editor(path)
        try:
            return read()
        except Error as exc:
            complain(exc.message, exc.hint)
            if not confirm("Go back to the editor"):
                return None
