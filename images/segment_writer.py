"""Write the segments of a build that the store does not have yet: archived, compressed and stored by several processes at once.

Each process streams: it holds a few megabytes, whatever the size of a segment or a file.
"""

import gc
import mmap
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType

import msgspec

from images import index as indexes
from images import workers
from images.compress import Compression, at_once, implementation, streams
from images.index import Entry, SegmentRecord
from images.objects import ObjectStore
from images.segment_archive import OUTLINE, archive_regular, archive_special, size_at_most
from images.segments import MAXIMUM, OwnFile, cut

LARGEST_BLOCK = MAXIMUM + (1 << 20)
"""Bytes of a segment with its padding."""

NEAR = (b".ko", b".py", b".pyc", b".pm", b".pl", b".h", b".bin", b".gz", b".xz", b".bz2", b".zst", b".png")
"""Names of files that resemble what is beside them, if anything; those that are compressed already resemble nothing."""
BOOT = b"boot/"
"""Kernels and what they unpack are compressed, too."""

ENTRY = 8 << 10
"""An entry takes about as long as so many bytes."""

Progress = Callable[[int, int], None]
"""Told, at each segment that is written, the bytes of the files in those that are, and in all that are to be written."""


class Written(msgspec.Struct, frozen=True, kw_only=True):
    """Every segment's record in order, the entries with the digests of their contents, and how many segments were written."""

    segments: tuple[SegmentRecord, ...]
    entries: tuple[Entry, ...]
    count: int


