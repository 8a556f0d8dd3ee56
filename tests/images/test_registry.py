"""Images from registries: Debian's docker-registry, and ones that lie, refuse, stall and redirect."""

import asyncio
import base64
import json
import os
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import fake_registry as fake
import oci_image as oci
import pytest
from aiohttp import web
from fake_registry import FakeRegistry
from oci_image import Image, Registry

from images.auth import IncompleteCredentials
from images.blobs import BlobStore, DigestMismatch, SizeMismatch
from images.errors import Error
from images.layers import MalformedLayer
from images.manifest import PlatformMissing, UnusableImage
from images.progress import (
    BlobAdvanced,
    BlobCopied,
    ConfigCopied,
    Event,
    LayerAdvanced,
    LayerUnpacking,
    ManifestWritten,
    Started,
)
from images.reference import Reference
from images.source.contract import Provenance, SourceOptions
from images.source.failures import (
    BadRedirect,
    Broken,
    NotFound,
    RateLimited,
    ServerFailure,
    TimedOut,
    TlsFailure,
    Unauthorized,
    UnknownHost,
    Unreachable,
)
from images.source.proxies import Proxies
from images.source.registry import DamagedCache, RegistrySource
from images.source.scheme import UnknownSource, open_source
from images.source.transport import Patience

pytestmark = pytest.mark.root


async def no_sleep(seconds: float) -> None:
    await asyncio.sleep(0)


QUICK = Patience(connect=5, read=5, pauses=(0, 0), sleep=no_sleep)


