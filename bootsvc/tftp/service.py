"""The TFTP server: a socket for requests, and one of its own for each transfer (its TID, RFC 1350 §4). Read-only."""

import asyncio
import errno
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from bootsvc.errors import MalformedPacket, PortUnavailable
from bootsvc.net.udp import Budget, Datagram, UdpEndpoint
from bootsvc.tftp.files import MAX_NETASCII, Forbidden, Memory, NoSuchFile, OpenFile, open_file
from bootsvc.tftp.packet import ErrorCode, ErrorPacket, Packet, ReadRequest, WriteRequest, parse, serialize
from bootsvc.tftp.session import Outcome, ReadSession, netascii

log = logging.getLogger(__name__)
# It tells each step of its parsing, for packets from anybody.
logging.getLogger("tftpy").setLevel(logging.WARNING)

PORT = 69
MAX_SESSIONS = 400
"""Transfers at once, two file descriptors each; a request beyond it is dropped, and its client asks again."""
MAX_SESSIONS_PER_CLIENT = 8
"""One address cannot take all of them."""
TICK_SECONDS = 0.25
_ANY = IPv4Address(0)


class OnEvent(Protocol):
    """Told of each transfer's end, for the boot record."""

    def __call__(
        self, hwaddr: str, node: str | None, stage: str, detail: str, *, size: int = 0, ipaddr: IPv4Address | None = None
    ) -> None: ...


class Identify(Protocol):
    """Which machine has an address."""

    def __call__(self, address: IPv4Address) -> str | None: ...


@dataclass(slots=True, kw_only=True)
class Counters:
    """What happened since the start, for `/status`."""

    requests: int = 0
    complete: int = 0
    probed: int = 0
    failed: int = 0
    refused: int = 0
    malformed: int = 0
    dropped: int = 0
    """Requests beyond a cap."""


