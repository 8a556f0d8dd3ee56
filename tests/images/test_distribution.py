"""Downloads that break and go on, registries that want patience, and what is asked when nothing has changed."""

import asyncio
import base64
import json
import os
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path
from typing import Any

import fake_registry as fake
import oci_image as oci
import pytest
from aiohttp import web
from fake_registry import FakeRegistry
from oci_image import Image, Registry

from images.auth import AuthFiles, CredentialHelperFailed
from images.blobs import BlobStore, DigestMismatch
from images.manifest import PlatformMissing
from images.progress import BlobAdvanced, Event, Waiting
from images.reference import Reference
from images.source.contract import SourceOptions
from images.source.failures import Broken, RateLimited, RegistryError, ServerFailure, Unreachable
from images.source.proxies import Proxies
from images.source.registry import RegistrySource
from images.source.transport import Patience

pytestmark = pytest.mark.root

Override = Callable[[web.Request], Awaitable[web.StreamResponse | None]]


@dataclass
class Bring:
    """Imports with one cache; pauses are noted instead of waited for."""

    folder: Path
    slept: list[float] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    pauses: tuple[float, ...] = (1, 2)

    @property
    def store(self) -> BlobStore:
        return BlobStore(self.folder / "cache")

    def source(self, text: str, **options: Any) -> RegistrySource:
        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)
            await asyncio.sleep(0)

        patience = Patience(connect=5, read=5, pauses=self.pauses, longest=60, sleep=sleep)
        given = SourceOptions(blobs=self.folder / "cache", **options)
        return RegistrySource(Reference.parse(text), given, patience=patience)

    async def __call__(self, text: str, **options: Any) -> Path:
        tree = self.folder / f"tree{len(list(self.folder.glob('tree*')))}"
        tree.mkdir()
        await self.source(text, **options).unpack(tree, self.events.append)
        return tree

    def leave(self, digest: str, data: bytes) -> None:
        """As if a download had been interrupted."""
        path = self.store.path(digest)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.with_name(f".partial-{path.name}").write_bytes(data)


@pytest.fixture
def bring(tmp_path: Path) -> Bring:
    return Bring(tmp_path)


@pytest.fixture
async def liar() -> AsyncIterator[FakeRegistry]:
    async with fake.FakeRegistry().serve() as server:
        yield server


@pytest.fixture(scope="module")
def image() -> Image:
    return oci.build([oci.layer([oci.Member("big", os.urandom(6_000_000))])])


def ranged(registry: FakeRegistry, ranges: list[str | None]) -> Override:
    """A registry that knows ranges, and what was asked for."""

    async def answer(request: web.Request) -> web.StreamResponse | None:
        digest = request.path.rpartition("/")[2]
        if "/blobs/" not in request.path or digest not in registry.blobs:
            return None
        data: bytes = registry.blobs[digest]
        if len(data) > 1_000_000:
            ranges.append(request.headers.get("Range"))
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", ""))
        if asked is None:
            return None
        start = int(asked[1])
        if start >= len(data):
            return web.Response(status=416)
        headers = {"Content-Range": f"bytes {start}-{len(data) - 1}/{len(data)}"}
        return web.Response(status=206, body=data[start:], headers=headers)

    return answer


async def test_resumed_from_a_real_registry(registry: Registry, image: Image, bring: Bring) -> None:
    registry.push("lab/resume", "1", image)
    layer = image.layer_digests[0]
    bring.leave(layer, image.blobs[layer][:4_000_000])
    await bring(f"{registry.host}/lab/resume:1")
    assert bring.store.path(layer).read_bytes() == image.blobs[layer]
    advanced = [event.done for event in bring.events if isinstance(event, BlobAdvanced)]
    assert min(advanced) > 4_000_000


async def test_only_what_is_missing_is_asked_for(liar: FakeRegistry, image: Image, bring: Bring) -> None:
    liar.add("1", image)
    layer = image.layer_digests[0]
    ranges: list[str | None] = []
    liar.override = ranged(liar, ranges)
    bring.leave(layer, image.blobs[layer][:5_000_000])
    await bring(f"{liar.host}/x:1")
    assert ranges == ["bytes=5000000-"]


