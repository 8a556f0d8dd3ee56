"""Builds what a node gets of its overlays, and skips that exactly when the result would be the same.

`<provision>/overlays/NODE/STAGE.record` says what a build depended on (every overlay, every field that a template read, every
file that it included) and what it gave: one compressed part that nodes of the same overlays share (`.shared/DIGEST`) and one of
the node's own (`NODE/STAGE-DIGEST`). Parts have the name of what they hold and are never changed, so that whoever sends one
sends one result whole. All of it is root's alone; nothing is synchronised, because a part is compared with its digest before it
is used.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

import msgspec

from bootsvc.overlays import load_all
from images import cpio
from images.compress import Compression, compressor, implementation
from images.view import ImageView
from netboot.errors import OverlayNotFound
from netboot.head_files import FileRead
from netboot.node import Node
from netboot.overlay import Item, Overlay
from netboot.overlay_archive import Entries, place, removal_list
from netboot.overlay_library import Library
from netboot.overlay_render import Placed, Renderer
from netboot.reads import ReadPath
from netboot.urls import Stage

SHARED = ".shared"
"""Not the name of a node: those begin with no dot."""
OLD_SECONDS = 3600
"""Age from which on a node's replaced part is removed: whoever was told of it has opened it by then."""
UNUSED_SECONDS = 7 * 86400
"""A shared part that no build has looked at for so long is removed; if a node needs it after all, it is built again."""
_TOUCH_SECONDS = 3600
MAX_SHARED = 1024
"""Shared parts remembered; a change of any node may make another one."""


class Part(msgspec.Struct, frozen=True, array_like=True):
    """A compressed piece of a node's overlays; `digest` is its sha256, `size` in bytes."""

    digest: str
    size: int


class Record(msgspec.Struct, frozen=True, array_like=True):
    """What a build depended on, and what it gave."""

    software: str
    generation: str
    overlays: tuple[tuple[str, str], ...]
    reads: tuple[ReadPath, ...]
    values: bytes
    files: tuple[FileRead, ...]
    shared: Part | None
    own: Part


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Record).decode


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What to build: a node's stage on top of one generation, whose tree `view` gives; without an image, of an empty tree."""

    node: Node
    stage: Stage
    generation: str
    view: Callable[[], ImageView]
    kernel_version: str = ""

    @property
    def names(self) -> Sequence[str]:
        """The overlays of this stage."""
        return self.node.system_overlay if self.stage is Stage.SYSTEM else self.node.runtime_overlay


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """Files to send one after the other, with their sizes; `fresh` is false when what there was could stay."""

    parts: Sequence[tuple[Path, int]]
    digest: str
    fresh: bool


