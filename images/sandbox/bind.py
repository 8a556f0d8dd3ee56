"""`--bind SRC[:DST[:MODE]]`: what of the host a sandbox shows, and where."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path, PurePosixPath

from images.errors import Error

ROOT = PurePosixPath("/")


class BindMode(Enum):
    """COPY gives the image a file of its own for the run; if the command changes it, it stays, else it is removed again."""

    RW = "rw"
    RO = "ro"
    COPY = "copy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bind:
    """A file or directory of the host that the sandbox shows at `target`, with everything mounted below it."""

    source: Path
    target: PurePosixPath
    mode: BindMode = BindMode.RW


def parse_bind(text: str) -> Bind:
    """`SRC[:DST[:ro|rw|copy]]`, as in Warewulf; DST defaults to SRC, and a relative SRC counts from the working directory."""
    hint = "write --bind SRC[:DST[:ro|copy]]"
    source, *rest = text.split(":")
    if not source or len(rest) > 2 or "" in rest:
        raise Error(f"{text!r} is not a bind", hint=hint)
    if len(rest) == 2 and rest[1] not in {mode.value for mode in BindMode}:
        raise Error(f"{rest[1]!r} in the bind {text!r} is not a mode", hint="use `ro`, `rw` or `copy`, or leave it out")
    path = Path(source).absolute()
    target = PurePosixPath(rest[0] if rest else path)
    if not target.is_absolute():
        raise Error(f"the target {str(target)!r} of the bind {text!r} is not an absolute path", hint=hint)
    if ".." in target.parts:
        raise Error(f"the target {str(target)!r} of the bind {text!r} has a `..` in it", hint="write the path without it")
    if target == ROOT:
        raise Error(f"the bind {text!r} would hide the whole image", hint="bind to a directory below /")
    return Bind(source=path, target=target, mode=BindMode(rest[1]) if len(rest) == 2 else BindMode.RW)
