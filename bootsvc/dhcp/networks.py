"""The networks that are served: which one a request is about, and the lease table of each. Pure."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network

from bootsvc.dhcp.leases import Lease, LeaseTable, bounded
from bootsvc.dhcp.request import BootRequest
from bootsvc.dhcp.site import Site
from netboot.node import Node

MAX_REMEMBERED = 4096
"""Selectors whose network is remembered, so that a site with hundreds of racks is not searched for each packet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """What one interface serves: the networks that are on it, and all others through a relay."""

    direct: tuple[Site, ...]
    remote: tuple[Site, ...]

    @classmethod
    def through(cls, sites: Sequence[Site], boot: Site, others: Iterable[IPv4Network]) -> "Served":
        """`sites`: one for each of our addresses on this interface; `boot`: the boot network as this interface would serve it.

        `others` are on this machine's other interfaces, so that no relay brings them here.
        """
        away = frozenset(others)
        nearby = {site.network for site in sites}
        far = (subnet for subnet in boot.dhcp.subnets if subnet.network not in nearby and subnet.network not in away)
        return cls(direct=tuple(sites), remote=tuple(boot.on(subnet) for subnet in far))


class Networks:
    """Finds the site of a request and its lease table; `update` replaces the sites, and leases stay."""

    def __init__(self, reserved: Callable[[IPv4Address], bool]) -> None:
        """`reserved` says of an address that a node owns it."""
        self._reserved = reserved
        self._saved: Sequence[Lease] = ()
        self._tables: dict[str, LeaseTable] = {}
        self._sites: dict[str, Site] = {}
        self._ours: frozenset[int] = frozenset()
        self._served: Mapping[int, Served] = {}
        self._found: dict[tuple[int, int], Site] = {}

    def load(self, leases: Sequence[Lease], now: float) -> None:
        """Leases that an earlier run saved; each table takes its own."""
        self._saved = [bounded(lease, now) for lease in leases]

    def update(self, served: Mapping[int, Served]) -> None:
        """What each interface (by index) serves from now on."""
        self._served = served
        self._found.clear()
        self._sites = {}
        for each in served.values():
            for site in (*each.direct, *each.remote):
                self._sites.setdefault(site.name, site)
        routers = (site.dhcp.router for site in self._sites.values())
        ours = (address for site in self._sites.values() for address in site.own)
        self._ours = frozenset(int(address) for address in (*routers, *ours) if address is not None)
        for name, site in self._sites.items():
            table = self._tables.get(name)
            if table is not None:
                table.configure(site.dhcp.range_start, site.dhcp.range_end)
                continue
            table = LeaseTable(self._excluded(site.network))
            table.configure(site.dhcp.range_start, site.dhcp.range_end)
            table.load(self._saved)
            # The network may have had another netmask until now, and its machines have addresses of then.
            for other in self._tables.values():
                table.load(other.leases())
            self._tables[name] = table

    def served(self, ifindex: int) -> Served | None:
        return self._served.get(ifindex)

    def table(self, name: str) -> LeaseTable:
        """Of the network with this `Site.name`. Raises KeyError for one that was never served."""
        return self._tables[name]

    def find_hwaddr(self, address: IPv4Address) -> str | None:
        """The machine that leases the address."""
        # Those that are served now come first: a network whose netmask was changed has two tables.
        for name in dict.fromkeys((*self._sites, *self._tables)):
            if address in IPv4Network(name):
                return self._tables[name].find_hwaddr(address)
        return None

    def find_site(self, request: BootRequest, ifindex: int, node: Node | None) -> Site | None:
        """The site that a request is about; None when the interface is not served."""
        served = self._served.get(ifindex)
        if served is None:
            return None
        if request.relayed:
            return self._selected(request.selector, ifindex, served) or served.direct[0]
        if not served.remote and len(served.direct) == 1:
            return served.direct[0]
        if int(request.ciaddr):
            # Behind a relay a client renews straight with us.
            found = self._selected(request.ciaddr, ifindex, served)
            if found is not None:
                return found
        return _on_the_wire(request.hwaddr, node, served.direct)

    def _selected(self, selector: IPv4Address, ifindex: int, served: Served) -> Site | None:
        key = (ifindex, int(selector))
        site = self._found.get(key)
        if site is None:
            site = next((one for one in (*served.direct, *served.remote) if selector in one.network), None)
            if site is not None:
                if len(self._found) >= MAX_REMEMBERED:
                    self._found.clear()
                self._found[key] = site
        return site

    def _excluded(self, network: IPv4Network) -> Callable[[IPv4Address], bool]:
        low, high = int(network.network_address), int(network.broadcast_address)
        if network.prefixlen > 30:
            low, high = low - 1, high + 1

        def excluded(address: IPv4Address) -> bool:
            number = int(address)
            return not low < number < high or number in self._ours or self._reserved(address)

        return excluded


def _on_the_wire(hwaddr: str, node: Node | None, direct: Sequence[Site]) -> Site:
    """Of several networks on one interface: the node's own, else the first that lends addresses."""
    for owned, device in node.hwaddrs() if node is not None else ():
        for site in direct:
            if owned == hwaddr and device.ipaddr is not None and device.ipaddr in site.network:
                return site
    return next((site for site in direct if site.dhcp.range_start is not None), direct[0])
