"""A layer's blob as uncompressed chunks: gzip (ISA-L), zstd or plain, told apart by their first bytes as engines do."""

import contextlib
import hashlib
import queue
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

import zstandard
from isal import igzip_lib

from images.errors import Error

_CHUNK = 1 << 20
_AHEAD = 4
"""Chunks that may wait between the decompressing thread and its reader."""
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
_ZSTD_SKIPPABLE = b"\x2a\x4d\x18"
"""Second to fourth byte of a skippable frame (RFC 8878 section 3.1.2)."""

# The library's stub says that this is an instance.
_IsalError = cast(type[Exception], igzip_lib.error)


class MalformedCompression(Error):
    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"blob {path.name[:12]} cannot be decompressed: {reason}", hint="push the image again")
        self.path = path
        self.reason = reason


class Interrupted(Exception):
    """The work was told to stop; nobody sees it, because whoever said so no longer waits for the result."""


def decompress(stream: BinaryIO) -> Iterator[bytes]:
    """Chunks of about 1 MiB at most, so that a bomb costs time but no memory."""
    head = stream.read(4)
    stream.seek(0)
    if head.startswith(_GZIP):
        return _gunzip(stream)
    if head == _ZSTD or head[1:] == _ZSTD_SKIPPABLE:
        return _unzstd(stream)
    return iter(lambda: stream.read(_CHUNK), b"")


def _gunzip(stream: BinaryIO) -> Iterator[bytes]:
    """All members (RFC 1952 section 2.2), and the zeros that some tools pad the last one with."""
    data = stream.read(_CHUNK)
    while data := data.lstrip(b"\0") or stream.read(_CHUNK).lstrip(b"\0"):
        member = igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)
        while not member.eof:
            if member.needs_input and not data and not (data := stream.read(_CHUNK)):
                raise EOFError("it ends too early")
            if chunk := member.decompress(data, _CHUNK):
                yield chunk
            data = b""
        data = member.unused_data


def _unzstd(stream: BinaryIO) -> Iterator[bytes]:
    with zstandard.ZstdDecompressor().stream_reader(stream, read_size=_CHUNK, read_across_frames=True) as reader:
        while chunk := reader.read(_CHUNK):
            yield chunk


class LayerStream:
    """The uncompressed bytes of one blob, decompressed and hashed in a thread ahead of the reader; use it with `with`.

    `stopped` is asked at every chunk; once it says so, reading raises Interrupted.
    """

    def __init__(self, path: Path, *, algorithm: str = "sha256", stopped: Callable[[], bool]) -> None:
        self._path = path
        self._hash = hashlib.new(algorithm)
        self._stopped = stopped
        self._closed = threading.Event()
        self._queue: queue.Queue[bytes | Exception] = queue.Queue(_AHEAD)
        self._thread = threading.Thread(target=self._produce, name="decompress", daemon=True)

    def __enter__(self) -> "LayerStream":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._closed.set()
        while self._thread.is_alive():
            # The thread may wait for room in the queue; make it, until it sees that it is closed.
            with contextlib.suppress(queue.Empty):
                self._queue.get_nowait()
            self._thread.join(0.01)

    def __iter__(self) -> Iterator[bytes]:
        """Raises MalformedCompression, OSError or Interrupted."""
        while True:
            item = self._queue.get()
            if self._stopped():
                raise Interrupted
            if isinstance(item, Exception):
                raise item
            if not item:
                return
            yield item

    def digest(self) -> str:
        """Of everything, once the iterator is at its end."""
        return f"{self._hash.name}:{self._hash.hexdigest()}"

    def _produce(self) -> None:
        end: bytes | Exception = b""
        try:
            with self._path.open("rb") as stream:
                for chunk in decompress(stream):
                    self._hash.update(chunk)
                    self._queue.put(chunk)
                    if self._closed.is_set():
                        break
        except (_IsalError, zstandard.ZstdError, EOFError) as exc:
            end = MalformedCompression(self._path, str(exc))
        except Exception as exc:
            end = exc
        self._queue.put(end)
