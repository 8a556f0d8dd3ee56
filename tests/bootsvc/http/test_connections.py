"""Peers that are slow, silent, many or gone: others are served, and nothing counts as delivered that did not arrive."""

import asyncio
import os
import random
import resource
import socket
import ssl
import subprocess
import tempfile
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from ipaddress import IPv4Network
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from conditions import until

from bootsvc.artifacts import Artifact
from bootsvc.http import service as http_service
from bootsvc.http.files import ArtifactResponse, BytesAnswer
from bootsvc.http.service import HttpService
from bootsvc.http.settings import HttpConfig, TlsConfig
from images.errors import Error

LARGE = 16 << 20
QUICK = HttpConfig(header_seconds=1, stall_seconds=1, idle_seconds=1, drain_seconds=1)


@pytest.fixture(autouse=True)
def _look_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http_service, "LOOK_SECONDS", 0.1)


@pytest.fixture
def large(tmp_path: Path) -> Artifact:
    parts = []
    for number in range(8):
        path = tmp_path / str(number)
        path.write_bytes(random.Random(number).randbytes(LARGE // 8))
        parts.append((path, LARGE // 8))
    return Artifact(parts=parts, size=LARGE, etag="large")


class Site:
    def __init__(self, artifact: Artifact, settings: HttpConfig) -> None:
        self.delivered: list[int] = []

        async def handler(_: web.Request) -> web.StreamResponse:
            return ArtifactResponse(artifact, on_delivered=self.delivered.append)

        async def small(_: web.Request) -> web.StreamResponse:
            return BytesAnswer(b"small\n", on_delivered=self.delivered.append)

        routes = [web.get("/large", handler), web.get("/small", small), web.get("/events", small), web.get("/api/x/{y}", small)]
        self.service = HttpService(0, routes, host="127.0.0.1", settings=settings)

    @property
    def port(self) -> int:
        return self.service.bound

    def ask(self, path: str, extra: bytes = b"") -> socket.socket:
        """A client that has asked, and reads nothing by itself; its buffer is small."""
        sock = socket.socket()
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        sock.connect(("127.0.0.1", self.port))
        sock.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n".encode() + extra + b"\r\n")
        sock.setblocking(False)
        return sock

    async def fetch(self, path: str, **headers: str) -> tuple[int, bytes]:
        url = f"http://127.0.0.1:{self.port}{path}"
        async with aiohttp.ClientSession() as session, session.get(url, headers=headers) as response:
            return response.status, await response.read()


@asynccontextmanager
async def serving(artifact: Artifact, settings: HttpConfig) -> AsyncIterator[Site]:
    site = Site(artifact, settings)
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(site.service.run(ready))
        await ready.wait()
        yield site
        task.cancel()


async def ended(sock: socket.socket) -> bytes:
    """What is left to read until the server ends the connection."""
    loop, got = asyncio.get_running_loop(), b""
    async with asyncio.timeout(20):
        while True:
            try:
                data = await loop.sock_recv(sock, 1 << 20)
            except ConnectionError:
                return got
            if not data:
                return got
            got += data


async def test_random_ranges_are_slices_of_the_concatenation(large: Artifact) -> None:
    whole = b"".join(path.read_bytes() for path, _ in large.parts)
    draw = random.Random(1)
    async with serving(large, HttpConfig()) as site:
        for _ in range(30):
            start = draw.randrange(LARGE)
            stop = min(LARGE, start + draw.choice([1, 1000, LARGE // 8, LARGE // 3]))
            status, body = await site.fetch("/large", Range=f"bytes={start}-{stop - 1}")
            assert (status, body == whole[start:stop]) == (206, True), (start, stop)


async def test_slow_senders_are_given_up(large: Artifact) -> None:
    async with serving(large, QUICK) as site:
        silent, slow = socket.create_connection(("127.0.0.1", site.port)), socket.create_connection(("127.0.0.1", site.port))
        slow.send(b"GET /small HTTP/1.1\r\nHost:")
        for sock in (silent, slow):
            sock.setblocking(False)
            assert await ended(sock) == b""
            sock.close()
        assert site.service.counters.given_up == 2


async def test_a_peer_that_takes_nothing_is_given_up_and_has_nothing_delivered(large: Artifact) -> None:
    async with serving(large, QUICK) as site:
        sock = site.ask("/large")
        await until(lambda: site.service.counters.given_up == 1)
        sock.close()
        assert site.delivered == []


async def test_a_slow_peer_that_goes_on_is_not_given_up(large: Artifact) -> None:
    async with serving(large, QUICK) as site:
        sock, loop, got = site.ask("/large"), asyncio.get_running_loop(), 0
        while got < LARGE:
            for _ in range(400):
                got += len(await loop.sock_recv(sock, 1 << 16))
                if got >= LARGE:
                    break
            await asyncio.sleep(0.2)
        await until(lambda: site.delivered == [LARGE])
        sock.close()


async def test_delivered_means_acknowledged(large: Artifact) -> None:
    """The kernel takes the end of a file long before the peer has it."""
    async with serving(replace(large, parts=large.parts[:1], size=LARGE // 8), HttpConfig()) as site:
        sock = site.ask("/large", b"Connection: close\r\n")
        sock.close()
        assert (await site.fetch("/small"))[0] == 200
        await until(lambda: site.delivered)
        assert site.delivered == [len(b"small\n")]


async def test_two_thousand_idle_connections(large: Artifact) -> None:
    async with serving(large, HttpConfig(max_connections=2500)) as site:
        idle = []
        for _ in range(2000):
            idle.append(socket.create_connection(("127.0.0.1", site.port)))
            if len(idle) % 100 == 0:
                await asyncio.sleep(0)
        for _ in range(5):
            assert await site.fetch("/small") == (200, b"small\n")
        assert site.service.counters.given_up == 0
        for sock in idle:
            sock.close()


async def test_when_descriptors_run_out_the_log_stays_short(large: Artifact, caplog: pytest.LogCaptureFixture) -> None:
    async with serving(large, HttpConfig()) as site:
        clients = [socket.socket() for _ in range(10)]
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        with tempfile.TemporaryFile() as file:
            lowest = file.fileno()
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, hard))
        try:
            for client in clients:
                client.connect(("127.0.0.1", site.port))
            await until(lambda: "out of system resource" in caplog.text)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        assert caplog.text.count("out of system resource") < 500
        assert await site.fetch("/small") == (200, b"small\n"), "and it goes on"
        for client in clients:
            client.close()


async def test_beyond_the_cap_the_quietest_make_room(large: Artifact) -> None:
    async with serving(large, HttpConfig(max_connections=20)) as site:
        busy = site.ask("/large")
        await until(lambda: site.service.counters.requests == 1)
        idle = [socket.create_connection(("127.0.0.1", site.port)) for _ in range(40)]
        for _ in range(5):
            assert await site.fetch("/small") == (200, b"small\n")
        assert len(await ended_after(busy)) > LARGE, "who is being served stays"
        for sock in [busy, *idle]:
            sock.close()


async def ended_after(sock: socket.socket) -> bytearray:
    """The whole large answer."""
    loop, got = asyncio.get_running_loop(), bytearray()
    while len(got) < LARGE + 50:
        data = await loop.sock_recv(sock, 1 << 20)
        if not data:
            break
        got += data
        if got[-1:] and len(got) >= LARGE + got.find(b"\r\n\r\n") + 4:
            break
    return got


async def test_the_server_stops_in_time_with_stalled_peers(large: Artifact) -> None:
    loop = asyncio.get_running_loop()
    async with serving(large, QUICK) as site:
        stalled = [site.ask("/large") for _ in range(200)]
        await until(lambda: site.service.counters.requests == 200)
        finishing = site.ask("/large")
        await until(lambda: site.service.counters.requests == 201)
        reading = threading.Thread(target=_read_all, args=(finishing,))
        reading.start()
        before = loop.time()
    assert loop.time() - before < 8
    await asyncio.to_thread(reading.join)
    for sock in stalled:
        sock.close()


def _read_all(sock: socket.socket) -> None:
    sock.setblocking(True)
    try:
        while sock.recv(1 << 20):
            pass
    except OSError:
        pass
    sock.close()


@pytest.mark.parametrize("change", ["replaced", "truncated", "rewritten"])
async def test_a_file_that_changes_meanwhile_is_whole_and_old_or_an_error(tmp_path: Path, change: str) -> None:
    path = tmp_path / "file"
    old = random.Random(1).randbytes(LARGE)
    path.write_bytes(old)
    os.utime(path, (1, 1))
    async with serving(Artifact(parts=[(path, LARGE)], size=LARGE, etag="f"), HttpConfig()) as site:
        sock = site.ask("/large")
        loop = asyncio.get_running_loop()
        got = await loop.sock_recv(sock, 1 << 16)
        if change == "replaced":
            (tmp_path / "new").write_bytes(bytes(LARGE))
            (tmp_path / "new").rename(path)
        elif change == "truncated":
            os.truncate(path, LARGE // 2)
        else:
            path.write_bytes(bytes(LARGE))
        head, _, body = got.partition(b"\r\n\r\n")
        while len(body) < LARGE:
            try:
                data = await loop.sock_recv(sock, 1 << 20)
            except ConnectionError:
                break
            if not data:
                break
            body += data
        sock.close()
        assert b" 200 " in head
        if change == "replaced":
            assert body == old
        else:
            assert len(body) < LARGE


async def test_only_allowed_addresses_use_the_api(large: Artifact) -> None:
    async with serving(large, HttpConfig(api_subnets=(IPv4Network("10.0.0.0/8"),))) as site:
        for path in ("/events", "//events", "/api/x/1", "/api/none"):
            status, text = await site.fetch(path)
            assert (status, b"may not use the API" in text) == (403, True), path
        assert (await site.fetch("/small"))[0] == 200
        assert site.service.counters.refused == 4
    async with serving(large, HttpConfig(api_subnets=(IPv4Network("127.0.0.0/8"),))) as site:
        assert (await site.fetch("/events"))[0] == 200


async def test_methods_and_paths(large: Artifact) -> None:
    async with serving(large, HttpConfig()) as site, aiohttp.ClientSession(f"http://127.0.0.1:{site.port}") as session:
        async with session.post("/small") as response:
            assert (response.status, await response.text()) == (405, "only GET, HEAD can be asked for here\n")
            assert response.headers["Allow"] == "GET, HEAD"
        assert (await site.fetch("/nothing"))[0] == 404
        async with session.head("/small") as response:
            assert (response.status, response.headers["Content-Length"]) == (200, "6")


@pytest.fixture
def certificate(tmp_path: Path) -> TlsConfig:
    made = TlsConfig(certificate=tmp_path / "crt", key=tmp_path / "key", port=0)
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    subprocess.run([*command, "-keyout", str(made.key), "-out", str(made.certificate)], check=True, capture_output=True)
    return made


async def test_tls(large: Artifact, certificate: TlsConfig) -> None:
    whole = b"".join(path.read_bytes() for path, _ in large.parts)
    async with serving(large, HttpConfig(tls=certificate)) as site:
        context = ssl.create_default_context(cafile=str(certificate.certificate))
        context.check_hostname = False
        url = f"https://127.0.0.1:{site.service.bound_tls}"
        async with aiohttp.ClientSession() as session, session.get(f"{url}/large", ssl=context) as response:
            assert await response.read() == whole
        await until(lambda: site.delivered == [LARGE])
        assert (await site.fetch("/small"))[0] == 200


async def test_what_arrived_by_tls_counts_when_the_client_closes_at_once(
    large: Artifact, certificate: TlsConfig, require_tool: Callable[..., Path]
) -> None:
    """Its end is answered, and that answer is acknowledged by nobody."""
    curl = str(require_tool("curl"))
    async with serving(large, HttpConfig(tls=certificate)) as site:

        def arrived(count: int) -> bool:
            return len(site.delivered) == count

        for number, path in enumerate(("small", "large", "small", "small"), 1):
            url = f"https://127.0.0.1:{site.service.bound_tls}/{path}"
            await asyncio.to_thread(subprocess.run, [curl, "-sSfk", "-o", "/dev/null", url], check=True, timeout=60)
            await until(partial(arrived, number))
        assert site.delivered == [6, LARGE, 6, 6]


async def test_a_certificate_that_is_none_is_said(large: Artifact, tmp_path: Path) -> None:
    (tmp_path / "crt").write_text("nonsense")
    tls = TlsConfig(certificate=tmp_path / "crt", key=tmp_path / "key", port=0)
    site = Site(large, HttpConfig(tls=tls))
    with pytest.raises(Error, match="TLS cannot use the certificate"):
        await site.service.run(asyncio.Event())


CLIENTS: dict[str, Callable[[str, Path], list[str]]] = {
    "curl": lambda url, to: ["curl", "-sSf", "-o", str(to), url],
    "curl HTTP/1.0": lambda url, to: ["curl", "-0", "-sSf", "-o", str(to), url],
    "wget": lambda url, to: ["wget", "-q", "-O", str(to), url],
    "busybox": lambda url, to: ["busybox", "wget", "-q", "-O", str(to), url],
}


@pytest.mark.parametrize("client", CLIENTS)
async def test_clients_that_people_have(
    large: Artifact, tmp_path: Path, client: str, require_tool: Callable[..., Path]
) -> None:
    whole = b"".join(path.read_bytes() for path, _ in large.parts)
    async with serving(large, HttpConfig()) as site:
        command = CLIENTS[client](f"http://127.0.0.1:{site.port}//large", tmp_path / "got")
        require_tool(command[0])
        await asyncio.to_thread(subprocess.run, command, check=True, timeout=60)
        assert (tmp_path / "got").read_bytes() == whole
        await until(lambda: site.delivered == [LARGE])
