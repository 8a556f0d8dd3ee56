"""The TFTP server: a socket for requests, and a few ports that transfers share (TIDs, RFC 1350 §4). Read-only."""

import asyncio
import errno
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from bootsvc.bootfiles import Reason, Refused
from bootsvc.errors import MalformedPacket, PortUnavailable
from bootsvc.net.batch import Client
from bootsvc.net.strangers import Strangers
from bootsvc.net.udp import Datagram, UdpEndpoint
from bootsvc.tftp.files import MAX_NETASCII, Forbidden, Memory, NoSuchFile, Source, open_file
from bootsvc.tftp.frames import FrameCache
from bootsvc.tftp.made import Made, optional
from bootsvc.tftp.packet import ErrorCode, ErrorPacket, ReadRequest, WriteRequest, parse, serialize
from bootsvc.tftp.reporting import Identify, OnEvent, Reporter, interface_name
from bootsvc.tftp.session import Outcome, ReadSession, netascii
from bootsvc.tftp.transfers import Transfer, Transfers, printable

log = logging.getLogger(__name__)
# It tells each step of its parsing, for packets from anybody.
logging.getLogger("tftpy").setLevel(logging.WARNING)

PORT = 69
MAX_SESSIONS = 1000
"""Transfers at once; a request beyond it is dropped, and its client asks again."""
MAX_SESSIONS_PER_CLIENT = 8
"""One address cannot take all of them."""
TICK_SECONDS = 0.25
_ANY = IPv4Address(0)


class MakesFiles(Protocol):
    """Files that lie in no directory; see `MadeFiles`."""

    def wants(self, name: str) -> bool: ...
    async def open(self, name: str, peer: IPv4Address) -> Made: ...


@dataclass(slots=True, kw_only=True)
class Counters:
    """What happened since the start, for `/status`."""

    requests: int = 0
    complete: int = 0
    probed: int = 0
    missed: int = 0
    """Files that loaders try and do without."""
    failed: int = 0
    refused: int = 0
    malformed: int = 0
    dropped: int = 0
    """Requests beyond a cap."""
    elsewhere: int = 0
    """From networks that are not served."""


