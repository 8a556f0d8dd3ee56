"""The HTTP server: routes together, listening, and a stop that lets transfers end."""

import asyncio
import errno
import logging
from collections.abc import Sequence

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from images.errors import Error

log = logging.getLogger(__name__)

SHUTDOWN_SECONDS = 10
"""How long transfers that are under way may still take when the server stops."""


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
    """`port` 0 lets the kernel choose; `bound` then says which it is."""

    def __init__(self, port: int, routes: Sequence[web.RouteDef], *, host: str | None = None) -> None:
        self._port = port
        self._host = host
        self._app = web.Application()
        self._app.add_routes(routes)
        self.bound = 0

    async def run(self, ready: asyncio.Event) -> None:
        """Serve until cancelled. Raises PortTaken."""
        runner = web.AppRunner(
            self._app, access_log=None, logger=_connections, shutdown_timeout=SHUTDOWN_SECONDS, handle_signals=False
        )
        await runner.setup()
        try:
            site = web.TCPSite(runner, self._host, self._port, reuse_address=True)
            try:
                await site.start()
            except OSError as exc:
                raise _unusable(self._port, exc) from exc
            self.bound = runner.addresses[0][1]
            ready.set()
            await asyncio.get_running_loop().create_future()
        finally:
            await runner.cleanup()


def _unusable(port: int, reason: OSError) -> Error:
    if reason.errno == errno.EADDRINUSE:
        return Error(f"TCP port {port} is taken by another program", hint="stop it, or set `warewulf: port` in warewulf.conf")
    return Error(f"cannot listen on TCP port {port}: {reason.strerror}")
