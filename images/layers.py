"""Layer tars become operations, and operations a tree (OCI image spec, "Image Layer Filesystem Changeset")."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from images.errors import Error
from images.rootfs import MAX_PATH, UnsafePath, show
from images.tar import Entry, Kind, Reader

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_META = b".wh..wh."
"""AUFS's own bookkeeping, which some old images still carry; no content."""


class MalformedLayer(Error):
    def __init__(self, digest: str, reason: str) -> None:
        super().__init__(f"layer {digest} is broken: {reason}", hint="build or push the image again")
        self.digest = digest
        self.reason = reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Layer:
    """A blob on disk, and the digest that its uncompressed bytes must have.

    It is `size` bytes of the file from `offset` on; None for all.
    """

    digest: str
    diff_id: str
    path: Path
    offset: int = 0
    size: int | None = None


class Put(msgspec.Struct, frozen=True, kw_only=True, gc=False, array_like=True, tag=True):
    """Place an entry; of a file, its contents come with it: `Reader.data` has them until the next operation is asked for.

    `staged`: in the folder of contents, where it is made already, a directory with all that is staged in it.
    """

    path: bytes
    entry: Entry
    staged: bytes = b""


class Move(msgspec.Struct, frozen=True, kw_only=True, gc=False, array_like=True, tag=True):
    """Place a file that is written already: `staged` in the folder of contents, with all attributes but xattrs `skipped`."""

    path: bytes
    staged: bytes
    mtime_ns: int
    skipped: tuple[bytes, ...] = ()


class Link(msgspec.Struct, frozen=True, kw_only=True, gc=False, array_like=True, tag=True):
    """Make a hard link."""

    path: bytes
    target: bytes


class Whiteout(msgspec.Struct, frozen=True, kw_only=True, gc=False, array_like=True, tag=True):
    """Hide what lower layers have at `path`."""

    path: bytes


class Opaque(msgspec.Struct, frozen=True, kw_only=True, gc=False, array_like=True, tag=True):
    """Hide what lower layers have in the directory `path`."""

    path: bytes


Operation = Put | Move | Link | Whiteout | Opaque


def plan_layer(reader: Reader, *, whiteouts: bool = True) -> Iterator[Operation]:
    """One operation for each entry; raises MalformedTar, and UnsafePath for a name that no image may have.

    Without `whiteouts` it is the tar of a whole tree, in which `.wh.x` is a name like any other.
    """
    for entry in reader:
        path = _clean(entry.name)
        if whiteouts and _WHITEOUT in path:
            if any(part.startswith(_META) and part != _OPAQUE for part in path.split(b"/")):
                continue
            operation = _plan_whiteout(path)
            if operation is not None:
                yield operation
                continue
        if entry.kind is Kind.HARDLINK:
            yield Link(path=path, target=b"/".join(_split(entry.linkname, of=entry.name)))
        else:
            yield Put(path=path, entry=entry)


def _clean(name: bytes) -> bytes:
    """The path that an entry's name means."""
    path = name.removeprefix(b"./").removesuffix(b"/")
    if not path or path.startswith((b"/", b".")) or b"/." in path or b"//" in name or len(name) > MAX_PATH:
        return b"/".join(_split(name))
    return path


def _split(name: bytes, *, of: bytes | None = None) -> list[bytes]:
    parts = [part for part in name.split(b"/") if part and part != b"."]
    if b".." in parts:
        raise UnsafePath(of or name, f"links to {show(name)!r}, which has '..' in it" if of else "has '..' in its path")
    if len(name) > MAX_PATH:
        raise UnsafePath(of or name, "has too long a path")
    return parts


def _plan_whiteout(path: bytes) -> Operation | None:
    parent, _, name = path.rpartition(b"/")
    if any(part.startswith(_WHITEOUT) for part in parent.split(b"/")):
        raise UnsafePath(path, "lies below a whiteout")
    if name == _OPAQUE:
        return Opaque(path=parent)
    if not name.startswith(_WHITEOUT):
        return None
    hidden = name.removeprefix(_WHITEOUT)
    if hidden in (b"", b".", b".."):
        raise UnsafePath(path, "is a whiteout of nothing")
    return Whiteout(path=parent + b"/" + hidden if parent else hidden)
