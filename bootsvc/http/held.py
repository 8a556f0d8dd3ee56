"""Small artifacts in memory, so that a cluster that boots at once reads each from disk once."""

from collections import OrderedDict
from pathlib import Path

from bootsvc.artifacts import END, Artifact

MAX_HELD = 256 << 10
"""Bytes of an artifact that is answered from memory."""
MAX_HELD_TOTAL = 64 << 20
_BY_CONTENT = ("sha256:", END)
"""How an etag begins that stands for the content."""


class HeldArtifacts:
    """The most recently wanted ones."""

    def __init__(self) -> None:
        self._held: OrderedDict[tuple[str, tuple[tuple[Path, int], ...]], bytes] = OrderedDict()
        self._total = 0

    def find(self, artifact: Artifact) -> bytes | None:
        """The bytes of a small artifact that is named by its content; None: send its files."""
        if artifact.size > MAX_HELD or not artifact.etag.startswith(_BY_CONTENT):
            return None
        # A manifest and the image that it describes have one etag.
        key = artifact.etag, tuple(artifact.parts)
        found = self._held.get(key)
        if found is None:
            found = _read(artifact)
            if found is None:
                return None
            self._held[key] = found
            self._total += len(found)
            while self._total > MAX_HELD_TOTAL:
                self._total -= len(self._held.popitem(last=False)[1])
        else:
            self._held.move_to_end(key)
        return found if len(found) == artifact.size else found + bytes(artifact.size - len(found))


def _read(artifact: Artifact) -> bytes | None:
    """Without the zeros at the end; None when a part has another size than it had. Parts lie under names of their content."""
    try:
        parts = [(path.read_bytes(), size) for path, size in artifact.parts]
    except OSError:
        return None
    return b"".join(data for data, _ in parts) if all(len(data) == size for data, size in parts) else None