async def test_all_of_it_was_there(liar: FakeRegistry, image: Image, bring: Bring) -> None:
    """The process was killed between the last byte and the rename."""
    liar.add("1", image)
    layer = image.layer_digests[0]
    bring.leave(layer, image.blobs[layer])
    await bring(f"{liar.host}/x:1")
    assert liar.asked(layer) == []


async def test_what_was_there_is_spoilt(liar: FakeRegistry, image: Image, bring: Bring) -> None:
    """A crash of the machine can leave zeros; they cost one more download, not the import."""
    liar.add("1", image)
    layer = image.layer_digests[0]
    for left in (bytes(5_000_000), bytes(len(image.blobs[layer]))):
        ranges: list[str | None] = []
        liar.override = ranged(liar, ranges)
        bring.leave(layer, left)
        await bring(f"{liar.host}/x:1")
        assert ranges[-1] is None
        bring.store.path(layer).unlink()


@pytest.mark.parametrize("answer", ["ignores", 416])
async def test_registry_without_ranges(liar: FakeRegistry, image: Image, bring: Bring, answer: object) -> None:
    liar.add("1", image)
    layer = image.layer_digests[0]

    async def refuse(request: web.Request) -> web.StreamResponse | None:
        return web.Response(status=416) if "Range" in request.headers and answer == 416 else None

    liar.override = refuse
    bring.leave(layer, image.blobs[layer][:5_000_000])
    await bring(f"{liar.host}/x:1")
    assert len(liar.asked(layer)) == (2 if answer == 416 else 1)


async def test_registry_that_lies_after_a_resumption(liar: FakeRegistry, image: Image, bring: Bring) -> None:
    liar.add("1", image)
    layer = image.layer_digests[0]
    bring.leave(layer, image.blobs[layer][:5_000_000])
    liar.blobs[layer] = bytes(len(image.blobs[layer]))
    liar.override = ranged(liar, [])
    with pytest.raises(DigestMismatch):
        await bring(f"{liar.host}/x:1")
    assert not list((bring.folder / "cache").rglob(".partial-*"))


async def test_a_line_that_keeps_breaking(liar: FakeRegistry, image: Image, bring: Bring) -> None:
    """Each try goes on where the last one ended; as long as something comes, it is tried again."""
    liar.add("1", image)
    layer = image.layer_digests[0]
    data, ranges = image.blobs[layer], list[int]()

    async def stutter(request: web.Request) -> web.StreamResponse | None:
        if layer not in request.path:
            return None
        asked = re.fullmatch(r"bytes=(\d+)-", request.headers.get("Range", "bytes=0-"))
        assert asked is not None
        start = int(asked[1])
        ranges.append(start)
        if len(data) - start <= 1_500_000:
            return web.Response(status=206, body=data[start:]) if start else None
        response = web.StreamResponse(status=206 if start else 200, headers={"Content-Length": str(len(data) - start)})
        await response.prepare(request)
        await response.write(data[start : start + 1_500_000])
        # Only once the client has it on disk is the line cut.
        await asyncio.to_thread(wait_for_bytes, bring.folder / "cache", start + 1_048_576)
        assert request.transport is not None
        request.transport.close()
        return response

    liar.override = stutter
    bring.pauses = (1,)
    await bring(f"{liar.host}/x:1")
    assert ranges == sorted(ranges)
    assert len(ranges) > 3
    assert bring.slept == [1] * (len(ranges) - 1)


def wait_for_bytes(cache: Path, size: int) -> None:
    wait_for_file(cache, "**/.partial-*", size)


def wait_for_file(folder: Path, pattern: str, size: int) -> None:
    """Until a file has so many bytes."""
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if any(path.stat().st_size >= size for path in folder.glob(pattern)):
            return
        time.sleep(0.01)
    raise AssertionError(f"no {pattern} of {size} bytes came")


