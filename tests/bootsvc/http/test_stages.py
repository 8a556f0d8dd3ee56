"""The stages of a boot, asked for as a node does: over a socket, from a real image that was built."""

import asyncio
import gzip
import json
import logging
import os
import re
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web
from conditions import until

from bootsvc.artifacts import Artifacts
from bootsvc.bootfiles import BootFiles
from bootsvc.boots import BootEvent
from bootsvc.config import Config, Paths
from bootsvc.http.lines import Lines
from bootsvc.http.peers import Peer
from bootsvc.http.service import HttpService
from bootsvc.http.stages import Stages
from bootsvc.overlays import HeadNode
from bootsvc.registry import Registry
from bootsvc.store import Snapshot
from images import cpio
from images.catalog import Catalog
from images.generation import Generation
from images.rebuild import BuildContext, rebuild
from netboot.engine import Server
from netboot.init_files import own_files
from netboot.urls import Urls

HWADDR = "52:54:00:00:00:01"
WWID = "52-54-00-00-00-01"


def nodes(**fields: object) -> Registry:
    device = {"hwaddr": HWADDR, "ipaddr": "127.0.0.1", "netmask": "255.0.0.0"}
    entry = {
        "image name": "img",
        "system overlay": ["hostname", "wwinit", "missing"],
        "runtime overlay": ["hosts"],
        "network devices": {"default": device},
        **fields,
    }
    return Registry.build(Snapshot(nodes={"n1": entry}), IPv4Network("127.0.0.0/8"))


@dataclass
class Head:
    """A head node of one image and one node, serving on a free port."""

    catalog: Catalog
    url: str = ""
    registry: Registry = field(default_factory=nodes)
    events: list[BootEvent] = field(default_factory=list)
    routes: list[web.RouteDef] = field(default_factory=list)
    identified: str | None = None
    artifacts: Artifacts = field(init=False)

    async def get(self, path: str, **params: str) -> tuple[int, bytes]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path, params=params) as response:
            return response.status, await response.read()

    async def get_privileged(self, path: str) -> tuple[int, bytes]:
        """From a port that only root can have."""
        for port in range(1023, 600, -1):
            connector = aiohttp.TCPConnector(local_addr=("127.0.0.1", port))
            try:
                async with aiohttp.ClientSession(connector=connector) as session, session.get(self.url + path) as response:
                    return response.status, await response.read()
            except aiohttp.ClientConnectorError:
                continue
        raise AssertionError("no privileged port is free")

    def build(self) -> Generation:
        return rebuild(self.catalog, "img", BuildContext(own=own_files(), built_by="test", now=0.0)).generation

    async def happened(self, count: int) -> None:
        """Events come once the client's TCP has acknowledged, which is soon after it has everything."""
        await until(lambda: len(self.events) >= count)

    def seen(self) -> list[tuple[str, str]]:
        return [(event.stage, event.sent) for event in self.events]


@pytest.fixture
async def head(tmp_path: Path) -> AsyncIterator[Head]:
    paths = Paths(chroots=tmp_path / "chroots", provision=tmp_path / "provision", overlays=tmp_path / "overlays")
    rootfs = paths.chroots / "img/rootfs"
    for folder in ("etc", "boot", "usr/lib"):
        (rootfs / folder).mkdir(parents=True)
    (rootfs / "boot/vmlinuz-6.1.0-1-amd64").write_bytes(b"a kernel")
    (rootfs / "boot/vmlinuz-5.10.0-1-amd64").write_bytes(b"an old kernel")
    made = Head(catalog=Catalog(chroots=paths.chroots, provision=paths.provision))
    urls = Urls(address=IPv4Address("127.0.0.1"), port=9873)
    server = Server(
        name="head", address=urls.address, network=IPv4Network("127.0.0.0/8"), domain="", urls=urls, authorized_keys=()
    )
    made.artifacts = Artifacts(Config(paths=paths), made.catalog, lambda: made.registry, lambda: HeadNode(server))
    ipxe = tmp_path / "ipxe"
    ipxe.mkdir()
    (ipxe / "snponly.efi").write_bytes(b"iPXE")
    files = BootFiles(made.artifacts, lambda: made.registry, urls, made.catalog.find_rootfs, directories=lambda: (ipxe,))
    stages = Stages(files, lambda address: made.identified, made.events.append)
    made.routes = stages.routes()
    service = HttpService(0, made.routes, host="127.0.0.1")
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(service.run(ready))
        await ready.wait()
        made.url = f"http://127.0.0.1:{service.bound}"
        yield made
        task.cancel()


