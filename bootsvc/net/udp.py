"""Datagrams with their arrival interface and our own address in them (Linux IP_PKTINFO), drained by `add_reader`.

asyncio's own datagram transport reads with `recvfrom`, which drops the ancillary data, and makes a system call for each.
"""

import asyncio
import errno
import logging
import random
import socket
import struct
import sys
from collections.abc import Callable
from functools import lru_cache
from ipaddress import IPv4Address

import msgspec

from bootsvc.errors import PortUnavailable
from bootsvc.net.batch import IP_PKTINFO, Client, Inbox, Outbox, client_of, leaving, peer_of
from bootsvc.net.buffers import set_buffers

log = logging.getLogger(__name__)

MAX_PER_WAKEUP = 64
"""Datagrams read before the loop's other work gets its turn; the socket stays readable, so none is lost."""
MAX_SORTED = 512
"""The same, where those that wait are sorted by urgency."""
MAX_DATAGRAM = 4096
"""Bytes of one that is received; more than a request of any protocol here has, and what is beyond is cut off."""
MAX_BATCH = 64
"""Datagrams that are read, or sent, in one system call."""
RECEIVE_BUFFER = 4 << 20
"""Bytes of kernel buffer: a cluster that powers on at once sends everything within a second."""
SEND_BUFFER = 1 << 20
ETH_P_IP = 0x0800


class Datagram(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One received datagram; `local` is the address it was sent to (255.255.255.255 for a broadcast)."""

    data: bytes
    source: IPv4Address
    port: int
    ifindex: int
    local: IPv4Address


# Relays, broadcasts and our own addresses come again and again; making each anew costs more than the system call.
@lru_cache(maxsize=4096)
def _source(peer: int) -> tuple[IPv4Address, int]:
    address, port = client_of(peer)
    return IPv4Address(address), port


@lru_cache(maxsize=4096)
def _local(number: int) -> IPv4Address:
    return IPv4Address(number.to_bytes(4, sys.byteorder))


@lru_cache(maxsize=4096)
def _peer(address: int, port: int) -> int:
    return peer_of((str(IPv4Address(address)), port))


class UdpEndpoint:
    """One bound UDP socket."""

    def __init__(self, sock: socket.socket) -> None:
        """The socket has IP_PKTINFO set."""
        self._socket = sock
        self._receive: Callable[[Datagram], None] | None = None
        self._urgent: Callable[[Datagram], int] | None = None
        self._inbox = Inbox(sock, stride=MAX_DATAGRAM, count=MAX_BATCH, arrivals=True)
        self._outbox = Outbox(sock, stride=MAX_DATAGRAM, count=MAX_BATCH, departures=True)
        self._refused: Callable[[Client], None] | None = None

    @classmethod
    def open(
        cls, address: IPv4Address, port: int, *, interface: str | None = None, receive_buffer: int = RECEIVE_BUFFER
    ) -> "UdpEndpoint":
        """Bind; `interface` limits the socket to one interface. Raises PortUnavailable.

        SO_REUSEADDR is not set: with it, two servers on one port would start without a word and share the packets.
        """
        sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        try:
            if interface is not None:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            set_buffers(sock, receive=receive_buffer, send=SEND_BUFFER)
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.bind((str(address), port))
        except OSError as exc:
            sock.close()
            raise PortUnavailable(str(address), port, exc.strerror or str(exc)) from exc
        return cls(sock)

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def start(
        self,
        receive: Callable[[Datagram], None],
        *,
        urgent: Callable[[Datagram], int] | None = None,
        refused: Callable[[Client], None] | None = None,
    ) -> None:
        """Call `receive` for each datagram, inside the running loop's reader callback.

        Of datagrams that wait at once, those with the lowest `urgent` come first. `refused` is told of each datagram that
        the kernel did not take.
        """
        self._receive, self._urgent, self._refused = receive, urgent, refused
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._drain)

    def close(self) -> None:
        """Stop receiving; may be called from the callback, and twice."""
        if self._socket.fileno() >= 0:
            self.flush()
            if self._receive is not None:
                asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()

    def send(
        self, data: bytes, destination: IPv4Address, port: int, *, ifindex: int = 0, source: IPv4Address | None = None
    ) -> None:
        """Send out of the given interface from the given address, with all others of the loop's present turn."""
        outbox = self._outbox
        if len(data) > MAX_DATAGRAM:
            self._refuse((str(destination), port), len(data))
            return
        if not outbox.waiting:
            asyncio.get_running_loop().call_soon(self.flush)
        outbox.put(_peer(int(destination), port), data, leaving(ifindex, 0 if source is None else int(source)))
        if outbox.waiting == MAX_BATCH:
            self.flush()

    def flush(self) -> None:
        """Send what waits."""
        if self._outbox.waiting and self._socket.fileno() >= 0:
            for client, data, _ in self._outbox.flush():
                self._refuse(client, len(data))

    def _refuse(self, client: Client, size: int) -> None:
        log.debug("%d bytes to %s:%d could not be sent", size, *client)
        if self._refused is not None:
            self._refused(client)

    def _drain(self) -> None:
        datagrams = self._read(MAX_PER_WAKEUP if self._urgent is None else MAX_SORTED)
        if self._urgent is not None and len(datagrams) > 1:
            datagrams.sort(key=self._urgent)
        for datagram in datagrams:
            if self._socket.fileno() < 0:
                return
            assert self._receive is not None
            try:
                self._receive(datagram)
            except Exception:
                log.exception("a datagram of %s:%d", datagram.source, datagram.port)

    def _read(self, most: int) -> list[Datagram]:
        found: list[Datagram] = []
        inbox = self._inbox
        peers, ifindexes, locals_ = inbox.peers, inbox.ifindexes, inbox.locals
        while len(found) < most:
            count = inbox.receive()
            for index in range(count):
                source, port = _source(peers[index])
                local = _local(locals_[index])
                found.append(Datagram(data=inbox.data(index), source=source, port=port, ifindex=ifindexes[index], local=local))
            if count < MAX_BATCH:
                break
        return found


class FrameSender:
    """Sends UDP to a hardware address, for a client that does not answer ARP because it has no address yet."""

    def __init__(self, interface: str) -> None:
        """Raises OSError where packet sockets are not allowed (CAP_NET_RAW)."""
        self._interface = interface
        # Protocol 0: this socket sends and receives nothing.
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)

    def send(self, data: bytes, chaddr: bytes, source: tuple[IPv4Address, int], to: tuple[IPv4Address, int]) -> bool:
        """False when the kernel refused the frame, as for one that is larger than the MTU."""
        frame = ipv4_udp(data, source, to, identification=random.getrandbits(16))
        try:
            self._socket.sendto(frame, (self._interface, ETH_P_IP, 0, 0, chaddr))
        except OSError as exc:
            log.debug("frame to %s: %s", chaddr.hex(":"), errno.errorcode.get(exc.errno or 0, exc))
            return False
        return True

    def close(self) -> None:
        self._socket.close()


