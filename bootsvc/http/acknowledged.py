"""What the peer's TCP acknowledged of a connection (Linux: tcp(7), TCP_INFO and SIOCOUTQ)."""

import asyncio
import fcntl
import socket
import struct
import termios
from collections.abc import Callable
from dataclasses import dataclass, field

_BYTES_ACKED = struct.Struct("=Q")
_OFFSET = 120
"""Of tcpi_bytes_acked in struct tcp_info (include/uapi/linux/tcp.h)."""
_LENGTH = 128
_COUNT = struct.Struct("=i")
_TRIES = 4


def acknowledged(sock: socket.socket) -> int:
    """Bytes that the peer acknowledged since the connection began. Raises OSError when it is closed."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _LENGTH)
    return int(_BYTES_ACKED.unpack_from(info, _OFFSET)[0])


def unacknowledged(sock: socket.socket) -> int:
    """Bytes that the kernel took and the peer has not acknowledged. Raises OSError when the connection is closed."""
    return int(_COUNT.unpack(fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, bytes(_COUNT.size)))[0])


def waiting(transport: asyncio.Transport) -> int:
    """Bytes that were written and that the kernel has not taken."""
    size = transport.get_write_buffer_size()
    # Below TLS there is a second buffer, which no public name leads to.
    below = getattr(getattr(transport, "_ssl_protocol", None), "_transport", None)
    return size + (below.get_write_buffer_size() if below is not None else 0)


def total_sent(transport: asyncio.Transport, sock: socket.socket) -> int:
    """What `acknowledged` will be once everything that was written so far has arrived. Raises OSError."""
    before, outstanding = acknowledged(sock), 0
    for _ in range(_TRIES):
        outstanding = unacknowledged(sock)
        # An acknowledgement between the two calls would be counted twice, or not at all.
        after = acknowledged(sock)
        if after == before:
            break
        before = after
    return before + outstanding + waiting(transport)


@dataclass(slots=True)
class Progress:
    """How one connection gets on with what is sent to it; times are seconds of a monotonic clock."""

    seconds: float
    """Within which at least `least` bytes must be acknowledged while any are under way."""
    least: int
    _acknowledged: int = 0
    _since: float = field(default=-1.0)

    def reset(self) -> None:
        """Something new is sent from now on."""
        self._since = -1.0

    def stalled(self, acked: int, outstanding: int, now: float) -> bool:
        """Whether the peer is too slow; called now and then."""
        if self._since < 0 or outstanding == 0 or acked - self._acknowledged >= self.least:
            self._acknowledged, self._since = acked, now
            return False
        return now - self._since > self.seconds


@dataclass(slots=True)
class Expected:
    """Things to do once the peer has acknowledged so many bytes, in their order."""

    _entries: list[tuple[int, Callable[[], None]]] = field(default_factory=list)

    def __bool__(self) -> bool:
        return bool(self._entries)

    def add(self, total: int, then: Callable[[], None]) -> None:
        self._entries.append((total, then))

    def settle(self, acked: int) -> None:
        """Do what is due."""
        while self._entries and self._entries[0][0] <= acked:
            self._entries.pop(0)[1]()

    def settle_all(self) -> None:
        """The peer has everything."""
        while self._entries:
            self._entries.pop(0)[1]()