async def test_a_boot_from_script_to_up(head: Head) -> None:
    generation = head.build()
    status, script = await head.get(f"/ipxe/{WWID}")
    urls = [word.removeprefix("http://127.0.0.1:9873") for word in script.decode().split() if word.startswith("http")]
    assert status == 200
    fetched = [(await head.get(url))[1] for url in urls[:5]]
    assert fetched[0] == b"a kernel"
    image, system, runtime, end = fetched[1:]
    assert len(image) % 4 == len(system) % 4 == len(runtime) % 4 == len(end) % 4 == 0
    assert len(image) == generation.image_size
    assert {e.path: bytes(c) for e, c in cpio.parse(gzip.decompress(system.rstrip(b"\0") + bytes(4)))}[
        b"etc/hostname"
    ] == b"n1\n"
    assert {e.path: bytes(c) for e, c in cpio.parse(end)}[b".bootsvc/generation"] == generation.digest.encode() + b"\n"
    assert await head.get(f"/report/{WWID}", event="up", generation=generation.digest) == (200, b"ok\n")
    await head.happened(6)
    assert head.seen() == [
        ("ipxe", "default.ipxe"),
        ("kernel", generation.manifest.kernels[1].digest[:19]),
        ("image", "img"),
        ("system overlay", "__SYSTEM__.img"),
        ("runtime overlay", "__RUNTIME__.img"),
        ("up", generation.digest[:19]),
    ]
    assert {event.hwaddr for event in head.events} == {HWADDR}


