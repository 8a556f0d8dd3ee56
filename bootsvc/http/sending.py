"""Stretches of files into a connection by sendfile(2), without the loop ever waiting for one peer."""

import asyncio
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

MAX_PER_WAKEUP = 2 << 20
"""Bytes for one peer before the loop's other work gets its turn."""
_ZEROS = bytes(1 << 16)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """`count` bytes from `offset` on of a file of `size` bytes; without a path: that many zeros."""

    path: Path | None
    offset: int
    count: int
    size: int = 0


def pieces(parts: Iterable[tuple[Path, int]], start: int, stop: int) -> Iterator[Piece]:
    """The bytes from `start` up to `stop` of a concatenation and the zeros after it, as stretches of its files."""
    at = 0
    for path, size in parts:
        first, last = max(start, at), min(stop, at + size)
        if first < last:
            yield Piece(path=path, offset=first - at, count=last - first, size=size)
        at += size
    first = max(start, at)
    if first < stop:
        yield Piece(path=None, offset=0, count=stop - first)


class Changed(OSError):
    """A file is not the one that was announced."""


def open_piece(piece: Piece) -> int:
    """A descriptor, -1 for zeros. Raises OSError, Changed among them: half of one file and half of another is neither."""
    if piece.path is None:
        return -1
    descriptor = os.open(piece.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    if os.fstat(descriptor).st_size != piece.size:
        os.close(descriptor)
        raise Changed(f"{piece.path} has another size than a moment ago")
    # The disk reads ahead while the beginning goes out: sendfile waits for it, and everything else here with it.
    os.posix_fadvise(descriptor, piece.offset, piece.count, os.POSIX_FADV_WILLNEED)
    return descriptor


def _version(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_size, status.st_mtime_ns


class Pieces:
    """Opens one after the other; `descriptor`, `offset` and `left` say what is due."""

    def __init__(self, due: Iterator[Piece]) -> None:
        """Opens the first, so that what is missing is known before anything is promised. Raises OSError."""
        self._due = due
        self.descriptor = -1
        self.offset = 0
        self.left = 0
        self.done = False
        self._version: tuple[int, int] | None = None
        self.advance()

    def advance(self) -> None:
        self.close()
        piece = next(self._due, None)
        if piece is None:
            self.done = True
            return
        self.descriptor, self.offset, self.left = open_piece(piece), piece.offset, piece.count
        self._version = _version(self.descriptor) if self.descriptor >= 0 else None

    def check(self) -> None:
        """Before the end of a file is sent: raises Changed when it was written to meanwhile. A replaced one is still open."""
        if self.descriptor >= 0 and _version(self.descriptor) != self._version:
            raise Changed("a file was written to while it was sent")

    def took(self, count: int) -> None:
        self.offset += count
        self.left -= count
        if self.left == 0:
            self.advance()

    def read(self, most: int) -> bytes:
        """The next bytes, where sendfile cannot be used (TLS). Raises OSError."""
        if self.descriptor < 0:
            return _ZEROS[: min(most, self.left)]
        if self.left <= most:
            self.check()
        data = os.pread(self.descriptor, min(most, self.left), self.offset)
        if not data:
            raise Changed("a file is shorter than a moment ago")
        return data

    def close(self) -> None:
        if self.descriptor >= 0:
            os.close(self.descriptor)
            self.descriptor = -1


class Duplicable(Protocol):
    """The connection; see `Connection.duplicate`."""

    def duplicate(self, on_lost: "Callback") -> int: ...
    def release(self) -> None: ...


class Callback(Protocol):
    def __call__(self) -> None: ...


class Sender:
    """One transfer. `sent` counts what the kernel took."""

    def __init__(self, connection: Duplicable, due: Pieces) -> None:
        self.sent = 0
        self._connection = connection
        self._due = due
        self._loop = asyncio.get_running_loop()
        self._done = self._loop.create_future()
        self._waiting = False
        self._out = -1

    async def run(self) -> None:
        """Send all; raises OSError, ConnectionError when it is the peer's fault."""
        # asyncio watches the transport's own descriptor itself, and lets nobody else do so.
        self._out = self._connection.duplicate(self._lost)
        try:
            self._send()
            await self._done
        finally:
            self._connection.release()
            self._stop_waiting()
            os.close(self._out)

    def _lost(self) -> None:
        self._fail(ConnectionResetError("the client closed the connection"))

    def _fail(self, reason: OSError) -> None:
        self._stop_waiting()
        if not self._done.done():
            self._done.set_exception(reason)

    def _stop_waiting(self) -> None:
        if self._waiting:
            self._loop.remove_writer(self._out)
            self._waiting = False

    def _send(self) -> None:
        due, budget = self._due, MAX_PER_WAKEUP
        try:
            while not due.done and budget > 0:
                if due.descriptor < 0:
                    count = os.write(self._out, _ZEROS[: due.left])
                else:
                    if due.left <= budget:
                        due.check()
                    count = os.sendfile(self._out, due.descriptor, due.offset, min(due.left, budget))
                    if count == 0:
                        return self._fail(Changed("a file is shorter than a moment ago"))
                self.sent += count
                budget -= count
                due.took(count)
        except BlockingIOError:
            pass
        except OSError as exc:
            return self._fail(exc)
        if due.done:
            self._stop_waiting()
            if not self._done.done():
                self._done.set_result(None)
        elif not self._waiting:
            self._waiting = True
            self._loop.add_writer(self._out, self._send)
