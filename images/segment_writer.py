"""Write the segments of a build that the store does not have yet: archived, compressed and stored by several threads at once.

Each thread streams: it holds a few megabytes, whatever the size of a segment or a file.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from images import index as indexes
from images.compress import Compression, compressor, implementation
from images.index import Entry, SegmentRecord
from images.objects import ObjectStore
from images.segments import READ_SIZE, OwnFile, archive_regular, archive_special, plan

Progress = Callable[[int, int], None]
"""Told (segments written, segments to write)."""


class Interrupted(Exception):
    """Another segment failed or somebody pressed Ctrl-C; nobody waits for this one."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """Every segment's record in order, the content digests that were computed by path, and how many segments were written."""

    segments: tuple[SegmentRecord, ...]
    digests: Mapping[bytes, bytes]
    count: int


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
        threads: int,
    ) -> None:
        self._store = store
        self._rootfs = rootfs
        self._compression = compression
        self._known = known
        self._clock = clock
        self._threads = threads
        self._digests: dict[bytes, bytes] = {}
        self._stopped = threading.Event()

    def write(self, entries: Sequence[Entry], own: Sequence[OwnFile], progress: Progress) -> Written:
        """Segments of these entries, which are in path order. Raises ChangedWhileRead, cpio.CpioError or OSError."""
        shape = implementation(self._compression).encode()
        special = shape + b"".join(b"%s\0%o\0%s\0" % (f.path, f.mode, f.content) for f in own)
        groups = plan(entries, own)
        keys = [indexes.segment_key(group, special if number == 0 else shape) for number, group in enumerate(groups)]
        records = [self._find(key, group) for key, group in zip(keys, groups, strict=True)]
        missing = [number for number, record in enumerate(records) if record is None]
        with ThreadPoolExecutor(max_workers=self._threads) as pool:
            jobs: dict[int, Future[SegmentRecord]] = {}
            try:
                for number in missing:
                    jobs[number] = pool.submit(self._archive, groups[number], keys[number], own if number == 0 else None)
                for done, (number, job) in enumerate(jobs.items(), start=1):
                    records[number] = job.result()
                    progress(done, len(missing))
            except BaseException:
                self._stopped.set()
                pool.shutdown(cancel_futures=True)
                raise
        return Written(
            segments=tuple(record for record in records if record is not None), digests=self._digests, count=len(missing)
        )

    def _find(self, key: bytes, group: Sequence[Entry]) -> SegmentRecord | None:
        """The segment of the last build that these very entries made, if the store still has it."""
        known = self._known.get(key)
        if known is None or not self._store.has(known.digest, known.size):
            return None
        return known if all(entry.digest or not entry.is_regular for entry in group) else None

    def _archive(self, group: Sequence[Entry], key: bytes, own: Sequence[OwnFile] | None) -> SegmentRecord:
        """Write one segment: with `own` the first one, else one of regular files."""
        chunks = archive_regular(self._rootfs, group, self._digests) if own is None else archive_special(group, own)
        unpacked, size = hashlib.sha256(), 0

        def compressed() -> Iterator[bytes]:
            nonlocal size
            stream = compressor(self._compression)
            for chunk in _gathered(chunks):
                if self._stopped.is_set():
                    raise Interrupted
                unpacked.update(chunk)
                size += len(chunk)
                yield stream.compress(chunk)
            yield stream.flush()

        stored = self._store.add(compressed())
        young = any(entry.ctime_ns >= self._clock for entry in group)
        return SegmentRecord(
            key=b"" if young else key,
            digest=stored.digest,
            size=stored.size,
            unpacked_digest=f"sha256:{unpacked.hexdigest()}",
            unpacked_size=size,
            entries=len(group),
        )


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
