"""The HTTP server: listening, peers that take too long, and a stop that lets transfers end."""

import asyncio
import contextlib
import logging
import resource
import ssl
from collections.abc import Callable, Sequence

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from bootsvc.attached import Attached, Serve
from bootsvc.errors import PortTaken
from bootsvc.http.connection import ConnectionServer
from bootsvc.http.dispatch import Counters, Dispatcher
from bootsvc.http.listening import ANY6, LOOPBACK, LOOPBACK4, Place, listen, places
from bootsvc.http.settings import HttpConfig
from bootsvc.http.tls import load_certificate
from bootsvc.net.links import Link, until_gone
from images.errors import Error

log = logging.getLogger(__name__)

LOOK_SECONDS = 1.0
"""How often connections are looked at for what has taken too long."""
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
        attached: Callable[[Serve], Attached] | None = None,
    ) -> None:
        """With `attached` it listens on those addresses and on the loopback ones, else on `host`, which is everywhere."""
        self._port = port
        self._settings = settings
        self._host = host
        self._attached = attached
        self._dispatcher = Dispatcher(routes, settings.api_subnets)
        self.bound = 0
        self.bound_tls = 0
        self._interfaces6: set[str] = set()
        """Those whose IPv6 addresses are listened on: two networks may share one."""

    @property
    def counters(self) -> Counters:
        return self._dispatcher.counters

    async def run(self, ready: asyncio.Event) -> None:
        """Serve until cancelled. Raises Error when a port or the certificate cannot be used."""
        context = None if self._settings.tls is None else load_certificate(self._settings.tls)
        most = _cap(self._settings.max_connections)
        dispatcher, settings = self._dispatcher, self._settings
        server = ConnectionServer(dispatcher, dispatcher.make_request, dispatcher.at_once, settings, most, _connections)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(self._drain, server)
            if self._attached is None:
                await self._listen(stack, server, context, host=self._host)
            else:
                await self._listen(stack, server, context, place=(LOOPBACK4, LOOPBACK))
                await self._listen6(stack, server, context, LOOPBACK)
            log.info("http listening port=%d tls=%s connections=%d", self.bound, self.bound_tls or "off", most)
            if self._attached is None:
                ready.set()
                await self._watch(server)
            else:
                await self._serve_places(server, context, ready)

    async def _serve_places(self, server: ConnectionServer, context: ssl.SSLContext | None, ready: asyncio.Event) -> None:
        """As `run`, on the addresses that come and go; a bridge that is made anew has a new socket."""
        assert self._attached is not None

        async def serve(link: Link, begun: asyncio.Event) -> None:
            async with contextlib.AsyncExitStack() as stack:
                for place in places(link.address, link.name):
                    await self._listen(stack, server, context, place=place)
                if link.name not in self._interfaces6:
                    self._interfaces6.add(link.name)
                    stack.callback(self._interfaces6.discard, link.name)
                    await self._listen6(stack, server, context, link.name)
                log.info("http listening if=%s address=%s", link.name, link.address)
                begun.set()
                await until_gone(link)

        async with asyncio.TaskGroup() as group:
            group.create_task(self._attached(serve).run(ready))
            await self._watch(server)

    async def _listen6(
        self, stack: contextlib.AsyncExitStack, server: ConnectionServer, context: ssl.SSLContext | None, interface: str
    ) -> None:
        """On every IPv6 address of the interface: what arrives there can be to no other, and they come and go by themselves."""
        try:
            await self._listen(stack, server, context, place=(ANY6, interface))
        except PortTaken:
            raise
        except Error as exc:
            # A machine without IPv6.
            log.info("%s", exc)

    async def _listen(
        self,
        stack: contextlib.AsyncExitStack,
        server: ConnectionServer,
        context: ssl.SSLContext | None,
        *,
        host: str | None = None,
        place: Place | None = None,
    ) -> None:
        """Until the stack is left; with TLS, where a certificate is given."""
        listener = await listen(server, self._settings, self._port, host=host, place=place)
        stack.callback(listener.close)
        self.bound = listener.sockets[0].getsockname()[1]
        if context is not None and self._settings.tls is not None:
            listener = await listen(server, self._settings, self._settings.tls.port, context=context, host=host, place=place)
            stack.callback(listener.close)
            self.bound_tls = listener.sockets[0].getsockname()[1]

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
