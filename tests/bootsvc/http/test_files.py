"""Files over HTTP: concatenation, Range across segments, conditional requests, HEAD; curl as the foreign client."""

import asyncio
import subprocess
from collections.abc import AsyncIterator, Awaitable
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from conditions import until
from hypothesis import given
from hypothesis import strategies as st

from bootsvc.artifacts import Artifact
from bootsvc.http.files import ArtifactResponse
from bootsvc.http.sending import Piece, pieces
from bootsvc.http.service import HttpService

SIZES = (100_000, 1, 70_001)
PADDED = 170_004


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    parts = []
    for number, size in enumerate(SIZES):
        path = tmp_path / str(number)
        path.write_bytes(bytes((number * 50 + at) % 251 for at in range(size)))
        parts.append((path, size))
    return Artifact(parts=parts, size=PADDED, etag="sha256:abc")


@pytest.fixture
def whole(artifact: Artifact) -> bytes:
    return b"".join(path.read_bytes() for path, _ in artifact.parts) + bytes(PADDED - sum(SIZES))


@pytest.fixture
def seen() -> list[int]:
    """Of each answer whose last byte was acknowledged: how many bytes of it."""
    return []


@pytest.fixture(params=["waits", "from files", "from memory"])
async def url(request: pytest.FixtureRequest, artifact: Artifact, whole: bytes, seen: list[int]) -> AsyncIterator[str]:
    held = whole if request.param == "from memory" else None

    def at_once(_: web.Request) -> Awaitable[web.StreamResponse]:
        return ArtifactResponse(artifact, on_delivered=seen.append, held=held)

    async def waits(request: web.Request) -> web.StreamResponse:
        return await at_once(request)

    handler = waits if request.param == "waits" else at_once
    service = HttpService(0, [web.get("/image", handler)], host="127.0.0.1")
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(service.run(ready))
        await ready.wait()
        yield f"http://127.0.0.1:{service.bound}/image"
        task.cancel()


async def fetch(url: str, method: str = "GET", **headers: str) -> tuple[int, bytes, dict[str, str]]:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    async with aiohttp.ClientSession() as session, session.request(method, url, headers=sent) as response:
        return response.status, await response.read(), dict(response.headers)


async def test_whole(url: str, whole: bytes) -> None:
    status, body, headers = await fetch(url)
    assert (status, body) == (200, whole)
    assert (headers["Content-Length"], headers["Etag"], headers["Accept-Ranges"]) == (str(PADDED), '"sha256:abc"', "bytes")


async def test_head(url: str) -> None:
    status, body, headers = await fetch(url, "HEAD")
    assert (status, body, headers["Content-Length"]) == (200, b"", str(PADDED))


@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=99999-100001", 99_999, 100_002),
        ("bytes=170000-", 170_000, PADDED),
        ("bytes=-5", PADDED - 5, PADDED),
        ("bytes=5-999999999", 5, PADDED),
    ],
)
async def test_range(url: str, whole: bytes, header: str, start: int, stop: int) -> None:
    status, body, headers = await fetch(url, Range=header)
    assert (status, body) == (206, whole[start:stop])
    assert headers["Content-Range"] == f"bytes {start}-{stop - 1}/{PADDED}"


async def test_range_beyond_the_end(url: str) -> None:
    status, body, headers = await fetch(url, Range=f"bytes={PADDED}-")
    assert (status, body, headers["Content-Range"]) == (416, b"", f"bytes */{PADDED}")
    assert (await fetch(url, Range="bytes=-0"))[0] == 416


@pytest.mark.parametrize("header", ["bytes=5-2", "lines=1-2", "bytes=a-b", "bytes=0-1,5-6", "bytes=-"])
async def test_a_range_that_is_none_is_ignored(url: str, whole: bytes, header: str) -> None:
    status, body, _ = await fetch(url, Range=header)
    assert (status, body) == (200, whole)


async def test_conditional(url: str, whole: bytes) -> None:
    assert (await fetch(url, If_None_Match='"sha256:abc"'))[:2] == (304, b"")
    assert (await fetch(url, If_None_Match='"other"'))[0] == 200
    assert (await fetch(url, Range="bytes=1-2", If_Range='"sha256:abc"'))[:2] == (206, whole[1:3])
    assert (await fetch(url, Range="bytes=1-2", If_Range='"other"'))[:2] == (200, whole)


@pytest.mark.parametrize(
    ("method", "headers", "delivered"),
    [
        ("GET", {}, True),
        ("GET", {"Range": f"bytes={PADDED - 5}-"}, True),
        ("GET", {"Range": "bytes=0-5"}, False),
        ("GET", {"Range": f"bytes={PADDED}-"}, False),
        ("GET", {"If_None_Match": '"sha256:abc"'}, False),
        ("HEAD", {}, False),
    ],
)
async def test_delivered(url: str, seen: list[int], method: str, headers: dict[str, str], delivered: bool) -> None:
    await fetch(url, method, **headers)
    # Another answer's acknowledgement: what was before it would have been told by now.
    _, body, _ = await fetch(url, Range="bytes=-1")
    await until(lambda: seen[-1:] == [1])
    assert len(seen) == 1 + delivered, (seen, body)


async def test_curl_resumes(url: str, whole: bytes, tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_bytes(whole[:123_456])
    command = ["curl", "--silent", "--fail", "--continue-at", "-", "--output", str(part), url]
    await asyncio.to_thread(subprocess.run, command, check=True)
    assert part.read_bytes() == whole


async def test_one_connection_many_requests(url: str, whole: bytes) -> None:
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=1)) as session:
        for _ in range(3):
            async with session.get(url) as response:
                assert await response.read() == whole


@pytest.mark.parametrize("url", ["waits", "from files"], indirect=True)
async def test_a_file_lost_on_the_way_ends_the_connection(url: str, whole: bytes, artifact: Artifact) -> None:
    artifact.parts[2][0].unlink()
    host, port = url.removeprefix("http://").partition("/")[0].split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(b"GET /image HTTP/1.1\r\nHost: x\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert f"Content-Length: {PADDED}".encode() in head
    assert body == whole[: sum(SIZES[:2])], "nothing else, such as another answer's head, is taken for the file"


async def test_what_peers_do_wrong_is_no_traceback(url: str, caplog: pytest.LogCaptureFixture) -> None:
    host, port = url.removeprefix("http://").partition("/")[0].split(":")
    for request in (
        b"GET / HTTP/9.9\r\n\r\n",
        b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n",
        b"GET //x:99999/ HTTP/1.1\r\n\r\n",
    ):
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(request)
        assert (await reader.read()).startswith(b"HTTP/1.0 400")
        writer.close()
    assert [record.getMessage() for record in caplog.records if record.exc_info] == []


@given(st.lists(st.integers(0, 9), max_size=5), st.integers(0, 3), st.data())
def test_pieces_are_the_bytes_asked_for(sizes: list[int], padding: int, data: st.DataObject) -> None:
    size = sum(sizes) + padding
    start = data.draw(st.integers(0, size))
    stop = data.draw(st.integers(start, size))
    artifact = Artifact(parts=[(Path(str(n)), count) for n, count in enumerate(sizes)], size=size, etag="")
    numbered = [(Path(str(n)), at) for n, count in enumerate(sizes) for at in range(count)] + [(None, 0)] * padding
    found = [(p.path, p.offset + at if p.path else 0) for p in pieces(artifact.parts, start, stop) for at in range(p.count)]
    assert found == numbered[start:stop]
    assert Piece(path=None, offset=0, count=0) not in list(pieces(artifact.parts, start, stop))
