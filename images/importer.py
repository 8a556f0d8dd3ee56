"""Import an image: unpack its source into a staging tree, check that it is a root file system, swap it in."""

import contextlib
import enum
import errno
import os
import secrets
import stat
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from images.catalog import Catalog, ImageExists, check_name
from images.copying import CopyFailed
from images.errors import Error
from images.progress import Progress
from images.provenance import Provenance
from images.rootfs import Rootfs, UnsafePath, find_status
from images.source.contract import Source
from images.tree import UnpackFailed

_SHELL = b"bin/sh"
_MAX_LINKS = 40
_FULL = (errno.ENOSPC, errno.EDQUOT)


class NotARootFileSystem(Error):
    def __init__(self, reference: str) -> None:
        super().__init__(
            f"{reference} is not a root file system: it has no /bin/sh",
            hint="import a container of a whole distribution, or the top folder of a chroot",
        )


class ImportFailed(Error):
    """The operating system refuses; nothing of the import is kept, and an image that was there is as it was."""

    def __init__(self, name: str, place: Path, exc: OSError) -> None:
        hints = {
            **dict.fromkeys(_FULL, f"free some space on the file system of {place}"),
            errno.EROFS: f"mount the file system of {place} writable",
        }
        hint = hints.get(exc.errno or 0, f"look at {place} and its file system")
        super().__init__(f"cannot import {name!r}: {place}: {exc.strerror}", hint=hint)
        self.place = place


class Mode(enum.Enum):
    """What becomes of an image that has the name already."""

    NEW = "refuse"
    UPDATE = "replace, if the source has changed"
    REPLACE = "replace"


@dataclass(frozen=True, slots=True, kw_only=True)
class Imported:
    """`unchanged`: the image came from this very state of the source, and nothing was done."""

    provenance: Provenance
    unchanged: bool = False


async def import_image(catalog: Catalog, name: str, source: Source, progress: Progress, *, mode: Mode = Mode.NEW) -> Imported:
    """Fill image `name` from `source`; whatever fails, an image that was there stays as it was.

    A tree that was replaced is left to `Catalog.remove_abandoned`, for that may take long.
    Raises BadImageName, ImageExists, InTheWay, Locked while somebody works in the image, ImportFailed, and what the source
    raises.
    """
    check_name(name)
    catalog.check_place(name)
    exists = catalog.exists(name)
    if exists and mode is Mode.NEW:
        raise ImageExists(name)
    with _explained(catalog, name):
        if exists and mode is Mode.UPDATE:
            known = catalog.provenance(name)
            if known.digest is not None and known.digest == await source.find_digest():
                return Imported(provenance=known, unchanged=True)
        with catalog.stage(name) as staging, catalog.locked(name, holder=f"import {name}"):
            found = await source.unpack(staging.rootfs, progress)
            if not has_shell(staging.rootfs):
                raise NotARootFileSystem(found.reference)
            if mode is Mode.UPDATE and catalog.is_read_only(name):
                (staging.folder / "readonly").touch()
            catalog.swap(staging, name, found, replace=mode is not Mode.NEW)
            with contextlib.suppress(FileNotFoundError):  # there was none, or another command has removed it already
                staging.folder.rename(catalog.chroots / f".staging-replaced-{name}-{secrets.token_hex(4)}")
    return Imported(provenance=found)


@contextlib.contextmanager
def _explained(catalog: Catalog, name: str) -> Iterator[None]:
    try:
        yield
    except (UnpackFailed, CopyFailed) as exc:
        # Which file did not fit is of no interest.
        if isinstance(exc.__cause__, OSError) and exc.__cause__.errno in _FULL:
            raise ImportFailed(name, catalog.chroots, exc.__cause__) from exc
        raise
    except BrokenPipeError:
        raise  # nobody reads any more what progress says: no fault of this file system
    except OSError as exc:
        # A staging folder that could not be made, or is gone by now, is no place to look at.
        place = Path(os.fsdecode(exc.filename)) if exc.filename else catalog.chroots
        if exc.errno in _FULL or place.is_relative_to(catalog.chroots):
            place = catalog.chroots
        raise ImportFailed(name, place, exc) from exc


def has_shell(rootfs: Path) -> bool:
    """Whether /bin/sh is an executable file, links followed within the tree."""
    with Rootfs(rootfs) as root:
        path = _SHELL
        for _ in range(_MAX_LINKS):
            head, _, name = path.rpartition(b"/")
            try:
                directory = root.find_directory(head)
            except UnsafePath:
                return False
            status = None if directory is None or name in (b"", b".", b"..") else find_status(directory, name)
            if directory is None or status is None:
                return False
            if not stat.S_ISLNK(status.st_mode):
                return stat.S_ISREG(status.st_mode) and bool(status.st_mode & 0o111)
            target = os.readlink(name, dir_fd=directory.fd)
            path = _clean(target if target.startswith(b"/") else directory.child(target))
    return False


def _clean(path: bytes) -> bytes:
    return b"/".join(part for part in path.split(b"/") if part not in (b"", b"."))


def update_resolv_conf(rootfs: Path, host: Path) -> bool:
    """Give the image the head node's resolv.conf; a link (an image with a resolver of its own) or a folder is left alone.

    Its time is the head node's file's, so that the same source gives the same image.
    """
    etc = rootfs / "etc"
    place = etc / "resolv.conf"
    if place.is_symlink() or place.is_dir() or etc.is_symlink() or not etc.is_dir() or not host.is_file():
        return False
    content, written, before = host.read_bytes(), host.stat(), etc.stat()
    if place.is_file() and place.read_bytes() == content:
        return True
    # A name that nobody can guess, made anew: a hostile layer may have put links where a known one would be written through.
    descriptor, temporary = tempfile.mkstemp(prefix=".resolv.conf-", dir=etc)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            os.fchmod(file.fileno(), 0o644)
            file.flush()
            os.utime(file.fileno(), ns=(written.st_atime_ns, written.st_mtime_ns))
        os.rename(temporary, place)
        os.utime(etc, ns=(before.st_atime_ns, before.st_mtime_ns))
    except BaseException:
        os.unlink(temporary)
        raise
    return True
