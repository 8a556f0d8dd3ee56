"""What TFTP makes for the asking node, fetched by a client; and noise on its port while it does."""

import asyncio
import os
import random
import socket
import tracemalloc
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from urllib.parse import quote

import pytest
from conditions import until

from bootsvc.artifacts import Artifacts
from bootsvc.bootfiles import BootFiles
from bootsvc.config import Config, Paths
from bootsvc.overlays import HeadNode
from bootsvc.registry import Registry
from bootsvc.store import Snapshot
from bootsvc.tftp.made import MadeFiles, optional
from bootsvc.tftp.service import TftpService
from images.catalog import Catalog
from images.rebuild import BuildContext, rebuild
from netboot.engine import Server
from netboot.init_files import own_files
from netboot.urls import Urls

HWADDR = "52:54:00:00:00:01"
WWID = "52-54-00-00-00-01"
LOOPBACK = IPv4Address("127.0.0.1")
FUZZ = 300_000 if os.environ.get("BOOTSVC_PROOF") == "full" else 3_000


@dataclass
class Head:
    service: TftpService
    rootfs: Path
    generation: str
    image_size: int
    folder: Path
    events: list[tuple[str, str | None, str, str]] = field(default_factory=list)
    identified: str | None = HWADDR

    async def get(self, name: str, *options: str, size: int = 1428) -> bytes | None:
        """By curl; None when the server has no such file."""
        to = self.folder / "got"
        to.unlink(missing_ok=True)
        url = f"tftp://127.0.0.1:{self.service.port}/{quote(name)}"
        command = ["curl", "-sS", "--globoff", "--path-as-is", "--tftp-blksize", str(size), "-o", str(to), *options, url]
        process = await asyncio.create_subprocess_exec(*command)
        async with asyncio.timeout(60):
            status = await process.wait()
        return to.read_bytes() if status == 0 else None


@pytest.fixture
async def head(tmp_path: Path, require_tool: Callable[..., Path]) -> AsyncIterator[Head]:
    require_tool("curl")
    paths = Paths(chroots=tmp_path / "chroots", provision=tmp_path / "provision", overlays=tmp_path / "overlays")
    rootfs = paths.chroots / "img/rootfs"
    for name, content in {
        "boot/vmlinuz-6.1.0-1-amd64": b"a kernel",
        "etc/large": random.Random(1).randbytes(3 << 20),
        "usr/lib/shim/shimx64.efi.signed": b"the image's shim",
    }.items():
        (rootfs / name).parent.mkdir(parents=True, exist_ok=True)
        (rootfs / name).write_bytes(content)
    catalog = Catalog(chroots=paths.chroots, provision=paths.provision)
    generation = rebuild(catalog, "img", BuildContext(own=own_files(), built_by="test", now=0.0)).generation
    device = {"hwaddr": HWADDR, "ipaddr": "127.0.0.1", "netmask": "255.0.0.0"}
    entry = {"image name": "img", "system overlay": ["hostname"], "network devices": {"default": device}}
    registry = Registry.build(Snapshot(nodes={"n1": entry}), IPv4Network("127.0.0.0/8"))
    urls = Urls(address=LOOPBACK, port=9873)
    server = Server(name="h", address=LOOPBACK, network=IPv4Network("127.0.0.0/8"), domain="", urls=urls, authorized_keys=())
    artifacts = Artifacts(Config(paths=paths), catalog, lambda: registry, lambda: HeadNode(server))
    files = BootFiles(artifacts, lambda: registry, urls, catalog.find_rootfs)

    def identify(address: IPv4Address) -> str | None:
        return made.identified

    def on_event(
        hwaddr: str, node: str | None, stage: str, detail: str, *, size: int = 0, ipaddr: IPv4Address | None = None
    ) -> None:
        made.events.append((hwaddr, node, stage, detail))

    root = tmp_path / "root"
    root.mkdir()
    (root / "loader").write_bytes(bytes(range(256)) * 4096)
    service = TftpService(
        LOOPBACK, lambda: (root,), port=0, made=MadeFiles(files, identify), identify=identify, on_event=on_event
    )
    made = Head(service, rootfs, generation.digest, generation.image_size, tmp_path)
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as tasks:
        task = tasks.create_task(service.run(ready))
        await ready.wait()
        yield made
        task.cancel()