async def send_part(request: web.Request, data: bytes, size: int) -> web.StreamResponse:
    """The first `size` bytes of an answer that promises all."""
    response = web.StreamResponse(headers={"Content-Length": str(len(data))})
    await response.prepare(request)
    await response.write(data[:size])
    return response


async def test_a_layer_is_unpacked_while_it_comes(liar: FakeRegistry, bring: Bring) -> None:
    members = [oci.Member("first", os.urandom(1_000_000)), oci.Member("second", os.urandom(4_000_000))]
    liar.add("1", image := oci.build([oci.layer(members)]))
    layer = image.layer_digests[0]
    data = image.blobs[layer]

    async def wait(request: web.Request) -> web.StreamResponse | None:
        if layer not in request.path:
            return None
        response = await send_part(request, data, 3_500_000)
        await asyncio.to_thread(wait_for_file, bring.folder, ".contents-*/0-*", 1_000_000)
        await response.write(data[3_500_000:])
        return response

    liar.override = wait
    tree = await bring(f"{liar.host}/x:1")
    assert [(tree / member.name).read_bytes() for member in members] == [member.data for member in members]


async def test_what_came_wrong_and_was_read_already_comes_anew(liar: FakeRegistry, image: Image, bring: Bring) -> None:
    liar.add("1", image)
    layer = image.layer_digests[0]
    right, ranges, seen = image.blobs[layer], list[str | None](), list[str]()
    wrong = right[:4_000_000] + bytes(1000) + right[4_001_000:]
    answer = ranged(liar, ranges)

    async def spoil(request: web.Request) -> web.StreamResponse | None:
        if layer not in request.path or ranges:
            return await answer(request)
        ranges.append(None)
        response = await send_part(request, wrong, 5_000_000)
        await asyncio.to_thread(wait_for_file, bring.folder, ".contents-*/0-*", 2_000_000)
        seen.append(request.path)
        assert request.transport is not None
        request.transport.close()
        return response

    liar.override = spoil
    tree = await bring(f"{liar.host}/x:1")
    assert (tree / "big").stat().st_size == 6_000_000
    assert len(seen) == 1, "what came was read"
    assert ranges[0] is None
    assert ranges[1] is not None
    assert ranges[2] is None


async def test_pauses_grow_and_end(liar: FakeRegistry, bring: Bring) -> None:
    async def unavailable(request: web.Request) -> web.StreamResponse | None:
        return None if request.path == "/v2/" else web.Response(status=503)

    liar.override = unavailable
    with pytest.raises(ServerFailure):
        await bring(f"{liar.host}/x:1")
    assert bring.slept == [1, 2]


async def test_a_wrong_port_is_said_at_once_a_broken_connection_is_tried_again(
    liar: FakeRegistry, image: Image, bring: Bring
) -> None:
    with pytest.raises(Unreachable):
        await bring("127.0.0.1:1/x:1")
    assert bring.slept == []
    liar.add("1", image)
    cut: list[web.Request] = []

    async def restart(request: web.Request) -> web.StreamResponse | None:
        # aiohttp itself tries once more on a connection that was kept.
        if "/manifests/" in request.path and len(cut) < 2:
            cut.append(request)
            assert request.transport is not None
            request.transport.close()
        return None

    liar.override = restart
    await bring(f"{liar.host}/x:1")
    assert bring.slept == [1]


class Limit:
    """Answers 429 so many times."""

    def __init__(self, times: int, retry_after: str | None) -> None:
        self.left = times
        self.retry_after = retry_after

    async def __call__(self, request: web.Request) -> web.StreamResponse | None:
        if request.path == "/v2/" or not self.left:
            return None
        self.left -= 1
        return web.Response(status=429, headers={"Retry-After": self.retry_after} if self.retry_after else {})


async def test_rate_limit_is_waited_for(liar: FakeRegistry, image: Image, bring: Bring) -> None:
    liar.add("1", image)
    liar.override = Limit(3, "15").__call__
    await bring(f"{liar.host}/x:1")
    assert bring.slept == [15, 15, 15]
    assert [event for event in bring.events if isinstance(event, Waiting)] == [Waiting(host=liar.host, seconds=15)] * 3


