"""What warewulf.conf says of DHCP: its record, its keys, and what makes a range or a subnet impossible."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from typing import Any

from bootsvc.keytable import ListOf, RecordsOf, Settings, Table, choice, given, ipv4, network, number, text


class Mode(Enum):
    """How the server stands to other DHCP servers."""

    AUTHORITATIVE = "authoritative"
    """The only one on its networks: it gives addresses."""
    PROXY = "proxy"
    """Another one gives addresses; this one adds the boot file (PXE 2.1 §2.2, proxyDHCP)."""
    OFF = "off"


class Unknown(Enum):
    """What a machine gets that no node is."""

    OFFER = "offer"
    """An address of the range, and a script that asks who it is."""
    IGNORE = "ignore"


@dataclass(frozen=True, slots=True, kw_only=True)
class Subnet:
    """A network besides the boot network: behind a relay, or on another interface of this machine."""

    network: IPv4Network
    range_start: IPv4Address | None = None
    range_end: IPv4Address | None = None
    router: IPv4Address | None = None
    dns: tuple[IPv4Address, ...] = ()
    """None of its own: the name servers of the boot network."""
    lease_seconds: int | None = None
    mtu: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DhcpConfig:
    enabled: bool = True
    range_start: IPv4Address | None = None
    range_end: IPv4Address | None = None
    lease_seconds: int = 3600
    router: IPv4Address | None = None
    dns: tuple[IPv4Address, ...] = ()
    domain: str = ""
    search: tuple[str, ...] = ()
    ntp: tuple[IPv4Address, ...] = ()
    mtu: int | None = None
    """Of the boot network, in bytes."""
    router_advertisements: bool = True
    mode: Mode = Mode.AUTHORITATIVE
    unknown: Unknown = Unknown.OFFER
    subnets: tuple[Subnet, ...] = ()

    def with_dns(self, boot: IPv4Address, serving: Collection[IPv4Address]) -> "DhcpConfig":
        """While this machine answers DNS on the addresses `serving`, each network is told ours on it, else `boot`.

        Name servers that the settings name come first.
        """
        if self.dns or boot not in serving:
            return self
        subnets = [
            subnet if subnet.dns else replace(subnet, dns=tuple(sorted(each for each in serving if each in subnet.network))[:1])
            for subnet in self.subnets
        ]
        return replace(self, dns=(boot,), subnets=tuple(subnets))


MIN_MTU, MAX_MTU = 68, 65535
"""RFC 2132 §5.1."""
_SECONDS, _MTU = number(60, 31_536_000), number(MIN_MTU, MAX_MTU)
KEYS: Table = {
    "mode": choice(Mode),
    "unknown": choice(Unknown),
    "lease seconds": _SECONDS,
    "router": ipv4,
    "dns": ListOf(ipv4),
    "domain": text,
    "search": ListOf(text),
    "ntp": ListOf(ipv4),
    "mtu": _MTU,
    "subnets": RecordsOf(
        {
            "network": network,
            "range start": ipv4,
            "range end": ipv4,
            "router": ipv4,
            "dns": ListOf(ipv4),
            "lease seconds": _SECONDS,
            "mtu": _MTU,
        }
    ),
}
"""Below `bootsvc: dhcp:`."""

_OURS = ("bootsvc", "dhcp")
_SUBNETS = (*_OURS, "subnets")


def dhcp_config(settings: Settings, boot_network: IPv4Network | None) -> DhcpConfig:
    """The record; raises YamlError for ranges and subnets that cannot be."""
    start, end = (settings.get("dhcp", f"range {edge}") for edge in ("start", "end"))
    _check_range(settings, start, end, boot_network)
    router: IPv4Address | None = settings.get(*_OURS, "router")
    if router is not None and boot_network is not None and router not in boot_network:
        raise settings.error((*_OURS, "router"), *_beyond(router, boot_network))
    mode: Mode = settings.get(*_OURS, "mode", default=Mode.AUTHORITATIVE)
    own = {name: settings.get(*_OURS, name) for name in ("router", "dns", "domain", "search", "ntp", "mtu", "unknown")}
    return DhcpConfig(
        enabled=settings.get("dhcp", "enabled", default=True) and mode is not Mode.OFF,
        mode=mode,
        range_start=start,
        range_end=end,
        subnets=_subnets(settings, boot_network),
        **given(
            lease_seconds=settings.get(*_OURS, "lease seconds"),
            router_advertisements=settings.get("bootsvc", "router advertisements"),
            **own,
        ),
    )


def _check_range(
    settings: Settings, start: IPv4Address | None, end: IPv4Address | None, boot_network: IPv4Network | None
) -> None:
    for edge, address in (("start", start), ("end", end)):
        reason = _unfit(address, boot_network)
        if reason:
            raise settings.error(("dhcp", f"range {edge}"), *reason)
    if (start is None) != (end is None):
        missing = "end" if end is None else "start"
        path = ("dhcp", "range start" if end is None else "range end")
        raise settings.error(path, f"there is no range {missing}", f"give `range {missing}:` too, or neither")
    if start and end and start > end:
        raise settings.error(("dhcp", "range end"), f"{end} comes before range start {start}", "swap the two")


def _unfit(address: IPv4Address | None, network: IPv4Network | None) -> tuple[str, str | None] | None:
    if address is None or network is None:
        return None
    if address not in network:
        return f"{address} is not in the network {network}", "the range is lent to nodes there"
    if address in (network.network_address, network.broadcast_address):
        return f"{address} is an address that no machine in {network} can have", None
    return None


def _beyond(router: IPv4Address, network: IPv4Network) -> tuple[str, str]:
    return f"the router {router} is not in {network}", "machines there could not reach it"


def _subnets(settings: Settings, boot_network: IPv4Network | None) -> tuple[Subnet, ...]:
    found: list[Subnet] = []
    for record in settings.get(*_SUBNETS, default=()):
        subnet = _subnet(settings, record)
        others = [boot_network] if boot_network else []
        for other in [*others, *(each.network for each in found)]:
            if other.overlaps(subnet.network):
                raise settings.error(_SUBNETS, f"{subnet.network} overlaps {other}", "each network stands here once")
        found.append(subnet)
    return tuple(found)


def _subnet(settings: Settings, record: Mapping[str, Any]) -> Subnet:
    network: IPv4Network | None = record.get("network")
    if network is None:
        raise settings.error(_SUBNETS, "one of them has no network", "such as `- network: 10.1.0.0/16`")
    start, end = record.get("range start"), record.get("range end")
    if (start is None) != (end is None):
        raise settings.error(_SUBNETS, f"{network} has one end of a range", "give `range start` and `range end`, or neither")
    for address in (start, end):
        reason = _unfit(address, network)
        if reason:
            raise settings.error(_SUBNETS, *reason)
    if start and end and start > end:
        raise settings.error(_SUBNETS, f"{end} comes before range start {start}", "swap the two")
    router: IPv4Address | None = record.get("router")
    if router is not None and router not in network:
        raise settings.error(_SUBNETS, *_beyond(router, network))
    return Subnet(
        network=network,
        range_start=start,
        range_end=end,
        router=router,
        dns=record.get("dns", ()),
        lease_seconds=record.get("lease seconds"),
        mtu=record.get("mtu"),
    )