async def test_grub_boots_by_what_its_script_names(head: Head) -> None:
    script = await head.get("grub/grub.cfg")
    assert script is not None
    names = [word.partition(")/")[2] for word in script.decode().split('"') if word.startswith("(tftp,127.0.0.1)/")]
    got = [await head.get(name) for name in names]
    assert [name for name, content in zip(names, got, strict=True) if content is None] == []
    kernel, image, system, runtime, end, report = [content or b"" for content in got]
    assert report == b"ok\n"
    assert kernel == b"a kernel"
    assert len(image) == head.image_size
    assert system[:2] == runtime[:2] == b"\x1f\x8b"
    assert b".bootsvc/generation" in end
    await until(lambda: len(head.events) >= 5)
    assert (HWADDR, "n1", "grub", "grub.cfg") in head.events
    assert {stage for _, _, stage, _ in head.events} >= {"grub", "kernel", "image", "system overlay", "runtime overlay"}


async def test_scripts_for_the_asking_node(head: Head) -> None:
    assert b"#!ipxe\necho bootsvc: n1 boots image img" in (await head.get("autoexec.ipxe") or b"")
    assert b"n1 boots image img" in (await head.get(f"grub/grub.cfg-01-{WWID}") or b"")
    head.identified = "52:54:00:00:00:99"
    assert b"no node has hardware address 52:54:00:00:00:99" in (await head.get("grub.cfg") or b"")
    head.identified = None
    assert await head.get("autoexec.ipxe") is None
    assert b"n1 boots" in (await head.get(f"grub.cfg-01-{WWID.upper()}") or b""), "its name says who asks"


async def test_grub_reports_that_it_could_not_boot(head: Head) -> None:
    assert await head.get(f"/report/{WWID}?event=failed") == b"ok\n"
    assert head.events[-1] == (HWADDR, "n1", "failed", "grub.cfg")
    told = len(head.events)
    for name in (f"/report/{WWID}?event=up", "/report/52-54-00-00-00-99?event=failed", "/report/x?event=failed"):
        assert await head.get(name) is None
    head.identified = "52:54:00:00:00:99"
    assert await head.get(f"/report/{WWID}?event=failed") is None
    assert len(head.events) == told


async def test_loaders_come_from_the_nodes_image(head: Head) -> None:
    assert await head.get("shimx64.efi") == b"the image's shim"
    head.identified = None
    (head.rootfs / "usr/lib/shim/shimx64.efi.signed").unlink()
    other = Path("/usr/lib/shim/shimx64.efi.signed")
    assert await head.get("shimx64.efi") == (other.read_bytes() if other.exists() else None)


