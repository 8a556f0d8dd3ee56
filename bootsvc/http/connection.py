"""One connection: what it waits for, when it is given up, and what is to be done once the peer has everything."""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from aiohttp import web
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import StreamReader

from bootsvc.http.acknowledged import Expected, Progress, acknowledged, total_sent, unacknowledged, waiting
from bootsvc.http.settings import HttpConfig
from bootsvc.net.arrival import UNKNOWN, arrival_interface

ACKNOWLEDGEMENT_SECONDS = 0.05
"""How often it is looked whether peers have acknowledged the end of what was sent; one timer for all of them."""
LEAST_PROGRESS = 64 << 10
"""Bytes that must be acknowledged within the stall time, so that a peer cannot hold a transfer by reading a byte a minute."""


MOST_AT_ONCE = 8
"""Requests of one read that may be answered before the loop's other work gets its turn; fewer than aiohttp's queue takes."""


class AtOnce(Protocol):
    """Answers a request within the call and returns True, or does nothing."""

    def __call__(self, message: RawRequestMessage, payload: StreamReader, connection: "Connection") -> bool: ...


class _Parser:
    """aiohttp's parser, with the requests taken out that were answered at once."""

    def __init__(self, parser: Any, connection: "Connection") -> None:
        self._parser = parser
        self._connection = connection

    def __getattr__(self, name: str) -> Any:
        return getattr(self._parser, name)

    def feed_data(self, data: bytes) -> tuple[Sequence[tuple[RawRequestMessage, StreamReader]], bool, bytes]:
        messages, upgraded, tail = self._parser.feed_data(data)
        if messages and not upgraded:
            answered = self._connection.answer_at_once(messages)
            for _ in range(answered):
                self._parser.message_consumed()
            messages = messages[answered:]
        return messages, upgraded, tail


class Connection(web.RequestHandler):
    """aiohttp's connection with times and acknowledgements; `busy` while a request is being answered."""

    def __init__(self, server: "ConnectionServer", loop: asyncio.AbstractEventLoop, settings: HttpConfig) -> None:
        quiet: dict[str, Any] = {"access_log": None, "logger": server.log}
        super().__init__(server, loop=loop, **quiet)
        parser: Any = _Parser(self._parser, self)
        self._parser = parser
        self.busy = False
        self._connections = server
        self._clock = loop.time
        self._settings = settings
        self._quiet_since = loop.time()
        self._head_since: float | None = None
        self._expected = Expected()
        self._unmeasured: list[Callable[[], None]] = []
        """Due once the kernel holds nothing that the peer has not acknowledged."""
        self._progress = Progress(settings.stall_seconds, LEAST_PROGRESS)
        self._socket: socket.socket | None = None
        self._kept: socket.socket | None = None
        self._on_lost: Callable[[], None] | None = None
        self._interface = ""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert isinstance(transport, asyncio.Transport)
        self._socket = transport.get_extra_info("socket")
        secure = transport.get_extra_info("sslcontext") is not None
        if secure and self._socket is not None:
            # asyncio closes a TLS connection's socket before it tells us that it is lost: then nothing could be asked any more.
            self._kept = self._socket = socket.socket(fileno=os.dup(self._socket.fileno()))
        # So that `drain` means: the kernel has it all. asyncio's TLS pauses at the limit itself, and would for ever at 0.
        transport.set_write_buffer_limits(high=1 if secure else 0, low=0)
        self._connections.arrived(self)

    def data_received(self, data: bytes) -> None:
        if not self.busy and self._head_since is None:
            self._head_since = self._clock()
        super().data_received(data)

    def answer_at_once(self, messages: Sequence[tuple[RawRequestMessage, StreamReader]]) -> int:
        """How many of these requests, from the first one on, were answered; none while earlier ones are being answered."""
        waiter, transport = self._waiter, self.transport
        if waiter is None or waiter.done() or self._messages or transport is None or len(messages) > MOST_AT_ONCE:
            return 0
        count = 0
        for message, payload in messages:
            if self._paused or transport.is_closing() or not self._connections.at_once(message, payload, self):
                break
            count += 1
        self._next_keepalive_close_time = self._quiet_since + self._keepalive_timeout
        return count

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        return self._loop

    @property
    def interface(self) -> str:
        """By which the peer came; "-" when it could not be asked while the connection was there."""
        if not self._interface:
            self._interface = UNKNOWN if self._socket is None else arrival_interface(self._socket)
        return self._interface

    def connection_lost(self, exc: BaseException | None) -> None:
        # The socket is still open here: a peer that has everything closes before anybody has looked.
        self.settle()
        if self._kept is not None:
            self._kept.close()
        self._connections.left(self)
        if self._on_lost is not None:
            self._on_lost()
        super().connection_lost(exc)

    def began(self) -> None:
        """A request was read whole."""
        self.busy = True
        self._head_since = None
        self._progress.reset()
        if not self.settled:
            self.settle()
            self._measure()

    def ended(self) -> None:
        """It was answered."""
        self.busy = False
        self._quiet_since = self._clock()
        self._connections.ended()

    @property
    def quiet_since(self) -> float:
        return self._quiet_since

    def duplicate(self, on_lost: Callable[[], None]) -> int:
        """A descriptor of the socket for sending past the transport, which must be empty; the caller closes it.

        `on_lost` is called when the connection ends, until `release`. Raises ConnectionResetError.
        """
        if self._socket is None or self._socket.fileno() < 0 or self.transport is None:
            raise ConnectionResetError("the client closed the connection")
        self._on_lost = on_lost
        return os.dup(self._socket.fileno())

    def release(self) -> None:
        self._on_lost = None

    def when_acknowledged(self, then: Callable[[], None]) -> None:
        """Call `then` once the peer has acknowledged all that was written up to now; never, if it does not."""
        transport = self.transport
        if self._socket is None or not isinstance(transport, asyncio.Transport):
            return
        # What the kernel has whole is acknowledged once it holds nothing more, which is one question instead of three.
        self._unmeasured.append(then)
        # By TLS the end of a connection is answered, which the peer may never acknowledge.
        if waiting(transport) or self._kept is not None:
            self._measure()
        self._connections.await_acknowledgement(self)

    def _measure(self) -> None:
        """How far the peer must have got for what is not acknowledged; before anything else is written."""
        if self._unmeasured and self._socket is not None and isinstance(self.transport, asyncio.Transport):
            try:
                total = total_sent(self.transport, self._socket)
            except OSError:
                return
            for then in self._unmeasured:
                self._expected.add(total, then)
            self._unmeasured.clear()

    def settle(self) -> None:
        """Do what was to be done, if it is due."""
        if self.settled or self._socket is None:
            return
        try:
            if self._unmeasured and unacknowledged(self._socket) == 0:
                self._expected.settle_all()
                due, self._unmeasured = self._unmeasured, []
                for then in due:
                    then()
            elif self._expected:
                self._expected.settle(acknowledged(self._socket))
        except OSError:
            return

    @property
    def settled(self) -> bool:
        return not self._expected and not self._unmeasured

    async def acknowledged(self, seconds: float) -> None:
        """Wait until `settled`, the connection is lost or the time is over; the peer is told that nothing follows."""
        # The end itself is not to be waited for.
        self._measure()
        if isinstance(self.transport, asyncio.Transport) and self.transport.can_write_eof():
            self.transport.write_eof()
        deadline, step = self._clock() + seconds, 0.001
        while not self.settled and self.transport is not None and self._clock() < deadline:
            await asyncio.sleep(step)
            step = min(step * 2, 0.1)
            self.settle()

    def overdue(self, now: float) -> str | None:
        """Why the connection is to be given up now, if it is; called about every second."""
        if self._head_since is not None and not self.busy:
            return "sent no whole request" if now - self._head_since > self._settings.header_seconds else None
        if not self.busy and self.settled:
            return "was idle" if now - self._quiet_since > self._settings.idle_seconds else None
        if self._socket is None or not isinstance(self.transport, asyncio.Transport):
            return None
        try:
            outstanding = unacknowledged(self._socket) + waiting(self.transport)
            return "took nothing" if self._progress.stalled(acknowledged(self._socket), outstanding, now) else None
        except OSError:
            return None

    def give_up(self) -> None:
        if self.transport is not None:
            # Not `close`: it would wait for a peer that takes nothing.
            self.transport.abort()


