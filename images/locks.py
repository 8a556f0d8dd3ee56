"""Advisory locks by flock(2): the kernel releases them however their holder ends, so nothing stays after a crash."""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec

from images.attributes import hint_for
from images.errors import Error

_POLL_SECONDS = 0.005
_PATIENCE_SECONDS = 0.2
"""A lock whose holder nobody knows is waited for so long: its holder writes the name just now, or removes the file."""
_NO_FOLDER_LOCKS = (errno.EBADF, errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)
"""What flock(2) of a folder fails with on file systems that have no such lock: NFS wants a descriptor for writing."""


class Locked(Error):
    """Somebody else holds the lock; `pid` and `holder` are what they wrote into it, or the kernel knows, if anything."""

    def __init__(self, path: Path, pid: int | None, holder: str | None, *, shown: str | None = None) -> None:
        who = f"`{holder}` (process {pid})" if holder and pid else "another command"
        super().__init__(f"{who} holds {shown or path}", hint="wait until it has ended, then try again")
        self.path = path
        self.pid = pid
        self.holder = holder


class LockNotOpened(Error):
    def __init__(self, path: Path, exc: OSError) -> None:
        super().__init__(f"cannot open the lock {path}: {exc.strerror}", hint=hint_for(exc))
        self.full = exc.errno in (errno.ENOSPC, errno.EDQUOT)


class Lock(msgspec.Struct, frozen=True, kw_only=True):
    """A lock that is held. A child that inherits `descriptor` holds it on after its parent's death."""

    path: Path
    descriptor: int


@contextlib.contextmanager
def exclusive(path: Path, *, holder: str) -> Iterator[Lock]:
    """Hold the lock alone, or raise Locked at once; `holder` (such as `exec debian-12`) is what others are told.

    The file is removed afterwards, unless a child holds the lock on. Raises LockNotOpened.
    """
    descriptor = _take(path)
    try:
        # On a full disk the lock holds all the same, and others are told that somebody has it.
        with contextlib.suppress(OSError):
            os.pwrite(descriptor, f"{os.getpid()} {holder}\n".encode(), 0)
        yield Lock(path=path, descriptor=descriptor)
    finally:
        # Our descriptor may live on in a child, so whether the lock is free is asked with one of another open file.
        os.close(descriptor)
        remove_free(path)


def remove_free(path: Path) -> None:
    """Remove the file of a lock that nobody holds; never raises.

    Nobody else's lock is taken away: only who holds the file's lock may remove it, and whoever takes a lock makes sure
    afterwards that its file still has its name.
    """
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if _is_still_there(path, descriptor):
                os.ftruncate(descriptor, 0)
                os.unlink(path)
        finally:
            os.close(descriptor)


@contextlib.contextmanager
def exclusive_folder(folder: Path, *, shown: str) -> Iterator[Lock | None]:
    """Hold a folder itself alone, by whatever path others come to it, or raise Locked at once, which names it as `shown`.

    None when there is no such folder, or its file system cannot lock it.
    """
    descriptor = _take_folder(folder, shown)
    try:
        yield None if descriptor is None else Lock(path=folder, descriptor=descriptor)
    finally:
        if descriptor is not None:
            os.close(descriptor)


def flock_holders(info: os.stat_result) -> list[tuple[int, str]]:
    """Who holds a flock on this file, by /proc/locks (proc_locks(5)): process IDs and command lines, as far as known."""
    file = f"{os.major(info.st_dev):02x}:{os.minor(info.st_dev):02x}:{info.st_ino}"
    with contextlib.suppress(OSError):
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        pids = [int(words[4]) for words in lines if words[1] == "FLOCK" and words[5] == file]
        return [(pid, command) for pid in dict.fromkeys(pids) if (command := _command(pid))]
    return []


def _command(pid: int) -> str:
    """The command line, shortened to what a person would call it by."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    except OSError:
        return ""
    names = [os.path.basename(word) if at < 2 else word for at, word in enumerate(words) if word]
    while len(names) > 1 and names[0].startswith("python"):
        del names[0]
    return " ".join(names)[:80]


def _take(path: Path) -> int:
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise LockNotOpened(path, exc) from exc
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid, holder = _read(descriptor)
            os.close(descriptor)
            if (pid is None or not os.path.exists(f"/proc/{pid}")) and time.monotonic() < deadline:
                time.sleep(_POLL_SECONDS)
                continue
            raise Locked(path, pid, holder) from None
        if _is_still_there(path, descriptor):
            os.ftruncate(descriptor, 0)  # the name of a holder that crashed
            return descriptor
        os.close(descriptor)


def _take_folder(folder: Path, shown: str) -> int | None:
    while True:
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except (FileNotFoundError, NotADirectoryError):
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as exc:
            holders = flock_holders(os.fstat(descriptor))
            os.close(descriptor)
            if exc.errno in _NO_FOLDER_LOCKS:
                return None
            raise Locked(folder, *(holders[0] if holders else (None, None)), shown=shown) from None
        if _is_still_there(folder, descriptor):
            return descriptor
        os.close(descriptor)


def _is_still_there(path: Path, descriptor: int) -> bool:
    """Whoever held a lock before removes its file: then the one we opened is no longer the one that others will open."""
    try:
        return os.path.samestat(os.stat(path), os.fstat(descriptor))
    except FileNotFoundError:
        return False


def _read(descriptor: int) -> tuple[int | None, str | None]:
    pid, _, holder = os.pread(descriptor, 4096, 0).decode(errors="replace").strip().partition(" ")
    return (int(pid), holder) if pid.isdecimal() and holder else (None, None)
