"""Immutable files named by their sha256: segments and kernels of built images, shared by all generations."""

import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredObject:
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
        """Write, fsync, then rename to its name; one that is there already, and may be spoilt, is replaced."""
        self.root.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor, name = tempfile.mkstemp(prefix=".new-", dir=self.root)
        temporary = Path(name)
        try:
            digest, size = hashlib.sha256(), 0
            with os.fdopen(descriptor, "wb") as file:
                for chunk in chunks:
                    digest.update(chunk)
                    size += len(chunk)
                    file.write(chunk)
                file.flush()
                os.fsync(file.fileno())
            stored = StoredObject(digest=f"sha256:{digest.hexdigest()}", size=size)
            place = self.path(stored.digest)
            place.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary.rename(place)
            return stored
        finally:
            temporary.unlink(missing_ok=True)
