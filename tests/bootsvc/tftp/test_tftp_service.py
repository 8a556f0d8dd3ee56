"""The TFTP server on loopback with the clients that people have: atftp, tftp-hpa and curl; and with raw packets."""

import asyncio
import logging
import socket
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from bootsvc.net.buffers import set_buffers
from bootsvc.tftp import service as tftp_service
from bootsvc.tftp.files import MAX_NETASCII
from bootsvc.tftp.packet import Ack, Data, ErrorPacket, OptionAck, Packet, ReadRequest, WriteRequest, parse, serialize
from bootsvc.tftp.service import TftpService

LOADERS = Path("/usr/lib/ipxe")
STRANGER = "127.0.9.9"
"""Whose packets hear nothing."""
LOOPBACK = IPv4Address("127.0.0.1")


@dataclass
class Events:
    seen: list[tuple[str, str, str, int]] = field(default_factory=list)

    def __call__(
        self, hwaddr: str, node: str | None, stage: str, detail: str, *, size: int = 0, ipaddr: IPv4Address | None = None
    ) -> None:
        self.seen.append((hwaddr, stage, detail, size))


@dataclass
class Running:
    service: TftpService
    root: Path
    events: Events


@pytest.fixture
async def running(tmp_path: Path) -> AsyncIterator[Running]:
    root = tmp_path / "root"
    root.mkdir()
    (root / "text").write_bytes(b"one\ntwo\n")
    (root / "big").write_bytes(bytes(range(256)) * 8192)
    (root / "empty").touch()
    events = Events()
    roots = (root, LOADERS)
    service = TftpService(
        LOOPBACK,
        lambda: roots,
        port=0,
        identify=lambda address: f"hwaddr-of-{address}",
        name_of={"hwaddr-of-127.0.0.1": "n1"}.get,
        on_event=events,
        serves=lambda source: str(source) != STRANGER,
    )
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(service.run(ready))
        await ready.wait()
        yield Running(service, root, events)
        task.cancel()


async def completed(running: Running, count: int) -> None:
    await until(lambda: running.service.counters.complete == count)


async def client(*command: str, cwd: Path, stdin: str = "") -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=cwd,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(60):
            out, _ = await process.communicate(stdin.encode())
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    assert process.returncode is not None
    return process.returncode, out.decode(errors="replace")


def loaders() -> list[str]:
    return [name for name in ("undionly.kpxe", "snponly.efi", "ipxe.efi") if (LOADERS / name).exists()]


async def check_bytes(running: Running, got: Path, name: str) -> None:
    source = running.root / name if (running.root / name).exists() else LOADERS / name
    assert got.read_bytes() == source.read_bytes()
    size = source.stat().st_size
    await until(lambda: running.events.seen)
    assert running.events.seen == [("hwaddr-of-127.0.0.1", "TFTP", name, size)]


@pytest.mark.parametrize("name", [*loaders(), "big"])
@pytest.mark.parametrize("blksize", ["512", "1468", "65464"])
async def test_curl(running: Running, require_tool: Callable[..., Path], tmp_path: Path, name: str, blksize: str) -> None:
    url = f"tftp://127.0.0.1:{running.service.port}/{name}"
    curl = str(require_tool("curl"))
    status, out = await client(curl, "-sSf", "--tftp-blksize", blksize, "-o", "got", url, cwd=tmp_path)
    assert status == 0, out
    await check_bytes(running, tmp_path / "got", name)


@pytest.mark.parametrize("options", [[], ["--option", "blksize 1428"], ["--option", "windowsize 8", "--option", "tsize 0"]])
async def test_atftp(running: Running, require_tool: Callable[..., Path], tmp_path: Path, options: list[str]) -> None:
    port = str(running.service.port)
    atftp = str(require_tool("atftp"))
    command = [atftp, *options, "--get", "--remote-file", "big", "--local-file", "got", "127.0.0.1", port]
    status, out = await client(*command, cwd=tmp_path)
    assert status == 0, out
    await check_bytes(running, tmp_path / "got", "big")


# curl refuses an empty file, taking its tsize of 0 for an error.
@pytest.mark.parametrize("name", [*loaders(), "empty"])
async def test_tftp_hpa(running: Running, require_tool: Callable[..., Path], tmp_path: Path, name: str) -> None:
    port = str(running.service.port)
    tftp = str(require_tool("tftp", package="tftp-hpa"))
    status, out = await client(tftp, "-m", "binary", "127.0.0.1", port, "-c", "get", name, "got", cwd=tmp_path)
    assert status == 0, out
    await check_bytes(running, tmp_path / "got", name)


