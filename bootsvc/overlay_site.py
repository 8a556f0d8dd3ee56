"""A site's overlays: made, changed and deleted. Whatever is written is complete before it takes its place.

The first change of an overlay that we ship makes the site's copy of it; ours stays as it is.
"""

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

from bootsvc.overlay_attributes import Mode, declare, declared_links, forget, materialize, set_attributes
from bootsvc.overlay_staging import alone, copy_overlay, remove_unfinished, staged
from images.atomic import sync_folder, write_whole
from images.errors import Error
from images.syscalls import exchange, sync_file_system
from netboot import overlay


class BadOverlayName(Error):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} cannot be an overlay's name",
            hint=f"use letters, digits and `- . _ :`, beginning with a letter or a digit, {overlay.MAX_NAME} at most",
        )


class OverlayExists(Error):
    def __init__(self, name: str, *, shipped: bool) -> None:
        hint = "change that one: the first change makes your own copy of it" if shipped else "take another name"
        super().__init__(f"there is an overlay {name!r} already", hint=hint)


class ShippedOverlay(Error):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"overlay {name!r} comes with bootsvc and cannot be deleted",
            hint="take it from the nodes and profiles that should not have it",
        )


class FileNotInOverlay(Error):
    def __init__(self, name: str, path: str, close: Sequence[str] = ()) -> None:
        hint = f"did you mean {close[0]!r}?" if close else f"`wwctl overlay list -a {name}` shows its files"
        super().__init__(f"overlay {name!r} has no file {path!r}", hint=hint)


class FileExists(Error):
    def __init__(self, name: str, path: str, hint: str) -> None:
        super().__init__(f"overlay {name!r} has {path!r} already", hint=hint)


class NoParent(Error):
    def __init__(self, name: str, parent: str) -> None:
        super().__init__(f"overlay {name!r} has no folder {parent!r}", hint="--parents makes it")


def inside(name: str, file: str) -> str:
    """A file argument as a path relative to the overlay's root; raises Error for one that leads elsewhere."""
    parts = [part for part in file.split("/") if part not in ("", ".")]
    if not parts or ".." in parts or any(ord(char) < 32 or ord(char) == 127 for char in file):
        raise Error(f"{file!r} is no path in overlay {name!r}", hint="name it as on the node, such as etc/motd")
    return "/".join(parts)


def place(tree: Path, name: str, path: str) -> Path:
    """Where a path lies, no link followed on the way; raises Error when a link in it leads out of the overlay."""
    full = tree / path
    parent = full.parent.resolve()
    if not parent.is_relative_to(tree.resolve()):
        raise Error(f"{path!r} leads out of overlay {name!r} through a link", hint="name the file itself")
    return full


