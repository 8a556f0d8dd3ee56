"""What commands that were killed left behind, cleared away by the next one; what a living command uses stays."""

import contextlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from images import store_lock
from images.catalog import Catalog
from images.errors import Error
from images.locks import remove_free
from images.rootfs import remove_tree


def clear(catalog: Catalog) -> None:
    """Staging folders, half-written files of the store, mount points in images, and locks that nobody holds.

    Never raises, for nobody asked for it.
    """
    with contextlib.suppress(OSError):
        catalog.remove_abandoned()
    with contextlib.suppress(OSError, store_lock.StoreBusy):
        if any(_unfinished(catalog.provision)):
            with store_lock.alone(catalog.provision, wait=0):
                _remove_unfinished(catalog)
    with contextlib.suppress(OSError):
        for record in catalog.chroots.glob("*/.rootfs.mountpoints*"):
            _tidy(catalog, record.parent.name)
        for rootfs in catalog.chroots.glob("*/rootfs"):
            # Without a need nobody's image is locked: another command would be told that it is in use.
            if rootfs.is_symlink() and _has_mount_points(rootfs):
                _tidy(catalog, rootfs.parent.name)
        for lock in catalog.chroots.glob(".*.lock"):
            remove_free(lock)


def _unfinished(provision: Path) -> Iterator[Path]:
    """Who writes these holds the store's lock together with others, so whoever has it alone finds only strays."""
    for pattern in ("segments", "kernels", "generations", "images/*", "images/*/history"):
        yield from provision.glob(f"{pattern}/.new-*")
    yield from provision.glob("generations/.old-*")


def _remove_unfinished(catalog: Catalog) -> None:
    # Only after a crash; most commands need not load what a pruning needs.
    from images import prune

    for path in list(_unfinished(catalog.provision)):
        if path.name.startswith(prune.GOING):
            prune.finish_removal(catalog.generations, path, time.time())
        elif path.is_dir() and not path.is_symlink():
            remove_tree(path)
        else:
            path.unlink(missing_ok=True)


def _has_mount_points(rootfs: Path) -> bool:
    """Whether there is a record of some, which lies beside the real tree."""
    # Few images are links.
    from images.sandbox.mountpoints import record_path

    record = record_path(os.path.realpath(rootfs))
    return os.path.lexists(record) or os.path.lexists(record + ".new")


def _tidy(catalog: Catalog, name: str) -> None:
    # Only after a crash that took every process of a sandbox at once; else its supervisor does it.
    from images.sandbox.run import tidy

    with contextlib.suppress(Error), catalog.locked(name, holder=f"tidy {name}"):
        tidy(catalog.get(name))
