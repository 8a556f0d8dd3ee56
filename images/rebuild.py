"""Build an image: scan the tree, compress the segments that changed, publish a generation.

What stat says of the entries decides which segments are stale; the segments that are not keep their bytes in the store.
"""

import errno
import hashlib
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path

import msgspec

from images import generation as manifests
from images import index as indexes
from images import store_lock
from images.catalog import Catalog
from images.compress import Compression, implementation
from images.elf import architecture
from images.errors import Error
from images.excludes import Excludes, read_excludes
from images.generation import Generation, Kernel, Manifest, Segment, Sidecar
from images.generations import Pin
from images.index import Entry, Index, SegmentRecord
from images.kernel import ImageKernel, find_kernels, supported_compression
from images.kernel_scan import kernel_view
from images.objects import StoredObject
from images.provenance import Provenance
from images.scan import scan, walk_in_order
from images.segment_archive import ALWAYS_EMPTY
from images.segment_writer import Progress, SegmentWriter
from images.segments import OwnFile
from images.view import ImageView
from images.xattrs import record as xattrs


class Build(msgspec.Struct, frozen=True, kw_only=True):
    """What a build did; `unchanged` means that the last build gave this generation already.

    `pin` is what kept the generation from becoming current; None when nodes get it now.
    """

    generation: Generation
    unchanged: bool
    pin: Pin | None
    segments_written: int
    warnings: tuple[str, ...]


class BuildContext(msgspec.Struct, frozen=True, kw_only=True):
    """What a build is told: who builds and when (seconds since 1970, for the sidecar), our own files, how many processes."""

    own: Sequence[OwnFile]
    built_by: str
    now: float
    processes: int = os.cpu_count() or 1
    force: bool = False


def rebuild(catalog: Catalog, name: str, context: BuildContext, progress: Progress = lambda done, total: None) -> Build:
    """Build image `name` and make the result current, unless a rollback pinned it; the caller holds the image's lock.

    Raises ImageNotFound, StoreBusy, ChangedWhileRead, cpio.CpioError, or BuildFailed with the reason (a full disk).
    """
    rootfs = catalog.get(name)
    _tidy(rootfs)
    try:
        with store_lock.in_use(catalog.provision):
            newest = catalog.generations.newest(name)
            old = None if newest is None or context.force else indexes.parse(_read(newest.index_path))
            return _Builder(catalog, name, rootfs, context, newest, old).build(progress)
    except OSError as exc:
        raise BuildFailed(name, exc, catalog.provision) from exc


def _tidy(rootfs: Path) -> None:
    """Take mount points out of the tree that a crash of the sandbox left there."""
    if any(rootfs.parent.glob(".rootfs.mountpoints*")):
        # Seldom; and all of the sandbox takes longer to load than a small build lasts.
        from images.sandbox.run import tidy

        tidy(rootfs)


class BuildFailed(Error):
    def __init__(self, name: str, reason: OSError, store: Path) -> None:
        where = f" ({reason.filename})" if reason.filename else ""
        full = reason.errno in (errno.ENOSPC, errno.EDQUOT)
        remedy = f"free some space on the file system of {store}" if full else "mend the tree"
        super().__init__(
            f"image {name!r} was not built: {reason.strerror}{where}",
            hint=f"the image that nodes get is still the one before; {remedy}, and build again",
        )


