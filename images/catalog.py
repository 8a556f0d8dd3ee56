"""The images on disk: `<chroots>/NAME/rootfs`, each a tree that people change; stage, swap, delete.

What was built from them is `generations.Generations`, reached here as `Catalog.generations`.
"""

import contextlib
import errno
import fcntl
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from images.atomic import sync_folder
from images.errors import Error
from images.generation import Generation
from images.generations import Generations
from images.locks import Lock, LockNotOpened, exclusive, exclusive_folder
from images.mounts import find_mounts
from images.provenance import Provenance
from images.rootfs import remove_tree
from images.syscalls import exchange, sync_file_system

log = logging.getLogger(__name__)

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
MAX_NAME = 128
"""Bytes of an image name: it is a folder's name on the head node."""
PLAN_FILE = "syncuser.plan"
"""In the image's folder, beside `rootfs`, while a synchronization of users is under way."""


class ImageNotFound(Error):
    def __init__(self, name: str, known: list[str]) -> None:
        # Seldom, and so not loaded by every command.
        from difflib import get_close_matches

        close = get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "`wwctl image list` shows the images that exist"
        super().__init__(f"there is no image {name!r}", hint=hint)


class ImageExists(Error):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"image {name!r} exists already", hint="use --force to replace it, --update to bring it up to date, or another name"
        )


class InTheWay(Error):
    """Something has an image's name and place, and holds what is perhaps dear to somebody."""

    def __init__(self, place: Path) -> None:
        super().__init__(
            f"{place} is in the way, and is no image, for it has no `rootfs`", hint="move it away, or choose another name"
        )


class BadImageName(Error):
    def __init__(self, name: str) -> None:
        shorter = name if len(name) <= 2 * MAX_NAME else f"{name[:MAX_NAME]}…"
        super().__init__(
            f"{shorter!r} cannot be an image's name",
            hint=f"use letters, digits and `_ - . :`, beginning with a letter, a digit or `_`, {MAX_NAME} at most",
        )


