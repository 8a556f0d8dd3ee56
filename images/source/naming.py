"""Texts that begin with a path: where the path ends, and what an image made of it is called."""

import os
from pathlib import Path

from images.errors import Error

_ENDINGS = (
    ".gz",
    ".xz",
    ".zst",
    ".bz2",
    ".tgz",
    ".txz",
    ".tzst",
    ".tbz2",
    ".tar",
    ".sif",
    ".sqsh",
    ".sqfs",
    ".squashfs",
    ".img",
)


class NoSuchFile(Error):
    def __init__(self, path: str, form: str) -> None:
        super().__init__(f"there is no {path!r}", hint=f"write {form}; a relative path begins in the current folder")
        self.path = path


def split_path(text: str, form: str) -> tuple[Path, str | None]:
    """`PATH[:REST]`; a path may have colons, so the longest that exists is it. Raises NoSuchFile."""
    at = len(text)
    while at > 0:
        if os.path.lexists(text[:at]):
            return Path(text[:at]), text[at + 1 :] or None
        at = text.rfind(":", 0, at)
    raise NoSuchFile(text, form)


def name_of_file(path: Path) -> str:
    """`rocky.tar.gz` makes the image `rocky`."""
    name = path.name
    while ending := next((one for one in _ENDINGS if name.lower().endswith(one) and len(name) > len(one)), None):
        name = name[: -len(ending)]
    return name