async def test_what_loaders_do_without_is_no_refusal(head: Head, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", logger="bootsvc")
    for name in ("grub/x86_64-efi/command.lst", "grub/grub.cfg-7F000001", "revocations_sku.efi", "shim_certificate_0.efi"):
        assert optional(name)
        assert await head.get(name) is None
    assert (head.service.counters.missed, head.service.counters.refused) == (4, 0)
    assert "ERROR" not in caplog.text
    assert not optional("loader")


@pytest.mark.parametrize(
    "name",
    [
        "blobs/sha256:" + "0" * 64,
        "generations/sha256:" + "0" * 64 + "/image",
        "system/52-54-00-00-00-99",
        "system/nonsense",
        f"system/{WWID}?generation=sha256:..",
        f"kernel/{WWID}?compress=gz",
        f"system/{WWID}?" + "&".join(f"a{n}=1" for n in range(50)),
    ],
)
async def test_what_is_not_there(head: Head, name: str) -> None:
    got = await head.get(name)
    assert (got is None) == (not name.startswith(f"system/{WWID}?a0"))


async def test_a_name_cannot_write_lines_of_its_own_into_the_log(head: Head, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    assert await head.get("kernel/52-54-00-00-00-01?generation=%0Aforged") is None
    assert "there is no generation '\\nforged'" in caplog.text
    assert "\nforged" not in caplog.text
    assert head.events == [(HWADDR, "n1", "TFTP", "NOT_FOUND: there is no generation '\\nforged'")], "and the record says why"


async def test_a_window_arrives_whole(head: Head, require_tool: Callable[..., Path]) -> None:
    atftp = require_tool("atftp")
    for window in ("2", "16", "40"):
        command = [str(atftp), "--option", f"windowsize {window}", "--option", "blksize 1400", "--get"]
        command += ["--remote-file", "loader", "--local-file", str(head.folder / "w"), "127.0.0.1", str(head.service.port)]
        process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.DEVNULL)
        async with asyncio.timeout(60):
            assert await process.wait() == 0
        assert (head.folder / "w").read_bytes() == bytes(range(256)) * 4096


async def test_busybox(head: Head, require_tool: Callable[..., Path]) -> None:
    busybox = str(require_tool("busybox"))
    command = [busybox, "tftp", "-b", "1400", "-g", "-r", "loader", "-l", str(head.folder / "b")]
    process = await asyncio.create_subprocess_exec(*command, "127.0.0.1", str(head.service.port))
    async with asyncio.timeout(60):
        assert await process.wait() == 0
    assert (head.folder / "b").read_bytes() == bytes(range(256)) * 4096


@pytest.mark.parametrize("change", ["truncated", "rewritten"])
async def test_a_file_that_changes_meanwhile_is_an_error(head: Head, change: str) -> None:
    path = head.folder / "root/changing"
    path.write_bytes(b"a" * 2000)
    os.utime(path, (1, 1))
    loop = asyncio.get_running_loop()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
        client.setblocking(False)
        client.bind(("127.0.0.1", 0))
        client.sendto(b"\0\x01changing\0octet\0", ("127.0.0.1", head.service.port))
        async with asyncio.timeout(10):
            data, server = await loop.sock_recvfrom(client, 2048)
            assert data[:4] == b"\0\x03\0\x01"
            path.write_bytes(b"b" * (100 if change == "truncated" else 2000))
            answers = []
            for block in range(1, 5):
                client.sendto(b"\0\x04" + block.to_bytes(2, "big"), server)
                data, server = await loop.sock_recvfrom(client, 2048)
                answers.append(data[:2])
                if data[:2] == b"\0\x05":
                    break
    assert answers[-1] == b"\0\x05", "no end of the file that is of another version than its beginning"


async def test_noise_changes_nothing(head: Head) -> None:
    """Random, truncated and mutated packets; a real client is served meanwhile, and memory stays flat."""
    draw = random.Random(7)
    seeds = [b"\0\x01loader\0octet\0blksize\x001400\0tsize\x000\0", b"\0\x02x\0octet\0", b"\0\x04\0\x01", b"\0\x05\0\0x\0"]
    seeds += [b"\0\x01grub/grub.cfg\0netascii\0windowsize\x008\0", b"\0\x01system/" + WWID.encode() + b"\0octet\0"]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as noise:
        noise.setblocking(False)
        tracemalloc.start()
        low = 0
        for number in range(FUZZ):
            packet = bytearray(draw.choice(seeds) if draw.random() < 0.8 else draw.randbytes(draw.randrange(60)))
            for _ in range(draw.randrange(4)):
                if packet:
                    packet[draw.randrange(len(packet))] = draw.randrange(256)
            noise.sendto(
                packet[: draw.randrange(len(packet) + 1)] if draw.random() < 0.3 else packet, ("127.0.0.1", head.service.port)
            )
            if number % 50 == 0:
                await asyncio.sleep(0)
            if number == FUZZ // 2:
                assert await head.get("loader", "--interface", "127.0.0.1") is not None
                low = tracemalloc.get_traced_memory()[0]
        grown = tracemalloc.get_traced_memory()[0] - low
        tracemalloc.stop()
    assert await head.get("loader") == bytes(range(256)) * 4096
    assert head.service.counters.malformed > FUZZ // 20
    assert grown < 4 << 20
