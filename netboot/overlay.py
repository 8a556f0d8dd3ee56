"""Overlays: folders whose `rootfs/` mirrors the node's `/`, with an `overlay.toml` for what a wheel would spoil.

Where there is an overlay.toml, it says every owner and mode (unsaid: root's, 0644 and 0755); a site's overlay without one has
those of its tree. A file with an engine's suffix is a template. An overlay takes a file off the node by `remove` in its
overlay.toml, or by an empty file `.wh.NAME` beside where NAME would be, as in OCI layers.
"""

import hashlib
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec

from images.cpio import MAX_FIELD
from netboot.engines import suffix_of
from netboot.errors import OverlayError, OverlayNotFound

WHITEOUT = ".wh."
"""OCI image-spec, layer.md, Whiteouts."""
_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*")
MAX_NAME = 128
"""Bytes of an overlay's name: it is a folder's name on the head node."""
ALIASES = {"debian.interfaces": "ifupdown"}
"""Warewulf ships these overlays under both names."""


class Attributes(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """`mode` in octal as text, owner and group as numbers."""

    mode: Annotated[str, msgspec.Meta(pattern="^[0-7]{0,4}$")] = ""
    uid: int = 0
    gid: int = 0


class Description(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """overlay.toml; keys are paths from the node's root."""

    description: str
    files: dict[str, Attributes] = {}
    directories: dict[str, Attributes] = {}
    links: dict[str, str] = {}
    remove: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that an overlay puts on the node; `path` is relative to its root, `content` is a link's target too.

    `mtime` is in seconds. `set_mode` is true where the overlay states a mode: a directory of the image keeps its own otherwise.
    `alike` is false for what only this node gets. `digest` is the content's, where it is worked out once for many nodes.
    """

    path: bytes
    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    content: bytes = b""
    set_mode: bool = False
    alike: bool = True
    digest: str = field(default="", compare=False)

    def fingerprint(self) -> tuple[object, ...]:
        """All that decides what the node gets of it."""
        digest = self.digest or hashlib.sha256(self.content).hexdigest()
        return (self.path, self.mode, self.uid, self.gid, self.mtime, self.set_mode, digest)


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    """`removals` are paths that are taken off the node; `fingerprint` is that of all there is."""

    name: str
    items: tuple[Item, ...]
    removals: tuple[bytes, ...] = ()
    fingerprint: str = ""


def shipped() -> Path:
    """The folder of the overlays that come with bootsvc."""
    return Path(str(files("netboot"))) / "overlays"


def is_name(name: str) -> bool:
    """Whether an overlay can have this name: letters, digits and `- . _ :`."""
    return len(name) <= MAX_NAME and _NAME.fullmatch(name) is not None


def names(folders: Sequence[Path]) -> list[str]:
    """Every overlay there is, sorted."""
    found = (path for folder in folders if folder.is_dir() for path in folder.iterdir())
    return sorted({path.name for path in found if is_name(path.name) and path.is_dir()})


def find(name: str, folders: Sequence[Path]) -> Path:
    """The overlay's folder: the first of `folders` that has it wins. Raises OverlayNotFound with the closest name."""
    for folder in folders if is_name(name) else ():
        if (folder / name).is_dir():
            return folder / name
    if name in ALIASES:
        return find(ALIASES[name], folders)
    raise OverlayNotFound(name, get_close_matches(name, names(folders), n=1))


def tree(folder: Path) -> Path:
    """What becomes the node's root: `rootfs`, or the overlay's folder itself in the layout of older Warewulfs."""
    rootfs = folder / "rootfs"
    return rootfs if rootfs.is_dir() or (folder / "overlay.toml").exists() else folder


def load(name: str, folders: Sequence[Path]) -> Overlay:
    """Read an overlay. Raises OverlayNotFound or OverlayError."""
    return read(find(name, folders))


def read(folder: Path) -> Overlay:
    """Read the overlay in this folder. Raises OverlayError."""
    try:
        return _read(folder)
    except OSError as exc:
        reason = "only root can read it" if isinstance(exc, PermissionError) else f"it cannot be read: {exc.strerror}"
        raise OverlayError(f"overlay {folder.name}, {exc.filename}: {reason}", hint="look at the file and its folder") from exc
    except MemoryError as exc:
        raise OverlayError(f"overlay {folder.name} does not fit into memory", hint="put large files into the image") from exc


def _read(folder: Path) -> Overlay:
    description = describe(folder)
    items: list[Item] = []
    removals: list[bytes] = []
    for item in _items(tree(folder), description):
        parent, slash, name = item.path.rpartition(b"/")
        if name.startswith(WHITEOUT.encode()):
            removals.append(parent + slash + name.removeprefix(WHITEOUT.encode()))
        else:
            items.append(item)
    removals += [os.fsencode(path.strip("/")) for path in (description.remove if description else ())]
    prints = repr(([item.fingerprint() for item in items], removals))
    return Overlay(
        name=folder.name,
        items=tuple(items),
        removals=tuple(dict.fromkeys(checked(folder.name, path) for path in removals)),
        fingerprint=hashlib.sha256(prints.encode()).hexdigest(),
    )


def describe(folder: Path) -> Description | None:
    """The overlay.toml of an overlay, None where it has none. Raises OverlayError."""
    path = folder / "overlay.toml"
    if tree(folder) == folder:
        return None
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Description)
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as exc:
        raise OverlayError(f"{path}: {exc}", hint="see docs/overlays.md for what overlay.toml may hold") from exc


def _items(rootfs: Path, description: Description | None) -> Iterator[Item]:
    for folder, directories, files_ in os.walk(rootfs, onerror=_unreadable) if rootfs.exists() else ():
        directories.sort()
        for name in sorted([*directories, *files_]):
            full = Path(folder) / name
            path = str(full.relative_to(rootfs))
            item = _from_disk(full, path)
            yield item if description is None else _declared(item, description, path)
    if description is not None:
        yield from _declared_only(description)


def _unreadable(error: OSError) -> None:
    raise error


def _declared_only(description: Description) -> Iterator[Item]:
    """Directories and links that stand in overlay.toml alone."""
    for path in sorted(description.directories):
        yield _declared(Item(path=path.encode(), mode=stat.S_IFDIR), description, path)
    for path, target in sorted(description.links.items()):
        yield Item(path=path.encode(), mode=stat.S_IFLNK | 0o777, content=target.encode())


def _from_disk(full: Path, path: str) -> Item:
    info = full.lstat()
    item = Item(path=os.fsencode(path), mode=info.st_mode, uid=info.st_uid, gid=info.st_gid, mtime=int(info.st_mtime))
    if stat.S_ISLNK(info.st_mode):
        return replace(item, content=os.fsencode(os.readlink(full)))
    if stat.S_ISREG(info.st_mode):
        if info.st_size > MAX_FIELD:
            raise OverlayError(
                f"{full} has {info.st_size} bytes; an overlay holds files below 4 GiB",
                hint="put it into the image, or fetch it",
            )
        content = full.read_bytes()
        return replace(item, content=content, digest=hashlib.sha256(content).hexdigest())
    if stat.S_ISDIR(info.st_mode):
        return item
    raise OverlayError(f"{full} is neither a file, nor a link, nor a directory", hint="remove it from the overlay")


def _declared(item: Item, description: Description, path: str) -> Item:
    if stat.S_ISLNK(item.mode):
        return replace(item, uid=0, gid=0)
    is_directory = stat.S_ISDIR(item.mode)
    stated = (description.directories if is_directory else description.files).get(path.removesuffix(suffix_of(path) or ""))
    attributes = stated or Attributes()
    mode = int(attributes.mode, 8) if attributes.mode else (0o755 if is_directory else 0o644)
    return replace(
        item, mode=stat.S_IFMT(item.mode) | mode, uid=attributes.uid, gid=attributes.gid, set_mode=stated is not None
    )


def checked(overlay: str, path: bytes) -> bytes:
    """The path, if an overlay may say what is there; raises OverlayError."""
    parts = path.split(b"/")
    if b".." in parts or b"" in parts or b"." in parts or b"\0" in path:
        raise OverlayError(
            f"overlay {overlay} puts a file at {os.fsdecode(path)!r}", hint="paths must stay within the node's root"
        )
    if is_our_own(path):
        raise OverlayError(
            f"overlay {overlay} may not replace /{os.fsdecode(path)}", hint="bootsvc's own init is not an overlay's"
        )
    return path


def is_our_own(path: bytes) -> bool:
    """What is no overlay's: our init, and what belongs to it."""
    return path == b"init" or path.split(b"/")[0] == b".bootsvc"
