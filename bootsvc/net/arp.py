"""ARP probes (RFC 826, RFC 5227 §2.1): who on an attached Ethernet uses an address."""

import asyncio
import logging
import socket
import struct
from collections.abc import Sequence
from ipaddress import IPv4Address

from bootsvc.net.links import Link

log = logging.getLogger(__name__)

ETH_P_ARP = 0x0806
PROBES = 2
PROBE_SECONDS = 0.4
"""After each probe; a machine on the same wire answers within a few milliseconds."""
MAX_PER_WAKEUP = 64
_BROADCAST = b"\xff" * 6
_ARP = struct.Struct("!HHBBH6s4s6s4s")
_ETHERNET, _IPV4, _REQUEST = 1, 0x0800, 1


def serialize_probe(hwaddr: bytes, address: IPv4Address) -> bytes:
    """ "Who has `address`?", from no address, so that nobody's ARP cache learns anything."""
    return _ARP.pack(_ETHERNET, _IPV4, 6, 4, _REQUEST, hwaddr, bytes(4), bytes(6), address.packed)


def parse_sender(data: bytes) -> tuple[IPv4Address, str] | None:
    """Address and hardware address that an ARP packet's sender says are its own; None for anything else."""
    if len(data) < _ARP.size:
        return None
    htype, ptype, hlen, plen, _, hwaddr, address, _, _ = _ARP.unpack_from(data)
    if (htype, ptype, hlen, plen) != (_ETHERNET, _IPV4, 6, 4) or not any(address):
        return None
    return IPv4Address(address), hwaddr.hex(":")


async def find_users(link: Link, addresses: Sequence[IPv4Address]) -> dict[IPv4Address, str]:
    """Which of the addresses answer, and the hardware address of each. Raises OSError where packet sockets are not allowed."""
    own = bytes.fromhex(link.hwaddr.replace(":", ""))
    found: dict[IPv4Address, str] = {}
    if len(own) != 6:
        return found
    wanted, loop = frozenset(addresses), asyncio.get_running_loop()
    flags = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_PACKET, flags, 0) as sock:
        sock.bind((link.name, ETH_P_ARP))

        def receive() -> None:
            for _ in range(MAX_PER_WAKEUP):
                try:
                    sender = parse_sender(sock.recv(128))
                except OSError:
                    return
                if sender is not None and sender[0] in wanted and sender[1] != link.hwaddr:
                    found[sender[0]] = sender[1]

        loop.add_reader(sock.fileno(), receive)
        try:
            for _ in range(PROBES):
                for address in addresses:
                    if address not in found:
                        # Waits when so many are under way that the interface takes no more.
                        await loop.sock_sendto(sock, serialize_probe(own, address), (link.name, ETH_P_ARP, 0, 0, _BROADCAST))
                await asyncio.sleep(PROBE_SECONDS)
        finally:
            loop.remove_reader(sock.fileno())
    return found
