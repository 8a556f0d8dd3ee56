"""`wwctl clean`: downloads that an import left, and overlays of nodes that are gone."""

import shutil
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import click

from bootsvc.cli.command import Invocation, Verb
from bootsvc.cli.image.formats import size_text
from bootsvc.cli.image.site import need_root
from images.errors import Error

IN_USE_SECONDS = 600
"""A download that was read or written so lately may be an import's that runs now."""


@click.pass_obj
def _clean(invocation: Invocation, /, dry: bool) -> None:
    """Remove the cache of downloaded layers, and the overlays that were built for nodes which are no longer in nodes.conf.

    Neither is needed: an import downloads what it lacks. Layers that were used in the last ten minutes stay, for an import may
    run now. What images and their generations need stays (`wwctl image prune`).
    """
    config = invocation.config()
    if not dry:
        need_root("clean up")
    # First, so that a nodes.conf that cannot be read costs no node its overlays.
    known = set(invocation.store().load().nodes)
    done = "Would remove" if dry else "Removed"
    freed = 0
    for folder in _stale_overlays(config.paths.provision / "overlays", known):
        freed += _remove(folder, dry=dry)
        print(f"{done} the overlays of {folder.name}")
    downloads = 0
    for blob in _old_downloads(config.paths.blob_cache / "blobs", time.time()):
        downloads += _remove(blob, dry=dry)
    if downloads:
        print(f"{done} downloads from {config.paths.blob_cache}")
    freed += downloads
    print(f"{size_text(freed)} {'would be free' if dry else 'freed'}")


def _stale_overlays(folder: Path, known: set[str]) -> Iterator[Path]:
    """The folders of nodes that are gone; what a name beginning with a dot holds is the server's."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink() and path.name not in known and not path.name.startswith("."):
                yield path


def _old_downloads(folder: Path, now: float) -> Iterator[Path]:
    """Files of the cache that no import has touched lately."""
    for path in sorted(folder.glob("*/*")):
        info = path.lstat()
        if stat.S_ISREG(info.st_mode) and max(info.st_mtime, info.st_atime) < now - IN_USE_SECONDS:
            yield path


def _remove(path: Path, *, dry: bool) -> int:
    """How many bytes the file or folder held. Raises Error."""
    files = [path] if path.is_file() else [below for below in path.rglob("*") if below.is_file()]
    size = sum(file.lstat().st_size for file in files)
    if not dry:
        try:
            shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
        except OSError as exc:
            raise Error(f"cannot remove {path}: {exc.strerror}", hint="run it again") from exc
    return size


clean = Verb(
    "clean",
    callback=_clean,
    help=_clean.__doc__,
    params=[click.Option(["-n", "--dryrun", "dry"], is_flag=True, help="Only say what would be removed.")],
)