async def test_netascii(running: Running, require_tool: Callable[..., Path], tmp_path: Path) -> None:
    port = str(running.service.port)
    tftp = str(require_tool("tftp", package="tftp-hpa"))
    status, out = await client(tftp, "-m", "ascii", "127.0.0.1", port, "-c", "get", "text", "got", cwd=tmp_path)
    assert status == 0, out
    assert (tmp_path / "got").read_bytes() == b"one\ntwo\n"


async def test_a_missing_file_is_said(running: Running, require_tool: Callable[..., Path], tmp_path: Path) -> None:
    url = f"tftp://127.0.0.1:{running.service.port}/none"
    status, _ = await client(str(require_tool("curl")), "-sSf", "-o", "got", url, cwd=tmp_path)
    assert status == 68  # curl: TFTP file not found
    assert running.service.counters.refused == 1


class Peer:
    """A client that speaks packets."""

    def __init__(self, port: int, address: str = "127.0.0.1") -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self._socket.bind((address, 0))
        self.server = ("127.0.0.1", port)

    async def ask(self, packet: Packet | bytes) -> Packet:
        """Send to the server's present port, and take the answer; its port is the transfer's from then on."""
        self.send(packet)
        return await self.receive()

    def widen(self) -> None:
        """Make room for a large window."""
        set_buffers(self._socket, receive=16 << 20)

    async def receive(self) -> Packet:
        async with asyncio.timeout(10):
            data, self.server = await asyncio.get_running_loop().sock_recvfrom(self._socket, 70000)
        return parse(data)

    def send(self, packet: Packet | bytes) -> None:
        self._socket.sendto(packet if isinstance(packet, bytes) else serialize(packet), self.server)

    def close(self) -> None:
        self._socket.close()


@pytest.fixture
async def peer(running: Running) -> AsyncIterator[Peer]:
    made = Peer(running.service.port)
    yield made
    made.close()


async def test_a_transfer_has_its_own_port_and_refuses_strangers(running: Running, peer: Peer) -> None:
    first = await peer.ask(ReadRequest(filename="text"))
    assert first == Data(block=1, data=b"one\ntwo\n")
    assert peer.server[1] != running.service.port
    stranger = Peer(peer.server[1])
    try:
        assert await stranger.ask(Ack(block=1)) == ErrorPacket(code=5, message="unknown transfer ID")
    finally:
        stranger.close()
    assert running.service.counters.complete == 0
    peer.send(Ack(block=1))
    await completed(running, 1)


async def until(condition: Callable[[], object]) -> None:
    """Let the server's callbacks run until the condition holds."""
    async with asyncio.timeout(10):
        while True:
            if condition():
                return
            await asyncio.sleep(0)


@pytest.mark.parametrize(
    ("packet", "code"),
    [
        (WriteRequest(filename="text"), 2),
        (ReadRequest(filename="../secret"), 2),
        (ReadRequest(filename="none"), 1),
        (b"\0\x01text\0mail\0", 4),
    ],
)
async def test_refusals(peer: Peer, running: Running, packet: Packet | bytes, code: int) -> None:
    error = await peer.ask(packet)
    assert isinstance(error, ErrorPacket)
    assert error.code == code
    assert running.service.counters.refused == 1


