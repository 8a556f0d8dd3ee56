"""The overlays of a site and ours, kept in memory as long as nothing in their folders changes; for several threads."""

import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from netboot import overlay
from netboot.head_files import is_settled
from netboot.overlay import Overlay

_Seen = tuple[object, ...]


@dataclass(slots=True)
class _Looks:
    """How often one overlay was looked at, and what was found the last time; the lock is held while somebody looks."""

    begun: int = 0
    found: Overlay | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)


class Library:
    """`folders`: the first one that has an overlay wins, so a site's hides ours of the same name.

    With `once` each overlay is read once, whatever becomes of it: for a command, which is soon over.
    """

    def __init__(self, folders: Sequence[Path], *, once: bool = False) -> None:
        self.folders = folders
        self._once = once
        self._known: dict[str, tuple[_Seen, Overlay]] = {}
        self._looks: dict[str, _Looks] = {}
        self._lock = threading.Lock()

    def names(self) -> list[str]:
        return overlay.names(self.folders)

    def find(self, name: str) -> Path:
        """The overlay's folder. Raises OverlayNotFound."""
        return overlay.find(name, self.folders)

    def load(self, name: str) -> Overlay:
        """The overlay as it is now. Raises OverlayNotFound or OverlayError.

        Of many who ask at once one looks, and the others take what was found, if it was looked for after they asked.
        """
        if self._once and name in self._known:
            return self._known[name][1]
        folder = self.find(name)
        with self._lock:
            looks = self._looks.setdefault(name, _Looks())
            begun = looks.begun
        with looks.lock:
            if looks.begun > begun and looks.found is not None:
                return looks.found
            looks.begun += 1
            looks.found = None
            looks.found = self._load(name, folder)
            return looks.found

    def _load(self, name: str, folder: Path) -> Overlay:
        settled, seen = _look(folder)
        with self._lock:
            known = self._known.get(name)
        if known is not None and known[0] == seen:
            return known[1]
        found = overlay.read(folder)
        with self._lock:
            if settled or self._once:
                self._known[name] = seen, found
            else:
                # What was changed a moment ago may change again without a new time.
                self._known.pop(name, None)
        return found


def _look(folder: Path) -> tuple[bool, _Seen]:
    """Whether nothing in the folder is too young to be sure of, and what `stat` says of it all."""
    seen: list[object] = [str(folder)]
    settled = True
    for path in _paths(folder):
        try:
            info = os.lstat(path)
        except FileNotFoundError:
            settled = False
            continue
        seen += (path, info.st_ino, info.st_mode, info.st_uid, info.st_gid, info.st_size, info.st_mtime_ns, info.st_ctime_ns)
        settled = settled and is_settled(info)
    return settled, tuple(seen)


def _paths(folder: Path) -> Iterator[str]:
    for place, directories, names in os.walk(folder):
        directories.sort()
        yield place
        yield from (f"{place}/{name}" for name in sorted((*names, *directories)))
