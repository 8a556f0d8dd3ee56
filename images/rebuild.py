"""Build an image: scan the tree, compress the segments that changed, publish a generation.

What stat says of the entries decides which segments are stale; the segments that are not keep their bytes in the store.
"""

import contextlib
import fcntl
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import msgspec

from images import generation as generations
from images import index as indexes
from images.catalog import Catalog
from images.compress import Compression, compressor, implementation
from images.elf import architecture
from images.errors import Error
from images.excludes import Excludes, read_excludes
from images.generation import Generation, Kernel, Manifest, Segment, Sidecar
from images.index import Entry, Index, SegmentRecord
from images.kernel import ImageKernel, find_kernels, supported_compression
from images.objects import StoredObject
from images.provenance import Provenance
from images.sandbox.run import tidy
from images.scan import scan
from images.segments import ALWAYS_EMPTY, READ_SIZE, OwnFile, archive_regular, archive_special, plan
from images.view import ImageView
from images.xattrs import record as xattrs

Progress = Callable[[int, int], None]
"""Told (segments written, segments to write)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What a build did; `unchanged` means that the generation was the current one already."""

    generation: Generation
    unchanged: bool
    segments_written: int
    warnings: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class BuildContext:
    """What a build is told: who builds and when (seconds since 1970, for the sidecar), our own files, how many threads."""

    own: Sequence[OwnFile]
    built_by: str
    now: float
    threads: int = os.cpu_count() or 1
    force: bool = False


def rebuild(catalog: Catalog, name: str, context: BuildContext, progress: Progress = lambda done, total: None) -> Build:
    """Build image `name` and make the result current; the caller holds the image's lock.

    Raises ImageNotFound, ChangedWhileRead, cpio.CpioError, or BuildFailed with the reason (a full disk).
    """
    rootfs = catalog.get(name)
    tidy(rootfs)
    current = catalog.current(name)
    old = None if current is None or context.force else indexes.parse(_read(current.index_path))
    try:
        with _store_in_use(catalog):
            return _Builder(catalog, name, rootfs, context, current, old).build(progress)
    except OSError as exc:
        raise BuildFailed(name, exc) from exc


class BuildFailed(Error):
    def __init__(self, name: str, reason: OSError) -> None:
        where = f" ({reason.filename})" if reason.filename else ""
        super().__init__(
            f"image {name!r} was not built: {reason.strerror}{where}",
            hint="the image that nodes get is still the one before; free some space or mend the tree, and build again",
        )


