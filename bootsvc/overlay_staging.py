"""Where a change of a site's overlays is prepared: by one command at a time, beside the overlay, and gone however it ends."""

import contextlib
import fcntl
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from images.copying import CopyFailed, copy_tree
from images.errors import Error
from images.mounts import find_mounts
from images.rootfs import remove_tree

UNFINISHED = ".bootsvc-new-"
"""How the name begins of what is not complete yet, or no longer. It lies beside the overlay, on the same file system, where
others may have files of their own; no overlay's name begins with a dot, and no build looks there.
"""


@contextlib.contextmanager
def alone(site: Path) -> Iterator[None]:
    """Nobody else changes the overlays in the site's folder, which is made when there is none."""
    site.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(site, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def staged(beside: Path) -> Iterator[Path]:
    """An empty folder in the folder `beside`, that vanishes with what is still in it."""
    staging = Path(tempfile.mkdtemp(prefix=UNFINISHED, dir=beside))
    staging.chmod(0o755)
    try:
        yield staging
    finally:
        _discard(staging)


def remove_unfinished(folder: Path) -> None:
    """What killed commands left."""
    for left in [path for path in folder.iterdir() if path.name.startswith(UNFINISHED)]:
        _discard(left)


def copy_overlay(folder: Path, copy: Path) -> None:
    """Raises Error when something is mounted in it, or it cannot be copied."""
    mounts = find_mounts(folder)
    if mounts:
        mounted = folder / os.fsdecode(min(mounts))
        raise Error(f"something is mounted in an overlay, at {mounted}", hint=f"unmount it first: umount {mounted}")
    copy.mkdir()
    try:
        copy_tree(folder, copy, stopped=lambda: False)
    except CopyFailed as exc:
        reason = exc.__cause__.strerror if isinstance(exc.__cause__, OSError) else exc.message
        raise Error(f"cannot copy {folder} to {copy}: {reason}", hint=exc.hint) from exc


def _discard(path: Path) -> None:
    with contextlib.suppress(FileNotFoundError):
        if path.is_dir():
            remove_tree(path)
        else:
            path.unlink()
