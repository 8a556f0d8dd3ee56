"""Mode and owner of an overlay's files: on the file itself, and in overlay.toml where there is one, since that counts."""

import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from bootsvc.overlay_staging import UNFINISHED
from netboot import overlay, overlay_toml
from netboot.engines import suffix_of
from netboot.overlay import Attributes, Description


@dataclass(frozen=True, slots=True, kw_only=True)
class Mode:
    """What a file shall have: permission bits, and numbers of owner and group; None leaves what is there."""

    mode: int | None = None
    uid: int | None = None
    gid: int | None = None


def set_attributes(folder: Path, path: str, wanted: Mode) -> None:
    """Set mode and owner on the file, and in overlay.toml where there is one, since that counts."""
    full = overlay.tree(folder) / path
    if os.path.lexists(full):
        # -1 leaves what is there.
        uid, gid = (-1 if number is None else number for number in (wanted.uid, wanted.gid))
        os.chown(full, uid, gid, follow_symlinks=False)
        if wanted.mode is not None and not full.is_symlink():
            full.chmod(wanted.mode)
    if not full.is_symlink():
        declare(folder, path, wanted, directory=full.is_dir())


def declare(folder: Path, path: str, wanted: Mode, *, directory: bool) -> None:
    """Say it in overlay.toml, where there is one and it does not say so already."""
    description = overlay.describe(folder)
    if description is None:
        return
    directory = directory or path in description.directories
    table = "directories" if directory else "files"
    entries: dict[str, Attributes] = dict(getattr(description, table))
    key = path if directory else path.removesuffix(suffix_of(path) or "")
    old = entries.get(key, Attributes())
    new = Attributes(
        mode=old.mode if wanted.mode is None else f"{wanted.mode:04o}",
        uid=old.uid if wanted.uid is None else wanted.uid,
        gid=old.gid if wanted.gid is None else wanted.gid,
    )
    default = Attributes(mode="0755" if directory else "0644")
    if new != old and not (key not in entries and new == default):
        entries[key] = new
        _describe(folder, msgspec.structs.replace(description, **{table: entries}))


def materialize(folder: Path) -> None:
    """Owners and modes of overlay.toml on the files themselves, for whoever reads the folder without it."""
    tree = overlay.tree(folder)
    tree.mkdir(exist_ok=True)
    for item in overlay.read(folder).items:
        full = tree / os.fsdecode(item.path)
        if os.path.lexists(full):
            os.chown(full, item.uid, item.gid, follow_symlinks=False)
            if not stat.S_ISLNK(item.mode):
                full.chmod(stat.S_IMODE(item.mode))


def declared_links(folder: Path) -> Mapping[str, str]:
    """Those that stand in overlay.toml alone."""
    description = overlay.describe(folder)
    return {} if description is None else description.links


def forget(folder: Path, path: str) -> None:
    """Take a path, and what lies below it, out of overlay.toml."""
    description = overlay.describe(folder)
    if description is None:
        return
    bare = path.removesuffix(suffix_of(path) or "")

    def kept(key: str) -> bool:
        return key not in (path, bare) and not key.startswith(path + "/")

    changed = msgspec.structs.replace(
        description,
        files={key: value for key, value in description.files.items() if kept(key)},
        directories={key: value for key, value in description.directories.items() if kept(key)},
        links={key: value for key, value in description.links.items() if kept(key)},
    )
    if changed != description:
        _describe(folder, changed)


def _describe(folder: Path, description: Description) -> None:
    folder = folder.resolve()
    staged = folder.parent / f"{UNFINISHED}{folder.name}.toml"
    staged.write_text(overlay_toml.emit(description))
    staged.replace(folder / "overlay.toml")
