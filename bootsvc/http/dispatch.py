"""From a request to its handler, and what has to happen around every answer."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any
from urllib.parse import unquote

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_parser import RawRequestMessage
from aiohttp.streams import EMPTY_PAYLOAD, StreamReader
from aiohttp.web_urldispatcher import UrlMappingMatchInfo

from bootsvc.http.connection import Connection
from bootsvc.http.files import Answer, BytesAnswer
from netboot import urls

log = logging.getLogger(__name__)

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
"""It may return its Answer itself instead of something to wait for, and is then answered without a task."""
CLOSING_SECONDS = 5.0
"""How long a connection that is to be closed waits for the peer's last acknowledgement."""
MOST_PATHS = 1024
"""Whose handlers are remembered."""
MAX_BODY = 1 << 20
"""Bytes of a request's body."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """What stands behind one path: handlers by method."""

    handlers: dict[str, Handler]

    @property
    def allowed(self) -> str:
        return ", ".join(sorted(self.handlers))


@dataclass(slots=True, kw_only=True)
class Counters:
    """What happened since the start, for `/status`."""

    requests: int = 0
    given_up: int = 0
    """Connections ended because the peer was idle, sent no whole request or took nothing."""
    refused: int = 0
    """Requests from addresses that may not ask."""


class Dispatcher:
    """The handler of aiohttp's low-level server, which has no router: its own costs more than the rest of a small answer."""

    def __init__(self, routes: Sequence[web.RouteDef], api_subnets: Sequence[IPv4Network | IPv6Network]) -> None:
        self.counters = Counters()
        self._subnets = api_subnets
        by_path: dict[str, Target] = {}
        for route in routes:
            handlers = by_path.setdefault(route.path, Target(handlers={})).handlers
            handler: Any = route.handler
            handlers[route.method] = handler
            if route.method == "GET" and route.kwargs.get("allow_head", True):
                handlers["HEAD"] = handler
        self._route = lru_cache(MOST_PATHS)(urls.Routes(by_path).find)

    def make_request(
        self,
        message: RawRequestMessage,
        payload: StreamReader,
        protocol: web.RequestHandler,
        writer: AbstractStreamWriter,
        task: "asyncio.Task[None]",
    ) -> web.Request:
        return web.Request(message, payload, protocol, writer, task, task.get_loop(), client_max_size=MAX_BODY)

    async def __call__(self, request: web.Request) -> web.StreamResponse:
        connection = request.protocol
        assert isinstance(connection, Connection)
        self.counters.requests += 1
        connection.began()
        try:
            try:
                response = await self._find(request)
            except web.HTTPException as exc:
                response = BytesAnswer((exc.text or "").encode(), status=exc.status)
            await response.prepare(request)
            await response.write_eof()
            if isinstance(response, Answer) and _expect(connection, response) and not response.keep_alive:
                await connection.acknowledged(CLOSING_SECONDS)
            if connection.writing_paused:
                # Who asks again and again and reads nothing fills no memory here.
                await request.writer.drain()
            return response
        finally:
            connection.ended()

    def at_once(self, message: RawRequestMessage, payload: StreamReader, connection: Connection) -> bool:
        """Answer a request within this call, if its handler need not wait: a task costs more than a small answer.

        False: nothing has happened, and the request goes the ordinary way, where also whatever goes wrong is told.
        """
        if message.method not in _BODYLESS or payload is not EMPTY_PAYLOAD or message.should_close or message.upgrade:
            return False
        request = web.Request(message, payload, connection, _NONE, _NONE, connection.loop)
        try:
            answer = self._write_at_once(request, connection)
        except Exception:
            log.debug("http %s: once more", message.path, exc_info=True)
            return False
        if answer is None:
            return False
        self.counters.requests += 1
        _expect(connection, answer)
        return True

    def _write_at_once(self, request: web.Request, connection: Connection) -> Answer | None:
        answer = self._find(request)
        if not isinstance(answer, Answer):
            if isinstance(answer, Coroutine):
                # It has not begun.
                answer.close()
            return None
        connection.began()
        try:
            return answer if answer.at_once(request) else None
        finally:
            connection.ended()

    def _find(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        path = _path(request)
        if path.startswith(urls.GUARDED) and not self._may_ask(request.remote):
            self.counters.refused += 1
            return _plain(403, f"{request.remote} may not use the API (warewulf.conf: `api: allowed subnets`)")
        found = self._route(path)
        if found is None:
            return _plain(404, "there is nothing at this URL")
        target, parameters = found
        handler = target.handlers.get(request.method)
        if handler is None:
            return _plain(405, f"only {target.allowed} can be asked for here", allow=target.allowed)
        # What `match_info` gives; aiohttp's own router would set it.
        request._match_info = UrlMappingMatchInfo(parameters, _NONE)
        return handler(request)

    def _may_ask(self, remote: str | None) -> bool:
        try:
            address = ip_address((remote or "").removeprefix("::ffff:"))
        except ValueError:
            return False
        return any(address in subnet for subnet in self._subnets)


_NONE: Any = None
_BODYLESS = ("GET", "HEAD")


def _expect(connection: Connection, answer: Answer) -> bool:
    """Tell once the answer's last byte is acknowledged; whether that is still to come."""
    if not answer.complete or answer.on_delivered is None:
        return False
    connection.when_acknowledged(partial(answer.on_delivered, answer.sent))
    return not connection.settled


def _path(request: web.Request) -> str:
    """As the client spelled it, with one slash where it wrote several: a URL parser takes `//x/y` for host and path."""
    raw = request.raw_path
    path = raw.partition("?")[0] if raw.startswith("/") else request.path
    return urls.collapse(unquote(path) if "%" in path else path)


def _plain(status: int, sentence: str, *, allow: str = "") -> BytesAnswer:
    return BytesAnswer(f"{sentence}\n".encode(), status=status, allow=allow)
