"""DNS over TCP (RFC 7766): messages with their length in front, several on one connection, within limits of time and number."""

import asyncio
import logging
import socket
from collections import Counter
from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import Protocol

log = logging.getLogger(__name__)

IDLE_SECONDS = 10.0
"""A connection that sends no whole query for so long is closed; also the longest that it may take to read an answer."""
MAX_CONNECTIONS = 128
MAX_CONNECTIONS_PER_CLIENT = 16
MAX_QUERIES = 1000
"""On one connection."""
MAX_UNSENT = 256 * 1024
"""Bytes of answers that a client may leave unread."""


class Receive(Protocol):
    """What takes a message; the answer goes to `send`, now or later, or never."""

    def __call__(self, data: bytes, client: str, send: Callable[[bytes], None]) -> None: ...


class TcpServer:
    """Serves on one listening socket while it is entered; `serves` says whose connections are taken."""

    def __init__(self, sock: socket.socket, serves: Callable[[str], bool], receive: Receive) -> None:
        self._socket = sock
        self._serves = serves
        self._receive = receive
        self._server: asyncio.Server | None = None
        self._writers: dict[asyncio.StreamWriter, str] = {}

    async def __aenter__(self) -> "TcpServer":
        self._server = await asyncio.start_server(self._connected, sock=self._socket)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._server is not None:
            self._server.close()
        for writer in list(self._writers):
            writer.transport.abort()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        client = str((writer.get_extra_info("peername") or ("0.0.0.0",))[0])
        same = Counter(self._writers.values())[client]
        if not self._serves(client) or len(self._writers) >= MAX_CONNECTIONS or same >= MAX_CONNECTIONS_PER_CLIENT:
            writer.transport.abort()
            return
        self._writers[writer] = client
        try:
            await self._converse(reader, writer, client)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            pass
        except Exception:
            log.exception("a DNS connection of %s", client)
        finally:
            del self._writers[writer]
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, client: str) -> None:
        for _ in range(MAX_QUERIES):
            async with asyncio.timeout(IDLE_SECONDS):
                size = int.from_bytes(await reader.readexactly(2), "big")
                data = await reader.readexactly(size)
                await writer.drain()
            self._receive(data, client, partial(_send, writer))


def _send(writer: asyncio.StreamWriter, data: bytes) -> None:
    if writer.is_closing():
        return
    if writer.transport.get_write_buffer_size() > MAX_UNSENT:
        writer.transport.abort()
        return
    writer.write(len(data).to_bytes(2, "big") + data)