class _Task(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker is told of a segment: with `own` it is the first one, else one of regular files."""

    group: list[Entry]
    own: list[OwnFile] | None


class _Segment(msgspec.Struct, frozen=True, kw_only=True):
    """What a worker tells of the segment that it wrote: the digests are those of its files' contents, in their order."""

    record: SegmentRecord
    digests: list[bytes]


_ENCODER = msgspec.msgpack.Encoder()
_TASKS = msgspec.msgpack.Decoder(_Task)
_SEGMENTS = msgspec.msgpack.Decoder(_Segment)


class SegmentWriter:
    """Writes the segments of one tree: `begin`, then `finish`. `known` are the last build's segments by key; `clock` is the
    scan's time on the image's file system, in ns.

    Use it with `with`, around what comes afterwards, too: its processes need some time to end.
    """

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
        self.compression = compression
        self.clock = clock
        self._shape = f"{implementation(compression)} {OUTLINE}".encode()
        self._streams = streams(compression)
        self._at_once = {far: at_once(compression, far=far) for far in (True, False)}
        self._block: memoryview | None = None
        self._known = known
        self._early = processes > 1 and not known
        """Whether there is somebody who can begin before all is planned, and something that must be written anyway."""
        self._workers = workers.Workers(self._work, processes)
        self._own: list[OwnFile] = []
        self._entries: dict[bytes, Entry] = {}
        self._groups: list[list[Entry]] = [[]]
        self._records: dict[int, SegmentRecord] = {}
        self._sizes: dict[int, int] = {}
        """Bytes of the files in each segment that is to be written."""
        self._pending: set[int] = set()

    def __enter__(self) -> "SegmentWriter":
        # What is there now is not looked at by the workers' collectors, and so not copied for each of them.
        gc.freeze()
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        gc.unfreeze()
        self._workers.__exit__(kind, value, trace)

    def begin(self, entries: Iterable[Entry], own: Sequence[OwnFile]) -> Mapping[bytes, Entry]:
        """Cut these entries, which are in path order, into segments; all of them by path. `own` are our own files.

        Without a last build the first segments are being written while the later entries come. Raises as `finish` does.
        """
        self._own = [*own]
        for number, group in enumerate(cut(self._noted(entries), own, self._groups[0]), start=1):
            self._groups.append(group)
            self._plan(number)
            if self._early:
                self._go_on(wait=False)
        return self._entries

    def finish(self, own: Sequence[OwnFile], progress: Progress) -> Written:
        """`own` are those of our files that depend on the entries.

        Raises ChangedWhileRead, cpio.CpioError or OSError.
        """
        self._own += own
        self._plan(0)
        if len(self._sizes) == 1:
            # A process for it alone would take longer to make than most segments.
            self._workers.dismiss()
        total = sum(self._sizes.values())
        while len(self._records) < len(self._groups):
            self._go_on(wait=True)
            progress(sum(size for number, size in self._sizes.items() if number in self._records), total)
        return Written(
            segments=tuple(self._records[number] for number in range(len(self._groups))),
            entries=tuple(self._entries.values()),
            count=len(self._sizes),
        )

    def _noted(self, entries: Iterable[Entry]) -> Iterator[Entry]:
        for entry in entries:
            self._entries[entry.path] = entry
            yield entry

    def _plan(self, number: int) -> None:
        """The segment is the last build's, or must be written."""
        group = self._groups[number]
        # Without a last build the keys are left to the workers.
        record = self._find(self._key(self._task(number)), group) if self._known else None
        if record is not None:
            self._records[number] = record
        else:
            self._sizes[number] = sum(entry.size for entry in group if entry.is_regular)
            self._pending.add(number)

    def _task(self, number: int) -> _Task:
        return _Task(group=self._groups[number], own=None if number else self._own)

    def _go_on(self, *, wait: bool) -> None:
        """Give work to whoever has none, and take what is done."""
        while self._pending and self._workers.free:
            # The large ones first: at the end no process works long while the others have nothing left.
            number = max(self._pending, key=self._effort)
            self._pending.remove(number)
            self._workers.give(number, _ENCODER.encode(self._task(number)))
        if wait and not self._pending:
            self._workers.dismiss()
        for number, made in self._workers.results(wait=wait):
            segment = _SEGMENTS.decode(made)
            self._records[number] = segment.record
            for entry, digest in zip(self._groups[number], segment.digests, strict=False):
                if digest != entry.digest:
                    self._entries[entry.path] = msgspec.structs.replace(entry, digest=digest)

    def _effort(self, number: int) -> int:
        return self._sizes[number] + len(self._groups[number]) * ENTRY

    def _key(self, task: _Task) -> bytes:
        own = task.own or ()
        return indexes.segment_key(
            task.group, self._shape + b"".join(b"%s\0%o\0%s\0" % (f.path, f.mode, f.content) for f in own)
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

    def _work(self, told: bytes) -> bytes:
        """Write one segment; in a worker, unless there is none."""
        task = _TASKS.decode(told)
        group, digests = task.group, dict[bytes, bytes]()
        with self._store.adding() as new:
            compress = self._at_once[_may_repeat_far(group)]
            whole = self._block_for(group) if task.own is None and compress is not None else None
            if compress is not None and whole is not None:
                outline = archive_regular(self._rootfs, group, digests, lambda block: new.write(compress(block)), whole)
            else:
                stream = self._streams()

                def emit(block: memoryview) -> None:
                    if compressed := stream.compress(block):
                        new.write(compressed)

                if task.own is None:
                    outline = archive_regular(self._rootfs, group, digests, emit)
                else:
                    outline = archive_special(group, task.own, emit)
                new.write(stream.flush())
        stored = new.stored
        young = any(entry.ctime_ns >= self.clock for entry in group)
        record = SegmentRecord(
            key=b"" if young else self._key(task),
            digest=stored.digest,
            size=stored.size,
            unpacked_digest=outline.digest,
            unpacked_size=outline.size,
            entries=len(group),
        )
        return _ENCODER.encode(_Segment(record=record, digests=[digests[entry.path] for entry in group if digests]))


def _may_repeat_far(group: Sequence[Entry]) -> bool:
    """Whether long-distance matching is worth its time: not where most are kernel modules, source code or compressed."""
    near = sum(entry.size for entry in group if entry.path.endswith(NEAR) or entry.path.startswith(BOOT))
    return 2 * near <= sum(entry.size for entry in group)
