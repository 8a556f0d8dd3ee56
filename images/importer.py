"""Import an image: unpack its source into a staging tree, check that it is a root file system, swap it in."""

import os
from pathlib import Path

from images.catalog import Catalog, ImageExists, check_name
from images.errors import Error
from images.excludes import Excludes
from images.locks import exclusive
from images.progress import Progress
from images.provenance import Provenance
from images.scan import scan
from images.source.scheme import Source
from images.view import ImageView


class NotARootFileSystem(Error):
    def __init__(self, reference: str) -> None:
        super().__init__(
            f"{reference} is not a root file system: it has no /bin/sh",
            hint="import a container of a whole distribution, or the top folder of a chroot",
        )


async def import_image(catalog: Catalog, name: str, source: Source, progress: Progress, *, force: bool = False) -> Provenance:
    """Fill image `name` from `source`; whatever fails, an image that was there stays as it was.

    Raises BadImageName, ImageExists without `force`, Locked while somebody works in the image, and what the source raises.
    """
    check_name(name)
    if catalog.exists(name) and not force:
        raise ImageExists(name)
    with catalog.stage(name) as staging, exclusive(catalog.lock_path(name), holder=f"import {name}"):
        found = await source.unpack(staging.rootfs, progress)
        if not _has_shell(staging.rootfs):
            raise NotARootFileSystem(found.reference)
        catalog.swap(staging, name, found, replace=force)
    return found


def _has_shell(rootfs: Path) -> bool:
    shell = ImageView(scan(rootfs, excludes=Excludes([]))).find_file(b"bin/sh")
    return shell is not None and bool(shell.mode & 0o111)


def update_resolv_conf(rootfs: Path, host: Path) -> bool:
    """Give the image the head node's resolv.conf; a link (an image with a resolver of its own) is left alone."""
    place = rootfs / "etc" / "resolv.conf"
    if place.is_symlink() or (rootfs / "etc").is_symlink() or not (rootfs / "etc").is_dir() or not host.is_file():
        return False
    content = host.read_bytes()
    if place.is_file() and place.read_bytes() == content:
        return True
    temporary = place.with_name(f".resolv.conf-{os.getpid()}")
    temporary.write_bytes(content)
    temporary.rename(place)
    return True
