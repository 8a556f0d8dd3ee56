"""The sockets of DNS: on one address of ours, by its interface, and by the loopback one for this machine itself."""

import logging
import socket
from contextlib import AsyncExitStack
from ipaddress import IPv4Address
from typing import NamedTuple

from bootsvc.errors import PortUnavailable
from bootsvc.net.buffers import set_buffers
from bootsvc.net.links import Link

log = logging.getLogger(__name__)

RECEIVE_BUFFER = 1 << 20
_LOOPBACK = "lo"


class Sockets(NamedTuple):
    """All of one address; closed by the stack that they were opened with."""

    datagrams: list[socket.socket]
    streams: list[socket.socket]


def open_sockets(stack: AsyncExitStack, link: Link, port: int) -> Sockets:
    """Raises PortUnavailable; other addresses and interfaces stay free for other servers."""
    names = dict.fromkeys((link.name, _LOOPBACK))
    return Sockets(
        datagrams=[_bind(stack, socket.SOCK_DGRAM, link.address, port, name) for name in names],
        streams=[_bind(stack, socket.SOCK_STREAM, link.address, port, name) for name in names],
    )


def send(sock: socket.socket, to: tuple[str, int], data: bytes) -> None:
    """A datagram that the kernel refuses is lost, as any may be; the client asks again."""
    try:
        sock.sendto(data, to)
    except OSError as exc:
        log.debug("dns to %s: %s", to[0], exc.strerror)


def _bind(stack: AsyncExitStack, kind: socket.SocketKind, address: IPv4Address, port: int, interface: str) -> socket.socket:
    sock = socket.socket(socket.AF_INET, kind | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    stack.callback(sock.close)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        if kind is socket.SOCK_STREAM:
            # Connections of the server before this one may still be closing.
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        else:
            set_buffers(sock, receive=RECEIVE_BUFFER)
        sock.bind((str(address), port))
        if kind is socket.SOCK_STREAM:
            sock.listen(128)
    except OSError as exc:
        raise PortUnavailable(str(address), port, exc.strerror or str(exc)) from exc
    return sock
