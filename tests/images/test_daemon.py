"""An engine's socket: one of aiohttp that sends what skopeo made, and ones that fail."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiohttp import web
from artefacts import Artefacts

from images.manifest import PlatformMissing
from images.progress import ArchiveAdvanced, Event, LayerUnpacking, Started
from images.reference import InvalidReference
from images.source.contract import Provenance, SourceOptions
from images.source.daemon import DaemonSource, EngineFailed
from images.source.scheme import open_source

pytestmark = pytest.mark.root

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]
Snapshot = Callable[..., dict[bytes, tuple[object, ...]]]


@asynccontextmanager
async def engine(socket: Path, handler: Handler) -> AsyncIterator[str]:
    application = web.Application()
    application.router.add_route("*", "/{path:.*}", handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        await web.UnixSite(runner, str(socket)).start()
        yield f"unix://{socket}"
    finally:
        await runner.cleanup()


class Engine:
    """Has one image, `lab/rocky:9`."""

    def __init__(self, artefacts: Artefacts, archive: Path) -> None:
        self.id = artefacts.image.config_digest
        self.archive = archive
        self.asked: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(request.path)
        match request.path:
            case "/images/lab/rocky:9/json":
                return web.json_response({"Id": self.id, "Architecture": "amd64", "Os": "linux", "RepoTags": ["lab/rocky:9"]})
            case "/images/lab/rocky:9/get":
                response = web.StreamResponse(headers={"Content-Type": "application/x-tar"})
                response.enable_chunked_encoding()
                await response.prepare(request)
                data = await asyncio.to_thread(self.archive.read_bytes)
                for at in range(0, len(data), 10_000):
                    await response.write(data[at : at + 10_000])
                return response
        return web.json_response({"message": "No such image"}, status=404)


@pytest.fixture
def docker(artefacts: Artefacts, tmp_path: Path) -> Engine:
    archive = tmp_path / "archive"
    artefacts.skopeo(f"docker-archive:{archive}:lab/rocky:9")
    return Engine(artefacts, archive)


async def test_import(docker: Engine, artefacts: Artefacts, tmp_path: Path, snapshot: Snapshot) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    events: list[Event] = []
    async with engine(tmp_path / "s", docker.handle) as host:
        source = open_source("docker-daemon://lab/rocky:9", SourceOptions(blobs=tmp_path / "cache", docker_host=host))
        provenance = await source.unpack(tree, events.append)
        docker.asked.clear()
        assert await source.find_digest() == provenance.digest
        assert docker.asked == ["/images/lab/rocky:9/json"]
    assert snapshot(tree) == snapshot(artefacts.tree)
    assert provenance == Provenance(
        reference="docker-daemon://lab/rocky:9", digest=artefacts.image.config_digest, architecture="amd64"
    )
    assert source.default_name == "rocky:9"
    assert events[0] == Started()
    assert any(isinstance(event, ArchiveAdvanced) for event in events)
    assert len([event for event in events if isinstance(event, LayerUnpacking)]) == 2
    assert [path for path in (tmp_path / "cache").rglob("*") if path.is_file()] == []


async def test_refusals(docker: Engine, tmp_path: Path) -> None:
    async with engine(tmp_path / "s", docker.handle) as host:
        options = SourceOptions(blobs=tmp_path, docker_host=host)
        with pytest.raises(EngineFailed, match="has no image 'lab/other'") as caught:
            await DaemonSource("lab/other", options).find_digest()
        assert "docker image ls" in (caught.value.hint or "")
        other = SourceOptions(blobs=tmp_path, docker_host=host, platform="arm64")
        with pytest.raises(PlatformMissing, match="arm64"):
            await DaemonSource("lab/rocky:9", other).find_digest()


async def test_engines_that_fail(tmp_path: Path) -> None:
    async def broken(request: web.Request) -> web.StreamResponse:
        return web.json_response({"message": "out of\x00 order"}, status=500)

    async def nonsense(request: web.Request) -> web.StreamResponse:
        return web.Response(text="<html>")

    async def cut(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": "1000"})
        await response.prepare(request)
        await response.write(b"{")
        assert request.transport is not None
        request.transport.close()
        return response

    for number, (handler, said) in enumerate(((broken, "HTTP 500"), (nonsense, "nonsense"), (cut, "stopped"))):
        async with engine(tmp_path / f"s{number}", handler) as host:
            with pytest.raises(EngineFailed, match=said):
                await DaemonSource("x", SourceOptions(blobs=tmp_path, docker_host=host)).find_digest()


async def test_nobody_listens(tmp_path: Path) -> None:
    options = SourceOptions(blobs=tmp_path, docker_host=f"unix://{tmp_path}/none")
    with pytest.raises(EngineFailed, match=f"{tmp_path}/none cannot be reached: No such file") as caught:
        await DaemonSource("x", options).find_digest()
    assert "DOCKER_HOST" in (caught.value.hint or "")


@pytest.mark.parametrize("host", ["tcp://10.0.0.1:2375", "ssh://me@host", "unix://relative", "/var/run/docker.sock"])
def test_engines_elsewhere(tmp_path: Path, host: str) -> None:
    with pytest.raises(EngineFailed, match="not reached by a socket") as caught:
        DaemonSource("x", SourceOptions(blobs=tmp_path, docker_host=host))
    assert "docker save" in (caught.value.hint or "")


def test_names(tmp_path: Path) -> None:
    options = SourceOptions(blobs=tmp_path)
    with pytest.raises(InvalidReference):
        DaemonSource("../x", options)
    assert DaemonSource("sha256:" + "ab" * 32, options).default_name == "abababababab"