def ipv4_udp(data: bytes, source: tuple[IPv4Address, int], to: tuple[IPv4Address, int], *, identification: int = 0) -> bytes:
    """An IPv4 datagram (RFC 791, TTL 64, may be fragmented by nobody on the way) with UDP (RFC 768) and checksums."""
    length = 8 + len(data)
    header = struct.pack(
        "!BBHHHBBH4s4s",
        0x45,
        0,
        20 + length,
        identification,
        0x4000,
        64,
        socket.IPPROTO_UDP,
        0,
        source[0].packed,
        to[0].packed,
    )
    header = header[:10] + struct.pack("!H", checksum(header)) + header[12:]
    pseudo = source[0].packed + to[0].packed + struct.pack("!BBH", 0, socket.IPPROTO_UDP, length)
    udp = struct.pack("!HHHH", source[1], to[1], length, 0)
    # A sum of zero is sent as all ones, since zero means "none".
    total = checksum(pseudo + udp + data) or 0xFFFF
    return header + udp[:6] + struct.pack("!H", total) + data


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    # The ones' complement sum of 16-bit words is the whole number modulo 0xFFFF, where only all zeros make zero.
    number = int.from_bytes(data + b"\0" if len(data) % 2 else data, "big")
    total = number % 0xFFFF
    if total == 0 and number:
        total = 0xFFFF
    return 0xFFFF - total


class Budget:
    """At most `burst` things at once and `rate` a second in the long run: for whatever strangers make us do."""

    def __init__(self, *, rate: float, burst: int) -> None:
        self._rate = rate
        self._burst = burst
        self._left = float(burst)
        self._at = 0.0
        self._empty_until = 0.0

    @property
    def left(self) -> float:
        """What was left after the last `take`."""
        return self._left

    def take(self, now: float) -> bool:
        """Whether one more is allowed at `now`, seconds of a monotonic clock."""
        if now < self._empty_until:
            return False
        self._left = min(float(self._burst), self._left + max(0.0, now - self._at) * self._rate)
        self._at = now
        if self._left < 1:
            # Until then the answer is known without a sum.
            self._empty_until = now + (1 - self._left) / self._rate if self._rate > 0 else 0.0
            return False
        self._left -= 1
        return True
