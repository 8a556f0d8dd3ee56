"""The transfers under way: a few ports that they share, and what their clients say there (TIDs: RFC 1350 §4)."""

import logging
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address

from bootsvc.errors import MalformedPacket, PortUnavailable
from bootsvc.net.batch import Client, Memory, client_of, peer_of
from bootsvc.net.udp import Budget
from bootsvc.tftp.files import Source
from bootsvc.tftp.frames import Frames
from bootsvc.tftp.made import Made
from bootsvc.tftp.packet import ACK_HEAD, ErrorCode, ErrorPacket, OptionAck, parse, serialize
from bootsvc.tftp.port import TransferPort
from bootsvc.tftp.session import Due, Outcome, ReadSession

log = logging.getLogger(__name__)

MAX_ADDRESSES = 16
"""Addresses of ours that transfers are sent from, when the service listens on all of them."""
PORTS = 4
"""For each. A client that begins again from the same port gets the next one of ours, so that late packets fit nothing.

All others have the first one: the fuller a port is, the more of its datagrams are read and sent in one system call.
"""
MAX_REMEMBERED = 4096
"""Clients whose last port of ours is known."""
_OPCODE, _BLOCK = 0xFFFF0000, 0xFFFF
"""Which bits of a datagram's first four bytes are what."""


class Transfer:
    """A session and what it needs; `hwaddr` may still be found."""

    __slots__ = ("client", "framed", "frames", "hwaddr", "made", "peer", "port", "session", "source")

    def __init__(self, client: Client, session: ReadSession, source: Source, port: "_Port", made: Made) -> None:
        self.client = client
        self.peer = peer_of(client)
        self.session = session
        self.source = source
        self.port = port
        self.made = made
        self.hwaddr = made.hwaddr
        self.frames: Frames | None = source.framed(session.terms.blksize)
        self.framed = session.last if self.frames is not None else 0
        """The first block that is not among the frames."""


class _Port:
    """A port of ours, and who has a transfer on it."""

    def __init__(self, socket: TransferPort) -> None:
        self.socket = socket
        self.transfers: dict[int, Transfer] = {}


class Transfers:
    """`ended` is told of each transfer whose outcome is known; its source is closed by then."""

    def __init__(self, ended: Callable[[Transfer], None], malformed: Callable[[], None]) -> None:
        self._ended = ended
        self._malformed = malformed
        self._ports: dict[IPv4Address, list[_Port]] = {}
        self._turns: OrderedDict[Client, int] = OrderedDict()
        self._strangers = Budget(rate=1, burst=10)

    def open(self, local: IPv4Address, client: Client) -> _Port:
        """A port of ours at this address; they are opened at first use. Raises PortUnavailable."""
        ports = self._ports.setdefault(local, [])
        turn = self._turns.pop(client, -1) + 1
        if turn >= PORTS:
            turn = 0
        while len(ports) <= turn:
            if len(self._ports) > MAX_ADDRESSES:
                del self._ports[local]
                raise PortUnavailable(str(local), 0, "too many addresses are in use")
            port = _Port(TransferPort(local))
            port.socket.start(partial(self._receive, port))
            ports.append(port)
        self._turns[client] = turn
        if len(self._turns) > MAX_REMEMBERED:
            self._turns.popitem(last=False)
        return ports[turn]

    def _opened(self) -> list[_Port]:
        return [port for ports in self._ports.values() for port in ports]

    def begin(self, transfer: Transfer) -> None:
        transfer.port.transfers[transfer.peer] = transfer
        self._send(transfer, transfer.session.begin(time.monotonic()))
        transfer.port.socket.flush()

    def tick(self, now: float) -> None:
        """Send again what was not acknowledged in time."""
        for port in self._opened():
            for transfer in list(port.transfers.values()):
                if transfer.session.expired(now):
                    self._send(transfer, transfer.session.again(now))
            port.socket.flush()

    def close(self) -> None:
        for port in self._opened():
            for transfer in port.transfers.values():
                transfer.source.close()
            port.transfers.clear()
            port.socket.close()

    def _receive(self, port: _Port, count: int) -> None:
        """What happens to each ACK is kept short: without a window there is one for each block of each client."""
        inbox, find, now = port.socket.inbox, port.transfers.get, time.monotonic()
        peers: list[int] = []
        vectors: list[int] = []
        memories: list[Memory] = []
        for index, (peer, head) in enumerate(zip(inbox.senders(count), inbox.heads(count), strict=True)):
            transfer = find(peer)
            try:
                if transfer is None:
                    self._stranger(port, head, client_of(peer))
                elif head == transfer.session.awaited:
                    number, frames = transfer.session.follow(now), transfer.frames
                    if frames is not None and number < transfer.framed:
                        peers.append(peer)
                        vectors += (frames.origin + number * frames.size, frames.size)
                        memories.append(frames.memory)
                    else:
                        self._send(transfer, range(number, number + 1))
                elif head & _OPCODE == ACK_HEAD:
                    self._send(transfer, transfer.session.acknowledge(head & _BLOCK, now))
                else:
                    self._other(transfer, inbox.data(index), now)
            except Exception:
                log.exception("a datagram of %s:%d", *client_of(peer))
        if peers:
            port.socket.put_each(peers, vectors, memories)

    def _other(self, transfer: Transfer, data: bytes, now: float) -> None:
        """Whatever a client sends that is no ACK."""
        try:
            packet = parse(data)
        except MalformedPacket:
            self._malformed()
            return
        for answer in transfer.session.receive(packet, now):
            transfer.port.socket.send(serialize(answer), transfer.client)
        self._send(transfer, range(0))

    def _stranger(self, port: _Port, head: int, client: Client) -> None:
        """RFC 1350 §4: another TID gets an error, and no transfer is disturbed. An ERROR is never answered, nor is noise."""
        if head & _OPCODE == ACK_HEAD and self._strangers.take(time.monotonic()):
            error = ErrorPacket(code=ErrorCode.UNKNOWN_TID, message="unknown transfer ID")
            port.socket.send(serialize(error), client)

    def _send(self, transfer: Transfer, due: Due) -> None:
        port = transfer.port.socket
        if isinstance(due, OptionAck):
            port.send(serialize(due), transfer.client)
        elif due:
            if due.stop <= transfer.framed and transfer.frames is not None:
                return port.put(transfer.frames, due, transfer.peer)
            self._read(transfer, due)
        if transfer.session.outcome is not Outcome.RUNNING:
            del transfer.port.transfers[transfer.peer]
            transfer.source.close()
            self._ended(transfer)

    def _read(self, transfer: Transfer, due: range) -> None:
        """Send what is not among the frames."""
        port, client = transfer.port.socket, transfer.client
        try:
            datagrams = transfer.session.datagrams(due)
        except OSError as exc:
            log.error("tftp file=%s: %s", printable(transfer.session.filename), exc)
            error = ErrorPacket(code=ErrorCode.UNDEFINED, message="the file has changed: ask again")
            port.send(serialize(error), client)
        else:
            if len(datagrams) == 1:
                port.send(datagrams[0], client)
            else:
                port.send_window(datagrams, client)


def printable(name: str) -> str:
    """A name from the network, fit for a log line."""
    return name[:128].encode("unicode_escape").decode("ascii").replace(" ", "\\x20") or "-"
