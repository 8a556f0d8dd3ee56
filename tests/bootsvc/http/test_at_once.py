"""Answers given within the read: in order, whole, counted when they arrived, and none that a peer does not take."""

import asyncio
import socket
import struct
from collections.abc import AsyncIterator, Awaitable
from contextlib import suppress

import pytest
from aiohttp import web
from conditions import until

from bootsvc.artifacts import Artifact
from bootsvc.http.files import ArtifactResponse, BytesAnswer
from bootsvc.http.service import HttpService
from bootsvc.http.settings import HttpConfig

HELD = bytes(range(256)) * 1024
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER: `close` sends a reset (socket(7))."""


class Site:
    def __init__(self) -> None:
        self.delivered: list[int] = []
        self.asked: list[str] = []
        routes = [web.get(f"/{each.__name__}/{{name}}", each) for each in (self.small, self.held, self.late, self.broken)]
        self.service = HttpService(0, routes, host="127.0.0.1", settings=HttpConfig(drain_seconds=1))

    def small(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        self.asked.append(request.match_info["name"])
        return BytesAnswer(f"{request.match_info['name']};".encode(), on_delivered=self.delivered.append)

    def held(self, _: web.Request) -> Awaitable[web.StreamResponse]:
        artifact = Artifact(parts=(), size=len(HELD), etag="held")
        return ArtifactResponse(artifact, held=HELD, on_delivered=self.delivered.append)

    async def late(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.match_info["name"])
        await asyncio.sleep(0)
        return BytesAnswer(f"{request.match_info['name']};".encode())

    def broken(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        raise ValueError(request.path)

    def connect(self) -> socket.socket:
        """A client that reads nothing by itself; its buffer is small."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", self.service.bound))
        sock.setblocking(False)
        return sock


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    made, ready = Site(), asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(made.service.run(ready))
        await ready.wait()
        yield made
        task.cancel()


def get(*paths: str, extra: str = "") -> bytes:
    return "".join(f"GET {path} HTTP/1.1\r\nHost: x\r\n{extra}\r\n" for path in paths).encode()


async def bodies(sock: socket.socket, count: int) -> list[bytes]:
    """Of so many answers."""
    reader, writer = await asyncio.open_connection(sock=sock)
    found = []
    async with asyncio.timeout(30):
        for _ in range(count):
            head = await reader.readuntil(b"\r\n\r\n")
            size = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
            found.append(await reader.readexactly(size))
    writer.close()
    return found


@pytest.mark.parametrize("kinds", [["small"], ["small", "late"], ["late", "small", "small"], ["small", "late", "held"]])
@pytest.mark.parametrize("count", [1, 3, 9, 100])
async def test_pipelined_answers_come_in_order(site: Site, kinds: list[str], count: int) -> None:
    asked = [(kinds[number % len(kinds)], str(number)) for number in range(count)]
    sock = site.connect()
    await asyncio.get_running_loop().sock_sendall(sock, get(*(f"/{kind}/{name}" for kind, name in asked)))
    assert await bodies(sock, count) == [HELD if kind == "held" else f"{name};".encode() for kind, name in asked]


async def test_a_request_in_pieces(site: Site) -> None:
    sock, request = site.connect(), get("/small/1", "/small/2")
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for at in range(len(request)):
        await asyncio.get_running_loop().sock_sendall(sock, request[at : at + 1])
        await asyncio.sleep(0)
    assert await bodies(sock, 2) == [b"1;", b"2;"]


async def test_who_asks_and_reads_nothing_is_not_answered_for_ever(site: Site) -> None:
    count, loop = 4000, asyncio.get_running_loop()
    sock = site.connect()
    sending = loop.create_task(loop.sock_sendall(sock, get(*(f"/small/{number}{'x' * 2000}" for number in range(count)))))
    await until(lambda: site.asked)
    seen = -1
    while seen != len(site.asked):
        seen = len(site.asked)
        await asyncio.sleep(0.2)
    assert 0 < seen < count
    found = await bodies(sock, count)
    await sending
    assert [int(body.partition(b"x")[0]) for body in found] == list(range(count))


async def test_delivered_is_what_arrived(site: Site) -> None:
    loop = asyncio.get_running_loop()
    gone, whole = site.connect(), site.connect()
    await loop.sock_sendall(gone, get("/held/x"))
    await loop.sock_recv(gone, 1)
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    gone.close()
    await loop.sock_sendall(whole, get("/held/x"))
    assert await bodies(whole, 1) == [HELD]
    await until(lambda: len(site.delivered) > 0)
    assert site.delivered == [len(HELD)]


async def test_delivered_before_the_next_answer(site: Site) -> None:
    sock = site.connect()
    reader, writer = await asyncio.open_connection(sock=sock)
    for number in (1, 22, 333):
        writer.write(get(f"/small/{number}"))
        assert await reader.readuntil(b";")
    await until(lambda: site.delivered == [2, 3, 4])
    writer.close()


async def test_the_last_answer_of_a_connection(site: Site) -> None:
    sock = site.connect()
    await asyncio.get_running_loop().sock_sendall(sock, get("/small/1") + get("/small/22", extra="Connection: close\r\n"))
    reader, writer = await asyncio.open_connection(sock=sock)
    got = await reader.read()
    assert (got.count(b"HTTP/1.1 200"), got.endswith(b"\r\n\r\n22;")) == (2, True)
    await until(lambda: site.delivered == [2, 3])
    writer.close()


async def test_a_broken_handler_is_an_error_of_ours(site: Site) -> None:
    sock = site.connect()
    await asyncio.get_running_loop().sock_sendall(sock, get("/small/1", "/broken/2"))
    reader, writer = await asyncio.open_connection(sock=sock)
    with suppress(ConnectionError):
        got = await reader.read()
    assert (b"1;" in got, b"HTTP/1.1 500" in got) == (True, True)
    writer.close()
