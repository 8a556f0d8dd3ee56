"""The ports that the settings ask for, and whether they can be had: what the services bind is bound here for a moment."""

import errno
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from bootsvc.config import Config
from bootsvc.dhcp.proxy import PROXY_PORT
from bootsvc.dhcp.settings import Mode
from bootsvc.errors import SamePort
from bootsvc.http.settings import Listen
from bootsvc.keytable import KeyPath
from bootsvc.net.links import Link
from bootsvc.process.holders import Holder

Port = tuple[str, int]
"""Protocol and number."""
_ALL = IPv4Address(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """A port that a service of ours needs, and the key of warewulf.conf to which it owes that."""

    port: Port
    service: str
    key: KeyPath

    def place(self, config: Config) -> str:
        """The key, and where it stands."""
        line = config.lines.get(self.key)
        where = "by default" if line is None else f"{config.source}:{line}"
        return f"`{': '.join(self.key)}`, {where}"

    @property
    def remedy(self) -> str:
        key = ": ".join(self.key)
        return f"set `{key}: false`" if self.key[-1] == "enabled" else f"change `{key}`"


def wanted_ports(config: Config) -> Iterator[Wanted]:
    """All that the settings ask for."""
    if config.dhcp.enabled:
        yield Wanted(port=("udp", 67), service="dhcp", key=("dhcp", "enabled"))
        if config.dhcp.mode is Mode.PROXY:
            yield Wanted(port=("udp", PROXY_PORT), service="dhcp", key=("bootsvc", "dhcp", "mode"))
    if config.tftp.enabled:
        yield Wanted(port=("udp", 69), service="tftp", key=("tftp", "enabled"))
    if config.dns.enabled:
        for protocol in ("udp", "tcp"):
            yield Wanted(port=(protocol, 53), service="dns", key=("bootsvc", "dns", "enabled"))
    yield Wanted(port=("tcp", config.http.port), service="http", key=("warewulf", "port"))
    if config.http.tls is not None:
        yield Wanted(port=("tcp", config.http.tls.port), service="http", key=("warewulf", "tls port"))


def ports_of(config: Config) -> Mapping[Port, str]:
    """Each of these ports with its service."""
    return {wanted.port: wanted.service for wanted in wanted_ports(config)}


def find_clashes(config: Config) -> list[SamePort]:
    """Ports that two of them would need: whichever comes second could not be served."""
    by_port: dict[Port, list[Wanted]] = {}
    for wanted in wanted_ports(config):
        by_port.setdefault(wanted.port, []).append(wanted)
    return [
        SamePort(*port, [(each.service, each.place(config)) for each in several], [each.remedy for each in several])
        for port, several in by_port.items()
        if len(several) > 1
    ]


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
