"""Listening sockets of HTTP: on all addresses of this machine, or on one address by its own interface."""

import asyncio
import errno
import socket
import ssl
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from bootsvc.errors import PortTaken
from bootsvc.http.connection import ConnectionServer
from bootsvc.http.settings import HttpConfig
from images.errors import Error

BACKLOG = 4096
"""Connections that the kernel accepts ahead: a cluster that powers on at once knocks within a second."""
ACCEPTED_AT_ONCE = 64
"""Before the loop's other work gets its turn. asyncio tries as often when descriptors have run out, and logs each time."""
LOOPBACK = "lo"
LOOPBACK4, ANY6 = IPv4Address("127.0.0.1"), IPv6Address("::")

Place = tuple[IPv4Address | IPv6Address, str]
"""An address, and the interface by which alone it is reached."""


async def listen(
    server: ConnectionServer,
    settings: HttpConfig,
    port: int,
    *,
    context: ssl.SSLContext | None = None,
    host: str | None = None,
    place: Place | None = None,
) -> asyncio.base_events.Server:
    """On `place`, else on `host` (None: everywhere). Raises Error when the port cannot be had."""
    try:
        sock = None if place is None else _bind(place, port)
        where: dict[str, Any] = {"sock": sock} if sock is not None else {"host": host, "port": port, "reuse_address": True}
        listener = await asyncio.get_running_loop().create_server(
            server,
            backlog=ACCEPTED_AT_ONCE,
            ssl=context,
            ssl_handshake_timeout=None if context is None else settings.header_seconds,
            **where,
        )
        for each in listener.sockets:
            with each.dup() as own:
                own.listen(BACKLOG)
    except OSError as exc:
        raise _unusable(port, place, exc) from exc
    return listener


def places(address: IPv4Address, interface: str) -> Sequence[Place]:
    """Where an address of ours is listened on: its interface, and the loopback one for this machine itself."""
    return [(address, name) for name in dict.fromkeys((interface, LOOPBACK))]


def _bind(place: Place, port: int) -> socket.socket:
    address, interface = place
    sock = socket.socket(socket.AF_INET if address.version == 4 else socket.AF_INET6, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if address.version == 6:
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        sock.bind((str(address), port))
    except BaseException:
        sock.close()
        raise
    return sock


def _unusable(port: int, place: Place | None, reason: OSError) -> Error:
    if reason.errno == errno.EADDRINUSE:
        return PortTaken("tcp", port, "another program")
    where = "" if place is None else f" of {place[0]}"
    return Error(f"cannot listen on TCP port {port}{where}: {reason.strerror}")
