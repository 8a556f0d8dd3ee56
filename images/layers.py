"""Layer tars become operations, and operations a tree (OCI image spec, "Image Layer Filesystem Changeset")."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, Protocol

from images.decompress import LayerStream, MalformedCompression
from images.errors import Error
from images.pax import MalformedTar
from images.rootfs import MAX_PATH, UnsafePath, show
from images.tar import Entry, Kind, Reader
from images.window import open_window

_WHITEOUT = b".wh."
_OPAQUE = b".wh..wh..opq"
_META = b".wh..wh."
"""AUFS's own bookkeeping, which some old images still carry; no content."""

Data = Iterator[tuple[int, bytes]]
"""(offset, bytes) of a file's contents, ascending; holes are left out."""


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

    def open(self) -> BinaryIO:
        return self.path.open("rb") if self.size is None else open_window(self.path, self.offset, self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class Put:
    """Place an entry; its data can be read until the next operation is asked for."""

    path: bytes
    entry: Entry
    data: Callable[[], Data]


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """Make a hard link."""

    path: bytes
    target: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Whiteout:
    """Hide what lower layers have at `path`."""

    path: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Opaque:
    """Hide what lower layers have in the directory `path`."""

    path: bytes


Operation = Put | Link | Whiteout | Opaque


class Tree(Protocol):
    def apply(self, plan: Iterator[Operation], *, first: bool) -> None: ...


def unpack_layer(
    layer: Layer,
    tree: Tree,
    *,
    first: bool,
    stopped: Callable[[], bool],
    advanced: Callable[[int], None] | None = None,
) -> None:
    """Apply one layer and check its diffID; `first`: there is none below it. Blocks; `stopped` ends it with Interrupted.

    `advanced` is told the bytes of the blob read so far. Raises MalformedLayer, UnsafePath, UnpackFailed.
    """
    algorithm = layer.diff_id.partition(":")[0]
    try:
        with LayerStream(layer.open, algorithm=algorithm, stopped=stopped, advanced=advanced) as stream:
            chunks = iter(stream)
            tree.apply(plan_layer(Reader(chunks)), first=first)
            # The diffID covers what stands after the archive's end, too.
            for _ in chunks:
                pass
            digest = stream.digest()
    except (MalformedTar, MalformedCompression) as exc:
        raise MalformedLayer(layer.digest, exc.message) from exc
    if digest != layer.diff_id:
        raise MalformedLayer(layer.digest, f"its contents have the digest {digest}, the image says {layer.diff_id}")


def plan_layer(reader: Reader, *, whiteouts: bool = True) -> Iterator[Operation]:
    """One operation for each entry; raises MalformedTar, and UnsafePath for a name that no image may have.

    Without `whiteouts` it is the tar of a whole tree, in which `.wh.x` is a name like any other.
    """
    for entry in reader:
        parts = _split(entry.name)
        path = b"/".join(parts)
        if whiteouts and _WHITEOUT in path:
            if any(part.startswith(_META) and part != _OPAQUE for part in parts):
                continue
            operation = _plan_whiteout(path)
            if operation is not None:
                yield operation
                continue
        if entry.kind is Kind.HARDLINK:
            yield Link(path=path, target=b"/".join(_split(entry.linkname, of=entry.name)))
        else:
            yield Put(path=path, entry=entry, data=reader.data)


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