class _Builder:
    """The steps of one build, with what they share."""

    def __init__(
        self,
        catalog: Catalog,
        name: str,
        rootfs: Path,
        context: BuildContext,
        newest: Generation | None,
        old: Index | None,
    ) -> None:
        self._catalog = catalog
        self._name = name
        self._rootfs = rootfs
        self._context = context
        self._newest = newest
        self._old = old
        self._before: Mapping[bytes, Entry] = old.settled() if old else {}
        self._excludes = Excludes(read_excludes(rootfs))

    def build(self, progress: Progress) -> Build:
        clock = self._clock()
        provenance = self._catalog.provenance(self._name)
        entries: Iterable[Entry]
        if self._old is None:
            # What is found first can be compressed while the rest is looked for.
            entries = walk_in_order(self._rootfs, excludes=self._excludes)
        else:
            entries = scan(self._rootfs, excludes=self._excludes, previous=self._before)
            known = self._known(entries, provenance)
            if known is not None:
                return known
        kernels = find_kernels(self._kernel_view)
        writer = SegmentWriter(
            self._catalog.segments,
            self._rootfs,
            supported_compression(self._rootfs, self._kernel_view, kernels),
            known={record.key: record for record in self._old.segments if record.key} if self._old else {},
            clock=clock,
            processes=self._context.processes,
        )
        with writer:
            return self._write(writer, entries, kernels, provenance, progress)

    def _write(
        self,
        writer: SegmentWriter,
        entries: Iterable[Entry],
        kernels: Sequence[ImageKernel],
        provenance: Provenance,
        progress: Progress,
    ) -> Build:
        by_path = writer.begin(entries, self._context.own)
        machine = provenance.architecture or architecture(self._rootfs, ImageView(by_path.values()))
        attributed = [entry for entry in by_path.values() if entry.xattrs]
        kept = tuple(map(self._keep_kernel, kernels))
        written = writer.finish(xattrs.own_files(attributed, machine), progress)
        manifest = Manifest(
            schema=manifests.SCHEMA,
            media_type=manifests.MEDIA_TYPE,
            image=self._name,
            source=provenance.digest,
            architecture=machine,
            kernels=kept,
            compression=writer.compression.value,
            compressor=implementation(writer.compression),
            segments=tuple(_public(segment) for segment in written.segments),
            xattrs=manifests.xattrs_of(attributed, xattrs.record(attributed)),
            entries=len(written.entries),
            unpacked_size=sum(segment.unpacked_size for segment in written.segments),
        )
        index = Index(
            format=indexes.FORMAT,
            entries=written.entries,
            segments=written.segments,
            clock=writer.clock,
            inputs=self._inputs(provenance),
        )
        return self._publish(manifests.serialize(manifest), index, provenance, written.count)

    @cached_property
    def _kernel_view(self) -> ImageView:
        """What kernels are found in: excludes leave none out, for nodes fetch them apart from the image."""
        return kernel_view(self._rootfs)

    def _known(self, entries: Sequence[Entry], provenance: Provenance) -> Build | None:
        """The last build, when this one would give the same: nothing is planned, compared or serialized then."""
        old, newest = self._old, self._newest
        if old is None or newest is None or old.inputs != self._inputs(provenance) or len(entries) != len(old.entries):
            return None
        if not all(now is then for now, then in zip(entries, old.entries, strict=True)):
            return None
        if not all(record.key for record in old.segments) or newest.missing():
            return None
        pin = self._catalog.generations.pin(self._name)
        if pin is None and self._catalog.generations.current_digest(self._name) != newest.digest:
            # A build whose process died, or a release of the pin, left an older one current.
            return None
        return Build(generation=newest, unchanged=True, pin=pin, segments_written=0, warnings=tuple(_warnings(old.entries)))

    def _inputs(self, provenance: Provenance) -> bytes:
        """A digest of all that a build is made of besides the tree."""
        parts = [self._name, provenance.digest or "", provenance.architecture or "", *map(implementation, Compression)]
        own = [b"%s\0%o\0%s" % (file.path, file.mode, file.content) for file in self._context.own]
        own += map(self._stamp, () if self._excludes.empty else find_kernels(self._kernel_view))
        return hashlib.blake2b(b"\0".join([*map(os.fsencode, parts), *own]), digest_size=20).digest()

    def _stamp(self, kernel: ImageKernel) -> bytes:
        """What tells whether a kernel's file changed."""
        info = os.lstat(self._rootfs / kernel.real)
        return b"%s\0%d\0%d" % (os.fsencode(kernel.path), info.st_ino, info.st_ctime_ns)

    def _publish(self, manifest: bytes, index: Index, provenance: Provenance, written: int) -> Build:
        unchanged = self._newest is not None and self._newest.digest == manifests.name_of(manifest)
        sidecar = Sidecar(created=self._context.now, reference=provenance.reference, built_by=self._context.built_by)
        published = self._catalog.generations.publish(self._name, manifest, indexes.serialize(index), sidecar)
        return Build(
            generation=published.generation,
            unchanged=unchanged,
            pin=published.pin,
            segments_written=written,
            warnings=tuple(_warnings(index.entries)),
        )

    def _keep_kernel(self, kernel: ImageKernel) -> Kernel:
        stored = self._known_kernel(kernel) or self._catalog.kernels.add(_chunks(self._rootfs / kernel.real))
        return Kernel(path=kernel.path, version=kernel.version, release=kernel.release, digest=stored.digest, size=stored.size)

    def _known_kernel(self, kernel: ImageKernel) -> StoredObject | None:
        """The kernel as the last build stored it, when its file has not changed since."""
        before = self._before.get(os.fsencode(kernel.real))
        now = os.lstat(self._rootfs / kernel.real)
        if before is None or self._newest is None or (before.ctime_ns, before.inode) != (now.st_ctime_ns, now.st_ino):
            return None
        for known in self._newest.manifest.kernels:
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


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(1 << 20):
            yield chunk


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
