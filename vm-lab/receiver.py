"""What a node sends to the head node over TCP: the console is too slow for more than a few lines."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from ipaddress import IPv4Address

from images.errors import Error

MAX_BYTES = 64 << 20


class Receiver:
    """One listening socket; takes all that the first connection sends."""

    def __init__(self, address: IPv4Address) -> None:
        self.address = address
        self.port = 0
        self._received: bytes | None = None
        self._whole = asyncio.Event()

    async def take(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        data = bytearray()
        while len(data) <= MAX_BYTES and (chunk := await reader.read(1 << 16)):
            data += chunk
        # The far end waits for this.
        writer.close()
        if self._received is None:
            self._received = bytes(data)
            self._whole.set()

    async def data(self, seconds: float) -> bytes:
        """What was sent, once the sender has closed."""
        try:
            async with asyncio.timeout(seconds):
                await self._whole.wait()
        except TimeoutError as exc:
            raise Error(f"nothing whole arrived on {self.address} in {seconds:g} seconds") from exc
        assert self._received is not None
        return self._received


@asynccontextmanager
async def receiver(address: IPv4Address) -> AsyncIterator[Receiver]:
    """Listen on a free port of the address for the length of a `with` block."""
    received = Receiver(address)
    server = await asyncio.start_server(received.take, str(address))
    async with server:
        received.port = server.sockets[0].getsockname()[1]
        yield received