class Staging(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that becomes an image by `Catalog.swap`; it and everything in it vanishes if that never happens."""

    folder: Path

    @property
    def rootfs(self) -> Path:
        return self.folder / "rootfs"


class Catalog:
    def __init__(self, *, chroots: Path, provision: Path) -> None:
        self.chroots = chroots
        self.provision = provision
        self.generations = Generations(provision)
        self.segments = self.generations.segments
        self.kernels = self.generations.kernels

    def names(self) -> list[str]:
        """Every image, sorted: any folder with a legal name that has a `rootfs`."""
        if not self.chroots.is_dir():
            return []
        return sorted(path.name for path in self.chroots.iterdir() if _legal(path.name) and (path / "rootfs").is_dir())

    def exists(self, name: str) -> bool:
        return _legal(name) and (self.chroots / name / "rootfs").is_dir()

    def get(self, name: str) -> Path:
        """The image's rootfs; raises BadImageName or ImageNotFound."""
        check_name(name)
        if not self.exists(name):
            raise ImageNotFound(name, self.names())
        return self.chroots / name / "rootfs"

    def check_place(self, name: str) -> None:
        """Raises InTheWay when what has the name is no image."""
        place = self.chroots / name
        if os.path.lexists(place) and not self.exists(name):
            raise InTheWay(place)

    def find_rootfs(self, name: str) -> Path | None:
        """The image's rootfs, or None when there is no such image."""
        return self.chroots / name / "rootfs" if self.exists(name) else None

    def is_read_only(self, name: str) -> bool:
        """Whether the site says so: by a file `readonly` beside the rootfs, as in Warewulf."""
        marker = self.chroots / name / "readonly"
        return os.path.lexists(marker) and not marker.is_dir()

    def lock_path(self, name: str) -> Path:
        """The lock of a name (`locked`); it lies outside the image's folder, which may be swapped."""
        return self.chroots / f".{name}.lock"

    @contextlib.contextmanager
    def locked(self, name: str, *, holder: str) -> Iterator[Lock]:
        """Be the only one who works with this name and in its tree, to which the names of other images may lead, too.

        `holder` (such as `exec debian-12`) is what others are told. A child that inherits the lock's descriptor keeps the tree.
        Raises Locked or LockNotOpened.
        """
        rootfs = self.chroots / name / "rootfs"
        with contextlib.ExitStack() as held:
            lock: Lock | None = None
            full: LockNotOpened | None = None
            try:
                lock = held.enter_context(exclusive(self.lock_path(name), holder=holder))
            except LockNotOpened as exc:
                # Who deletes an image may want room; then the tree's lock, which takes none, has to do.
                if not exc.full:
                    raise
                full = exc
            shown = f"the tree of image {name!r}, {os.path.realpath(rootfs)}"
            lock = held.enter_context(exclusive_folder(rootfs, shown=shown)) or lock
            if full is not None and lock is None:
                raise full
            assert lock is not None
            yield lock

    def sync_plan_path(self, name: str) -> Path:
        """Where the plan of a synchronization of users lies while it is under way."""
        return self.chroots / name / PLAN_FILE

    def provenance(self, name: str) -> Provenance:
        """What `import` noted; a folder that somebody put there is its own source."""
        try:
            return msgspec.json.decode((self.chroots / name / "source.json").read_bytes(), type=Provenance)
        except (FileNotFoundError, msgspec.DecodeError):
            return Provenance(reference=str(self.chroots / name / "rootfs"))

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Staging]:
        """An empty folder on the images' own file system; leftovers of imports that were killed are removed first."""
        check_name(name)
        self.chroots.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.remove_abandoned()
        folder, descriptor = _locked_folder(self.chroots, f".staging-{name}-")
        try:
            staging = Staging(folder=folder)
            staging.rootfs.mkdir(mode=0o755)
            yield staging
        finally:
            # After a swap the old tree has this name and no lock: another command may remove it too.
            with contextlib.suppress(FileNotFoundError):
                remove_tree(folder)
            os.close(descriptor)

    def swap(self, staging: Staging, name: str, provenance: Provenance, *, replace: bool) -> None:
        """Make the staged tree the image, in one rename; the tree that was there before goes with the staging folder."""
        (staging.folder / "source.json").write_bytes(msgspec.json.encode(provenance))
        staging.folder.chmod(0o755)
        place = self.chroots / name
        self.check_place(name)
        # A power cut must leave neither an image of empty files nor, with the old tree removed soon after, none at all.
        sync_file_system(staging.folder)
        if replace and place.exists():
            _refuse_mounts(place, name)
            exchange(staging.folder, place)
        else:
            try:
                staging.folder.rename(place)
            except OSError as exc:
                if exc.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR):
                    raise ImageExists(name) from exc
                raise
        sync_folder(self.chroots)

    def delete(self, name: str) -> None:
        """Remove the image and what was built from it; whether a node still uses it is the caller's question."""
        self.get(name)
        _refuse_mounts(self.chroots / name, name)
        # In this order a crash leaves an image that is not built, never something built that belongs to no image.
        for place in (self.provision / "images" / name, self.chroots / name):
            if place.exists():
                _discard(place, name)

    def current(self, name: str) -> Generation | None:
        """The generation that nodes get now, or None when the image was never built."""
        return self.generations.current(name)

    def generation(self, digest: str) -> Generation | None:
        """A published generation by its name (`sha256:<hex>`), or None."""
        return self.generations.get(digest)

    def remove_abandoned(self) -> None:
        """Remove what killed commands left of staging, and trees that were replaced; what is in use stays."""
        for folder in (*self.chroots.glob(".staging-*"), *(self.provision / "images").glob(".staging-*")):
            if folder.is_symlink():
                folder.unlink(missing_ok=True)
                continue
            try:
                descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_tree(folder)
            except OSError as exc:
                # In use; or it cannot be removed, which is no reason to stop the command that found it.
                log.debug("%s stays: %s", folder, exc)
            finally:
                os.close(descriptor)


def _locked_folder(parent: Path, prefix: str) -> tuple[Path, int]:
    """A new folder and the descriptor whose lock keeps `remove_abandoned` of another command off it."""
    while True:
        folder = Path(tempfile.mkdtemp(prefix=prefix, dir=parent))
        try:
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue  # that command was quicker than our lock
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if folder.exists():
            return folder, descriptor
        os.close(descriptor)


def _discard(folder: Path, name: str) -> None:
    """In one rename, then for good; needs no room on the disk, for who deletes may want some.

    Of an image that is a link to a folder elsewhere the link goes: what it leads to is not ours.
    """
    if folder.is_symlink():
        folder.unlink()
        return
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        trash = folder.with_name(f".staging-delete-{folder.name}-{os.urandom(4).hex()}")
        folder.rename(trash)
        try:
            remove_tree(trash)
        except OSError as exc:
            raise Error(
                f"image {name!r} is deleted, but not all of it could be removed: {trash}: {exc.strerror}",
                hint="remove the rest by hand, or leave it to the next import",
            ) from exc
    finally:
        os.close(descriptor)


def _refuse_mounts(folder: Path, name: str) -> None:
    mounts = find_mounts(folder.resolve())
    if mounts:
        place = folder / os.fsdecode(min(mounts))
        raise Error(f"something is mounted in image {name!r}, at {place}", hint=f"unmount it first: umount {place}")


def check_name(name: str) -> None:
    if not _legal(name):
        raise BadImageName(name)


def _legal(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and len(name) <= MAX_NAME