async def test_a_file_has_a_line_when_it_begins_and_one_when_it_has_arrived(
    head: Head, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (head.catalog.get("img") / "usr/lib/large").write_bytes(os.urandom(4 << 20))
    generation = head.build()
    head.identified = HWADDR
    assert (await head.get(f"/generations/{generation.digest}/image"))[0] == 200
    await head.happened(1)
    whose = f"hwaddr={HWADDR} node=n1"
    assert [line for line in caplog.messages if line.startswith("http ")] == [
        f"http IMAGE received {whose} file=img size={generation.image_size} client=127.0.0.1 if=lo",
        f"http IMAGE {whose} sent=img client=127.0.0.1 if=lo",
    ]


async def test_a_machine_that_no_node_is_has_lines_within_a_budget(head: Head, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    for path in ("/ipxe/", "/grub/", "/kernel/"):
        await head.get(f"{path}52-54-00-00-00-99")
    assert [line for line in caplog.messages if line.startswith("http ")] == [
        f"http {stage} hwaddr=52:54:00:00:00:99 node=- sent=UNKNOWN_NODE client=127.0.0.1 if=lo"
        for stage in ("IPXE", "GRUB", "KERNEL")
    ]
    scarce = Lines(rate=0, burst=2)
    peer = Peer(hwaddr=HWADDR, remote="127.0.0.1", address=IPv4Address("127.0.0.1"), interface="lo")
    caplog.clear()
    for _ in range(5):
        scarce.say("IPXE", peer, None)
    assert len(caplog.messages) == 2


async def test_a_clock_that_is_set_silences_no_event(
    head: Head, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same event of one machine counts once a second; a day to or fro is no second."""
    caplog.set_level(logging.INFO)
    head.build()
    begun = time.time()
    for number, days in enumerate((0, -1, 0, 1), 1):
        moment = begun + days * 86_400
        monkeypatch.setattr(time, "time", lambda moment=moment: moment)
        for _ in range(2):
            assert (await head.get(f"/kernel/{WWID}"))[0] == 200
        await head.happened(number)
    assert [event.when - begun for event in head.events] == [0.0, -86_400.0, 0.0, 86_400.0]
    assert len([line for line in caplog.messages if line.startswith(f"http KERNEL hwaddr={HWADDR} node=n1")]) == 4


async def test_only_what_arrived_whole_is_recorded(head: Head) -> None:
    digest = head.build().digest
    async with aiohttp.ClientSession(head.url) as session:
        await session.head(f"/kernel/{WWID}")
        await session.get(f"/kernel/{WWID}", headers={"Range": "bytes=0-1"})
        await session.get(f"/generations/{digest}/image", headers={"If-None-Match": f'"{digest}"'})
        await session.head(f"/report/{WWID}?event=up")
        assert head.events == []
        await session.get(f"/kernel/{WWID}", headers={"Range": "bytes=2-"})
    await head.happened(1)
    assert [(event.stage, event.size) for event in head.events] == [("kernel", 6)]


async def test_warewulfs_other_spellings(head: Head) -> None:
    head.build()
    assert (await head.get("/kernel", wwid=HWADDR)) == (200, b"a kernel")
    assert (await head.get(f"/provision/{WWID}", stage="kernel")) == (200, b"a kernel")
    assert (await head.get(f"/provision/{WWID}"))[1].startswith(b"#!ipxe")
    assert (await head.get(f"/image/{WWID.upper()}"))[0] == 200
    assert (await head.get(f"/provision/{WWID}", stage="nonsense"))[0] == 400


async def test_a_script_pins_its_generation(head: Head) -> None:
    first = head.build()
    rootfs = head.catalog.get("img")
    (rootfs / "sbin").symlink_to("usr/lib")
    (rootfs / "usr/lib/new").write_text("new")
    second = head.build()
    assert first.digest != second.digest
    assert len((await head.get(f"/generations/{first.digest}/image"))[1]) == first.image_size
    for generation in (first, second):
        assert (await head.get(f"/system/{WWID}", generation=generation.digest))[0] == 200
        assert (await head.get(f"/generations/{generation.digest}/manifest"))[1] == generation.manifest_path.read_bytes()


async def test_the_nodes_kernel_version_chooses(head: Head) -> None:
    head.build()
    head.registry = nodes(kernel={"version": "5.10"})
    assert await head.get(f"/kernel/{WWID}") == (200, b"an old kernel")
    head.registry = nodes(kernel={"version": "9"})
    assert (await head.get(f"/kernel/{WWID}"))[0] == 404
    assert b"has no kernel '9'; trying again" in (await head.get(f"/ipxe/{WWID}"))[1]


@pytest.mark.parametrize(
    ("registry", "words"),
    [
        (lambda: nodes(**{"image name": ""}), b"node n1 has no image"),
        (lambda: nodes(**{"image name": "imgg"}), b"there is no image 'imgg'"),
        (nodes, b"image 'img' has not been built"),
    ],
)
async def test_a_node_that_cannot_boot_is_told_why(head: Head, registry: Callable[[], Registry], words: bytes) -> None:
    head.registry = registry()
    status, script = await head.get(f"/ipxe/{WWID}")
    assert status == 200
    assert words in script
    assert (await head.get(f"/image/{WWID}"))[0] == 404
    assert head.seen() == [("ipxe", "NOT_FOUND"), ("image", "NOT_FOUND")]


async def test_unknown_machine(head: Head) -> None:
    status, script = await head.get("/ipxe/52-54-00-00-00-99")
    assert (status, b"no node has hardware address 52:54:00:00:00:99" in script) == (200, True)
    assert (await head.get("/system/52-54-00-00-00-99"))[0] == 400
    assert head.events == []


async def test_a_wwid_cannot_put_commands_into_a_script(head: Head) -> None:
    status, script = await head.get("/ipxe/x%0Aecho%20injected")
    assert (status, b"\n" in script.rstrip()) == (400, False)


async def test_asset_key(head: Head) -> None:
    head.build()
    head.registry = nodes(**{"asset key": "secret"})
    assert (await head.get(f"/system/{WWID}"))[0] == 401
    assert (await head.get(f"/system/{WWID}", assetkey="wrong"))[0] == 401
    assert b"asset key" in (await head.get(f"/ipxe/{WWID}"))[1]
    _, script = await head.get(f"/ipxe/{WWID}", assetkey="secret")
    fetched = re.findall(r"^(?:kernel|initrd).* http://127\.0\.0\.1:9873(\S+)", script.decode(), re.MULTILINE)
    assert len(fetched) == 5
    for url in fetched:
        assert (await head.get(url.replace("${asset:uristring}", "secret")))[0] == 200, url
    assert ("system", "BAD_ASSET") in head.seen()


async def test_an_ipv6_address_is_no_nodes_own(head: Head) -> None:
    head.registry = nodes(**{"network devices": {"default": {"hwaddr": HWADDR}}})
    service = HttpService(0, head.routes, host="::1")
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(service.run(ready))
        await ready.wait()
        head.url = f"http://[::1]:{service.bound}"
        assert await head.get(f"/report/{WWID}", event="up") == (403, b"::1 is not an address of n1\n")
        task.cancel()
    assert head.events == []


async def test_only_the_nodes_own_address_says_that_it_is_up(head: Head) -> None:
    device = {"hwaddr": HWADDR, "ipaddr": "127.0.0.9", "netmask": "255.0.0.0"}
    head.registry = nodes(**{"network devices": {"default": device}})
    assert (await head.get(f"/report/{WWID}", event="up"))[0] == 403
    assert (await head.get(f"/report/{WWID}", event="nonsense"))[0] == 400
    assert (await head.get("/report/52-54-00-00-00-99", event="up"))[0] == 404
    assert head.events == []


@pytest.mark.parametrize("path", ["/generations/sha256:" + "0" * 64 + "/image", "/blobs/sha256:" + "0" * 64])
async def test_content_that_is_not_there(head: Head, path: str) -> None:
    assert (await head.get(path))[0] == 404


@pytest.mark.parametrize("digest", ["sha256:..", "../../x", "sha256:" + "0" * 64])
async def test_a_pinned_generation_must_exist(head: Head, digest: str) -> None:
    head.build()
    assert (await head.get(f"/system/{WWID}", generation=digest))[0] == 404


async def test_a_broken_overlay_is_a_404_and_a_sentence(head: Head, tmp_path: Path) -> None:
    head.build()
    (tmp_path / "overlays/hostname/rootfs/etc").mkdir(parents=True)
    (tmp_path / "overlays/hostname/rootfs/etc/hostname.j2").write_text("{{ nonsense }}")
    status, body = await head.get(f"/system/{WWID}")
    assert status == 404
    assert b"overlay hostname, etc/hostname.j2:1" in body


async def test_a_segment_lost_on_the_way_is_no_second_answer(head: Head) -> None:
    """The head of a 404 after the image's would be unpacked as a part of it."""
    for name in "abcdef":
        (head.catalog.get("img") / name).write_bytes(os.urandom(4 << 20))
    generation = head.build()
    host, port = head.url.removeprefix("http://").split(":")
    with socket.socket() as client:
        # Small, so that the server cannot send everything before anything is read.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        client.connect((host, int(port)))
        reader, writer = await asyncio.open_connection(sock=client)
        writer.write(f"GET /image/{WWID} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        start = await reader.readuntil(b"\r\n\r\n")
        for path, _ in list(generation.image_files())[1:]:
            path.unlink(missing_ok=True)
        async with asyncio.timeout(20):
            body = await reader.read()
        writer.close()
    assert f"Content-Length: {generation.image_size}".encode() in start
    assert len(body) < generation.image_size
    assert b"HTTP/1.1" not in body
    assert head.seen() == []


async def test_an_overlay_that_cannot_be_stored_is_a_404_and_a_sentence(head: Head, tmp_path: Path) -> None:
    head.build()
    (tmp_path / "provision/overlays").write_text("in the way")
    status, body = await head.get(f"/system/{WWID}")
    assert (status, b"overlays" in body) == (404, True)
    assert head.seen() == [("system", "NOT_FOUND")]


async def test_a_lost_segment_is_a_404_not_half_an_image(head: Head) -> None:
    generation = head.build()
    next(iter(generation.image_files()))[0].unlink()
    assert (await head.get(f"/generations/{generation.digest}/image"))[0] == 404


def test_manifest_is_canonical_json(tmp_path: Path) -> None:
    catalog = Catalog(chroots=tmp_path / "chroots", provision=tmp_path / "provision")
    (catalog.chroots / "img/rootfs").mkdir(parents=True)
    data = rebuild(catalog, "img", BuildContext(own=[], built_by="t", now=0.0)).generation.manifest_path.read_bytes()
    assert json.dumps(json.loads(data), sort_keys=True, separators=(",", ":")).encode() == data


async def test_compress_gz_is_one_stream_and_one_archive(head: Head) -> None:
    generation = head.build()
    status, data = await head.get(f"/image/{WWID}", compress="gz")
    assert status == 200
    found = [entry.path for entry, _ in cpio.parse(gzip.decompress(data))]
    assert found[1] == b".bootsvc/expected"
    assert found[-1] == b".bootsvc/generation"
    assert b"boot/vmlinuz-6.1.0-1-amd64" in found
    assert gzip.decompress(data).count(b"TRAILER!!!") == 1
    assert await head.get("/image", wwid=HWADDR, compress="gz") == (200, data)
    assert await head.get(f"/provision/{WWID}", stage="image", compress="gz") == (200, data)
    await head.happened(1)
    assert head.seen()[0] == ("image", "img")
    assert (await head.get(f"/image/{WWID}", compress=""))[1] != data
    assert len((await head.get(f"/image/{WWID}"))[1]) == generation.image_size


async def test_many_ask_for_the_gzip_image_at_once(head: Head) -> None:
    head.build()
    async with asyncio.TaskGroup() as tasks:
        asked = [tasks.create_task(head.get(f"/image/{WWID}", compress="gz")) for _ in range(5)]
    assert len({task.result() for task in asked}) == 1
    assert len(list((head.catalog.provision / "renditions").iterdir())) == 1


def listed(packed: bytes) -> list[bytes]:
    """What gzip(1) and GNU cpio make of it: they take several streams for one archive, and complain about anything else."""
    archive = subprocess.run(["gzip", "-dc"], input=packed, capture_output=True, check=True)
    found = subprocess.run(["cpio", "-t", "--quiet"], input=archive.stdout, capture_output=True, check=True)
    assert (archive.stderr, found.stderr) == (b"", b"")
    return found.stdout.split()


async def test_overlays_with_compress_gz_end_with_the_gzip_stream(head: Head) -> None:
    head.build()
    for stage in ("system", "runtime"):
        packed = (await head.get(f"/{stage}/{WWID}", compress="gz"))[1]
        padded = (await head.get(f"/{stage}/{WWID}"))[1]
        assert padded == packed + bytes(-len(packed) % 4)
        assert {"system": b"etc/hostname", "runtime": b"etc/hosts"}[stage] in listed(packed)


@pytest.mark.parametrize("compress", ["xz", "GZ", "gzip", "none"])
@pytest.mark.parametrize("stage", ["image", "system", "kernel", "ipxe"])
async def test_an_unknown_compression_sends_nothing(head: Head, stage: str, compress: str) -> None:
    head.build()
    status, text = await head.get(f"/{stage}/{WWID}", compress=compress)
    assert (status, text) == (404, f"there is no {stage} with compress='{compress}'\n".encode())
    assert head.events == []


@pytest.mark.parametrize("stage", ["kernel", "ipxe"])
async def test_no_gzip_of_what_is_no_archive(head: Head, stage: str) -> None:
    head.build()
    assert (await head.get(f"/{stage}/{WWID}", compress="gz"))[0] == 404


async def test_a_script_is_a_lease_of_its_generation(head: Head) -> None:
    generation = head.build()
    assert head.catalog.generations.handed(generation.digest) is None
    before = time.time()
    await head.get(f"/ipxe/{WWID}")
    handed = head.catalog.generations.handed(generation.digest)
    assert handed is not None
    assert before - 1 <= handed <= time.time()
    path = generation.folder / "handed"
    os.utime(path, (0, 0))
    await head.get(f"/ipxe/{WWID}")
    assert head.catalog.generations.handed(generation.digest) == 0, "noted again within a minute"


async def test_a_generation_that_a_script_named_is_handed_out_too(head: Head) -> None:
    first = head.build()
    (head.catalog.get("img") / "new").touch()
    head.build()
    assert (await head.get(f"/generations/{first.digest}/image"))[0] == 200
    assert head.catalog.generations.handed(first.digest) is not None


async def test_warewulfs_old_names_and_more_slashes(head: Head) -> None:
    head.build()
    for old, new in (("container", "image"), ("overlay-system", "system"), ("overlay-runtime", "runtime")):
        assert (await head.get(f"/{old}/{WWID}"))[1] == (await head.get(f"/{new}/{WWID}"))[1], old
    assert await head.get(f"//kernel//{WWID}") == (200, b"a kernel")
    assert await head.get("/provision", wwid=HWADDR, stage="kernel") == (200, b"a kernel")
    assert await head.get("/provision/", wwid=HWADDR, stage="kernel") == (200, b"a kernel")
    assert await head.get("/kernel/", wwid=HWADDR) == await head.get(f"/kernel/{WWID}/") == (200, b"a kernel")
    assert (await head.get("/"))[0] == 404


async def test_the_peers_address_names_the_node(head: Head) -> None:
    head.build()
    assert (await head.get("/kernel"))[0] == 400
    head.identified = HWADDR
    assert await head.get("/kernel") == (200, b"a kernel")
    assert b"n1 boots image img" in (await head.get("/provision"))[1]
    head.identified = "52:54:00:00:00:99"
    assert await head.get("/kernel", wwid=HWADDR) == (200, b"a kernel"), "the URL says more than the address"
    assert (await head.get("/kernel"))[0] == 400


async def test_http_boot_gets_what_tftp_serves(head: Head) -> None:
    assert await head.get("/efiboot/snponly.efi") == (200, b"iPXE")
    for name in ("undionly.kpxe", "..%2Fipxe%2Fsnponly.efi", "%2Fetc%2Fpasswd", ".", ".."):
        assert (await head.get(f"/efiboot/{name}"))[0] == 404, name


async def test_efiboot(head: Head) -> None:
    head.build()
    shim = head.catalog.get("img") / "usr/lib/shim/shimx64.efi.signed"
    shim.parent.mkdir()
    shim.write_bytes(b"the image's shim")
    assert await head.get("/efiboot//shimx64.efi", wwid=HWADDR) == (200, b"the image's shim")
    assert await head.get("/efiboot/shim.efi", wwid=HWADDR) == (200, b"the image's shim")
    assert (await head.get("/efiboot/grub.cfg"))[0] == 400
    script = (await head.get("/efiboot/grub.cfg", wwid=HWADDR))[1]
    assert b"(http,127.0.0.1:9873)/blobs/" in script
    assert (await head.get(f"/grub/{WWID}"))[1] == script
    assert (await head.get("/grub/52-54-00-00-00-99"))[0] == 404
    assert b"no node has" in (await head.get("/efiboot/grub.cfg", wwid="52-54-00-00-00-99"))[1]
    for name in ("other.efi", "..%2f..%2fetc%2fpasswd", "shim.efi/x"):
        assert (await head.get(f"/efiboot/{name}"))[0] == 404


async def test_an_image_cannot_lead_a_loader_astray(head: Head, tmp_path: Path) -> None:
    head.build()
    (tmp_path / "secret").write_text("not for nodes")
    rootfs = head.catalog.get("img")
    (rootfs / "boot/efi/EFI/x").mkdir(parents=True)
    (rootfs / "boot/efi/EFI/x/mmx64.efi").symlink_to(tmp_path / "secret")
    (rootfs / "usr/lib/shim").symlink_to(tmp_path)
    assert b"not for nodes" not in (await head.get("/efiboot/mmx64.efi", wwid=HWADDR))[1]


async def test_the_initramfs_of_the_kernel(head: Head) -> None:
    head.build()
    assert (await head.get(f"/initramfs/{WWID}"))[0] == 404
    (head.catalog.get("img") / "boot/initrd.img-6.1.0-1-amd64").write_bytes(b"an initramfs")
    assert await head.get(f"/initramfs/{WWID}") == (200, b"an initramfs")


async def test_with_tls_the_runtime_overlay_is_not_given_without(head: Head) -> None:
    head.build()
    urls = Urls(address=IPv4Address("127.0.0.1"), port=9873, tls=True)
    files = BootFiles(head.artifacts, lambda: head.registry, urls, head.catalog.find_rootfs)
    stages = Stages(files, lambda address: None, head.events.append)
    service = HttpService(0, stages.routes(), host="127.0.0.1")
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(service.run(ready))
        await ready.wait()
        head.url = f"http://127.0.0.1:{service.bound}"
        assert await head.get(f"/runtime/{WWID}") == (403, b"the runtime overlay is given by TLS only\n")
        assert (await head.get(f"/system/{WWID}"))[0] == 200
        script = (await head.get(f"/ipxe/{WWID}"))[1]
        assert (b"/runtime/" in script, b"initrd=runtime" in script) == (False, False)
        task.cancel()


async def test_a_loop_of_requests_is_one_event(head: Head) -> None:
    head.build()
    for _ in range(20):
        await head.get(f"/ipxe/{WWID}")
    await head.happened(1)
    assert len(head.events) < 20


@pytest.mark.root
async def test_secure_gives_runtime_overlays_to_privileged_ports_only(head: Head) -> None:
    head.build()
    head.artifacts.secure = True
    assert (await head.get(f"/runtime/{WWID}"))[0] == 401
    assert head.seen()[-1] == ("runtime", "DENIED")
    assert (await head.get_privileged(f"/runtime/{WWID}"))[0] == 200
    assert (await head.get(f"/system/{WWID}"))[0] == 200
    assert b"/runtime/" not in (await head.get(f"/ipxe/{WWID}"))[1]