class Importer:
    """Imports into new trees with one cache."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.cache = root / "cache"
        self.events: list[Event] = []

    async def __call__(self, text: str, *, patience: Patience = QUICK, **options: Any) -> tuple[Path, Provenance]:
        tree = self.root / f"tree{len(list(self.root.iterdir()))}"
        tree.mkdir()
        self.events = []
        source = RegistrySource(Reference.parse(text), SourceOptions(blobs=self.cache, **options), patience=patience)
        provenance = await source.unpack(tree, self.events.append)
        return tree, provenance

    def cached(self) -> set[str]:
        files = [path for path in self.cache.rglob("*") if path.is_file() and not path.name.startswith(".")]
        return {f"sha256:{path.name}" for path in files}


@pytest.fixture
def bring(tmp_path: Path) -> Importer:
    return Importer(tmp_path)


@pytest.fixture
async def liar() -> AsyncIterator[FakeRegistry]:
    async with fake.FakeRegistry().serve() as server:
        yield server


@pytest.fixture
def image() -> Image:
    layers = [
        [oci.directory("bin"), oci.Member("bin/sh", b"sh", mode=0o755), oci.Member("gone", b"x")],
        [oci.Member(".wh.gone"), oci.Member("big", os.urandom(3_000_000))],
        [oci.Member("last", b"z")],
    ]
    return oci.build([oci.layer(members) for members in layers])


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
async def test_import(registry: Registry, bring: Importer, docker: bool, compression: str) -> None:
    layers = [oci.layer([oci.Member("a", b"1"), oci.Member("b", b"2")]), oci.layer([oci.Member(".wh.a"), oci.Member("c")])]
    image = oci.build(layers, docker=docker, compression=compression)
    name = f"lab/{compression}-{'docker' if docker else 'oci'}"
    registry.push(name, "1", image)
    tree, provenance = await bring(f"{registry.host}/{name}:1")
    assert sorted(os.listdir(tree)) == ["b", "c"]
    assert provenance == Provenance(reference=f"docker://{registry.host}/{name}:1", digest=image.digest, architecture="amd64")
    assert bring.cached() == {*image.blobs, image.digest}


async def test_events_in_the_order_that_users_know(registry: Registry, image: Image, bring: Importer) -> None:
    registry.push("lab/events", "latest", image)
    await bring(f"{registry.host}/lab/events")
    told = [event for event in bring.events if not isinstance(event, BlobAdvanced | LayerAdvanced)]
    assert told[0] == Started()
    copied = [event for event in told[1:4] if isinstance(event, BlobCopied)]
    assert {event.digest for event in copied} == set(image.layer_digests)
    assert not any(event.cached for event in copied)
    assert told[4:] == [
        ConfigCopied(digest=image.config_digest),
        ManifestWritten(digest=image.digest),
        *(LayerUnpacking(digest=digest) for digest in image.layer_digests),
    ]
    advanced = [event for event in bring.events if isinstance(event, BlobAdvanced)]
    assert {event.digest for event in advanced if event.done == event.size} == set(image.layer_digests)


async def test_second_import_downloads_nothing(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)
    await bring(f"{liar.host}/x:1")
    assert len(liar.asked("/blobs/")) == 4
    liar.requests.clear()
    tree, _ = await bring(f"{liar.host}/x:1")
    assert liar.asked("/blobs/") == []
    assert all(event.cached for event in bring.events if isinstance(event, BlobCopied))
    assert sorted(os.listdir(tree)) == ["big", "bin", "last"]


async def test_import_by_digest_needs_no_registry_the_second_time(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)
    await bring(f"{liar.host}/x@{image.digest}")
    liar.requests.clear()
    _, provenance = await bring(f"{liar.host}/x:other@{image.digest}")
    assert [path for _, path, _ in liar.requests if path != "/v2/"] == []
    assert provenance.digest == image.digest


async def test_cached_blob_of_wrong_size_is_fetched_anew(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)
    await bring(f"{liar.host}/x:1")
    path = BlobStore(bring.cache).path(image.layer_digests[1])
    path.write_bytes(path.read_bytes()[:-1])
    liar.requests.clear()
    await bring(f"{liar.host}/x:1")
    assert [path.rpartition("/")[2] for _, path, _ in liar.asked("/blobs/")] == [image.layer_digests[1]]


async def test_damaged_cached_blob_is_removed_and_said(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)
    await bring(f"{liar.host}/x:1")
    path = BlobStore(bring.cache).path(image.layer_digests[1])
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0xFF
    path.write_bytes(data)
    with pytest.raises(DamagedCache, match=image.layer_digests[1]):
        await bring(f"{liar.host}/x:1")
    await bring(f"{liar.host}/x:1")


async def test_same_layer_twice_is_fetched_once(liar: FakeRegistry, bring: Importer) -> None:
    layer = oci.layer([oci.Member("a")])
    liar.add("1", oci.build([layer, oci.layer([oci.Member(".wh.a")]), layer]))
    tree, _ = await bring(f"{liar.host}/x:1")
    assert os.listdir(tree) == ["a"]
    assert len(liar.asked("/blobs/")) == 3


async def test_at_most_four_blobs_at_once(liar: FakeRegistry, bring: Importer) -> None:
    layers = [oci.layer([oci.Member(f"f{number}")]) for number in range(12)]
    image = oci.build(layers)
    liar.add("1", image)
    running, most = 0, 0
    enough = asyncio.Event()

    async def count(request: web.Request) -> None:
        nonlocal running, most
        if "/blobs/" not in request.path or image.config_digest in request.path:
            return
        running += 1
        most = max(most, running)
        if running == 4:
            enough.set()
        await asyncio.wait_for(enough.wait(), 20)
        running -= 1

    liar.override = count
    await bring(f"{liar.host}/x:1")
    assert most == 4


@pytest.mark.parametrize("docker", [False, True])
async def test_platforms(registry: Registry, bring: Importer, docker: bool) -> None:
    images = {
        f"linux/{name}": oci.build([oci.layer([oci.Member(name)])], architecture=name, docker=docker)
        for name in ("amd64", "arm64", "s390x")
    }
    name = f"lab/multi-{docker}".lower()
    registry.push_index(name, "1", images, docker=docker)
    for platform in ("linux/arm64", "s390x"):
        tree, provenance = await bring(f"{registry.host}/{name}:1", platform=platform)
        architecture = platform.rpartition("/")[2]
        assert os.listdir(tree) == [architecture]
        assert (provenance.architecture, provenance.digest) == (architecture, images[f"linux/{architecture}"].digest)
    with pytest.raises(PlatformMissing) as caught:
        await bring(f"{registry.host}/{name}:1", platform="linux/riscv64")
    assert "linux/amd64, linux/arm64, linux/s390x" in (caught.value.hint or "")


async def test_platform_of_a_single_image_is_checked_if_asked(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)
    await bring(f"{liar.host}/x:1", platform="amd64")
    with pytest.raises(PlatformMissing, match="linux/arm64"):
        await bring(f"{liar.host}/x:1", platform="arm64")


async def test_basic_access(private_registry: Registry, image: Image, bring: Importer) -> None:
    private_registry.push("lab/secret", "1", image)
    text = f"{private_registry.host}/lab/secret:1"
    await bring(text, username="admin", password="s:cret")
    wrongs: list[dict[str, Any]] = [{}, {"username": "admin", "password": "wrong"}]
    for wrong in wrongs:
        with pytest.raises(Unauthorized) as caught:
            await bring(text, **wrong)
        assert "--username" in (caught.value.hint or "")
        assert "wrong" not in caught.value.message


def test_credentials_come_in_pairs(tmp_path: Path) -> None:
    with pytest.raises(IncompleteCredentials):
        RegistrySource.parse("debian", SourceOptions(blobs=tmp_path, username="me"))


class TokenServer:
    """Bearer access: tokens are good for `uses` requests."""

    def __init__(self, registry: FakeRegistry, uses: int = 1000) -> None:
        self.registry = registry
        self.uses = uses
        self.given: dict[str, int] = {}
        self.asked: list[tuple[str, str | None]] = []

    async def __call__(self, request: web.Request) -> web.StreamResponse | None:
        if request.path == "/token":
            self.asked.append((request.query_string, request.headers.get("Authorization")))
            token = f"token{len(self.asked)}"
            self.given[token] = 0
            return web.json_response({"token": token, "expires_in": 60})
        if request.path == "/v2/":
            return None
        token = request.headers.get("Authorization", "").removeprefix("Bearer ")
        if token in self.given and self.given[token] < self.uses:
            self.given[token] += 1
            return None
        realm = f'Bearer realm="http://{self.registry.host}/token",service="lab",scope="repository:x:pull"'
        return web.json_response({"errors": [{"code": "UNAUTHORIZED"}]}, status=401, headers={"WWW-Authenticate": realm})


async def test_bearer_tokens(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)
    liar.override = server = TokenServer(liar)
    await bring(f"{liar.host}/x:1")
    assert server.asked == [("service=lab&scope=repository:x:pull", None)]


async def test_bearer_tokens_with_credentials(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)
    liar.override = server = TokenServer(liar)
    await bring(f"{liar.host}/x:1", username="me", password="pw")
    expected = "Basic " + base64.b64encode(b"me:pw").decode()
    assert server.asked == [("service=lab&scope=repository:x:pull&account=me", expected)]
    assert all(seen in (None, "Bearer token1") for _, path, seen in liar.requests if not path.startswith("/token"))


async def test_token_that_ends_is_renewed(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)
    liar.override = server = TokenServer(liar, uses=3)
    tree, _ = await bring(f"{liar.host}/x:1")
    assert sorted(os.listdir(tree)) == ["big", "bin", "last"]
    assert len(server.asked) == 2


async def test_token_that_is_never_good(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)
    liar.override = server = TokenServer(liar, uses=0)
    with pytest.raises(Unauthorized):
        await bring(f"{liar.host}/x:1")
    assert len(server.asked) == 1


@pytest.mark.parametrize("code", [302, 307])
async def test_redirects_never_carry_authorization(liar: FakeRegistry, image: Image, bring: Importer, code: int) -> None:
    liar.add("1", image)
    inner = TokenServer(liar)
    async with fake.FakeRegistry(blobs=image.blobs).serve() as other:

        async def redirect(request: web.Request) -> web.StreamResponse | None:
            answer = await inner(request)
            if answer is None and "/blobs/" in request.path:
                target = f"http://{other.host}{request.path}?X-Signature=a%2Fb+c"
                return web.Response(status=code, headers={"Location": target})
            return answer

        liar.override = redirect
        await bring(f"{liar.host}/x:1", username="me", password="pw")
        assert len(other.requests) == 4
        assert [seen for _, _, seen in other.requests] == [None] * 4
        # A signature is over the exact text.
        assert all(path.endswith("?X-Signature=a%2Fb+c") for _, path, _ in other.requests)


async def test_redirect_target_that_asks_for_credentials_gets_none(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)

    async def demand(request: web.Request) -> web.StreamResponse:
        return web.Response(status=401, headers={"WWW-Authenticate": 'Basic realm="x"'})

    async with fake.FakeRegistry(override=demand).serve() as other:

        async def redirect(request: web.Request) -> web.StreamResponse | None:
            if "/blobs/" in request.path:
                return web.Response(status=307, headers={"Location": f"http://{other.host}{request.path}"})
            return None

        liar.override = redirect
        with pytest.raises(Unauthorized):
            await bring(f"{liar.host}/x:1", username="me", password="pw")
        assert {seen for _, _, seen in other.requests} == {None}


@pytest.mark.parametrize("location", ["file:///etc/passwd", "ftp://127.0.0.1/x", "http://[", "loop"])
async def test_bad_redirects(liar: FakeRegistry, image: Image, bring: Importer, location: str) -> None:
    async def redirect(request: web.Request) -> web.StreamResponse | None:
        if request.path == "/v2/":
            return None
        return web.Response(status=302, headers={"Location": request.path if location == "loop" else location})

    liar.override = redirect
    with pytest.raises(BadRedirect):
        await bring(f"{liar.host}/x:1")


async def test_blob_that_is_not_what_its_digest_says(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)
    wrong = image.layer_digests[1]
    liar.blobs[wrong] = bytes(len(image.blobs[wrong]))
    with pytest.raises(DigestMismatch) as caught:
        await bring(f"{liar.host}/x:1")
    assert caught.value.expected == wrong
    assert wrong in caught.value.message
    assert caught.value.got in caught.value.message
    assert wrong not in bring.cached()


async def test_manifest_that_is_not_what_was_asked_for(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    other = oci.build([oci.layer([oci.Member("evil")])])
    liar.add("1", image)
    liar.manifests[image.digest] = (other.manifest, other.media_type)
    liar.blobs |= other.blobs
    with pytest.raises(DigestMismatch) as caught:
        await bring(f"{liar.host}/x@{image.digest}")
    assert (caught.value.expected, caught.value.got) == (image.digest, other.digest)
    liar.manifests["multi"] = (oci.index({"linux/amd64": image}), oci.OCI_INDEX)
    with pytest.raises(DigestMismatch):
        await bring(f"{liar.host}/x:multi", platform="amd64")
    assert bring.cached().isdisjoint({image.digest, other.digest})


async def test_manifest_header_that_lies(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)
    liar.digest_header = lambda data: "sha256:" + "0" * 64
    with pytest.raises(DigestMismatch, match="0" * 64):
        await bring(f"{liar.host}/x:1")


async def test_layer_that_is_not_what_the_config_says(liar: FakeRegistry, bring: Importer) -> None:
    liar.add("1", oci.build([oci.layer([oci.Member("a")])], diff_ids=["sha256:" + "1" * 64]))
    with pytest.raises(MalformedLayer, match="1" * 64):
        await bring(f"{liar.host}/x:1")


async def test_truncated_blob(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)
    victim = image.layer_digests[0]
    data = image.blobs[victim]

    async def cut(request: web.Request) -> web.StreamResponse | None:
        if victim in request.path:
            answer: web.StreamResponse = await fake.cut_off(request, data[:-10], len(data))
            return answer
        return None

    liar.override = cut
    with pytest.raises(Broken) as caught:
        await bring(f"{liar.host}/x:1")
    assert caught.value.hint
    assert len(liar.asked(victim)) == 3
    assert victim not in bring.cached()


async def test_blob_shorter_or_longer_than_the_manifest_says(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)
    victim = image.layer_digests[1]
    for data, said in ((image.blobs[victim][:-1], "truncated"), (image.blobs[victim] + b"x", "too long")):
        liar.blobs[victim] = data
        with pytest.raises(SizeMismatch, match=said):
            await bring(f"{liar.host}/x:1")
        assert victim not in bring.cached()


async def test_a_moment_of_trouble_is_survived(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)
    troubles: list[Callable[[web.Request], Awaitable[web.StreamResponse]]] = []

    async def unavailable(request: web.Request) -> web.StreamResponse:
        return web.Response(status=503)

    async def reset(request: web.Request) -> web.StreamResponse:
        answer: web.StreamResponse = await fake.cut_off(request, b"x", 100)
        return answer

    troubles += [unavailable, reset, unavailable, reset]

    async def stumble(request: web.Request) -> web.StreamResponse | None:
        if request.path != "/v2/" and troubles:
            return await troubles.pop()(request)
        return None

    liar.override = stumble
    tree, _ = await bring(f"{liar.host}/x:1", patience=Patience(pauses=(0, 0, 0, 0)))
    assert sorted(os.listdir(tree)) == ["big", "bin", "last"]
    assert troubles == []


@pytest.mark.parametrize(
    ("status", "body", "expected", "hint"),
    [
        (404, {"errors": [{"code": "MANIFEST_UNKNOWN"}]}, NotFound, "tag"),
        (404, {"errors": [{"code": "NAME_UNKNOWN"}]}, NotFound, "repository"),
        (404, None, NotFound, "tag"),
        (401, None, Unauthorized, "--username"),
        (403, {"errors": [{"code": "DENIED", "message": "no"}]}, Unauthorized, "--username"),
        (429, None, RateLimited, "wait"),
        (500, {"errors": [{"code": "UNKNOWN", "message": "disk is gone"}]}, ServerFailure, "later"),
        (418, {"errors": "odd"}, ServerFailure, "name"),
    ],
)
async def test_refusals(
    liar: FakeRegistry, bring: Importer, status: int, body: object, expected: type[Error], hint: str
) -> None:
    async def refuse(request: web.Request) -> web.StreamResponse | None:
        if request.path == "/v2/":
            return None
        return web.Response(status=status, text=json.dumps(body), headers={"Retry-After": "7"})

    liar.override = refuse
    with pytest.raises(expected) as caught:
        await bring(f"{liar.host}/lab/x:1")
    assert hint in (caught.value.hint or "")
    assert caught.value.message.count("\n") == 0
    assert liar.host in caught.value.message
    if status == 500:
        assert "disk is gone" in caught.value.message


async def test_unknown_tag_and_repository(registry: Registry, image: Image, bring: Importer) -> None:
    registry.push("lab/known", "1", image)
    with pytest.raises(NotFound, match=r"tag '2' of 'lab/known'") as caught:
        await bring(f"{registry.host}/lab/known:2")
    assert f"`skopeo list-tags --tls-verify=false docker://{registry.host}/lab/known`" in (caught.value.hint or "")
    with pytest.raises(NotFound, match=r"tag 'latest' of 'lab/unknown'"):
        await bring(f"{registry.host}/lab/unknown")
    assert list(bring.cache.rglob("*")) == []


async def test_nobody_listens(bring: Importer) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        host = f"127.0.0.1:{probe.getsockname()[1]}"
        with pytest.raises(Unreachable, match=f"registry {host} cannot be reached: Connection refused$"):
            await bring(f"{host}/x")


async def test_unknown_host(bring: Importer) -> None:
    with pytest.raises(UnknownHost, match=r"no-such-host\.invalid"):
        await bring("no-such-host.invalid/x")


async def test_silence(liar: FakeRegistry, bring: Importer) -> None:
    async def silent(request: web.Request) -> web.StreamResponse | None:
        if request.path == "/v2/":
            return None
        answer: web.StreamResponse = await fake.stall(request)
        return answer

    liar.override = silent
    with pytest.raises(TimedOut, match=liar.host):
        await bring(f"{liar.host}/x", patience=Patience(read=0.2, pauses=()))


@pytest.fixture
def tls(tmp_path: Path, require_tool: Callable[..., Path]) -> ssl.SSLContext:
    require_tool("openssl")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -keyout key.pem -out cert.pem -days 2 -subj /CN=lab"
    subprocess.run(command.split(), cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    return context


async def test_certificate_nobody_trusts(image: Image, bring: Importer, tls: ssl.SSLContext) -> None:
    async with fake.FakeRegistry().serve(tls=tls) as server:
        server.add("1", image)
        with pytest.raises(TlsFailure) as caught:
            await bring(f"{server.host}/x:1")
        assert "--nohttps" in (caught.value.hint or "")
        assert server.asked("/manifests/") == []
        tree, _ = await bring(f"{server.host}/x:1", insecure=True)
        assert sorted(os.listdir(tree)) == ["big", "bin", "last"]


async def test_plain_http_elsewhere_needs_to_be_asked_for(
    liar: FakeRegistry, image: Image, bring: Importer, monkeypatch: pytest.MonkeyPatch
) -> None:
    liar.add("1", image)
    # The same server by a name that is not known to be this machine's.
    name = "registry.lab.test"
    original = asyncio.BaseEventLoop.getaddrinfo

    async def resolve(self: asyncio.BaseEventLoop, host: Any, port: Any, **rest: Any) -> Any:
        return await original(self, "127.0.0.1" if host == name else host, port, **rest)

    monkeypatch.setattr(asyncio.BaseEventLoop, "getaddrinfo", resolve)
    text = f"{name}:{liar.host.rpartition(':')[2]}/x:1"
    with pytest.raises(TlsFailure) as caught:
        await bring(text)
    assert "--nohttps" in (caught.value.hint or "")
    assert liar.requests == []
    await bring(text, insecure=True)


async def test_proxies_are_not_used_for_this_machine(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)

    async def refuse(request: web.Request) -> web.StreamResponse:
        return web.Response(status=502)

    async with fake.FakeRegistry(override=refuse).serve() as proxy:
        proxies = Proxies.from_environment({"http_proxy": f"http://{proxy.host}"})
        await bring(f"{liar.host}/x:1", proxies=proxies)
        assert proxy.requests == []
        with pytest.raises(Error):
            await bring("registry.lab.test/x:1", insecure=True, proxies=proxies)
        assert proxy.asked("/v2/") != []


async def test_schema_1_and_artifacts(liar: FakeRegistry, bring: Importer) -> None:
    liar.manifests["old"] = (b'{"schemaVersion": 1}', "application/vnd.docker.distribution.manifest.v1+json")
    with pytest.raises(UnusableImage, match="schema 1"):
        await bring(f"{liar.host}/x:old")
    liar.manifests["html"] = (b"<html>", "text/html")
    with pytest.raises(UnusableImage):
        await bring(f"{liar.host}/x:html")


async def test_endless_answers_are_cut(liar: FakeRegistry, bring: Importer) -> None:
    liar.manifests["big"] = (b" " * (5 << 20), "application/json")
    with pytest.raises(Broken, match="larger than"):
        await bring(f"{liar.host}/x:big")


async def test_index_of_indexes_without_end(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    data, media_type = image.manifest, image.media_type
    liar.add("1", image)
    for _ in range(6):
        entry = {"mediaType": media_type, "digest": oci.digest(data), "size": len(data)}
        data = json.dumps({"schemaVersion": 2, "mediaType": oci.OCI_INDEX, "manifests": [entry]}).encode()
        media_type = oci.OCI_INDEX
        liar.manifests[oci.digest(data)] = (data, media_type)
    liar.manifests["deep"] = (data, media_type)
    with pytest.raises(UnusableImage, match="without end"):
        await bring(f"{liar.host}/x:deep")


async def test_cancelling_ends_everything(liar: FakeRegistry, image: Image, bring: Importer) -> None:
    liar.add("1", image)
    waiting = asyncio.Event()

    async def stall_last(request: web.Request) -> web.StreamResponse | None:
        if image.layer_digests[2] in request.path:
            waiting.set()
            answer: web.StreamResponse = await fake.stall(request)
            return answer
        return None

    liar.override = stall_last
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bring(f"{liar.host}/x:1", patience=Patience()))
        await asyncio.wait_for(waiting.wait(), 20)
        task.cancel()
    assert task.cancelled()
    # Of the layer that stalled, nothing came.
    assert not any(image.layer_digests[2].removeprefix("sha256:") in path.name for path in bring.cache.rglob("*"))
    liar.override = None
    await bring(f"{liar.host}/x:1")
    assert bring.cached() == {*image.blobs, image.digest}


async def test_large_layers_unpack_while_others_come(liar: FakeRegistry, bring: Importer, tmp_path: Path) -> None:
    layers = [oci.layer([oci.Member("first", b"1")]), oci.layer([oci.Member("second", b"2")])]
    image = oci.build(layers)
    liar.add("1", image)

    def wait_for_first() -> None:
        deadline = time.monotonic() + 20
        while not any(tmp_path.glob("tree*/first")) and time.monotonic() < deadline:
            time.sleep(0.01)

    async def hold(request: web.Request) -> web.StreamResponse | None:
        if image.layer_digests[1] in request.path:
            await asyncio.to_thread(wait_for_first)
            assert any(tmp_path.glob("tree*/first"))
        return None

    liar.override = hold
    tree, _ = await bring(f"{liar.host}/x:1")
    assert sorted(os.listdir(tree)) == ["first", "second"]


async def test_as_skopeo(
    registry: Registry, image: Image, bring: Importer, tmp_path: Path, require_tool: Callable[..., Path]
) -> None:
    """What skopeo pushes (other media types, other order) is read, and what it pulls has the same blobs."""
    require_tool("skopeo")
    registry.push("lab/skopeo", "1", image)
    source = f"docker://{registry.host}/lab/skopeo"
    common = ["--src-tls-verify=false", "--insecure-policy"]
    copies = [
        ["copy", "--dest-tls-verify=false", "--format=v2s2", f"{source}:1", f"{source}:2"],
        ["copy", "--dest-tls-verify=false", "--format=oci", "--dest-compress-format=zstd", f"{source}:2", f"{source}:3"],
        ["copy", f"{source}:1", f"oci:{tmp_path}/layout:1"],
    ]
    for copy in copies:
        command = ["skopeo", common[1], copy[0], common[0], *copy[1:]]
        process = await asyncio.to_thread(subprocess.run, command, capture_output=True, check=False)
        assert process.returncode == 0, process.stderr
    for tag in ("1", "2", "3"):
        tree, _ = await bring(f"{registry.host}/lab/skopeo:{tag}")
        assert sorted(os.listdir(tree)) == ["big", "bin", "last"]
    pulled = {f"sha256:{path.name}" for path in (tmp_path / "layout" / "blobs" / "sha256").iterdir()}
    assert pulled <= bring.cached()


def test_schemes(tmp_path: Path) -> None:
    options = SourceOptions(blobs=tmp_path)
    assert open_source("docker://x/rocky:9", options).default_name == "rocky:9"
    assert open_source("docker://warewulf/rocky", options).default_name == "rocky"
    (tmp_path / "chroot").mkdir()
    assert open_source(str(tmp_path / "chroot"), options).default_name == "chroot"
    for text in ("ftp://x", "rocky:9", "", "/no/such/dir"):
        with pytest.raises(UnknownSource) as caught:
            open_source(text, options)
        assert "docker://" in (caught.value.hint or "")
        assert "directory" in (caught.value.hint or "")


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("dokcer://alpine:3", "docker://alpine:3"),
        ("Docker://quay.io/lab/x", "docker://quay.io/lab/x"),
        ("docker-deamon://x", "docker-daemon://x"),
        ("alpine", "docker://alpine"),
        ("quay.io/lab/rocky:9", "docker://quay.io/lab/rocky:9"),
        ("ftp://x/y", None),
        ("roots/debian.tar.zst", None),
        ("here/nothing", None),
        ("/no/such/dir", None),
        ("./nothing", None),
        ("", None),
    ],
)
def test_what_was_meant(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, meant: str | None) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UnknownSource) as caught:
        open_source(text, SourceOptions(blobs=tmp_path))
    said, _, _ = (caught.value.hint or "").partition("? ")
    assert said == (f"did you mean {meant}" if meant else caught.value.hint)