class ConnectionServer(web.Server):
    """Makes connections up to a cap; the quietest ones make room for new ones."""

    def __init__(self, handler: Any, request_factory: Any, at_once: AtOnce, settings: HttpConfig, most: int, log: Any) -> None:
        super().__init__(handler, request_factory=request_factory)
        self.at_once = at_once
        self.log = log
        self._settings = settings
        self._most = most
        self._open: set[Connection] = set()
        self._unsettled: dict[Connection, None] = {}
        self._quiet: asyncio.Event | None = None

    def __call__(self) -> Connection:
        return Connection(self, self._loop, self._settings)

    @property
    def open(self) -> set[Connection]:
        return self._open

    def arrived(self, connection: Connection) -> None:
        if len(self._open) >= self._most and not self._make_room():
            connection.give_up()
        self._open.add(connection)

    def _make_room(self) -> bool:
        """Close a sixteenth of the idle connections at once, so that a flood of them is not looked through each time."""
        idle = sorted((each for each in self._open if not each.busy), key=lambda each: each.quiet_since)
        for connection in idle[: len(idle) // 16 + 1]:
            self._open.discard(connection)
            connection.give_up()
        return bool(idle)

    def left(self, connection: Connection) -> None:
        self._open.discard(connection)
        self._unsettled.pop(connection, None)
        self.ended()

    def ended(self) -> None:
        """One request less is being answered."""
        if self._quiet is not None and not any(each.busy for each in self._open):
            self._quiet.set()

    async def quiet(self) -> None:
        """Wait until no request is being answered."""
        self._quiet = asyncio.Event()
        self.ended()
        await self._quiet.wait()

    def await_acknowledgement(self, connection: Connection) -> None:
        if not self._unsettled:
            self._loop.call_later(ACKNOWLEDGEMENT_SECONDS, self._look)
        self._unsettled[connection] = None

    def settle(self) -> None:
        """Look at all connections whose peer has not acknowledged yet."""
        for connection in list(self._unsettled):
            connection.settle()
            if connection.settled:
                self._unsettled.pop(connection, None)

    def _look(self) -> None:
        self.settle()
        if self._unsettled:
            self._loop.call_later(ACKNOWLEDGEMENT_SECONDS, self._look)
