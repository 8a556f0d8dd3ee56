"""What is made once and kept: under the hash of how it is made, and whole or not at all."""

import hashlib
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from images.errors import Error


def digest(parts: Iterable[str | bytes]) -> str:
    state = hashlib.sha256()
    for part in parts:
        data = part.encode() if isinstance(part, str) else part
        state.update(f"{len(data)}:".encode() + data)
    return state.hexdigest()[:12]


@contextmanager
def staging(target: Path) -> Iterator[Path]:
    """A name to write to; it becomes `target` when the block ends well, so that a broken off run leaves no half of it."""
    target.parent.mkdir(parents=True, exist_ok=True)
    staged = target.with_name(f"{target.name}.{os.getpid()}.part")
    try:
        yield staged
        staged.rename(target)
    finally:
        if staged.is_dir():
            shutil.rmtree(staged)
        staged.unlink(missing_ok=True)


def execute(*command: str, cwd: Path | None = None) -> str:
    """Run a command; its text is shown only when it fails."""
    try:
        done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    except FileNotFoundError as exc:
        raise Error(f"{command[0]} is missing", hint="`make demo` and `make lab` install what the lab needs") from exc
    if done.returncode != 0:
        print(done.stderr, file=sys.stderr)
        raise Error(f"{command[0]} ended with status {done.returncode}", hint=" ".join(command))
    return done.stdout
