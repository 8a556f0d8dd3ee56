"""Overlays: folders whose `rootfs/` mirrors the node's `/`, with an `overlay.toml` for what a wheel would spoil.

Where there is an overlay.toml, it says every owner and mode (unsaid: root's, 0644 and 0755); a site's overlay without one has
those of its tree. `NAME.j2` is rendered to `NAME`. A site's overlay hides the one that we ship under the same name.
"""

import os
import stat
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.resources import files
from pathlib import Path
from typing import Annotated

import msgspec

from netboot.engine import Output, RenderContext
from netboot.engines import render, suffix_of
from netboot.errors import OverlayError, OverlayNotFound
from netboot.head_files import FileCache, NotedFiles
from netboot.reads import Trace


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Item:
    """One thing that an overlay puts on the node; `path` is relative to its root, `content` is a link's target too.

    `mtime` is in seconds. `set_mode` is true where the overlay states a mode: a directory of the image keeps its own otherwise.
    """

    path: bytes
    mode: int
    uid: int = 0
    gid: int = 0
    mtime: int = 0
    content: bytes = b""
    set_mode: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Overlay:
    name: str
    items: tuple[Item, ...]


def shipped() -> Path:
    """The folder of the overlays that come with bootsvc."""
    return Path(str(files("netboot"))) / "overlays"


def load(name: str, folders: Sequence[Path]) -> Overlay:
    """The first folder that has the overlay wins. Raises OverlayNotFound or OverlayError."""
    legal = name and "/" not in name and not name.startswith(".")
    for folder in folders if legal else ():
        if (folder / name / "rootfs").is_dir():
            description = _describe(folder / name)
            return Overlay(name=name, items=tuple(_items(folder / name / "rootfs", description)))
    raise OverlayNotFound(name)


def _describe(folder: Path) -> Description | None:
    path = folder / "overlay.toml"
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Description)
    except FileNotFoundError:
        return None
    except (ValueError, OSError) as exc:
        raise OverlayError(f"{path}: {exc}", hint="see docs/overlays.md for what overlay.toml may hold") from exc


def _items(rootfs: Path, description: Description | None) -> Iterator[Item]:
    for folder, directories, names in os.walk(rootfs):
        for name in sorted([*directories, *names]):
            full = Path(folder) / name
            path = str(full.relative_to(rootfs))
            item = _from_disk(full, path)
            yield item if description is None else _declared(item, description, path)
    if description is not None:
        yield from _declared_only(description)


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
        return replace(item, content=full.read_bytes())
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


def render_items(overlays: Sequence[Overlay], context: RenderContext) -> Mapping[bytes, Item]:
    """What the overlays put on this node, by path; a later overlay wins. Raises OverlayError."""
    placed: dict[bytes, Item] = {}
    for overlay in overlays:
        for item in overlay.items:
            for made in _rendered(overlay.name, item, context):
                placed[_checked(overlay.name, made.path)] = made
    return placed


def _rendered(overlay: str, item: Item, context: RenderContext) -> Iterator[Item]:
    path = os.fsdecode(item.path)
    if not stat.S_ISREG(item.mode) or suffix_of(path) is None:
        yield item
        return
    rendering = render(item.content, replace(context, overlay=overlay), Trace(), NotedFiles(FileCache()), path=path)
    for output in rendering.outputs if not rendering.aborted else ():
        yield _made(item, output)


def _made(template: Item, output: Output) -> Item:
    path = os.fsencode(output.path.lstrip("/"))
    if output.target is not None:
        return replace(template, path=path, mode=stat.S_IFLNK | 0o777, content=os.fsencode(output.target))
    return replace(template, path=path, content=output.text.encode(errors="surrogateescape"))


def _checked(overlay: str, path: bytes) -> bytes:
    parts = path.split(b"/")
    if b".." in parts or b"" in parts or b"." in parts:
        raise OverlayError(
            f"overlay {overlay} puts a file at {os.fsdecode(path)!r}", hint="paths must stay within the node's root"
        )
    if path == b"init" or parts[0] == b".bootsvc":
        raise OverlayError(
            f"overlay {overlay} may not replace /{os.fsdecode(path)}", hint="bootsvc's own init is not an overlay's"
        )
    return path
