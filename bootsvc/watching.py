"""Which of the files that the server was made from have changed since they were read."""

import os
from pathlib import Path

from bootsvc.store import Identity


class WatchedFile:
    """Looked at every now and then, and known by its identity. It counts as read when this is made."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = self._last = _identity(path)

    def changed(self) -> bool:
        """Whether it must be read anew; said once.

        Only when it is as it was at the look before: what is just being written, or moved away by an editor that puts another
        in its place, would be read as a file without nodes.
        """
        found = _identity(self._path)
        at_rest, self._last = found == self._last, found
        if found == self._read or not at_rest:
            return False
        self._read = found
        return True

    def reading(self) -> None:
        """It is read now, changed or not."""
        self._read = self._last = _identity(self._path)


def _identity(path: Path) -> Identity | None:
    """None also when the file is out of reach; reading it then says why."""
    try:
        return Identity.of(os.stat(path))
    except OSError:
        return None
