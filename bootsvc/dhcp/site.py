"""What answers depend on besides the machine: our address, one network, and settings; what they have in common is made once."""

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from typing import NamedTuple

from bootsvc.dhcp import options
from bootsvc.dhcp.leases import Lease
from bootsvc.dhcp.room import Pair
from bootsvc.dhcp.settings import DhcpConfig, Subnet
from netboot.urls import Urls

MAX_DNS = 8
"""Name servers told to a client."""
MAX_RELAYS = 1024
"""Relays remembered, with whether they may be answered."""


class Said(NamedTuple):
    """What a reply says to every machine that asks for the same."""

    must: tuple[Pair, ...]
    wishes: tuple[Pair, ...]
    before: bytes
    """Both, encoded, in their order, up to where HOST_NAME would stand."""
    after: bytes
    hostname: bool
    """Whether HOST_NAME was asked for."""
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """One network as it is served through one of our addresses."""

    server: IPv4Address
    network: IPv4Network
    urls: Urls
    dhcp: DhcpConfig = field(default_factory=DhcpConfig)
    """With the range, router, name servers and times of this network."""
    loaders: Mapping[str, str] = field(default_factory=dict)
    own: frozenset[IPv4Address] = frozenset()
    """Every address of ours, by any of which a client may know this server."""
    reachable: tuple[IPv4Network, ...] = ()
    """All networks that are ours to answer to, where a relay may have its address."""
    name: str = field(init=False, repr=False, compare=False)
    """The network's; a key that is found at once, which an IPv4Network is not."""
    times: tuple[Pair, ...] = field(init=False, repr=False, compare=False)
    wishes: Mapping[int, bytes] = field(init=False, repr=False, compare=False)
    impossible: frozenset[int] = field(init=False, repr=False, compare=False)
    """Addresses, as numbers, that no machine may be given, whatever nodes.conf says: they would cut off every machine."""
    said: dict[Hashable, Said] = field(init=False, repr=False, compare=False)
    """Filled by whoever makes answers."""
    reserved: dict[str, Lease | None] = field(init=False, repr=False, compare=False)
    """What each node's hardware address has here, filled by whoever looks; a site lasts no longer than its nodes."""
    _relays: dict[int, bool] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        seconds = self.dhcp.lease_seconds
        times = (
            options.LEASE_TIME.pair(seconds),
            options.RENEWAL_TIME.pair(seconds // 2),
            options.REBINDING_TIME.pair(seconds * 7 // 8),
        )
        object.__setattr__(self, "name", str(self.network))
        object.__setattr__(self, "times", times)
        object.__setattr__(self, "wishes", self.wishes_on(self.network, None))
        object.__setattr__(self, "impossible", self.impossible_on(self.network))
        object.__setattr__(self, "said", {})
        object.__setattr__(self, "reserved", {})
        object.__setattr__(self, "_relays", {})

    def impossible_on(self, network: IPv4Network) -> frozenset[int]:
        edges = (network.network_address, network.broadcast_address) if network.prefixlen <= 30 else ()
        return frozenset(int(address) for address in (self.server, *edges))

    def is_relay(self, giaddr: IPv4Address) -> bool:
        """Whether a relay agent may have this address: only networks of ours are ever sent to, whatever a packet says."""
        known = self._relays.get(int(giaddr))
        if known is None:
            networks = (self.network, *self.reachable)
            known = giaddr not in self.own and any(is_host(giaddr, network) for network in networks)
            if len(self._relays) >= MAX_RELAYS:
                self._relays.clear()
            self._relays[int(giaddr)] = known
        return known

    def wishes_on(self, network: IPv4Network, gateway: IPv4Address | None) -> Mapping[int, bytes]:
        """Options that are sent when a client asks for them, or does not say what it wants."""
        dhcp, pairs = self.dhcp, []
        router = gateway if gateway is not None else dhcp.router
        if router is not None and router in network:
            pairs.append(options.ROUTER.pair((router,)))
        if dhcp.dns:
            pairs.append(options.DOMAIN_NAME_SERVER.pair(dhcp.dns[:MAX_DNS]))
        if dhcp.domain:
            pairs.append(options.DOMAIN_NAME.pair(dhcp.domain))
        if dhcp.search:
            pairs.append(options.DOMAIN_SEARCH.pair(dhcp.search))
        if dhcp.ntp:
            pairs.append(options.NTP_SERVERS.pair(dhcp.ntp))
        if dhcp.mtu is not None and network == self.network:
            pairs.append(options.INTERFACE_MTU.pair(dhcp.mtu))
        pairs.append(options.BROADCAST_ADDRESS.pair(network.broadcast_address))
        return dict(pairs)

    def on(self, subnet: Subnet | None) -> "Site":
        """The site of another network that is served through the same address of ours."""
        if subnet is None:
            return self
        dhcp = replace(
            self.dhcp,
            range_start=subnet.range_start,
            range_end=subnet.range_end,
            router=subnet.router,
            dns=subnet.dns or self.dhcp.dns,
            lease_seconds=subnet.lease_seconds or self.dhcp.lease_seconds,
            mtu=subnet.mtu,
        )
        return replace(self, network=subnet.network, dhcp=dhcp)


def is_host(address: IPv4Address, network: IPv4Network) -> bool:
    """Whether it is an address that one machine on the network can have."""
    if address not in network:
        return False
    return network.prefixlen > 30 or address not in (network.network_address, network.broadcast_address)
