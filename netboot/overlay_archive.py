"""Overlay items → one newc archive that does the right thing on top of a given image.

The kernel replaces a symbolic link by a directory entry of the same name and writes *through* hard links. So parents are
resolved through the image's links, directories that the image has are not emitted anew, and a hard-linked file is replaced,
not written to.
"""

import os
import stat
from collections.abc import Iterator, Mapping

from images import cpio
from images.view import ImageView
from netboot.errors import OverlayError
from netboot.overlay import Item


def archive(items: Mapping[bytes, Item], image: ImageView) -> bytes:
    """The archive, uncompressed, with its trailer. Raises OverlayError."""
    return cpio.archive(place(items, image))


def place(items: Mapping[bytes, Item], image: ImageView) -> list[tuple[cpio.Entry, bytes]]:
    """What to put where, with its contents; parents come before what lies in them. Raises OverlayError."""
    placed = {_place(path, items, image): item for path, item in items.items()}
    entries: dict[bytes, list[tuple[cpio.Entry, bytes]]] = {}
    for path, item in sorted(placed.items()):
        for parent in _parents(path):
            if parent not in entries and parent not in placed and image.find(parent) is None:
                entries[parent] = [_entry(parent, Item(path=parent, mode=stat.S_IFDIR | 0o755, mtime=item.mtime))]
        entries[path] = list(_emit(path, item, image))
    return [pair for path in sorted(entries) for pair in entries[path]]


def _place(path: bytes, items: Mapping[bytes, Item], image: ImageView) -> bytes:
    """Where the item lands: its parents with the image's links followed, unless an overlay replaces that link."""
    for parent in _parents(path):
        if parent in items and not stat.S_ISDIR(items[parent].mode):
            raise OverlayError(
                f"overlays put /{os.fsdecode(path)} below /{os.fsdecode(parent)}, which is not a directory",
                hint="one of the overlays must give way",
            )
    real = image.resolve(path) if stat.S_ISDIR(items[path].mode) else image.resolve_parent(path)
    for parent in _parents(real):
        found = image.find(parent)
        if found is not None and not found.is_directory:
            raise OverlayError(
                f"/{os.fsdecode(path)} cannot be placed: /{os.fsdecode(parent)} is a file in the image",
                hint="change the overlay, or remove the file from the image",
            )
    return real


def _parents(path: bytes) -> Iterator[bytes]:
    parts = path.split(b"/")
    for count in range(1, len(parts)):
        yield b"/".join(parts[:count])


def _emit(path: bytes, item: Item, image: ImageView) -> Iterator[tuple[cpio.Entry, bytes]]:
    found = image.find(path)
    if found is not None and found.is_directory:
        if not stat.S_ISDIR(item.mode):
            raise OverlayError(
                f"/{os.fsdecode(path)} is a directory in the image and a file in an overlay", hint="change the overlay"
            )
        if not item.set_mode:
            return
    elif found is not None and found.nlink > 1 and stat.S_ISREG(item.mode):
        # An entry of another type makes the kernel unlink this name; the file's other names keep their content.
        yield _entry(path, Item(path=path, mode=stat.S_IFLNK | 0o777, content=b"."))
    yield _entry(path, item)


def _entry(path: bytes, item: Item) -> tuple[cpio.Entry, bytes]:
    entry = cpio.Entry(path=path, mode=item.mode, uid=item.uid, gid=item.gid, mtime=item.mtime, size=len(item.content), nlink=1)
    return entry, item.content