class SiteOverlays:
    """`site` is the site's folder; overlays found there hide those in `shipped`."""

    def __init__(self, site: Path, shipped: Path) -> None:
        self.site = site
        self.folders = (site, shipped)

    def find(self, name: str) -> Path:
        """The overlay's folder, the site's or ours; raises OverlayNotFound."""
        return overlay.find(name, self.folders)

    def is_site(self, name: str) -> bool:
        return overlay.is_name(name) and (self.site / name).is_dir()

    def create(self, name: str) -> None:
        """A new, empty overlay. Raises BadOverlayName or OverlayExists."""
        if not overlay.is_name(name):
            raise BadOverlayName(name)
        with self._changing():
            if name in overlay.names(self.folders):
                raise OverlayExists(name, shipped=not self.is_site(name))
            with self._staged() as staging:
                (staging / "rootfs").mkdir(mode=0o755)
                staging.rename(self.site / name)

    def delete(self, name: str, *, force: bool = False) -> None:
        """Delete a site's overlay; with files in it only by `force`. Raises ShippedOverlay or OverlayNotFound."""
        folder = self.find(name)
        if not self.is_site(name):
            raise ShippedOverlay(name)
        if not force and any(overlay.tree(folder).iterdir()):
            raise Error(f"overlay {name!r} is not empty", hint="--force deletes it with all its files")
        with self._changing(), self._staged() as gone:
            folder.rename(gone / name)
            sync_folder(self.site)

    def write(self, name: str, path: str, data: bytes, wanted: Mode, *, parents: bool = False) -> None:
        """Put a file there, whole, in place of what was there. Raises NoParent or Error."""

        def make(staged: Path) -> None:
            # Root's alone until all is said; a new owner takes set-user-ID bits away, so that the mode comes last.
            write_whole(staged, data)
            os.chown(staged, wanted.uid or 0, wanted.gid or 0)
            staged.chmod(wanted.mode if wanted.mode is not None else 0o644)

        self._put(name, path, make, wanted, parents=parents)

    def link(self, name: str, path: str, target: str, *, parents: bool = False) -> None:
        """As `write`, a symbolic link."""
        self._put(name, path, lambda staged: staged.symlink_to(target), None, parents=parents)

    def make_directory(self, name: str, path: str, mode: int, *, parents: bool = False) -> None:
        """Raises NoParent, FileExists or Error."""
        with self._changing(name) as changing:
            full = place(overlay.tree(self.find(name)), name, path)
            if os.path.lexists(full) and not (parents and full.is_dir()):
                raise FileExists(name, path, hint="chmod changes its mode")
            self._need_parent(name, path, parents=parents)
            folder = changing.writable(name)
            full = place(overlay.tree(folder), name, path)
            full.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            full.mkdir(exist_ok=True)
            set_attributes(folder, path, Mode(mode=mode))

    def change(self, name: str, path: str, wanted: Mode) -> None:
        """Other permission bits, or another owner. Raises FileNotInOverlay, or Error for a link."""
        with self._changing(name) as changing:
            folder = self.find(name)
            full = self._existing(folder, name, path)
            is_link = full.is_symlink() if full is not None else path in declared_links(folder)
            if is_link and (wanted.mode is not None or overlay.describe(folder) is not None):
                raise Error(f"{path!r} in overlay {name!r} is a symbolic link", hint="its mode and owner cannot be changed")
            set_attributes(changing.writable(name), path, wanted)

    def delete_file(self, name: str, path: str, *, force: bool = False, parents: bool = False) -> None:
        """Delete a file, or with `force` a folder that has files; with `parents` also the folders that are empty then."""
        with self._changing(name) as changing:
            full = self._existing(self.find(name), name, path)
            if full is not None and full.is_dir() and not full.is_symlink() and any(full.iterdir()) and not force:
                raise Error(f"{path!r} in overlay {name!r} is a folder with files", hint="--force deletes it with all of them")
            folder = changing.writable(name)
            tree = overlay.tree(folder)
            full = place(tree, name, path)
            if os.path.lexists(full):
                with self._staged(name) as gone:
                    full.rename(gone / "file")
            forget(folder, path)
            for parent in full.relative_to(tree).parents if parents else ():
                if parent == Path() or any((tree / parent).iterdir()):
                    break
                (tree / parent).rmdir()

    def _existing(self, folder: Path, name: str, path: str) -> Path | None:
        """Where it lies; None for what stands in overlay.toml alone. Raises FileNotInOverlay."""
        full = place(overlay.tree(folder), name, path)
        if os.path.lexists(full):
            return full
        description = overlay.describe(folder)
        if description is not None and (path in description.links or path in description.directories):
            return None
        raise FileNotInOverlay(name, path)

    def _put(self, name: str, path: str, make: Callable[[Path], None], wanted: Mode | None, *, parents: bool) -> None:
        with self._changing(name) as changing:
            full = place(overlay.tree(self.find(name)), name, path)
            if full.is_dir() and not full.is_symlink():
                raise FileExists(name, path, hint="it is a folder; name a file in it")
            self._need_parent(name, path, parents=parents)
            with self._staged(name) as staging:
                make(staging / "file")
                folder = changing.writable(name)
                full = place(overlay.tree(folder), name, path)
                full.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
                if wanted is not None:
                    # First, so that a secret is never one that everybody may read.
                    declare(folder, path, wanted, directory=False)
                (staging / "file").rename(full)
                sync_folder(full.parent)

    def _need_parent(self, name: str, path: str, *, parents: bool) -> None:
        """Before anything is changed: raises NoParent when the folder is missing and not to be made."""
        tree = overlay.tree(self.find(name))
        parent = Path(path).parent
        if not parents and parent != Path() and not (tree / parent).is_dir():
            raise NoParent(name, str(parent))

    def _beside(self, name: str) -> Path:
        """The folder that holds the site's overlay of this name, which may be a link to one elsewhere."""
        return (self.site / name).resolve().parent if self.is_site(name) else self.site

    def _staged(self, name: str = "") -> AbstractContextManager[Path]:
        """An empty folder that vanishes with what is still in it, on the file system of the overlay `name`."""
        return staged(self._beside(name))

    @contextlib.contextmanager
    def _changing(self, name: str = "") -> Iterator["_Changing"]:
        """Alone; what a killed command left is removed first, also beside the overlay `name` when it is a link."""
        with alone(self.site):
            for folder in {self.site, self._beside(name)}:
                remove_unfinished(folder)
            yield _Changing(self)

    @contextlib.contextmanager
    def whole(self, name: str) -> Iterator["SiteOverlays"]:
        """To change many files of an overlay at once: what is changed in the overlays that this gives takes the overlay's
        place in one rename when the block ends well. Until then, and after a crash, it is as it was.

        Raises OverlayNotFound, or Error when something is mounted in it or it cannot be copied.
        """
        with self._changing(name):
            self.find(name)
            known = self.is_site(name)
            # A link to a folder elsewhere stays one.
            folder = (self.site / name).resolve()
            with self._staged(name) as staging:
                copies = SiteOverlays(staging, self.folders[1])
                if known:
                    copy_overlay(folder, staging / name)
                else:
                    copies.clone(name)
                yield copies
                sync_file_system(staging)
                if known:
                    exchange(staging / name, folder)
                else:
                    (staging / name).rename(folder)
                sync_folder(folder.parent)

    def clone(self, name: str) -> Path:
        """The site's own copy of an overlay of ours, in one rename; only for who holds the lock."""
        with self._staged() as staging:
            shutil.copytree(overlay.find(name, self.folders[1:]), staging / name, symlinks=True)
            materialize(staging / name)
            (staging / name).rename(self.site / name)
        sync_folder(self.site)
        return self.site / name


@dataclass(frozen=True, slots=True)
class _Changing:
    """The right to change overlays."""

    overlays: SiteOverlays

    def writable(self, name: str) -> Path:
        """The site's folder of the overlay, cloned now when it has none. Raises OverlayNotFound."""
        self.overlays.find(name)
        if self.overlays.is_site(name):
            return self.overlays.site / name
        return self.overlays.clone(name)
