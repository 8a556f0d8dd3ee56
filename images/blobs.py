"""Blobs kept by digest, in the `blobs/<algorithm>/<hex>` of an OCI layout; verified while they are written."""

import asyncio
import contextlib
import hashlib
import os
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from images.errors import Error
from images.manifest import Descriptor

_WRITE = 1 << 20
"""Bytes hashed and written in one go, in a thread: less costs more switching than work."""
_LEFTOVER_SECONDS = 24 * 3600
_PARTIAL = ".partial-"


class DigestMismatch(Error):
    def __init__(self, expected: str, got: str, *, what: str = "blob") -> None:
        super().__init__(
            f"the registry lies: {what} {expected} has the digest {got}",
            hint="try again; if it stays, the image in the registry is damaged or was tampered with: push it again",
        )
        self.expected = expected
        self.got = got


class SizeMismatch(Error):
    """`got` is None where more than `expected` bytes came."""

    def __init__(self, digest: str, expected: int, got: int | None) -> None:
        amount = f"more than {expected} bytes" if got is None else f"{got} of {expected} bytes"
        cut = "too long" if got is None else "truncated"
        super().__init__(f"blob {digest} is {cut}: {amount} came", hint="try again; if it stays, push the image again")
        self.digest = digest
        self.expected = expected
        self.got = got


class BlobStore:
    """Any number of processes may use one store: blobs appear complete, by rename."""

    def __init__(self, root: Path) -> None:
        self._root = root / "blobs"
        _remove_leftovers(self._root)

    def path(self, digest: str) -> Path:
        """Where a blob is or would be; `digest` went through `parse_digest`."""
        algorithm, _, encoded = digest.partition(":")
        return self._root / algorithm / encoded

    def find(self, descriptor: Descriptor) -> Path | None:
        """A blob that is here in the size it should have."""
        path = self.path(descriptor.digest)
        try:
            return path if path.stat().st_size == descriptor.size else None
        except FileNotFoundError:
            return None

    async def write(self, descriptor: Descriptor, chunks: AsyncIterator[bytes], advanced: Callable[[int], None]) -> Path:
        """Store one blob; `advanced` is told the bytes on disk. Raises DigestMismatch and SizeMismatch."""
        writer = _Writer(self.path(descriptor.digest), descriptor)
        try:
            pending: list[bytes] = []
            size = 0
            async for chunk in chunks:
                pending.append(chunk)
                size += len(chunk)
                if size >= _WRITE:
                    advanced(await asyncio.to_thread(writer.write, pending))
                    pending, size = [], 0
            advanced(await asyncio.to_thread(writer.write, pending))
            return await asyncio.to_thread(writer.commit)
        finally:
            writer.close()

    async def read(self, digest: str) -> bytes | None:
        """A small blob's bytes, verified; None if it is not here as it should be."""
        try:
            data = await asyncio.to_thread(self.path(digest).read_bytes)
        except FileNotFoundError:
            return None
        return data if digest_of(data, like=digest) == digest else None

    async def put(self, descriptor: Descriptor, data: bytes) -> None:
        """Store bytes that were read whole."""

        async def whole() -> AsyncIterator[bytes]:
            yield data

        await self.write(descriptor, whole(), lambda done: None)

    def drop_if_damaged(self, digest: str) -> bool:
        """Hash a blob again and remove it if it is not what its name says; True if so. Blocks."""
        path = self.path(digest)
        with path.open("rb") as stream:
            got = f"{digest.partition(':')[0]}:{hashlib.file_digest(stream, digest.partition(':')[0]).hexdigest()}"
        if got != digest:
            path.unlink()
        return got != digest


class _Writer:
    """One blob on its way into the store; blocks."""

    def __init__(self, path: Path, descriptor: Descriptor) -> None:
        self._path = path
        self._descriptor = descriptor
        self._hash = hashlib.new(descriptor.digest.partition(":")[0])
        self._done = 0
        path.parent.mkdir(parents=True, exist_ok=True)
        fd, name = tempfile.mkstemp(prefix=_PARTIAL, dir=path.parent)
        self._file = os.fdopen(fd, "wb", buffering=0)
        self._temporary: Path | None = Path(name)

    def write(self, chunks: list[bytes]) -> int:
        """Hash and write; the bytes so far."""
        for chunk in chunks:
            self._done += len(chunk)
            if self._done > self._descriptor.size:
                raise SizeMismatch(self._descriptor.digest, self._descriptor.size, None)
            self._hash.update(chunk)
            view = memoryview(chunk)
            while view:
                view = view[self._file.write(view) :]
        return self._done

    def commit(self) -> Path:
        descriptor = self._descriptor
        if self._done != descriptor.size:
            raise SizeMismatch(descriptor.digest, descriptor.size, self._done)
        got = f"{self._hash.name}:{self._hash.hexdigest()}"
        if got != descriptor.digest:
            raise DigestMismatch(descriptor.digest, got)
        assert self._temporary is not None
        os.fsync(self._file.fileno())
        self._temporary.rename(self._path)
        self._temporary = None
        directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(directory)
        finally:
            os.close(directory)
        return self._path

    def close(self) -> None:
        self._file.close()
        if self._temporary is not None:
            self._temporary.unlink(missing_ok=True)


def _remove_leftovers(root: Path) -> None:
    """Partial files of killed processes; a living one writes to its own at least once a day."""
    oldest = time.time() - _LEFTOVER_SECONDS
    for path in root.glob(f"*/{_PARTIAL}*"):
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < oldest:
                path.unlink()


def digest_of(data: bytes, *, like: str = "sha256") -> str:
    """The digest of some bytes, by the algorithm that `like` (a digest, or an algorithm's name) uses."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
