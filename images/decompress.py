"""A layer's blob or an archive as uncompressed chunks: gzip (ISA-L), zstd, xz, bzip2 or plain, told apart by their first
bytes as engines do."""

import bz2
import contextlib
import hashlib
import lzma
import queue
import threading
from collections.abc import Callable, Iterator
from types import TracebackType
from typing import BinaryIO, Protocol, cast

import zstandard
from isal import igzip_lib

from images.errors import Error
from images.zstd_frames import check_frames

_CHUNK = 1 << 18
"""Stays in a core's cache from one step to the next: decompressed, hashed, written."""
_AHEAD = 16
"""Chunks that may wait between the decompressing thread and its reader."""
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_XZ = b"\xfd7zXZ\0"
_BZIP2 = b"BZh"
_XZ_MEMORY = 1 << 30
"""Bytes that an xz file may ask for; `xz -9` needs 65 MiB, only hostile or odd ones need more than this."""
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
"""Second to fourth byte of a skippable frame (RFC 8878 section 3.1.2)."""

# The library's stub says that this is an instance.
_IsalError = cast(type[Exception], igzip_lib.error)
# OSError is what bz2 raises for its data; so do disks, whose errors have a number.
DECOMPRESSION_ERRORS = (_IsalError, zstandard.ZstdError, lzma.LZMAError, EOFError)


class MalformedCompression(Error):
    def __init__(self, reason: str) -> None:
        super().__init__(f"it cannot be decompressed: {reason}", hint="push the image, or make the file, again")
        self.reason = reason


class Interrupted(Exception):
    """The work was told to stop; nobody sees it, because whoever said so no longer waits for the result."""


def decompress(stream: BinaryIO) -> Iterator[bytes]:
    """Chunks of 256 KiB at most, so that a bomb costs time but no memory."""
    head = stream.read(6)
    stream.seek(0)
    if head.startswith(_GZIP):
        return _gunzip(stream)
    if head.startswith(_ZSTD) or head[1:4] == _ZSTD_SKIPPABLE:
        return _unzstd(stream)
    if head.startswith(_XZ):
        return _join_streams(stream, lambda: lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY), _XZ, padding=b"\0")
    if head.startswith(_BZIP2):
        return _join_streams(stream, bz2.BZ2Decompressor, _BZIP2, padding=b"")
    return iter(lambda: stream.read(_CHUNK), b"")


def _gunzip(stream: BinaryIO) -> Iterator[bytes]:
    """All members (RFC 1952 section 2.2), and the zeros that some tools pad the last one with."""
    data = stream.read(_CHUNK)
    while data := data.lstrip(b"\0") or stream.read(_CHUNK).lstrip(b"\0"):
        _check_magic(data, _GZIP)
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        while not member.eof:
            if member.needs_input and not data and not (data := stream.read(_CHUNK)):
                raise EOFError("it ends too early")
            if chunk := member.decompress(data, _CHUNK):
                yield chunk
            data = b""
        data = member.unused_data


def _unzstd(stream: BinaryIO) -> Iterator[bytes]:
    check_frames(stream)
    with zstandard.ZstdDecompressor().stream_reader(stream, read_size=_CHUNK, read_across_frames=True) as reader:
        while chunk := reader.read(_CHUNK):
            yield chunk


class _Decompressor(Protocol):
    """What lzma's and bz2's have in common."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


def _check_magic(data: bytes, magic: bytes) -> None:
    """What follows a whole part is another one, or no part of the file; fewer bytes than tell which are found out later."""
    if not data.startswith(magic[: len(data)]):
        raise EOFError("something that is not compressed follows its end")


def _join_streams(stream: BinaryIO, make: Callable[[], _Decompressor], magic: bytes, *, padding: bytes) -> Iterator[bytes]:
    """All streams of a file, one after the other (xz file format section 2, "Multi-Stream File"), as parallel tools write."""
    data = stream.read(_CHUNK)
    while data := data.lstrip(padding) or stream.read(_CHUNK).lstrip(padding):
        _check_magic(data, magic)
        part = make()
        while not part.eof:
            if part.needs_input and not data and not (data := stream.read(_CHUNK)):
                raise EOFError("it ends too early")
            if chunk := part.decompress(data, _CHUNK):
                yield chunk
            data = b""
        data = part.unused_data


class LayerStream:
    """The uncompressed bytes of one blob, decompressed and hashed; use it with `with`.

    `ahead` is asked at every chunk until it says yes: what is left then is done in a thread that runs before the reader. That
    is worth it where a core would be idle, as one is at the end when layers differ in size; elsewhere the two only hinder each
    other.
    `algorithm` None: nobody wants a digest. `stopped` is asked at every chunk; once it says so, reading raises Interrupted.
    `advanced` is told the compressed bytes read (`position`), in the reader's thread.
    """

    def __init__(
        self,
        open_blob: Callable[[], BinaryIO],
        *,
        algorithm: str | None = "sha256",
        stopped: Callable[[], bool],
        advanced: Callable[[int], None] | None = None,
        ahead: Callable[[], bool] = lambda: True,
    ) -> None:
        self._open_blob = open_blob
        self._hash = None if algorithm is None else hashlib.new(algorithm)
        self._stopped = stopped
        self._advanced = advanced
        self.position = 0
        self._ahead = ahead
        self._closed = threading.Event()
        self._queue: queue.Queue[bytes | Exception] = queue.Queue(_AHEAD)
        self._thread: threading.Thread | None = None

    def __enter__(self) -> "LayerStream":
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._closed.set()
        while self._thread is not None and self._thread.is_alive():
            # The thread may wait for room in the queue; make it, until it sees that it is closed.
            with contextlib.suppress(queue.Empty):
                self._queue.get_nowait()
            self._thread.join(0.01)

    def __iter__(self) -> Iterator[bytes]:
        """Raises MalformedCompression, OSError or Interrupted."""
        for chunk in self._chunks():
            if self._stopped():
                raise Interrupted
            if self._advanced is not None:
                self._advanced(self.position)
            yield chunk

    def digest(self) -> str:
        """Of everything, once the iterator is at its end."""
        assert self._hash is not None
        return f"{self._hash.name}:{self._hash.hexdigest()}"

    def _chunks(self) -> Iterator[bytes]:
        chunks = self._produce()
        while not self._ahead():
            if not (chunk := next(chunks, b"")):
                return
            yield chunk
        self._thread = threading.Thread(target=self._run_ahead, args=(chunks,), name="decompress", daemon=True)
        self._thread.start()
        yield from self._take()

    def _produce(self) -> Iterator[bytes]:
        try:
            with self._open_blob() as stream:
                for chunk in decompress(stream):
                    if self._hash is not None:
                        self._hash.update(chunk)
                    self.position = stream.tell()
                    yield chunk
        except DECOMPRESSION_ERRORS as exc:
            raise MalformedCompression(str(exc)) from exc
        except OSError as exc:
            if exc.errno:
                raise
            raise MalformedCompression(str(exc)) from exc

    def _run_ahead(self, chunks: Iterator[bytes]) -> None:
        end: bytes | Exception = b""
        try:
            for chunk in chunks:
                self._queue.put(chunk)
                if self._closed.is_set():
                    break
        except Exception as exc:
            end = exc
        self._queue.put(end)

    def _take(self) -> Iterator[bytes]:
        """What the thread has ready."""
        while item := self._queue.get():
            if isinstance(item, Exception):
                raise item
            yield item
