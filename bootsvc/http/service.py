"""The HTTP server: listening, peers that take too long, and a stop that lets transfers end."""

import asyncio
import contextlib
import errno
import logging
import resource
import ssl
from collections.abc import Sequence

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from bootsvc.config import HttpConfig
from bootsvc.errors import PortTaken
from bootsvc.http.connection import ConnectionServer
from bootsvc.http.dispatch import Counters, Dispatcher
from bootsvc.http.tls import load_certificate
from images.errors import Error

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often connections are looked at for what has taken too long."""
BACKLOG = 4096
"""Connections that the kernel accepts ahead: a cluster that powers on at once knocks within a second."""
ACCEPTED_AT_ONCE = 64
"""Before the loop's other work gets its turn. asyncio tries as often when descriptors have run out, and logs each time."""
RESERVED_DESCRIPTORS = 2048
"""Left to TFTP transfers, leases, logs and whatever else the process opens."""
CANCELLING_SECONDS = 0.5


class _Peers(logging.Filter):
    """Takes what peers do wrong out of aiohttp's errors: a traceback for each would let anybody fill the disk."""

    def filter(self, record: logging.LogRecord) -> bool:
        error = record.exc_info[1] if record.exc_info else None
        if not isinstance(error, ConnectionError | HttpProcessingError):
            return True
        log.debug("http %s: %r", record.getMessage(), error)
        return False


_connections = logging.getLogger(f"{__name__}.connections")
_connections.addFilter(_Peers())


class HttpService:
    """`bound` is the port that is served, once it is; port 0 lets the kernel choose. `bound_tls` is TLS's, or 0."""

    def __init__(
        self,
        port: int,
        routes: Sequence[web.RouteDef],
        *,
        host: str | None = None,
        settings: HttpConfig = HttpConfig(),  # noqa: B008  # frozen
    ) -> None:
        self._port = port
        self._settings = settings
        self._host = host
        self._dispatcher = Dispatcher(routes, settings.api_subnets)
        self.bound = 0
        self.bound_tls = 0

    @property
    def counters(self) -> Counters:
        return self._dispatcher.counters

    async def run(self, ready: asyncio.Event) -> None:
        """Serve until cancelled. Raises Error when a port or the certificate cannot be used."""
        context = None if self._settings.tls is None else load_certificate(self._settings.tls)
        most = _cap(self._settings.max_connections)
        dispatcher, settings = self._dispatcher, self._settings
        server = ConnectionServer(dispatcher, dispatcher.make_request, dispatcher.at_once, settings, most, _connections)
        listeners = []
        try:
            listeners.append(await self._listen(server, self._port))
            self.bound = listeners[0].sockets[0].getsockname()[1]
            if context is not None and self._settings.tls is not None:
                listeners.append(await self._listen(server, self._settings.tls.port, context))
                self.bound_tls = listeners[1].sockets[0].getsockname()[1]
            log.info("http listening port=%d tls=%s connections=%d", self.bound, self.bound_tls or "off", most)
            ready.set()
            await self._watch(server)
        finally:
            for listener in listeners:
                listener.close()
            await self._drain(server)

    async def _listen(
        self, server: ConnectionServer, port: int, context: ssl.SSLContext | None = None
    ) -> asyncio.base_events.Server:
        try:
            listener = await asyncio.get_running_loop().create_server(
                server,
                self._host,
                port,
                reuse_address=True,
                backlog=ACCEPTED_AT_ONCE,
                ssl=context,
                ssl_handshake_timeout=None if context is None else self._settings.header_seconds,
            )
            for each in listener.sockets:
                with each.dup() as sock:
                    sock.listen(BACKLOG)
        except OSError as exc:
            raise _unusable(port, exc) from exc
        return listener

    async def _watch(self, server: ConnectionServer) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            now = loop.time()
            for connection in list(server.open):
                reason = connection.overdue(now)
                if reason is not None:
                    self.counters.given_up += 1
                    log.debug("http %s %s", connection.peername, reason)
                    connection.give_up()

    async def _drain(self, server: ConnectionServer) -> None:
        """Let transfers end for a few seconds; whoever takes longer, or takes nothing, is cut off."""
        for connection in list(server.open):
            connection.close()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self._settings.drain_seconds):
                await server.quiet()
        server.settle()
        for connection in list(server.open):
            connection.give_up()
        await server.shutdown(CANCELLING_SECONDS)


def _cap(wanted: int) -> int:
    """How many connections there may be; each has its socket, and a copy of it and a file while a file is sent."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = wanted * 3 + RESERVED_DESCRIPTORS
    limit = needed if hard == resource.RLIM_INFINITY else min(needed, hard)
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if limit > soft:
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    usable = max(limit, soft)
    most = max(1, min(wanted, (usable - min(RESERVED_DESCRIPTORS, usable // 2)) // 3))
    if most < wanted:
        log.warning("only %d connections at once: the limit of open files is %d (LimitNOFILE=)", most, usable)
    return most


def _unusable(port: int, reason: OSError) -> Error:
    if reason.errno == errno.EADDRINUSE:
        return PortTaken("tcp", port, "another program")
    return Error(f"cannot listen on TCP port {port}: {reason.strerror}")
