"""An image's tree as its index shows it: find entries and resolve links without touching the disk."""

import posixpath
from bisect import bisect_left
from collections.abc import Iterable, Iterator
from functools import cached_property

from images.index import Entry

MAX_LINKS = 40
"""As many symbolic links as Linux follows in one path (path_resolution(7))."""


class ImageView:
    """Paths are relative to the root and without a leading slash, as in the index; links never lead above the root."""

    def __init__(self, entries: Iterable[Entry]) -> None:
        self._entries = {entry.path: entry for entry in entries}

    def add(self, entry: Entry) -> None:
        """One more, for who looks at a tree bit by bit."""
        self._entries[entry.path] = entry
        self.__dict__.pop("_paths", None)

    def find(self, path: bytes) -> Entry | None:
        """The entry at exactly this path."""
        return self._entries.get(path)

    def resolve(self, path: bytes) -> bytes:
        """The path with every link in it followed, the last component's too; components that do not exist stay as they are."""
        pending = [part for part in path.split(b"/") if part not in (b"", b".")]
        done: list[bytes] = []
        links = 0
        while pending:
            part = pending.pop(0)
            if part == b"..":
                done = done[:-1]
                continue
            entry = self._entries.get(b"/".join([*done, part]))
            if entry is None or not entry.is_symlink or links == MAX_LINKS:
                done.append(part)
                continue
            links += 1
            if entry.target.startswith(b"/"):
                done = []
            pending[:0] = [step for step in entry.target.split(b"/") if step not in (b"", b".")]
        return b"/".join(done)

    def resolve_parent(self, path: bytes) -> bytes:
        """The path with links in its parents followed, but not in its last component."""
        parent, name = posixpath.split(path)
        real = self.resolve(parent)
        return real + b"/" + name if real else name

    def find_file(self, path: bytes) -> Entry | None:
        """The regular file that `path` means, links followed."""
        entry = self._entries.get(self.resolve(path))
        return entry if entry is not None and entry.is_regular else None

    def below(self, folder: bytes) -> Iterator[Entry]:
        """Everything below exactly this folder, in path order."""
        prefix = folder + b"/"
        first = bisect_left(self._paths, prefix)
        # The folder's name and the character after the slash: the first path that is not below.
        last = bisect_left(self._paths, folder + b"0", first)
        return map(self._entries.__getitem__, self._paths[first:last])

    @cached_property
    def _paths(self) -> list[bytes]:
        return sorted(self._entries)

    def __iter__(self) -> Iterator[Entry]:
        return iter(self._entries.values())
