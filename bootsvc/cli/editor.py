"""The person's editor."""

import os
import shlex
import subprocess
from pathlib import Path

from images.errors import Error


def run_editor(path: Path) -> None:
    """Let the person edit a file. Raises Error when the editor cannot run, or ends with a status that says no."""
    editor = shlex.split(os.environ.get("EDITOR") or "/bin/vi")
    try:
        status = subprocess.run([*editor, str(path)], check=False).returncode
    except OSError as exc:
        raise Error(f"cannot run the editor {editor[0]!r}: {exc.strerror}", hint="$EDITOR names the one to use") from exc
    if status != 0:
        raise Error(f"the editor {editor[0]!r} ended with status {status}; nothing is changed")
