"""Datagrams with their arrival interface and our own address in them (Linux IP_PKTINFO), drained by `add_reader`.

asyncio's own datagram transport reads with `recvfrom`, which drops the ancillary data.
"""

import asyncio
import errno
import logging
import random
import socket
import struct
from collections.abc import Callable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address

import msgspec

from bootsvc.errors import PortUnavailable

log = logging.getLogger(__name__)

IP_PKTINFO = 8
"""Linux's number, which `socket` of Python 3.11 does not export."""
MAX_PER_WAKEUP = 64
"""Datagrams read before the loop's other work gets its turn; the socket stays readable, so none is lost."""
MAX_SORTED = 512
"""The same, where those that wait are sorted by urgency."""
MAX_DATAGRAM = 65535
RECEIVE_BUFFER = 4 << 20
"""Bytes of kernel buffer: a cluster that powers on at once sends everything within a second."""
ETH_P_IP = 0x0800

_PKTINFO = struct.Struct("@I4s4s")
_ANCILLARY = socket.CMSG_SPACE(_PKTINFO.size)


class Datagram(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One received datagram; `local` is the address it was sent to (255.255.255.255 for a broadcast)."""

    data: bytes
    source: IPv4Address
    port: int
    ifindex: int
    local: IPv4Address


@lru_cache(maxsize=4096)
def _address(value: str | bytes) -> IPv4Address:
    """Relays, broadcasts and our own addresses come again and again; making each anew costs more than the system call."""
    return IPv4Address(value)


@lru_cache(maxsize=4096)
def _arrival(ancillary: Sequence[tuple[int, int, bytes]]) -> tuple[int, IPv4Address]:
    """The interface's index and the address that the datagram was sent to."""
    for level, kind, value in ancillary:
        if level == socket.IPPROTO_IP and kind == IP_PKTINFO and len(value) >= _PKTINFO.size:
            ifindex, _, local = _PKTINFO.unpack_from(value)
            return ifindex, _address(local)
    return 0, _address(b"\0\0\0\0")


@lru_cache(maxsize=4096)
def _text(address: int) -> str:
    return str(IPv4Address(address))


@lru_cache(maxsize=4096)
def _pktinfo(ifindex: int, source: int) -> Sequence[tuple[int, int, bytes]]:
    """Ancillary data that says where a datagram leaves, and from which address; zero leaves it to the kernel."""
    if not ifindex and not source:
        return ()
    return ((socket.IPPROTO_IP, IP_PKTINFO, _PKTINFO.pack(ifindex, source.to_bytes(4, "big"), b"\0\0\0\0")),)


class UdpEndpoint:
    """One bound UDP socket."""

    def __init__(self, sock: socket.socket) -> None:
        self._socket = sock
        self._receive: Callable[[Datagram], None] | None = None
        self._urgent: Callable[[Datagram], int] | None = None
        self._buffer = bytearray(MAX_DATAGRAM)

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
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            sock.setsockopt(socket.IPPROTO_IP, IP_PKTINFO, 1)
            sock.bind((str(address), port))
        except OSError as exc:
            sock.close()
            raise PortUnavailable(str(address), port, exc.strerror or str(exc)) from exc
        return cls(sock)

    @property
    def port(self) -> int:
        return int(self._socket.getsockname()[1])

    def start(self, receive: Callable[[Datagram], None], *, urgent: Callable[[Datagram], int] | None = None) -> None:
        """Call `receive` for each datagram, inside the running loop's reader callback.

        Of datagrams that wait at once, those with the lowest `urgent` come first.
        """
        self._receive, self._urgent = receive, urgent
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._drain)

    def close(self) -> None:
        """Stop receiving; may be called from the callback, and twice."""
        if self._socket.fileno() >= 0:
            if self._receive is not None:
                asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()

    def send(
        self,
        data: bytes,
        destination: IPv4Address,
        port: int,
        *,
        ifindex: int = 0,
        source: IPv4Address | None = None,
    ) -> bool:
        """Send out of the given interface from the given address; False when the kernel refused the datagram."""
        try:
            self._socket.sendmsg(
                (data,), _pktinfo(ifindex, 0 if source is None else int(source)), 0, (_text(int(destination)), port)
            )
        except OSError as exc:
            log.debug("sending %d bytes to %s:%d: %s", len(data), destination, port, exc.strerror)
            return False
        return True

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
        receive, buffer, view = self._socket.recvmsg_into, (self._buffer,), memoryview(self._buffer)
        while len(found) < most:
            try:
                size, ancillary, _, source = receive(buffer, _ANCILLARY)
            except BlockingIOError:
                break
            except OSError as exc:
                # The peer's ICMP "port unreachable" arrives as an error of the next call, and is consumed by it.
                log.debug("receiving: %s", exc.strerror)
                most -= 1
                continue
            ifindex, local = _arrival(tuple(ancillary))
            found.append(
                Datagram(data=bytes(view[:size]), source=_address(source[0]), port=source[1], ifindex=ifindex, local=local)
            )
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
