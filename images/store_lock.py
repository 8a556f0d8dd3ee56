"""The locks of the store of built images: builds share it, pruning takes it alone; nobody waits for ever, and who waits
in vain is told for whom."""

import contextlib
import fcntl
import os
import time
from collections.abc import Iterator
from pathlib import Path

from images.attributes import hint_for
from images.errors import Error
from images.locks import flock_holders

POLL_SECONDS = 0.05
BUILD_WAITS = 60.0
"""Seconds that a build waits for a pruning, which takes a few."""
PRUNE_WAITS = 10.0
"""Seconds that a pruning waits for builds; they may take minutes."""
PUBLISH_WAITS = 30.0
"""Seconds that somebody waits for another one who publishes, which takes milliseconds."""


class StoreBusy(Error):
    """`holders` are the command lines of those who hold the lock, as far as /proc tells."""

    def __init__(self, path: Path, holders: list[str]) -> None:
        who = ", ".join(holders) or "another command"
        verb = "use" if len(holders) > 1 else "uses"
        super().__init__(f"{who} {verb} the store of built images ({path})", hint="wait until it has ended, then try again")
        self.holders = holders


class StoreClosed(Error):
    def __init__(self, path: Path, exc: OSError) -> None:
        super().__init__(f"cannot open the lock {path}: {exc.strerror}", hint=hint_for(exc))


def in_use(provision: Path, *, wait: float = BUILD_WAITS) -> contextlib.AbstractContextManager[None]:
    """Hold the store's lock together with others: nothing in the store is removed meanwhile. Raises StoreBusy."""
    return _held(provision / ".store.lock", fcntl.LOCK_SH, wait)


def alone(provision: Path, *, wait: float = PRUNE_WAITS) -> contextlib.AbstractContextManager[None]:
    """Hold the store's lock alone: nobody adds to the store meanwhile. Raises StoreBusy."""
    return _held(provision / ".store.lock", fcntl.LOCK_EX, wait)


def publishing(provision: Path, *, wait: float = PUBLISH_WAITS) -> contextlib.AbstractContextManager[None]:
    """Be the only one who changes which generation of an image is current. Raises StoreBusy."""
    return _held(provision / ".publish.lock", fcntl.LOCK_EX, wait)


@contextlib.contextmanager
def _held(path: Path, kind: int, wait: float) -> Iterator[None]:
    try:
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        raise StoreClosed(path, exc) from exc
    try:
        deadline = time.monotonic() + wait
        while True:
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    holders = flock_holders(os.fstat(descriptor))
                    raise StoreBusy(path, [f"`{command}` (process {pid})" for pid, command in holders]) from None
                time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(descriptor)