async def test_rate_limit_by_date(liar: FakeRegistry, image: Image, bring: Bring) -> None:
    liar.add("1", image)
    liar.override = Limit(1, format_datetime(datetime.now(UTC) + timedelta(seconds=30), usegmt=True)).__call__
    await bring(f"{liar.host}/x:1")
    assert 20 < bring.slept[0] <= 30


@pytest.mark.parametrize(
    ("retry_after", "slept", "hint"),
    [("21600", [], "wait 6 hours"), ("25", [25, 25], "wait 25 s"), ("0", [1] * 60, "wait"), (None, [1, 2], "--username")],
)
async def test_rate_limit_that_stays_is_explained(
    liar: FakeRegistry, bring: Bring, retry_after: str | None, slept: list[float], hint: str
) -> None:
    liar.override = Limit(1000, retry_after).__call__
    with pytest.raises(RateLimited) as caught:
        await bring(f"{liar.host}/x:1")
    assert bring.slept == slept
    assert hint in (caught.value.hint or "")


async def test_unchanged_is_known_from_the_manifest_alone(liar: FakeRegistry, image: Image, bring: Bring) -> None:
    """A HEAD, which registries do not count as a pull; the rest is in the cache."""
    liar.add("1", image)
    liar.digest_header = oci.digest
    await bring(f"{liar.host}/x:1")
    liar.requests.clear()
    assert await bring.source(f"{liar.host}/x:1").find_digest() == image.digest
    assert [(method, path) for method, path, _ in liar.requests if path != "/v2/"] == [("HEAD", "/v2/x/manifests/1")]
    other = oci.build([oci.layer([oci.Member("new")])])
    liar.add("1", other)
    assert await bring.source(f"{liar.host}/x:1").find_digest() == other.digest
    assert liar.asked("/blobs/") == []


async def test_digest_of_one_platform(registry: Registry, image: Image, bring: Bring) -> None:
    other = oci.build([oci.layer([oci.Member("a")])], architecture="arm64")
    registry.push_index("lab/update", "1", {"linux/amd64": image, "linux/arm64": other})
    for architecture, expected in (("amd64", image.digest), ("arm64", other.digest)):
        for _ in range(2):
            assert await bring.source(f"{registry.host}/lab/update:1", platform=architecture).find_digest() == expected


async def test_the_digest_of_an_image_of_another_platform_is_not_given(liar: FakeRegistry, image: Image, bring: Bring) -> None:
    """One that is no index has the same digest for every platform."""
    liar.add("1", image)
    liar.digest_header = oci.digest
    for _ in range(2):
        with pytest.raises(PlatformMissing, match="linux/arm64") as caught:
            await bring.source(f"{liar.host}/x:1", platform="linux/arm64").find_digest()
        assert "linux/amd64" in (caught.value.hint or "")
        assert await bring.source(f"{liar.host}/x:1", platform="linux/amd64").find_digest() == image.digest
    assert len(liar.asked("/blobs/")) == 1
    assert liar.asked(image.layer_digests[0]) == []


async def test_digest_where_the_registry_does_not_say_one(liar: FakeRegistry, image: Image, bring: Bring) -> None:
    liar.add("1", image)
    assert await bring.source(f"{liar.host}/x:1").find_digest() == image.digest
    assert [method for method, path, _ in liar.requests if "/manifests/" in path] == ["HEAD", "GET"]


def auth_files(folder: Path, **document: object) -> AuthFiles:
    (folder / "auth.json").write_text(json.dumps(document))
    return AuthFiles(paths=(folder / "auth.json",), environment={"PATH": str(folder)})


async def test_credentials_of_a_file(private_registry: Registry, image: Image, bring: Bring) -> None:
    private_registry.push("lab/auth", "1", image)
    pair = base64.b64encode(b"admin:s:cret").decode()
    files = auth_files(bring.folder, auths={f"{private_registry.host}/lab": {"auth": pair}})
    await bring(f"{private_registry.host}/lab/auth:1", auth_files=files)
    with pytest.raises(RegistryError, match="refuses"):
        await bring(f"{private_registry.host}/lab/auth:1", auth_files=files, username="admin", password="wrong")


