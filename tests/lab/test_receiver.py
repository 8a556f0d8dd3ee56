"""What a node sends arrives whole, and what never ends is an error."""

import asyncio
from ipaddress import IPv4Address

import pytest
from receiver import receiver

from images.errors import Error

LOOPBACK = IPv4Address("127.0.0.1")


async def test_all_of_it_arrives_once_the_sender_closes() -> None:
    async with receiver(LOOPBACK) as sent:
        reader, writer = await asyncio.open_connection(str(sent.address), sent.port)
        writer.write(b"x" * 300_000)
        await writer.drain()
        with pytest.raises(Error, match="nothing whole arrived"):
            await sent.data(0.01)
        writer.write(b"end")
        writer.write_eof()
        assert await reader.read() == b""
        assert await sent.data(20) == b"x" * 300_000 + b"end"
        writer.close()
