"""Is there another DHCP server on the network? A DISCOVER from a machine that does not exist tells."""

import asyncio
import secrets
import socket
import struct
from ipaddress import IPv4Address

from bootsvc.dhcp.rivals import Rival, find_rival, probe
from bootsvc.net.links import Link
from bootsvc.net.udp import ipv4_udp

WAIT_SECONDS = 2.0
"""A server that first looks whether an address is free takes about a second."""
_ETH_P_IP = 0x0800
_BROADCAST = b"\xff" * 6


async def find_rivals(link: Link) -> list[IPv4Address]:
    """Servers that offer an address there, but for ourselves. Raises OSError where packet sockets are not allowed."""
    discover = probe(b"\x02" + secrets.token_bytes(5), secrets.randbits(32))
    frame = ipv4_udp(discover.serialize(), (IPv4Address(0), 68), (IPv4Address("255.255.255.255"), 67))
    found: list[IPv4Address] = []
    loop = asyncio.get_running_loop()
    kind = socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    with socket.socket(socket.AF_PACKET, kind, socket.htons(_ETH_P_IP)) as sock:
        sock.bind((link.name, _ETH_P_IP))
        sock.sendto(frame, (link.name, _ETH_P_IP, 0, 0, _BROADCAST))
        try:
            async with asyncio.timeout(WAIT_SECONDS):
                while True:
                    rival = _answering(await loop.sock_recv(sock, 65535), link)
                    if rival is not None and rival.address not in found:
                        found.append(rival.address)
        except TimeoutError:
            return found


def _answering(data: bytes, link: Link) -> Rival | None:
    """Who sent it, when it is a server's answer in an IPv4 datagram."""
    if len(data) < 28 or data[0] >> 4 != 4 or data[9] != socket.IPPROTO_UDP:
        return None
    start = (data[0] & 0xF) * 4
    if len(data) < start + 8 or struct.unpack_from("!HH", data, start) != (67, 68):
        return None
    return find_rival(data[start + 8 :], IPv4Address(data[12:16]), (link.address,))