async def test_a_size_probe_is_not_logged_as_failure(running: Running, peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert await peer.ask(ReadRequest(filename="text", options={"tsize": "0"})) == OptionAck(options={"tsize": "8"})
    peer.send(ErrorPacket(code=8, message="User aborted the transfer"))
    await until(lambda: running.service.counters.probed == 1)
    assert running.service.counters.failed == 0
    assert running.events.seen == []
    assert "tftp tsize probe hwaddr=hwaddr-of-127.0.0.1 node=n1 file=text" in caplog.text


async def test_one_line_received_and_one_answered(running: Running, peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert isinstance(await peer.ask(ReadRequest(filename="text")), Data)
    peer.send(Ack(block=1))
    await until(lambda: running.service.counters.complete == 1)
    whose = "hwaddr=hwaddr-of-127.0.0.1 node=n1 file=text"
    assert [message for message in caplog.messages if whose in message] == [
        f"tftp RRQ received {whose} size=8 blksize=512 windowsize=1 client=127.0.0.1 if=lo",
        f"tftp ACK {whose} bytes=8 client=127.0.0.1 if=lo",
    ]


async def test_what_is_too_large_for_netascii_is_refused_and_not_dropped(running: Running, peer: Peer) -> None:
    with (running.root / "huge").open("wb") as file:
        file.truncate(MAX_NETASCII + 1)
    assert await peer.ask(b"\0\x01huge\0netascii\0") == ErrorPacket(code=0, message="too large for netascii")
    assert isinstance(await peer.ask(ReadRequest(filename="text")), Data), "the client may ask on"


async def test_names_from_the_network_cannot_forge_a_log_line(
    running: Running, peer: Peer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    await peer.ask(b"\0\x01a\ntftp ACK file=b\0octet\0")
    assert "file=a\\ntftp\\x20ACK" in caplog.text


async def test_noise_is_counted(running: Running, peer: Peer) -> None:
    for data in (b"", b"x", b"\0\x01abc", b"\0\x01\xff\0octet\0", b"\xff" * 1400):
        peer.send(data)
    assert isinstance(await peer.ask(ReadRequest(filename="text")), Data)
    assert running.service.counters.malformed == 5


async def test_nothing_is_sent_where_nobody_boots(running: Running, peer: Peer, caplog: pytest.LogCaptureFixture) -> None:
    stranger = Peer(running.service.port, STRANGER)
    packets: list[Packet | bytes] = [
        ReadRequest(filename="text"),
        ReadRequest(filename="none"),
        WriteRequest(filename="text"),
        b"noise",
    ]
    try:
        for packet in packets:
            stranger.send(packet)
        await until(lambda: running.service.counters.elsewhere == len(packets))
        # One that is answered, so that what the others might have been answered has arrived.
        assert await peer.ask(ReadRequest(filename="text")) == Data(block=1, data=b"one\ntwo\n")
        with pytest.raises(BlockingIOError):
            stranger._socket.recv(100)
    finally:
        stranger.close()
    counters = running.service.counters
    assert (counters.requests, counters.refused, counters.malformed) == (1, 0, 0)
    assert [line for line in caplog.messages if "no network that is served" in line] == [
        f"tftp: {STRANGER} is in no network that is served (`bootsvc: tftp: networks:` names more)"
    ]


async def test_one_client_cannot_take_all_sessions(running: Running, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tftp_service, "MAX_SESSIONS_PER_CLIENT", 2)
    peers = [Peer(running.service.port) for _ in range(3)]
    other = Peer(running.service.port, "127.0.0.5")
    try:
        for each in peers[:2]:
            await each.ask(ReadRequest(filename="big"))
        peers[2].send(ReadRequest(filename="big"))
        assert isinstance(await other.ask(ReadRequest(filename="big")), Data)
        assert running.service.counters.dropped == 1
    finally:
        for each in [*peers, other]:
            each.close()


async def test_a_repeated_request_opens_no_second_transfer(running: Running, peer: Peer) -> None:
    request = ReadRequest(filename="text")
    peer.send(request)
    first = await peer.ask(request)
    peer.send(Ack(block=1))
    await completed(running, 1)
    assert first == Data(block=1, data=b"one\ntwo\n")
    assert running.service.counters.requests == 2


async def test_a_client_that_begins_again_has_another_port_of_ours(running: Running, peer: Peer) -> None:
    ports = []
    for count in range(1, 4):
        assert isinstance(await peer.ask(ReadRequest(filename="text")), Data)
        ports.append(peer.server[1])
        peer.send(Ack(block=1))
        await completed(running, count)
        peer.server = ("127.0.0.1", running.service.port)
    assert len(set(ports)) == 3
    other = Peer(running.service.port)
    try:
        await other.ask(ReadRequest(filename="text"))
        assert other.server[1] == ports[0], "one that is new shares the first one"
    finally:
        other.close()


@pytest.mark.root
async def test_a_window_of_very_many_blocks(running: Running, peer: Peer) -> None:
    """More than one system call sends, and more than the kernel cuts at once."""
    data = bytes(range(256)) * 8192
    (running.root / "many").write_bytes(data[:100_000])
    granted = await peer.ask(ReadRequest(filename="many", options={"blksize": "8", "windowsize": "5000"}))
    assert granted == OptionAck(options={"blksize": "8", "windowsize": "5000"})
    peer.widen()
    got = [await peer.ask(Ack(block=0))]
    while len(got) < 5000:
        got.append(await peer.receive())
    assert got == [Data(block=number, data=data[(number - 1) * 8 : number * 8]) for number in range(1, 5001)]
