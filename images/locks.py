"""Advisory locks by flock(2): the kernel releases them however their holder ends, so nothing stays after a crash."""

import contextlib
import fcntl
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from images.attributes import hint_for
from images.errors import Error


class Locked(Error):
    """Somebody else holds the lock; `pid` and `holder` are what they wrote into it, if it could be read."""

    def __init__(self, path: Path, pid: int | None, holder: str | None) -> None:
        who = f"`{holder}` (process {pid})" if holder and pid else "another command"
        super().__init__(f"{who} holds {path}", hint="wait until it has ended, then try again")
        self.path = path
        self.pid = pid
        self.holder = holder


@dataclass(frozen=True, slots=True, kw_only=True)
class Lock:
    """A lock that is held. A child that inherits `descriptor` holds it on after its parent's death."""

    path: Path
    descriptor: int


@contextlib.contextmanager
def exclusive(path: Path, *, holder: str) -> Iterator[Lock]:
    """Hold the lock alone, or raise Locked at once; `holder` (such as `exec debian-12`) is what others are told.

    The file stays behind, empty; it is the flock on it that counts.
    """
    descriptor = _take(path)
    try:
        # On a full disk the lock holds all the same, and others are told that somebody has it.
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, f"{os.getpid()} {holder}\n".encode(), 0)
        yield Lock(path=path, descriptor=descriptor)
    finally:
        os.ftruncate(descriptor, 0)
        os.close(descriptor)


def _take(path: Path) -> int:
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise Error(f"cannot open the lock {path}: {exc.strerror}", hint=hint_for(exc)) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, holder = _read(descriptor)
            os.close(descriptor)
            raise Locked(path, pid, holder) from None
        if _is_still_there(path, descriptor):
            os.ftruncate(descriptor, 0)  # the name of a holder that crashed
            return descriptor
        os.close(descriptor)


def _is_still_there(path: Path, descriptor: int) -> bool:
    """Whoever deletes an image deletes its lock too: then the file we opened is no longer the one that others will open."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> tuple[int | None, str | None]:
    pid, _, holder = os.pread(descriptor, 4096, 0).decode(errors="replace").strip().partition(" ")
    return (int(pid), holder) if pid.isdecimal() and holder else (None, None)
