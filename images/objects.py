"""Immutable files named by their sha256: segments and kernels of built images, shared by all generations."""

import contextlib
import hashlib
import io
import os
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path

import msgspec


class StoredObject(msgspec.Struct, frozen=True, kw_only=True):
    """`digest` as `sha256:<hex>`, `size` in bytes."""

    digest: str
    size: int


class ObjectStore:
    """`<root>/sha256/<aa>/<digest>`; only root can read it, for images hold /etc/shadow."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def path(self, digest: str) -> Path:
        """Where the object of this digest lies, whether it is there or not."""
        algorithm, _, value = digest.partition(":")
        return self.root / algorithm / value[:2] / value

    def has(self, digest: str, size: int) -> bool:
        """Whether the object is there with its whole size."""
        try:
            return self.path(digest).stat().st_size == size
        except FileNotFoundError:
            return False

    def objects(self) -> Iterator[tuple[str, Path]]:
        """Every object: its digest and where it lies."""
        for path in sorted(self.root.glob("*/??/*")):
            yield f"{path.parent.parent.name}:{path.name}", path

    def add(self, chunks: Iterable[bytes]) -> StoredObject:
        """Store what the chunks make together."""
        with self.adding() as new:
            for chunk in chunks:
                new.write(chunk)
        return new.stored

    @contextlib.contextmanager
    def adding(self) -> Iterator["NewObject"]:
        """An object that is written piece by piece.

        At the end it is fsynced and renamed to its name; one that is there already, and may be spoilt, is replaced.
        """
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".new-", dir=self.root)
        temporary = Path(name)
        try:
            with open(descriptor, "wb", buffering=0) as file:
                new = NewObject(file)
                yield new
                os.fsync(descriptor)
            place = self.path(new.stored.digest)
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.rename(place)
        finally:
            temporary.unlink(missing_ok=True)


class NewObject:
    """What has been written so far."""

    def __init__(self, file: io.FileIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self._size = 0

    def write(self, data: bytes) -> None:
        self._digest.update(data)
        self._size += len(data)
        left = memoryview(data)
        while left:
            left = left[self._file.write(left) :]

    @property
    def stored(self) -> StoredObject:
        return StoredObject(digest=f"sha256:{self._digest.hexdigest()}", size=self._size)