class Builder:
    """Builds into `<provision>/overlays`; for several threads and processes at once."""

    def __init__(self, folder: Path, library: Library, missing: Callable[[OverlayNotFound], None]) -> None:
        self.folder = folder
        self.library = library
        self._missing = missing
        self._shared: dict[str, Part] = {}
        self._whole: set[str] = set()

    def build(self, target: Target, renderer: Renderer) -> Built:
        """The node's overlays as they are now. Raises OverlayError, or OSError when they cannot be stored."""
        overlays = load_all(target.names, self.library, self._missing)
        folder = self.folder / target.node.id
        for private in (self.folder, folder, self.folder / SHARED):
            private.mkdir(mode=0o700, parents=True, exist_ok=True)
            if private.stat().st_mode & 0o077:
                # Warewulf's are readable by everybody.
                private.chmod(0o700)
        with _locked(folder, fcntl.LOCK_EX):
            record = self._read(folder, target.stage)
            if record is not None and self._is_current(record, target, overlays, renderer):
                return self._built(record, target, fresh=False)
            made_record = self._make(folder, target, overlays, renderer)
            _write(folder / f"{target.stage.value}.record", _encode(made_record))
            _remove_old(folder, target.stage, made_record.own)
            return self._built(made_record, target, fresh=True)

    def is_current(self, target: Target, renderer: Renderer) -> bool:
        """Whether `build` would have nothing to do. Raises OverlayError."""
        overlays = load_all(target.names, self.library, self._missing)
        record = self._read(self.folder / target.node.id, target.stage)
        return record is not None and self._is_current(record, target, overlays, renderer)

    def remove_unused(self) -> None:
        """Shared parts that no node has had for a long time."""
        folder, limit = self.folder / SHARED, time.time() - UNUSED_SECONDS
        if not folder.is_dir():
            return
        with _locked(folder, fcntl.LOCK_EX):
            for path in folder.iterdir():
                if path.stat().st_mtime < limit:
                    path.unlink()

    def _read(self, folder: Path, stage: Stage) -> Record | None:
        try:
            return _decode((folder / f"{stage.value}.record").read_bytes())
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def _is_current(self, record: Record, target: Target, overlays: Sequence[Overlay], renderer: Renderer) -> bool:
        context = renderer.context(target.node, kernel_version=target.kernel_version)
        return (
            record.software == _SOFTWARE
            and record.generation == target.generation
            and record.overlays == _prints(overlays)
            and record.values == renderer.values(record.reads, context)
            and renderer.results.are_current(record.files)
            and self._is_whole(self._own(target, record.own), record.own)
            and (record.shared is None or self._has_shared(record.shared))
        )

    def _make(self, folder: Path, target: Target, overlays: Sequence[Overlay], renderer: Renderer) -> Record:
        context = renderer.context(target.node, kernel_version=target.kernel_version, now=datetime.now(UTC))
        placed = renderer.render(overlays, context)
        placement = place(placed, target.view())
        alike = [*placement.alike, *removal_list(placement.removed, target.stage.value)]
        own = _compressed(cpio.body(placement.own) + cpio.TRAILER)
        part = Part(digest=hashlib.sha256(own).hexdigest(), size=len(own))
        shared = self._share(_key(placed, target), alike) if alike else None
        _write(folder / _own_name(target.stage, part), own)
        reads = tuple(sorted(placed.reads))
        return Record(
            software=_SOFTWARE,
            generation=target.generation,
            overlays=_prints(overlays),
            reads=reads,
            values=renderer.values(reads, context),
            files=tuple(sorted(placed.files)),
            shared=shared,
            own=part,
        )

    def _share(self, key: str, entries: Entries) -> Part:
        """The part of these entries, made when there is none; it has no trailer, for the node's own part goes on from it."""
        known = self._shared.get(key)
        if known is not None and self._has_shared(known):
            return known
        data = _compressed(cpio.body(entries))
        part = Part(digest=hashlib.sha256(data).hexdigest(), size=len(data))
        with _locked(self.folder / SHARED, fcntl.LOCK_SH):
            _write(self.folder / SHARED / part.digest, data)
        if len(self._shared) >= MAX_SHARED:
            self._shared.clear()
            self._whole.clear()
        self._shared[key] = part
        self._whole.add(part.digest)
        return part

    def _has_shared(self, part: Part) -> bool:
        """Whether the part is there; from now on it counts as used."""
        path = self.folder / SHARED / part.digest
        with _locked(path.parent, fcntl.LOCK_SH):
            try:
                info = path.stat()
            except FileNotFoundError:
                return False
            if part.digest not in self._whole and not self._is_whole(path, part):
                return False
            self._whole.add(part.digest)
            if info.st_mtime < time.time() - _TOUCH_SECONDS:
                os.utime(path)
        return info.st_size == part.size

    def _is_whole(self, path: Path, part: Part) -> bool:
        try:
            return hashlib.sha256(path.read_bytes()).hexdigest() == part.digest
        except FileNotFoundError:
            return False

    def _own(self, target: Target, part: Part) -> Path:
        return self.folder / target.node.id / _own_name(target.stage, part)

    def _built(self, record: Record, target: Target, *, fresh: bool) -> Built:
        parts = [(self._own(target, record.own), record.own.size)]
        if record.shared is not None:
            parts.insert(0, (self.folder / SHARED / record.shared.digest, record.shared.size))
        names = "+".join(path.name for path, _ in parts)
        return Built(parts=tuple(parts), digest=f"sha256:{hashlib.sha256(names.encode()).hexdigest()}", fresh=fresh)


_SOFTWARE = f"1 bootsvc {version('bootsvc')} {implementation(Compression.GZIP)}"
"""Another version may render, place or compress otherwise."""


def _own_name(stage: Stage, part: Part) -> str:
    return f"{stage.value}-{part.digest[:32]}.img"


def _prints(overlays: Sequence[Overlay]) -> tuple[tuple[str, str], ...]:
    return tuple((overlay.name, overlay.fingerprint) for overlay in overlays)


def _key(placed: Placed, target: Target) -> str:
    """What decides the shared part."""
    alike: list[Item] = [item for item in placed.items.values() if item.alike]
    prints = sorted(repr(item.fingerprint()) for item in alike)
    return hashlib.sha256(repr((target.generation, target.stage, placed.removals, prints)).encode()).hexdigest()


def _compressed(data: bytes) -> bytes:
    """gzip, which every kernel unpacks; what follows another goes on where that ended, for the kernel as for gzip(1)."""
    stream = compressor(Compression.GZIP)
    return stream.compress(data) + stream.flush()


def _write(path: Path, data: bytes) -> None:
    """Write beside, rename; a crash may leave less, which its digest shows."""
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=".new-")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
        os.replace(name, path)
    except BaseException as exc:
        os.unlink(name)
        if isinstance(exc, OSError) and exc.filename is None:
            exc.filename = str(path)
        raise


def _remove_old(folder: Path, stage: Stage, current: Part) -> None:
    """Parts that were replaced a while ago, what killed builds left, and what older versions of bootsvc named otherwise."""
    limit = time.time() - OLD_SECONDS
    for path in folder.iterdir():
        if path.name == _own_name(stage, current) or not path.name.startswith((f"{stage.value}-", ".new-", "__")):
            continue
        with contextlib.suppress(FileNotFoundError):
            if path.stat().st_mtime < limit:
                path.unlink()


@contextlib.contextmanager
def _locked(folder: Path, kind: int) -> Iterator[None]:
    """Hold a lock of the folder itself, for which others wait; the kernel releases it however we end."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(descriptor, kind)
        yield
    finally:
        os.close(descriptor)