class _Builder:
    """The steps of one build, with what they share."""

    def __init__(
        self,
        catalog: Catalog,
        name: str,
        rootfs: Path,
        context: BuildContext,
        current: Generation | None,
        old: Index | None,
    ) -> None:
        self._catalog = catalog
        self._name = name
        self._rootfs = rootfs
        self._context = context
        self._current = current
        self._old = old
        self._before = old.by_path() if old else {}
        self._reusable = {record.key: record for record in old.segments if record.key} if old else {}

    def build(self, progress: Progress) -> Build:
        clock = self._clock()
        entries = scan(self._rootfs, excludes=Excludes(read_excludes(self._rootfs)), previous=self._before)
        view = ImageView(entries)
        kernels = find_kernels(view)
        compression = supported_compression(self._rootfs, view, kernels)
        provenance = self._catalog.provenance(self._name)
        machine = provenance.architecture or architecture(self._rootfs, view)
        own = [*self._context.own, *xattrs.own_files(entries, machine)]
        segments, digests, written = self._segments(entries, own, compression, clock, progress)
        entries = [_with_digest(entry, digests) for entry in entries]
        manifest = generations.serialize(
            Manifest(
                schema=generations.SCHEMA,
                media_type=generations.MEDIA_TYPE,
                image=self._name,
                source=provenance.digest,
                architecture=machine,
                kernels=tuple(self._keep_kernel(kernel) for kernel in kernels),
                compression=compression.value,
                compressor=implementation(compression),
                segments=tuple(_public(segment) for segment in segments),
                xattrs=generations.xattrs_of(entries, xattrs.record(entries)),
                entries=len(entries),
                unpacked_size=sum(segment.unpacked_size for segment in segments),
            )
        )
        return self._publish(
            manifest,
            Index(format=indexes.FORMAT, entries=tuple(entries), segments=tuple(segments)),
            provenance,
            written,
        )

    def _publish(self, manifest: bytes, index: Index, provenance: Provenance, written: int) -> Build:
        unchanged = self._current is not None and self._current.digest == generations.name_of(manifest)
        if unchanged and index == self._old and self._current is not None:
            generation = self._current
        else:
            sidecar = Sidecar(created=self._context.now, reference=provenance.reference, built_by=self._context.built_by)
            generation = self._catalog.publish(self._name, manifest, indexes.serialize(index), sidecar)
        return Build(
            generation=generation,
            unchanged=unchanged,
            segments_written=written,
            warnings=tuple(_warnings(index.entries)),
        )

    def _segments(
        self,
        entries: list[Entry],
        own: Sequence[OwnFile],
        compression: Compression,
        clock: int,
        progress: Progress,
    ) -> tuple[list[SegmentRecord], dict[bytes, bytes], int]:
        """Every segment's record in order, the content digests that were computed, and how many segments were written."""
        shape = implementation(compression).encode()
        special = shape + b"".join(b"%s\0%o\0%s\0" % (f.path, f.mode, f.content) for f in own)
        digests: dict[bytes, bytes] = {}

        def write(number: int, group: list[Entry], key: bytes) -> SegmentRecord:
            chunks = archive_special(group, own) if number == 0 else archive_regular(self._rootfs, group, digests)
            young = any(entry.ctime_ns >= clock for entry in group)
            return self._write(chunks, compression, b"" if young else key, len(group))

        groups = plan(entries, own)
        keys = [indexes.segment_key(group, special if number == 0 else shape) for number, group in enumerate(groups)]
        found = [self._find(key, group) for key, group in zip(keys, groups, strict=True)]
        total, done = found.count(None), 0
        with ThreadPoolExecutor(max_workers=self._context.threads) as pool:
            jobs = [
                pool.submit(write, number, groups[number], keys[number]) if known is None else None
                for number, known in enumerate(found)
            ]
            records = []
            try:
                for known, job in zip(found, jobs, strict=True):
                    if job is not None:
                        known = job.result()
                        done += 1
                        progress(done, total)
                    if known is not None:
                        records.append(known)
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
        return records, digests, total

    def _find(self, key: bytes, group: list[Entry]) -> SegmentRecord | None:
        """The segment of the last build that these very entries made, if the store still has it."""
        known = self._reusable.get(key)
        if known is None or not self._catalog.segments.has(known.digest, known.size):
            return None
        return known if all(entry.digest or not entry.is_regular for entry in group) else None

    def _write(self, chunks: Iterable[bytes], compression: Compression, key: bytes, entries: int) -> SegmentRecord:
        unpacked, size = hashlib.sha256(), 0

        def compressed() -> Iterator[bytes]:
            nonlocal size
            stream = compressor(compression)
            for chunk in _gathered(chunks):
                unpacked.update(chunk)
                size += len(chunk)
                yield stream.compress(chunk)
            yield stream.flush()

        stored = self._catalog.segments.add(compressed())
        return SegmentRecord(
            key=key,
            digest=stored.digest,
            size=stored.size,
            unpacked_digest=f"sha256:{unpacked.hexdigest()}",
            unpacked_size=size,
            entries=entries,
        )

    def _keep_kernel(self, kernel: ImageKernel) -> Kernel:
        stored = self._known_kernel(kernel) or self._catalog.kernels.add(_chunks(self._rootfs / kernel.real))
        return Kernel(path=kernel.path, version=kernel.version, release=kernel.release, digest=stored.digest, size=stored.size)

    def _known_kernel(self, kernel: ImageKernel) -> StoredObject | None:
        """The kernel as the last build stored it, when its file has not changed since."""
        before = self._before.get(os.fsencode(kernel.real))
        now = os.lstat(self._rootfs / kernel.real)
        if before is None or self._current is None or (before.ctime_ns, before.inode) != (now.st_ctime_ns, now.st_ino):
            return None
        for known in self._current.manifest.kernels:
            if known.path == kernel.path and self._catalog.kernels.has(known.digest, known.size):
                return StoredObject(digest=known.digest, size=known.size)
        return None

    def _clock(self) -> int:
        """The file system's own time, in ns: what changes from now on is as young as the scan."""
        with tempfile.TemporaryFile(dir=self._rootfs.parent) as file:
            return os.fstat(file.fileno()).st_ctime_ns


def _warnings(entries: Iterable[Entry]) -> Iterator[str]:
    for entry in entries:
        if entry.path in ALWAYS_EMPTY and entry.size:
            yield f"/{os.fsdecode(entry.path)} is a sparse log; it is empty in the built image"


@contextlib.contextmanager
def _store_in_use(catalog: Catalog) -> Iterator[None]:
    """Builds share the store's lock; pruning takes it alone (DESIGN section 3)."""
    catalog.provision.mkdir(mode=0o755, parents=True, exist_ok=True)
    descriptor = os.open(catalog.provision / ".store.lock", os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH)
        yield
    finally:
        os.close(descriptor)


def _gathered(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Small headers and files joined: one call of the compressor for a megabyte, not for each header."""
    parts: list[bytes] = []
    size = 0
    for chunk in chunks:
        parts.append(chunk)
        size += len(chunk)
        if size >= READ_SIZE:
            yield b"".join(parts)
            parts, size = [], 0
    yield b"".join(parts)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(READ_SIZE):
            yield chunk


def _with_digest(entry: Entry, digests: dict[bytes, bytes]) -> Entry:
    digest = digests.get(entry.path)
    if digest is None or digest == entry.digest:
        return entry
    return msgspec.structs.replace(entry, digest=digest)


def _public(record: SegmentRecord) -> Segment:
    return Segment(
        digest=record.digest,
        size=record.size,
        unpacked_digest=record.unpacked_digest,
        unpacked_size=record.unpacked_size,
        entries=record.entries,
    )


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""
