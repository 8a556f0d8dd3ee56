"""The ports that the settings ask for, and whether they can be had: what the services bind is bound here for a moment."""

import errno
import socket
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network

from bootsvc.config import Config
from bootsvc.dhcp.proxy import PROXY_PORT
from bootsvc.dhcp.settings import Mode
from bootsvc.http.settings import Listen
from bootsvc.net.links import Link
from bootsvc.process.holders import Holder

Port = tuple[str, int]
_ALL = IPv4Address(0)


def ports_of(config: Config) -> Mapping[Port, str]:
    """(protocol, port) → service, of all that the settings ask for."""
    ports: dict[Port, str] = {}
    if config.dhcp.enabled:
        ports["udp", 67] = "dhcp"
        if config.dhcp.mode is Mode.PROXY:
            ports["udp", PROXY_PORT] = "dhcp"
    if config.tftp.enabled:
        ports["udp", 69] = "tftp"
    if config.dns.enabled:
        ports["udp", 53] = ports["tcp", 53] = "dns"
    ports["tcp", config.http.port] = "http"
    if config.http.tls is not None:
        ports["tcp", config.http.tls.port] = "http"
    return ports


def find_obstacle(config: Config, port: Port, service: str, holders: Sequence[Holder], link: Link | None) -> Holder | None:
    """Who keeps the service from its port; None when nobody does.

    A program may have the same port on another interface, which the kernel's table does not tell: it is tried.
    """
    everywhere = service == "http" and config.http.listen is Listen.ALL
    own = None if link is None or everywhere else link.address
    suspects = [each for each in holders if (each.protocol, each.port) == port and each.is_in_the_way_of(own)]
    if link is None:
        return next((each for each in suspects if int(each.address) == 0), None)
    free = all(_is_free(port[0], where) for where in _places(port[1], service, link, everywhere))
    if free:
        return None
    stranger = Holder(protocol=port[0], port=port[1], address=own or _ALL, pid=None, name="")
    return next(iter(suspects), stranger)


def has_route(network: IPv4Network) -> bool:
    """Whether the kernel knows a way to its machines; nothing is sent."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((str(network[min(1, network.num_addresses - 1)]), 67))
        except OSError as exc:
            return exc.errno not in (errno.ENETUNREACH, errno.EHOSTUNREACH)
    return True


Place = tuple[socket.AddressFamily, str, int, str]
"""Family, address, port, and the interface to which it is limited."""


def _places(port: int, service: str, link: Link, everywhere: bool) -> Iterator[Place]:
    match service:
        case "http" if not everywhere:
            yield socket.AF_INET, str(link.address), port, link.name
            yield socket.AF_INET, "127.0.0.1", port, "lo"
            for interface in (link.name, "lo"):
                yield socket.AF_INET6, "::", port, interface
        case "dhcp":
            yield socket.AF_INET, "0.0.0.0", port, link.name
        case "dns":
            yield socket.AF_INET, str(link.address), port, link.name
        case "tftp":
            yield socket.AF_INET, str(link.address), port, ""
        case _:
            yield socket.AF_INET, "0.0.0.0", port, ""
            yield socket.AF_INET6, "::", port, ""


def _is_free(protocol: str, place: Place) -> bool:
    """False when another socket is in the way; what else may be wrong is not this question."""
    family, address, port, interface = place
    kind = socket.SOCK_STREAM if protocol == "tcp" else socket.SOCK_DGRAM
    try:
        with socket.socket(family, kind) as sock:
            if interface:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, interface.encode() + b"\0")
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if protocol == "tcp":
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.bind((address, port))
    except OSError as exc:
        return exc.errno != errno.EADDRINUSE
    return True
