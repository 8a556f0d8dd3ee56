"""Blobs kept by digest, in the `blobs/<algorithm>/<hex>` of an OCI layout; verified while they are written.

What was received of a blob before the connection or the process died lies beside, as `.partial-<hex>`, for the next try.
"""

import asyncio
import contextlib
import errno
import fcntl
import hashlib
import os
import secrets
import stat
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from images.errors import Error
from images.interruptible import run_interruptible
from images.manifest import Descriptor

_WRITE = 1 << 20
"""Bytes hashed and written in one go, in a thread: less costs more switching than work."""
_LEFTOVER_SECONDS = 7 * 24 * 3600
"""How long what came of a blob is kept for a next try."""
_PARTIAL = ".partial-"
_ALONE = ".alone-"
"""Begins what nobody resumes: a second download of the same blob at the same time."""


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


class CacheFailed(Error):
    """The operating system refuses to keep a blob; `errno` says why."""

    def __init__(self, root: Path, exc: OSError) -> None:
        full = exc.errno in (errno.ENOSPC, errno.EDQUOT)
        super().__init__(
            f"cannot write to the blob cache {root}: {exc.strerror}",
            hint=f"free some space on the file system of {root}" if full else f"look at the file system of {root}",
        )
        self.root = root
        self.errno = exc.errno


class BlobStore:
    """Any number of processes may use one store: blobs appear complete, by rename."""

    def __init__(self, root: Path) -> None:
        self._base = root
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

    async def receive(self, descriptor: Descriptor) -> "Receiving":
        """Begin or go on with one blob; use what comes back with `with`. Raises CacheFailed."""
        return await asyncio.to_thread(Receiving, self._base, self.path(descriptor.digest), descriptor)

    async def write(self, descriptor: Descriptor, chunks: AsyncIterator[bytes], advanced: Callable[[int], None]) -> Path:
        """Store one blob from its first byte. Raises DigestMismatch, SizeMismatch and CacheFailed."""
        with await self.receive(descriptor) as receiving:
            receiving.restart()
            await receiving.append(chunks, advanced)
            return await asyncio.to_thread(receiving.commit)

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
        """Hash a blob, if it is here, and remove it if it is not what its name says; True if so. Blocks."""
        path = self.path(digest)
        try:
            stream = path.open("rb")
        except FileNotFoundError:
            return False
        with stream:
            got = f"{digest.partition(':')[0]}:{hashlib.file_digest(stream, digest.partition(':')[0]).hexdigest()}"
        if got != digest:
            path.unlink()
        return got != digest

    def scratch(self) -> BinaryIO:
        """A nameless file on the cache's file system: it is gone with the process. Blocks; raises CacheFailed."""
        try:
            self._base.mkdir(parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=self._base, buffering=0)
        except OSError as exc:
            raise CacheFailed(self._base, exc) from exc


