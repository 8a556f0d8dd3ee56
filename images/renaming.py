"""An image under another name: a copy of its tree, or the image itself with everything that was built from it."""

import contextlib
import fcntl
import os
import secrets
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from images import store_lock
from images.atomic import sync_folder, write_whole
from images.attributes import hint_for
from images.background_copy import copy_in_background
from images.catalog import Catalog, check_name
from images.copying import CopyFailed, copy_tree
from images.errors import Error
from images.ownership import finish
from images.progress import Progress
from images.rootfs import remove_tree
from images.sandbox.run import tidy
from images.syscalls import exchange

MARK = "renamed-from"
"""In `images/NEW` while a rename is under way: the old name."""


class NameTaken(Error):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"image {name!r} exists already", hint=f"choose another name, or first run `wwctl image delete {name}`"
        )


class SameName(Error):
    def __init__(self, name: str) -> None:
        super().__init__(f"image {name!r} has that name already", hint="give a new name")


class NotRenamed(Error):
    def __init__(self, name: str, new: str, exc: OSError) -> None:
        super().__init__(f"cannot rename {name!r} to {new!r}: {exc.strerror}", hint=hint_for(exc))


class NotCopied(Error):
    def __init__(self, name: str, new: str, exc: OSError) -> None:
        super().__init__(f"cannot copy {name!r} as {new!r}: {exc.strerror}", hint=hint_for(exc))


async def copy_image(catalog: Catalog, name: str, new: str, progress: Progress) -> None:
    """Make image `new` with the tree of `name`, sharing its blocks where the file system can; it is not built.

    Raises BadImageName, ImageNotFound, SameName, NameTaken, Locked, CopyFailed or NotCopied; then there is no new image.
    """
    rootfs = _check_free(catalog, name, new)
    with _locked(catalog, name, new, f"copy {name} {new}"):
        _check_free(catalog, name, new)
        finish(catalog, name)
        tidy(rootfs)
        try:
            with catalog.stage(new) as staging:
                await copy_in_background(rootfs, staging.rootfs, progress)
                # What an earlier image of that name left behind is not this one's.
                _remove(_built(catalog, new))
                catalog.swap(staging, new, catalog.provenance(name), replace=False)
        except OSError as exc:
            raise NotCopied(name, new, exc) from exc


def rename_image(catalog: Catalog, name: str, new: str, *, move_users: Callable[[], object]) -> None:
    """Give the image another name; `move_users` makes all who name it say the new name.

    It is called while both names lead to what was built, so that no node is ever sent to nothing. After a crash at any
    point the same call completes what was begun. Raises BadImageName, ImageNotFound, SameName, NameTaken, Locked,
    StoreBusy, and what `move_users` raises, which undoes all.
    """
    if not _half_renamed(catalog, name, new):
        _check_free(catalog, name, new)
    with (
        _locked(catalog, name, new, f"rename {name} {new}"),
        store_lock.in_use(catalog.provision),
        store_lock.publishing(catalog.provision),
    ):
        half_done = _half_renamed(catalog, name, new)
        if not half_done:
            tidy(_check_free(catalog, name, new))
            try:
                _share_built(catalog, name, new)
            except OSError as exc:
                raise NotRenamed(name, new, exc) from exc
        try:
            move_users()
        except Error:
            if not half_done:
                _remove(_built(catalog, new))
            raise
        if not half_done:
            (catalog.chroots / name).rename(catalog.chroots / new)
            sync_folder(catalog.chroots)
        _remove(_built(catalog, name))
        (_built(catalog, new) / MARK).unlink(missing_ok=True)
    catalog.remove_abandoned()


def _check_free(catalog: Catalog, name: str, new: str) -> Path:
    """The image's rootfs, when it exists and no image has the new name."""
    check_name(new)
    rootfs = catalog.get(name)
    if name == new:
        raise SameName(name)
    if catalog.exists(new):
        raise NameTaken(new)
    catalog.check_place(new)
    return rootfs


def _half_renamed(catalog: Catalog, name: str, new: str) -> bool:
    """Whether a rename was interrupted after the tree had its new name."""
    check_name(name)
    return not catalog.exists(name) and catalog.exists(new) and _mark(catalog, new) == name


@contextlib.contextmanager
def _locked(catalog: Catalog, name: str, new: str, holder: str) -> Iterator[None]:
    with catalog.locked(name, holder=holder), catalog.locked(new, holder=holder):
        yield


def _share_built(catalog: Catalog, name: str, new: str) -> None:
    """Let the new name lead to all that was built under the old one; whatever stood there belongs to no tree."""
    source, target = _built(catalog, name), _built(catalog, new)
    if not source.is_dir():
        _remove(target)
        return
    staged = Path(tempfile.mkdtemp(prefix=f".staging-{new}-", dir=target.parent))
    with _in_use(staged):
        try:
            copy_tree(source, staged, stopped=lambda: False)
            write_whole(staged / MARK, name.encode())
            sync_folder(staged)
        except BaseException as exc:
            remove_tree(staged)
            if isinstance(exc, CopyFailed) and isinstance(exc.__cause__, OSError):
                raise exc.__cause__ from None
            raise
        if target.exists():
            exchange(staged, target)
            remove_tree(staged)
        else:
            staged.rename(target)
        sync_folder(target.parent)


def _mark(catalog: Catalog, new: str) -> str | None:
    try:
        return (_built(catalog, new) / MARK).read_text()
    except FileNotFoundError:
        return None


def _built(catalog: Catalog, name: str) -> Path:
    return catalog.provision / "images" / name


def _remove(folder: Path) -> None:
    """In one rename, then for good: a folder that is half removed is never met under its name. Needs no room on the disk."""
    if not folder.exists():
        return
    with _in_use(folder):
        trash = folder.with_name(f".staging-delete-{secrets.token_hex(8)}")
        folder.rename(trash)
        remove_tree(trash)


@contextlib.contextmanager
def _in_use(folder: Path) -> Iterator[None]:
    """Keeps `Catalog.remove_abandoned` of another command off the folder, whatever its name becomes."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
