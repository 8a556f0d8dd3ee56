"""What overlays put on a node → newc entries that do the right thing on top of a given image.

The kernel replaces a symbolic link by a directory entry of the same name and writes *through* hard links. So parents are
resolved through the image's links, directories that the image has are not emitted anew, and a hard-linked file is replaced,
not written to.

An archive cannot say that a file goes. For one that goes there is a whiteout as overlayfs knows them, a character device 0/0,
which the kernel puts in the file's place and which any later archive may replace again; a list names all of them, and our init
takes those that are still whiteouts away (`netboot/init/init`).
"""

import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from images import cpio
from images.view import ImageView
from netboot.errors import OverlayError
from netboot.overlay import Item, is_our_own
from netboot.overlay_render import Placed

Entries = list[tuple[cpio.Entry, bytes]]
REMOVALS = b".bootsvc/removals"
"""The folder of the lists; each is named after its stage, and holds paths, one a line, what lies in a folder before it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """`alike` is what other nodes get just so, `own` this node's part, to be unpacked after it; `removed` are the whiteouts
    and, below, the folders that are to go when they are empty then."""

    alike: Entries
    own: Entries
    removed: Sequence[bytes] = ()


def archive(placed: Placed, image: ImageView, stage: str) -> bytes:
    """One archive of it all, uncompressed, with its trailer. Raises OverlayError."""
    found = place(placed, image)
    return cpio.archive([*found.alike, *removal_list(found.removed, stage), *found.own])


def place(placed: Placed, image: ImageView) -> Placement:
    """What to put where, with its contents; parents come before what lies in them. Raises OverlayError."""
    items = {_place(path, placed.items, image): item for path, item in placed.items.items()}
    for real in items:
        _refuse_our_own(real)
    removed = tuple(dict.fromkeys(path for removal in placed.removals for path in _removed(removal, image)))
    whiteouts = [_whiteout(path) for path in removed if _needs_whiteout(path, image)]
    made: set[bytes] = set()
    alike = list(_group({path: item for path, item in items.items() if item.alike}, items, image, made))
    own = list(_group({path: item for path, item in items.items() if not item.alike}, items, image, made))
    return Placement(alike=[*whiteouts, *alike], own=own, removed=removed)


def removal_list(removed: Sequence[bytes], stage: str) -> Entries:
    """The entries that tell our init what is to go; none when nothing is."""
    if not removed:
        return []
    folders = [(cpio.Entry(path=path, mode=stat.S_IFDIR | 0o755), b"") for path in (b".bootsvc", REMOVALS)]
    lines = b"".join(path + b"\n" for path in removed)
    return [*folders, cpio.file_entry(REMOVALS + b"/" + stage.encode(), lines, mode=0o444)]


def _group(
    chosen: Mapping[bytes, Item], every: Collection[bytes], image: ImageView, made: set[bytes]
) -> Iterator[tuple[cpio.Entry, bytes]]:
    """The entries of some items, with the folders that neither the image nor any overlay has; `made` are those so far."""
    entries: dict[bytes, Entries] = {}
    for path, item in sorted(chosen.items()):
        for parent in _parents(path):
            if parent not in made and parent not in every and image.find(parent) is None:
                made.add(parent)
                entries[parent] = [_entry(parent, Item(path=parent, mode=stat.S_IFDIR | 0o755, mtime=item.mtime))]
        entries[path] = list(_emit(path, item, image))
    for path in sorted(entries):
        yield from entries[path]


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


def _refuse_our_own(real: bytes) -> None:
    """A link of the image may lead there."""
    if is_our_own(real):
        raise OverlayError(
            f"an overlay may not replace /{os.fsdecode(real)}", hint="bootsvc's own init is not an overlay's; see its links"
        )


def _removed(path: bytes, image: ImageView) -> Iterator[bytes]:
    """A path and all below it, the deepest first; parents with the image's links followed.

    What the image has not may come from an archive before this one.
    """
    real = image.resolve_parent(path)
    _refuse_our_own(real)
    below: Iterable[bytes] = ()
    if _is_directory(real, image):
        prefix = real + b"/"
        below = sorted((entry.path for entry in image if entry.path.startswith(prefix)), reverse=True)
    for found in (*below, real):
        if b"\n" in found:
            raise OverlayError(
                f"/{found.decode(errors='backslashreplace')!r} cannot be removed", hint="its name has a line end in it"
            )
        yield found


def _is_directory(path: bytes, image: ImageView) -> bool:
    found = image.find(path)
    return found is not None and found.is_directory


def _needs_whiteout(path: bytes, image: ImageView) -> bool:
    """Without a folder to put it in there is nothing to remove either, and cpio(1) would stop."""
    parent = path.rpartition(b"/")[0]
    return not _is_directory(path, image) and (not parent or _is_directory(parent, image))


def _whiteout(path: bytes) -> tuple[cpio.Entry, bytes]:
    return cpio.Entry(path=path, mode=stat.S_IFCHR), b""


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