async def test_helpers_are_asked_only_by_those_who_need_them(
    liar: FakeRegistry, image: Image, private_registry: Registry, bring: Bring
) -> None:
    """A broken helper is no reason to refuse an image that anybody may have."""
    liar.add("1", image)
    files = auth_files(bring.folder, credsStore="missing")
    await bring(f"{liar.host}/x:1", auth_files=files)
    with pytest.raises(CredentialHelperFailed):
        await bring(f"{private_registry.host}/x:1", auth_files=files)


async def test_identity_token(liar: FakeRegistry, image: Image, bring: Bring) -> None:
    liar.add("1", image)
    asked = []

    async def tokens(request: web.Request) -> web.StreamResponse | None:
        if request.path == "/token":
            asked.append((request.method, dict(await request.post()), request.headers.get("Authorization")))
            return web.json_response({"access_token": "good", "expires_in": 60})
        if request.path == "/v2/" or request.headers.get("Authorization") == "Bearer good":
            return None
        return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="http://{liar.host}/token",service="lab"'})

    liar.override = tokens
    pair = base64.b64encode(b"me:").decode()
    files = auth_files(bring.folder, auths={liar.host: {"auth": pair, "identitytoken": "identity"}})
    await bring(f"{liar.host}/x:1", auth_files=files)
    form = {"grant_type": "refresh_token", "client_id": "bootsvc", "scope": "repository:x:pull"}
    assert asked == [("POST", {**form, "service": "lab", "refresh_token": "identity"}, None)]


async def test_proxy_with_a_password(image: Image, bring: Bring) -> None:
    """It goes to the proxy alone, and into no message."""
    seen = []

    async def forward(request: web.Request) -> web.StreamResponse | None:
        seen.append((request.headers.get("Proxy-Authorization"), request.headers["Host"]))
        return None

    async with fake.FakeRegistry(override=forward).serve() as proxy:
        proxy.add("1", image)
        proxies = Proxies.from_environment({"HTTP_PROXY": f"http://me:s3cret@{proxy.host}"})
        await bring("registry.lab.test/x:1", insecure=True, proxies=proxies)
        expected = "Basic " + base64.b64encode(b"me:s3cret").decode()
        assert set(seen) == {(expected, "registry.lab.test")}

        async def refuse(request: web.Request) -> web.StreamResponse:
            return web.Response(status=407)

        proxy.override = refuse
        for scheme in ("HTTP_PROXY", "HTTPS_PROXY"):
            proxies = Proxies.from_environment({scheme: f"http://me:s3cret@{proxy.host}"})
            with pytest.raises(RegistryError) as caught:
                await bring("registry.lab.test/x:1", insecure=scheme == "HTTP_PROXY", proxies=proxies)
            assert "s3cret" not in caught.value.message
    proxies = Proxies.from_environment({"ALL_PROXY": "http://me:s3cret@127.0.0.1:1"})
    with pytest.raises(RegistryError) as caught:
        await bring("registry.lab.test/x:1", proxies=proxies)
    assert "s3cret" not in caught.value.message


async def test_a_cut_answer_keeps_what_came(liar: FakeRegistry, image: Image, bring: Bring) -> None:
    liar.add("1", image)
    layer = image.layer_digests[0]

    async def cut(request: web.Request) -> web.StreamResponse | None:
        if layer not in request.path:
            return None
        answer: web.StreamResponse = await fake.cut_off(request, image.blobs[layer][:3_000_000], 6_000_000)
        return answer

    liar.override = cut
    bring.pauses = ()
    with pytest.raises(Broken):
        await bring(f"{liar.host}/x:1")
    (partial,) = (bring.folder / "cache").rglob(".partial-*")
    assert image.blobs[layer].startswith(partial.read_bytes())
    assert partial.stat().st_size > 0