class Receiving:
    """One blob on its way into the store. What came before is hashed again; an end by failure of the sender keeps it.

    Every method but `append` blocks.
    """

    def __init__(self, base: Path, path: Path, descriptor: Descriptor) -> None:
        self._base = base
        self._path = path
        self._descriptor = descriptor
        self._temporary: Path | None = None
        self.done = 0
        self.resumed = 0
        """Bytes that were there already."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._file, self._temporary = _open_partial(path)
            self._load()
        except OSError as exc:
            raise CacheFailed(base, exc) from exc

    def __enter__(self) -> "Receiving":
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        useless = isinstance(exc, Error) and isinstance(exc, DigestMismatch | SizeMismatch | CacheFailed)
        if self._temporary is not None and (useless or not self.done or self._temporary.name.startswith(_ALONE)):
            self._temporary.unlink(missing_ok=True)
        self._file.close()

    def fileno(self) -> int:
        """Of the file that the blob is written to."""
        return self._file.fileno()

    @property
    def is_complete(self) -> bool:
        return self.done == self._descriptor.size

    def restart(self) -> None:
        """Begin anew, with nothing there."""
        if self.done:
            self._file.truncate(0)
            self._file.seek(0)
        self._hash = hashlib.new(self._descriptor.digest.partition(":")[0])
        self.done = self.resumed = 0

    async def append(self, chunks: AsyncIterator[bytes], advanced: Callable[[int], None]) -> None:
        """Write what comes; `advanced` is told the bytes on disk. Raises SizeMismatch, CacheFailed and what `chunks` raises."""
        pending: list[bytes] = []
        size = 0
        try:
            async for chunk in chunks:
                pending.append(chunk)
                size += len(chunk)
                if size >= _WRITE:
                    whole, pending, size = pending, [], 0
                    advanced(await self._write_interruptibly(whole))
        finally:
            advanced(await self._write_interruptibly(pending))

    def commit(self) -> Path:
        """Give the blob its name. Raises DigestMismatch, SizeMismatch and CacheFailed."""
        descriptor = self._descriptor
        if not self.is_complete:
            raise SizeMismatch(descriptor.digest, descriptor.size, self.done)
        got = f"{self._hash.name}:{self._hash.hexdigest()}"
        if got != descriptor.digest:
            raise DigestMismatch(descriptor.digest, got)
        assert self._temporary is not None
        try:
            os.fsync(self._file.fileno())
            self._temporary.rename(self._path)
            self._temporary = None
            directory = os.open(self._path.parent, os.O_RDONLY | os.O_DIRECTORY)
            try:
                os.fsync(directory)
            finally:
                os.close(directory)
        except OSError as exc:
            raise CacheFailed(self._base, exc) from exc
        return self._path

    def _load(self) -> None:
        """Hash what is there; more than the blob can be, or a file without any, begins anew."""
        self._hash = hashlib.new(self._descriptor.digest.partition(":")[0])
        self.done = os.fstat(self._file.fileno()).st_size
        if self.done > self._descriptor.size:
            self.restart()
        while chunk := self._file.read(_WRITE):
            self._hash.update(chunk)
        self.resumed = self.done

    async def _write_interruptibly(self, chunks: list[bytes]) -> int:
        return await run_interruptible(lambda stopped: self._write(chunks))

    def _write(self, chunks: list[bytes]) -> int:
        """Hash and write; the bytes so far."""
        for chunk in chunks:
            if self.done + len(chunk) > self._descriptor.size:
                raise SizeMismatch(self._descriptor.digest, self._descriptor.size, None)
            self._hash.update(chunk)
            view = memoryview(chunk)
            try:
                while view:
                    view = view[self._file.write(view) :]
            except OSError as exc:
                raise CacheFailed(self._base, exc) from exc
            self.done += len(chunk)
        return self.done


def _open_partial(path: Path) -> tuple[BinaryIO, Path]:
    """The blob's partial file, held by flock(2); a file of our own where another process holds that."""
    for name in (f"{_PARTIAL}{path.name}", f"{_ALONE}{path.name}-{secrets.token_hex(8)}"):
        partial = path.with_name(name)
        while True:
            descriptor = os.open(partial, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
            if not _try_lock(descriptor):
                os.close(descriptor)
                break
            if _is_at(partial, descriptor):
                return os.fdopen(descriptor, "r+b", buffering=0), partial
            # Whoever held it has finished and renamed or removed it.
            os.close(descriptor)
    raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN), str(path))


def _try_lock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _is_at(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.lstat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _remove_leftovers(root: Path) -> None:
    """Files that nobody writes to: those that nobody resumes, and those that nobody has resumed for long."""
    oldest = time.time() - _LEFTOVER_SECONDS
    for path in (*root.glob(f"*/{_ALONE}*"), *root.glob(f"*/{_PARTIAL}*")):
        with contextlib.suppress(OSError):
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                info = os.fstat(descriptor)
                useless = path.name.startswith(_ALONE) or info.st_mtime < oldest or not info.st_size
                if stat.S_ISREG(info.st_mode) and useless and _try_lock(descriptor):
                    path.unlink()
            finally:
                os.close(descriptor)


def digest_of(data: bytes, *, like: str = "sha256") -> str:
    """The digest of some bytes, by the algorithm that `like` (a digest, or an algorithm's name) uses."""
    algorithm = like.partition(":")[0]
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"