class TftpService:
    """Serves the files of `roots` on one address."""

    def __init__(
        self,
        address: IPv4Address,
        roots: Callable[[], tuple[Path, ...]],
        *,
        port: int = PORT,
        identify: Identify | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        """`port` 0 takes a free one, for tests; it is then `self.port` once the service is ready."""
        self.address = address
        self.port = port
        self.counters = Counters()
        self._roots = roots
        self._identify = identify
        self._on_event = on_event
        self._endpoint: UdpEndpoint | None = None
        self._transfers: dict[tuple[IPv4Address, int], _Transfer] = {}
        self._noise_budget = Budget(rate=1, burst=10)
        self._log_budget = Budget(rate=100, burst=5000)

    async def run(self, ready: asyncio.Event) -> None:
        """Serve until cancelled. Raises PortUnavailable."""
        self._endpoint = UdpEndpoint.open(self.address, self.port)
        self.port = self._endpoint.port
        self._endpoint.start(self._receive)
        log.info("tftp listening address=%s port=%d", self.address, self.port)
        ready.set()
        try:
            while True:
                await asyncio.sleep(TICK_SECONDS)
                now = time.monotonic()
                for transfer in [each for each in self._transfers.values() if each.session.expired(now)]:
                    self._send(transfer, transfer.session.tick(now))
        finally:
            self._endpoint.close()
            for transfer in self._transfers.values():
                transfer.close()
            self._transfers.clear()

    def _receive(self, datagram: Datagram) -> None:
        """A datagram to the well-known port: only requests belong here."""
        try:
            packet = parse(datagram.data)
        except MalformedPacket as exc:
            self.counters.malformed += 1
            self._noise("from %s: %s", datagram.source, exc)
            return
        if isinstance(packet, WriteRequest):
            self._refuse(datagram, packet.filename, ErrorCode.ACCESS_VIOLATION, "this server is read-only")
        elif isinstance(packet, ReadRequest):
            self._read_request(datagram, packet)
        else:
            self.counters.malformed += 1

    def _read_request(self, datagram: Datagram, request: ReadRequest) -> None:
        self.counters.requests += 1
        client = (datagram.source, datagram.port)
        if client in self._transfers:
            # The client asks again because our first packet was lost; the session repeats it in its own time.
            return
        same = sum(address == datagram.source for address, _ in self._transfers)
        if len(self._transfers) >= MAX_SESSIONS or same >= MAX_SESSIONS_PER_CLIENT:
            self.counters.dropped += 1
            self._noise("%s has to wait: %d transfers are under way", datagram.source, len(self._transfers))
            return
        if request.mode not in ("octet", "netascii"):
            return self._refuse(datagram, request.filename, ErrorCode.ILLEGAL_OPERATION, "mode is octet or netascii")
        source: OpenFile | Memory | None = None
        try:
            source = open_file(self._roots(), request.filename)
            if request.mode == "netascii":
                source = _as_netascii(source, request.filename)
            endpoint = UdpEndpoint.open(self._local(datagram), 0)
        except NoSuchFile:
            return self._refuse(datagram, request.filename, ErrorCode.FILE_NOT_FOUND, "file not found")
        except Forbidden:
            return self._refuse(datagram, request.filename, ErrorCode.ACCESS_VIOLATION, "access violation")
        except (OSError, PortUnavailable) as exc:
            if source is not None:
                source.close()
            self.counters.dropped += 1
            self._noise("%s: %s", datagram.source, exc)
            return
        transfer = _Transfer(client, ReadSession(request, source), source, endpoint)
        self._transfers[client] = transfer
        endpoint.start(partial(self._receive_transfer, transfer))
        terms = transfer.session.terms
        self._line(
            "RRQ hwaddr=%s file=%s size=%d blksize=%d windowsize=%d client=%s",
            *(self._hwaddr(datagram.source), _printable(request.filename), source.size),
            *(terms.blksize, terms.windowsize, datagram.source),
        )
        self._send(transfer, transfer.session.start(time.monotonic()))

    def _local(self, datagram: Datagram) -> IPv4Address:
        """The address that the client knows us by; it drops answers of any other."""
        return datagram.local if self.address == _ANY else self.address

    def _receive_transfer(self, transfer: "_Transfer", datagram: Datagram) -> None:
        if (datagram.source, datagram.port) != transfer.client:
            # RFC 1350 §4: another TID gets an error, and the transfer goes on.
            stranger = ErrorPacket(code=ErrorCode.UNKNOWN_TID, message="unknown transfer ID")
            transfer.endpoint.send(serialize(stranger), datagram.source, datagram.port)
            return
        try:
            packet = parse(datagram.data)
        except MalformedPacket:
            self.counters.malformed += 1
            return
        self._send(transfer, transfer.session.receive(packet, time.monotonic()))

    def _send(self, transfer: "_Transfer", packets: list[Packet]) -> None:
        for packet in packets:
            transfer.endpoint.send(serialize(packet), *transfer.client)
        if transfer.session.outcome is not Outcome.RUNNING:
            self._finish(transfer)

    def _finish(self, transfer: "_Transfer") -> None:
        del self._transfers[transfer.client]
        transfer.close()
        session, address = transfer.session, transfer.client[0]
        name, hwaddr = _printable(session.filename), self._hwaddr(address)
        match session.outcome:
            case Outcome.COMPLETE:
                self.counters.complete += 1
                self._line("ACK hwaddr=%s file=%s bytes=%d client=%s", hwaddr, name, session.acked_bytes, address)
            case Outcome.PROBED:
                self.counters.probed += 1
                self._line("tsize probe hwaddr=%s file=%s client=%s", hwaddr, name, address)
            case _:
                self.counters.failed += 1
                why, sent = session.outcome.value, session.acked_bytes
                self._line("%s hwaddr=%s file=%s bytes=%d client=%s", why, hwaddr, name, sent, address)
        if self._on_event is not None and hwaddr != "-" and session.outcome is not Outcome.PROBED:
            stage = "TFTP" if session.outcome is Outcome.COMPLETE else f"TFTP {session.outcome.value}"
            self._on_event(hwaddr, None, stage, name, size=session.acked_bytes, ipaddr=address)

    def _refuse(self, datagram: Datagram, filename: str, code: ErrorCode, message: str) -> None:
        self.counters.refused += 1
        self._line("ERROR %d file=%s client=%s: %s", int(code), _printable(filename), datagram.source, message)
        if self._endpoint is not None:
            error = serialize(ErrorPacket(code=code, message=message))
            self._endpoint.send(error, datagram.source, datagram.port)

    def _hwaddr(self, address: IPv4Address) -> str:
        return (self._identify(address) if self._identify is not None else None) or "-"

    def _line(self, text: str, *args: object) -> None:
        if self._log_budget.take(time.monotonic()):
            log.info("tftp " + text, *args)

    def _noise(self, text: str, *args: object) -> None:
        if self._noise_budget.take(time.monotonic()):
            log.debug("tftp " + text, *args)


class _Transfer:
    """A session and what it holds open."""

    def __init__(
        self, client: tuple[IPv4Address, int], session: ReadSession, source: OpenFile | Memory, endpoint: UdpEndpoint
    ) -> None:
        self.client = client
        self.session = session
        self.endpoint = endpoint
        self._source = source

    def close(self) -> None:
        self.endpoint.close()
        self._source.close()


def _as_netascii(source: OpenFile, name: str) -> Memory:
    """The file as netascii; block borders do not match the file's, so it is converted whole."""
    try:
        if source.size > MAX_NETASCII:
            raise OSError(errno.EFBIG, f"{name} is too large for netascii")
        return Memory(netascii(source.read(0, source.size)))
    finally:
        source.close()


def _printable(name: str) -> str:
    """A name from the network, fit for a log line."""
    return name[:128].encode("unicode_escape").decode("ascii").replace(" ", "\\x20") or "-"
