"""What real firmware and loaders asked for over TFTP, asked of our server again: the answer is the one that they took."""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from captured import Conversation, Exchange, load_conversations
from scapy.layers.tftp import TFTP, TFTP_RRQ, TFTP_Options

from bootsvc.tftp.packet import Ack, Data, ErrorCode, ErrorPacket, OptionAck, ReadRequest, parse, serialize
from bootsvc.tftp.service import TftpService
from bootsvc.tftp.session import DEFAULT_BLKSIZE

CONVERSATIONS = load_conversations(Path(__file__).parent / "captures")
SERVER = "127.0.0.1"
UNKNOWN_SIZE = 100_000
"""Of a file whose size the client did not ask for."""
ANSWER_SECONDS = 20
every_conversation = pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda each: each.name)


def request_of(exchange: Exchange) -> ReadRequest:
    request = parse(exchange.request.data)
    assert isinstance(request, ReadRequest)
    return request


def make_files(conversation: Conversation, root: Path) -> None:
    """Files of the names and sizes that the lab's server had, without their content but for what an answer shows whole."""
    for exchange in conversation.exchanges:
        path = root / request_of(exchange).filename.replace("\\", "/").lstrip("/")
        reply = None if exchange.reply is None else parse(exchange.reply.data)
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(reply, Data) and len(reply.data) < DEFAULT_BLKSIZE:
            path.write_bytes(reply.data)
        elif not isinstance(reply, ErrorPacket | None):
            size = int(reply.options.get("tsize", 0)) if isinstance(reply, OptionAck) else 0
            with path.open("ab") as file:
                file.truncate(size or file.tell() or UNKNOWN_SIZE)


@pytest.fixture
async def port(tmp_path: Path) -> AsyncIterator[int]:
    """Of a server of the files in `tmp_path`."""
    service = TftpService(IPv4Address(SERVER), lambda: (tmp_path,), port=0)
    ready = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(service.run(ready))
        await ready.wait()
        yield service.port
        task.cancel()


@contextmanager
def client() -> Iterator[socket.socket]:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as made:
        made.setblocking(False)
        made.bind((SERVER, 0))
        yield made


async def receive(machine: socket.socket) -> tuple[bytes, tuple[str, int]]:
    async with asyncio.timeout(ANSWER_SECONDS):
        data, peer = await asyncio.get_running_loop().sock_recvfrom(machine, 65536)
    return data, peer


@every_conversation
async def test_the_answer_is_the_one_that_the_machine_took(conversation: Conversation, tmp_path: Path, port: int) -> None:
    make_files(conversation, tmp_path)
    for exchange in conversation.exchanges:
        if exchange.reply is None:
            continue
        with client() as machine:
            machine.sendto(exchange.request.data, (SERVER, port))
            answer, peer = await receive(machine)
            recorded = exchange.reply.data
            if recorded.startswith(b"\0\3"):
                # Of a large file's content only the size is known here.
                assert (answer[:4], len(answer)) == (recorded[:4], len(recorded)), exchange.request.title
            else:
                assert answer == recorded, exchange.request.title
            options = parse(answer)
            if isinstance(options, OptionAck):
                await _check_window(machine, peer, options, tmp_path / request_of(exchange).filename.lstrip("/"))
            machine.sendto(serialize(ErrorPacket(code=ErrorCode.UNDEFINED, message="enough")), peer)


async def _check_window(machine: socket.socket, peer: tuple[str, int], agreed: OptionAck, path: Path) -> None:
    """What follows the first ACK is a window of blocks of the agreed size."""
    blksize, windowsize = (int(agreed.options.get(name, usual)) for name, usual in (("blksize", 512), ("windowsize", 1)))
    machine.sendto(serialize(Ack(block=0)), peer)
    size = path.stat().st_size
    for number in range(1, min(windowsize, size // blksize + 1) + 1):
        data, _ = await receive(machine)
        assert data[:4] == bytes((0, 3, 0, number))
        assert len(data) - 4 == min(blksize, size - (number - 1) * blksize)


@every_conversation
def test_scapy_reads_the_same(conversation: Conversation) -> None:
    for exchange in conversation.exchanges:
        request, foreign = request_of(exchange), TFTP(exchange.request.data)
        assert foreign.op == 1
        assert request.filename.encode() == foreign[TFTP_RRQ].filename
        assert request.mode.encode() == foreign[TFTP_RRQ].mode.lower()
        found = foreign[TFTP_Options].options if TFTP_Options in foreign else []
        assert {name.encode(): value.encode() for name, value in request.options.items()} == {
            option.oname.lower(): option.value for option in found if option.oname
        }


@every_conversation
def test_round_trip(conversation: Conversation) -> None:
    for exchange in conversation.exchanges:
        request = request_of(exchange)
        assert parse(serialize(request)) == request
        if exchange.reply is not None:
            reply = parse(exchange.reply.data)
            assert serialize(reply) == exchange.reply.data


def test_the_loaders_and_their_options_were_recorded() -> None:
    requests = [request_of(exchange) for each in CONVERSATIONS for exchange in each.exchanges]
    assert {"undionly.kpxe", "snponly.efi", "shimx64.efi"} <= {request.filename.lstrip("/") for request in requests}
    assert {option for request in requests for option in request.options} >= {"tsize", "blksize"}
