"""DHCP and ARP as many machines do it on one interface: each with its own hardware address, replies found by xid."""

import asyncio
import ctypes
import random
import socket
import struct
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field

SO_ATTACH_FILTER = 26
ETH_P_IP, ETH_P_ARP = 0x0800, 0x0806
DISCOVER, OFFER, REQUEST, ACK, NAK = 1, 2, 3, 5, 6
COOKIE = bytes((99, 130, 83, 99))
_BOOTP = struct.Struct("!4BI2H4s4s4s4s16s64s128s4s")
# Classic BPF on an Ethernet frame: IPv4, UDP, no later fragment, to port 68.
_TO_CLIENTS = (
    (0x28, 0, 0, 12),
    (0x15, 0, 8, ETH_P_IP),
    (0x30, 0, 0, 23),
    (0x15, 0, 6, socket.IPPROTO_UDP),
    (0x28, 0, 0, 20),
    (0x45, 4, 0, 0x1FFF),
    (0xB1, 0, 0, 14),
    (0x48, 0, 0, 16),
    (0x15, 0, 1, 68),
    (0x06, 0, 0, 0x40000),
    (0x06, 0, 0, 0),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a server said; addresses as text."""

    message: int
    xid: int
    chaddr: bytes
    yiaddr: str
    siaddr: str
    file: str
    options: dict[int, bytes]
    to_hwaddr: bytes
    to_address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """Who asks: firmware and iPXE of one machine differ in all but the hardware address."""

    hwaddr: bytes
    options: Sequence[tuple[int, bytes]]
    broadcast: bool
    waits: Sequence[float]
    """Seconds after each of the times that the same message is sent."""


@dataclass(slots=True, kw_only=True)
class Exchange:
    """What came of one."""

    ack: Reply
    offered: str
    repeated: int = 0
    refused: int = 0


@dataclass(slots=True)
class Wire:
    """The interface that all machines share."""

    interface: str
    rng: random.Random
    hwaddrs: dict[bytes, bytes] = field(default_factory=dict)
    """Address → who has it: what ARP requests are answered with."""
    _socket: socket.socket = field(init=False)
    _arp: socket.socket = field(init=False)
    _waiting: dict[tuple[int, bytes], tuple[Callable[[Reply], bool], "asyncio.Future[Reply]"]] = field(default_factory=dict)

    def open(self) -> None:
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        code = ctypes.create_string_buffer(b"".join(struct.pack("@HBBI", *line) for line in _TO_CLIENTS))
        attached = struct.pack("@HP", len(_TO_CLIENTS), ctypes.addressof(code))
        self._socket.setsockopt(socket.SOL_SOCKET, SO_ATTACH_FILTER, attached)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 8 << 20)
        self._socket.bind((self.interface, ETH_P_IP))
        self._arp = socket.socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK, 0)
        self._arp.bind((self.interface, ETH_P_ARP))
        loop = asyncio.get_running_loop()
        loop.add_reader(self._socket.fileno(), self._drain)
        loop.add_reader(self._arp.fileno(), self._answer_arp)

    def close(self) -> None:
        for sock in (self._socket, self._arp):
            asyncio.get_running_loop().remove_reader(sock.fileno())
            sock.close()

    async def lease(self, asker: Asker) -> Exchange:
        """From INIT to BOUND (RFC 2131 figure 5), however often it takes."""
        repeated = refused = 0
        while True:
            xid = self.rng.getrandbits(32)
            offer, sent = await self._ask(asker, xid, DISCOVER, [], lambda reply: reply.message == OFFER)
            repeated += sent - 1
            if offer is None:
                continue
            chosen = [(50, socket.inet_aton(offer.yiaddr)), (54, offer.options[54])]
            ack, sent = await self._ask(asker, xid, REQUEST, chosen, lambda reply: reply.message in (ACK, NAK))
            repeated += sent - 1
            if ack is not None and ack.message == ACK:
                return Exchange(ack=ack, offered=offer.yiaddr, repeated=repeated, refused=refused)
            refused += ack is not None

    async def _ask(
        self, asker: Asker, xid: int, message: int, chosen: list[tuple[int, bytes]], wanted: Callable[[Reply], bool]
    ) -> tuple[Reply | None, int]:
        frame = _frame(asker, xid, [(53, bytes((message,))), *chosen, *asker.options])
        key = (xid, asker.hwaddr)
        found: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        self._waiting[key] = (wanted, found)
        try:
            for number, wait in enumerate(asker.waits, 1):
                self._send(frame)
                # "randomized by the value of a uniform number chosen from the range -1 to +1" (RFC 2131 §4.1).
                await asyncio.wait([found], timeout=wait * (1 + self.rng.uniform(-0.25, 0.25)))
                if found.done():
                    return found.result(), number
            return None, len(asker.waits)
        finally:
            del self._waiting[key]

    def _send(self, frame: bytes) -> None:
        # A full queue loses frames, as a switch does.
        with suppress(OSError):
            self._socket.send(frame)

    def _answer_arp(self) -> None:
        for _ in range(256):
            try:
                frame = self._arp.recv(128)
            except BlockingIOError:
                return
            own = self.hwaddrs.get(frame[38:42])
            if frame[20:22] == b"\0\x01" and own is not None:
                answer = frame[14:20] + b"\0\x02" + own + frame[38:42] + frame[22:32]
                with suppress(OSError):
                    self._arp.send(frame[6:12] + own + frame[12:14] + answer)

    def _drain(self) -> None:
        for _ in range(256):
            try:
                frame = self._socket.recv(65535)
            except BlockingIOError:
                return
            reply = _reply(frame)
            if reply is None:
                continue
            wanted, found = self._waiting.get((reply.xid, reply.chaddr), (None, None))
            if wanted is not None and found is not None and not found.done() and wanted(reply):
                found.set_result(reply)


def _frame(asker: Asker, xid: int, options: Sequence[tuple[int, bytes]]) -> bytes:
    zero = bytes(4)
    flags = 0x8000 if asker.broadcast else 0
    fixed = _BOOTP.pack(1, 1, 6, 0, xid, 0, flags, zero, zero, zero, zero, asker.hwaddr, b"", b"", COOKIE)
    payload = fixed + b"".join(bytes((code, len(value))) + value for code, value in options) + b"\xff"
    payload = payload.ljust(300, b"\0")
    # UDP without a checksum, which RFC 768 allows.
    udp = struct.pack("!4H", 68, 67, 8 + len(payload), 0) + payload
    header = struct.pack("!2B3H2BH4s4s", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0, zero, b"\xff" * 4)
    total = sum(struct.unpack("!10H", header))
    total = (total & 0xFFFF) + (total >> 16)
    header = header[:10] + struct.pack("!H", 0xFFFF - total) + header[12:]
    return b"\xff" * 6 + asker.hwaddr + struct.pack("!H", ETH_P_IP) + header + udp


def _reply(frame: bytes) -> Reply | None:
    start = 14 + (frame[14] & 15) * 4 + 8
    data = frame[start:]
    if len(data) < _BOOTP.size or data[0] != 2:
        return None
    *_, yiaddr, siaddr, _, chaddr, _, file, cookie = fields = _BOOTP.unpack_from(data)
    if cookie != COOKIE:
        return None
    options: dict[int, bytes] = {}
    at = _BOOTP.size
    while at < len(data) and data[at] != 255:
        if data[at]:
            options[data[at]] = options.get(data[at], b"") + data[at + 2 : at + 2 + data[at + 1]]
            at += 1 + data[at + 1]
        at += 1
    return Reply(
        message=options.get(53, b"\0")[0],
        xid=fields[4],
        chaddr=chaddr[:6],
        yiaddr=socket.inet_ntoa(yiaddr),
        siaddr=socket.inet_ntoa(siaddr),
        file=file.partition(b"\0")[0].decode(),
        options=options,
        to_hwaddr=frame[:6],
        to_address=socket.inet_ntoa(frame[30:34]),
    )
