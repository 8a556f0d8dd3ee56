"""Write the segments of a build that the store does not have yet: archived, compressed and stored by several processes at once.

Each process streams: it holds a few megabytes, whatever the size of a segment or a file.
"""

import gc
import mmap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from images import index as indexes
from images import workers
from images.compress import Compression, at_once, implementation, streams
from images.index import Entry, SegmentRecord
from images.objects import ObjectStore
from images.segment_archive import OUTLINE, archive_regular, archive_special, size_at_most
from images.segments import MAXIMUM, OwnFile, plan

LARGEST_BLOCK = MAXIMUM + (1 << 20)
"""Bytes of a segment with its padding."""

NEAR = (b".ko", b".py", b".pyc", b".pm", b".pl", b".h", b".bin", b".gz", b".xz", b".bz2", b".zst", b".png")
"""Names of files that resemble what is beside them, if anything; those that are compressed already resemble nothing."""
BOOT = b"boot/"
"""Kernels and what they unpack are compressed, too."""

Progress = Callable[[int, int], None]
"""Told, at each segment that is written, the bytes of the files in those that are, and in all that are to be written."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Every segment's record in order, the content digests that were computed by path, and how many segments were written."""

    segments: tuple[SegmentRecord, ...]
    digests: Mapping[bytes, bytes]
    count: int


class _Segment(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker tells of the segment that it wrote: the digests are those of its files' contents, by path."""

    record: SegmentRecord
    digests: dict[bytes, bytes]


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(_Segment)


class SegmentWriter:
    """`known` are the last build's segments by key; `clock` is the scan's time on the image's file system, in ns."""

    def __init__(
        self,
        store: ObjectStore,
        rootfs: Path,
        compression: Compression,
        *,
        known: Mapping[bytes, SegmentRecord],
        clock: int,
        processes: int,
    ) -> None:
        self._store = store
        self._rootfs = rootfs
        self._compression = compression
        self._streams = streams(compression)
        self._at_once = {far: at_once(compression, far=far) for far in (True, False)}
        self._block: memoryview | None = None
        self._known = known
        self._clock = clock
        self._processes = processes
        self._digests: dict[bytes, bytes] = {}

    def write(
        self, entries: Sequence[Entry], own: Sequence[OwnFile], progress: Progress, meanwhile: Callable[[], None]
    ) -> Written:
        """Segments of these entries, which are in path order; `meanwhile` is called once others are at work on them.

        Raises ChangedWhileRead, cpio.CpioError or OSError.
        """
        shape = f"{implementation(self._compression)} {OUTLINE}".encode()
        special = shape + b"".join(b"%s\0%o\0%s\0" % (f.path, f.mode, f.content) for f in own)
        groups = plan(entries, own)

        def key(number: int) -> bytes:
            return indexes.segment_key(groups[number], special if number == 0 else shape)

        # Without a last build the keys are left to the workers.
        records = [self._find(key(number), group) if self._known else None for number, group in enumerate(groups)]
        missing = [number for number, record in enumerate(records) if record is None]
        # The large ones first: at the end no process works long while the others have nothing left.
        sizes = {number: sum(entry.size for entry in groups[number] if entry.is_regular) for number in missing}
        missing.sort(key=sizes.__getitem__, reverse=True)
        total, done = sum(sizes.values()), 0

        def archive(number: int) -> bytes:
            return _ENCODER.encode(self._archive(groups[number], key(number), own if number == 0 else None))

        # What is there now is not looked at by the workers' collectors, and so not copied for each of them.
        gc.freeze()
        try:
            for number, made in workers.run(archive, missing, self._processes, meanwhile):
                segment = _DECODER.decode(made)
                records[number] = segment.record
                self._digests.update(segment.digests)
                done += sizes[number]
                progress(done, total)
        finally:
            gc.unfreeze()
        return Written(
            segments=tuple(record for record in records if record is not None), digests=self._digests, count=len(missing)
        )

    def _find(self, key: bytes, group: Sequence[Entry]) -> SegmentRecord | None:
        """The segment of the last build that these very entries made, if the store still has it."""
        known = self._known.get(key)
        if known is None or not self._store.has(known.digest, known.size):
            return None
        return known if all(entry.digest or not entry.is_regular for entry in group) else None

    def _block_for(self, group: Sequence[Entry]) -> memoryview | None:
        """A block that holds all of the segment, the same memory each time; None for a file larger than segments are."""
        if size_at_most(group) > LARGEST_BLOCK:
            return None
        if self._block is None:
            # Unlike a bytearray a mapping takes only those pages that a segment fills.
            self._block = memoryview(mmap.mmap(-1, LARGEST_BLOCK, mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS))
        return self._block

    def _archive(self, group: Sequence[Entry], key: bytes, own: Sequence[OwnFile] | None) -> _Segment:
        """Write one segment: with `own` the first one, else one of regular files."""
        digests: dict[bytes, bytes] = {}
        with self._store.adding() as new:
            compress = self._at_once[_may_repeat_far(group)]
            whole = self._block_for(group) if own is None and compress is not None else None
            if compress is not None and whole is not None:
                outline = archive_regular(self._rootfs, group, digests, lambda block: new.write(compress(block)), whole)
            else:
                stream = self._streams()

                def emit(block: memoryview) -> None:
                    if compressed := stream.compress(block):
                        new.write(compressed)

                outline = (
                    archive_regular(self._rootfs, group, digests, emit) if own is None else archive_special(group, own, emit)
                )
                new.write(stream.flush())
        stored = new.stored
        young = any(entry.ctime_ns >= self._clock for entry in group)
        record = SegmentRecord(
            key=b"" if young else key,
            digest=stored.digest,
            size=stored.size,
            unpacked_digest=outline.digest,
            unpacked_size=outline.size,
            entries=len(group),
        )
        return _Segment(record=record, digests=digests)


def _may_repeat_far(group: Sequence[Entry]) -> bool:
    """Whether long-distance matching is worth its time: not where most are kernel modules, source code or compressed."""
    near = sum(entry.size for entry in group if entry.path.endswith(NEAR) or entry.path.startswith(BOOT))
    return 2 * near <= sum(entry.size for entry in group)
