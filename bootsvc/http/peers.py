"""Both ends of the connection that a request came by."""

from ipaddress import AddressValueError, IPv4Address

import msgspec
from aiohttp import web

from bootsvc.http.connection import Connection
from bootsvc.net.arrival import UNKNOWN
from netboot.node import ipv4

FIRST_UNPRIVILEGED = 1024
"""Ports below are root's (ip(7), ip_unprivileged_port_start)."""


class Peer(msgspec.Struct, frozen=True, kw_only=True):
    """The other end of a connection, as events tell of it."""

    hwaddr: str
    remote: str | None
    address: IPv4Address | None
    interface: str
    """By which it came; "-" for one that has gone."""


def is_privileged(request: web.Request) -> bool:
    """Whether only root of the asking machine can have that port."""
    name = request.transport.get_extra_info("peername") if request.transport else None
    return name is not None and int(name[1]) < FIRST_UNPRIVILEGED


def local_address(request: web.Request) -> IPv4Address | None:
    """Our end of the connection; None for IPv6."""
    name = request.transport.get_extra_info("sockname") if request.transport else None
    try:
        return None if name is None else ipv4(name[0])
    except AddressValueError:
        return None


def peer_of(request: web.Request, hwaddr: str) -> Peer:
    remote = request.remote
    try:
        # On a socket for both families an IPv4 peer has a mapped address.
        address = ipv4((remote or "").removeprefix("::ffff:"))
    except AddressValueError:
        address = None
    interface = request.protocol.interface if isinstance(request.protocol, Connection) else UNKNOWN
    return Peer(hwaddr=hwaddr, remote=remote, address=address, interface=interface)