class TftpService:
    """Serves the files of `roots`, and those of `made`, on one address."""

    def __init__(
        self,
        address: IPv4Address,
        roots: Callable[[], tuple[Path, ...]],
        *,
        port: int = PORT,
        made: MakesFiles | None = None,
        identify: Identify | None = None,
        name_of: Callable[[str], str | None] = lambda _hwaddr: None,
        on_event: OnEvent | None = None,
        serves: Callable[[IPv4Address], bool] = lambda _source: True,
    ) -> None:
        """`port` 0 takes a free one, for tests; it is then `self.port` once the service is ready. `name_of` is a node's name by
        its hardware address.

        Who asks from an address that `serves` denies hears nothing: a request with a forged source would have us send a
        window of packets to a stranger, and that six times.
        """
        self.address = address
        self.port = port
        self.counters = Counters()
        self._roots = roots
        self._made = made
        self._report = Reporter(identify, name_of, on_event)
        self._serves = serves
        self._strangers = Strangers("tftp")
        self._endpoint: UdpEndpoint | None = None
        self._tasks: asyncio.TaskGroup | None = None
        self._frames = FrameCache()
        self._transfers = Transfers(self._ended, self._count_malformed)
        self._clients: dict[Client, str] = {}
        """Whoever has a transfer, or one that is being prepared, and the interface that it came by."""
        self._addresses: Counter[str] = Counter()

    async def run(self, ready: asyncio.Event) -> None:
        """Serve until cancelled. Raises PortUnavailable."""
        self._endpoint = UdpEndpoint.open(self.address, self.port)
        self.port = self._endpoint.port
        self._endpoint.start(self._receive)
        log.info("tftp listening address=%s port=%d", self.address, self.port)
        try:
            async with asyncio.TaskGroup() as self._tasks:
                ready.set()
                while True:
                    await asyncio.sleep(TICK_SECONDS)
                    self._transfers.tick(time.monotonic())
        finally:
            self._endpoint.close()
            self._transfers.close()
            self._clients.clear()
            self._addresses.clear()

    def _receive(self, datagram: Datagram) -> None:
        """A datagram to the well-known port: only requests belong here."""
        if not self._serves(datagram.source):
            self.counters.elsewhere += 1
            self._strangers.tell(datagram.source)
            return
        try:
            packet = parse(datagram.data)
        except MalformedPacket as exc:
            self.counters.malformed += 1
            self._report.noise("from %s: %s", datagram.source, exc)
            return
        if isinstance(packet, WriteRequest):
            self._refuse(datagram, packet.filename, ErrorCode.ACCESS_VIOLATION, "this server is read-only")
        elif isinstance(packet, ReadRequest):
            self._read_request(datagram, packet)
        else:
            self.counters.malformed += 1

    def _read_request(self, datagram: Datagram, request: ReadRequest) -> None:
        self.counters.requests += 1
        client = (str(datagram.source), datagram.port)
        if client in self._clients:
            # The client asks again because our first packet was lost; the session repeats it in its own time.
            return
        if len(self._clients) >= MAX_SESSIONS or self._addresses[client[0]] >= MAX_SESSIONS_PER_CLIENT:
            self.counters.dropped += 1
            self._report.noise("%s has to wait: %d transfers are under way", datagram.source, len(self._clients))
            return
        if request.mode not in ("octet", "netascii"):
            return self._refuse(datagram, request.filename, ErrorCode.ILLEGAL_OPERATION, "mode is octet or netascii")
        try:
            source = open_file(self._roots(), request.filename, self._frames)
        except NoSuchFile:
            if self._made is None or not self._made.wants(request.filename) or self._tasks is None:
                return self._missing(datagram, request.filename)
            self._keep(client, datagram)
            self._tasks.create_task(self._make(self._made, datagram, request, client))
        except Forbidden:
            self._refuse(datagram, request.filename, ErrorCode.ACCESS_VIOLATION, "access violation")
        else:
            self._begin(datagram, request, client, Made(source=source, hwaddr=None, node=None, stage="TFTP", name=""))

    async def _make(self, made: MakesFiles, datagram: Datagram, request: ReadRequest, client: Client) -> None:
        """Prepare what is made for this client; an overlay may have to be built first."""
        try:
            found = await made.open(request.filename, datagram.source)
        except Refused as exc:
            self._forget(client)
            code = ErrorCode.FILE_NOT_FOUND if exc.reason is Reason.NOT_FOUND else ErrorCode.ACCESS_VIOLATION
            self._refuse(datagram, request.filename, code, exc.message)
            self._report.not_made(datagram, exc)
        except OSError as exc:
            self._forget(client)
            self._refuse(datagram, request.filename, ErrorCode.FILE_NOT_FOUND, exc.strerror or "it cannot be read")
        except Exception:
            log.exception("tftp file=%s", printable(request.filename))
            self._forget(client)
            self._refuse(datagram, request.filename, ErrorCode.UNDEFINED, "internal error")
        else:
            self._begin(datagram, request, client, found)

    def _begin(self, datagram: Datagram, request: ReadRequest, client: Client, made: Made) -> None:
        source = made.source
        if request.mode == "netascii":
            try:
                source = _as_netascii(source)
            except OSError as exc:
                self._forget(client)
                return self._refuse(datagram, request.filename, ErrorCode.UNDEFINED, exc.strerror or "it cannot be read")
        try:
            port = self._transfers.open(self._local(datagram), client)
        except (OSError, PortUnavailable) as exc:
            source.close()
            self._forget(client)
            self.counters.dropped += 1
            self._report.noise("%s: %s", datagram.source, exc)
            return
        transfer = Transfer(client, ReadSession(request, source), source, port, made)
        self._keep(client, datagram)
        self._report.received(transfer, self._clients[client])
        self._transfers.begin(transfer)

    def _keep(self, client: Client, datagram: Datagram) -> None:
        if client not in self._clients:
            self._addresses[client[0]] += 1
            self._clients[client] = interface_name(datagram.ifindex)

    def _forget(self, client: Client) -> str:
        """The interface that it came by."""
        interface = self._clients.pop(client, None)
        if interface is None:
            return "-"
        self._addresses[client[0]] -= 1
        if not self._addresses[client[0]]:
            del self._addresses[client[0]]
        return interface

    def _local(self, datagram: Datagram) -> IPv4Address:
        """The address that the client knows us by; it drops answers of any other."""
        return datagram.local if self.address == _ANY else self.address

    def _ended(self, transfer: Transfer) -> None:
        match transfer.session.outcome:
            case Outcome.COMPLETE:
                self.counters.complete += 1
            case Outcome.PROBED:
                self.counters.probed += 1
            case _:
                self.counters.failed += 1
        self._report.ended(transfer, self._forget(transfer.client))

    def _count_malformed(self) -> None:
        self.counters.malformed += 1

    def _missing(self, datagram: Datagram, filename: str) -> None:
        if not optional(filename):
            return self._refuse(datagram, filename, ErrorCode.FILE_NOT_FOUND, "file not found")
        self.counters.missed += 1
        self._answer_error(datagram, ErrorCode.FILE_NOT_FOUND, "file not found")

    def _refuse(self, datagram: Datagram, filename: str, code: ErrorCode, message: str) -> None:
        self.counters.refused += 1
        self._report.refused(datagram, filename, code, message)
        self._answer_error(datagram, code, message)

    def _answer_error(self, datagram: Datagram, code: ErrorCode, message: str) -> None:
        if self._endpoint is not None:
            self._endpoint.send(serialize(ErrorPacket(code=code, message=message)), datagram.source, datagram.port)


def _as_netascii(source: Source) -> Memory:
    """The file as netascii; block borders do not match the file's, so it is converted whole. Raises OSError."""
    try:
        if source.size > MAX_NETASCII:
            raise OSError(errno.EFBIG, "too large for netascii")
        return Memory(netascii(source.read(0, source.size)))
    finally:
        source.close()
