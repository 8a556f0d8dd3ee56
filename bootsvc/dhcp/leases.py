"""Addresses of machines: reservations from nodes, and a table of leases for all others. Pure: `now` is an argument."""

import heapq
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from enum import Enum
from ipaddress import IPv4Address, IPv4Network

from bootsvc.dhcp.options import Message
from bootsvc.dhcp.request import BootRequest
from netboot.node import NetDev, Node

MAX_LEASES = 65536
"""Rows of the table, one an address: a flood of made-up hardware addresses cannot grow it further."""
OFFER_SECONDS = 60.0
"""How long an offered address waits for its REQUEST."""
DECLINE_SECONDS = 600.0
"""How long an address is set aside after a client found it in use."""


class LeaseState(Enum):
    OFFERED = "offered"
    BOUND = "bound"
    RELEASED = "released"
    DECLINED = "declined"
    RESERVED = "reserved"
    """A node's own address: in no table, never expires."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lease:
    """One address of one machine; `expires` in seconds since the epoch."""

    address: IPv4Address
    hwaddr: str
    expires: float = 0.0
    state: LeaseState = LeaseState.BOUND
    network: IPv4Network | None = None
    """Of a reservation with its own netmask; None: the served network."""
    gateway: IPv4Address | None = None


class LeaseTable:
    """Leases of the range [first, last]; keyed on the hardware address, so firmware, iPXE and OS share one address.

    A lease that expired stays as its machine's previous address until the address is needed for another.
    """

    def __init__(self, excluded: Callable[[IPv4Address], bool]) -> None:
        """`excluded` says of an address that it must never be leased (a reservation, our own, the router's)."""
        self._excluded = excluded
        self._first = 1
        self._last = 0
        self._fresh = 1
        self._by_hwaddr: dict[str, Lease] = {}
        self._by_address: dict[IPv4Address, Lease] = {}
        self._expiry: list[tuple[float, int]] = []

    def configure(self, first: IPv4Address | None, last: IPv4Address | None) -> None:
        """Set the range; at most MAX_LEASES addresses of it are used. Leases outside it are forgotten.

        Call it again when `excluded` changed its mind, so that addresses it gave up are found.
        """
        self._first, self._last = (1, 0) if first is None or last is None else (int(first), int(last))
        self._last = min(self._last, self._first + MAX_LEASES - 1)
        self._fresh = self._first
        for lease in [lease for lease in self._by_address.values() if not self.in_range(lease.address)]:
            self._forget(lease)

    def load(self, leases: Iterable[Lease]) -> None:
        """Take over what an earlier run saved."""
        for lease in leases:
            if self.in_range(lease.address):
                self._put(lease)

    def in_range(self, address: IPv4Address) -> bool:
        return self._first <= int(address) <= self._last

    def find(self, hwaddr: str) -> Lease | None:
        """The machine's lease, also an expired one that nobody took; None when its address may no longer be used."""
        lease = self._by_hwaddr.get(hwaddr)
        return None if lease is None or self._excluded(lease.address) else lease

    def find_hwaddr(self, address: IPv4Address) -> str | None:
        """Whose address it is."""
        lease = self._by_address.get(address)
        return None if lease is None else lease.hwaddr

    def offer(self, hwaddr: str, requested: IPv4Address | None, now: float) -> Lease | None:
        """An address for the machine: its previous one, the one it asks for, a fresh one, or the longest expired."""
        lease = self.find(hwaddr)
        if lease is not None and lease.state is LeaseState.BOUND and lease.expires > now:
            return lease
        address = lease.address if lease is not None else self._choose(requested, now)
        if address is None:
            return None
        return self._put(Lease(address=address, hwaddr=hwaddr, expires=now + OFFER_SECONDS, state=LeaseState.OFFERED))

    def bind(self, lease: Lease, seconds: int, now: float) -> Lease:
        """The lease as it must be saved before its ACK leaves."""
        return self._put(replace(lease, expires=now + seconds, state=LeaseState.BOUND))

    def release(self, hwaddr: str, address: IPv4Address, now: float) -> Lease | None:
        """The machine gives its address back; it is kept as its previous one. None: it has no such lease."""
        lease = self._by_hwaddr.get(hwaddr)
        if lease is None or lease.address != address:
            return None
        return self._put(replace(lease, expires=now, state=LeaseState.RELEASED))

    def decline(self, hwaddr: str, address: IPv4Address, now: float) -> Lease | None:
        """The machine found its address in use: set aside for DECLINE_SECONDS. None: it has no such lease."""
        lease = self._by_hwaddr.get(hwaddr)
        if lease is None or lease.address != address:
            return None
        return self._put(replace(lease, expires=now + DECLINE_SECONDS, state=LeaseState.DECLINED))

    def _choose(self, requested: IPv4Address | None, now: float) -> IPv4Address | None:
        if requested is not None and self.in_range(requested) and self._usable(requested, now):
            return requested
        while self._fresh <= self._last:
            address = IPv4Address(self._fresh)
            self._fresh += 1
            if address not in self._by_address and not self._excluded(address):
                return address
        while self._expiry and self._expiry[0][0] <= now:
            expires, number = heapq.heappop(self._expiry)
            lease = self._by_address.get(IPv4Address(number))
            if lease is None or lease.expires != expires:
                continue
            if not self._excluded(lease.address):
                return lease.address
            self._forget(lease)
        return None

    def _usable(self, address: IPv4Address, now: float) -> bool:
        lease = self._by_address.get(address)
        return (lease is None or lease.expires <= now) and not self._excluded(address)

    def _put(self, lease: Lease) -> Lease:
        holder, previous = self._by_address.get(lease.address), self._by_hwaddr.get(lease.hwaddr)
        if holder is not None:
            self._forget(holder)
        if lease.state is not LeaseState.DECLINED:
            if previous is not None and previous.address != lease.address:
                self._forget(previous)
                self._fresh = min(self._fresh, int(previous.address))
            self._by_hwaddr[lease.hwaddr] = lease
        self._by_address[lease.address] = lease
        heapq.heappush(self._expiry, (lease.expires, int(lease.address)))
        if len(self._expiry) > 4 * len(self._by_address) + 64:
            # Each renewal leaves an outdated entry behind.
            self._expiry = [(lease.expires, int(lease.address)) for lease in self._by_address.values()]
            heapq.heapify(self._expiry)
        return lease

    def _forget(self, lease: Lease) -> None:
        self._by_address.pop(lease.address, None)
        if self._by_hwaddr.get(lease.hwaddr) is lease:
            del self._by_hwaddr[lease.hwaddr]


def reservation(node: Node | None, hwaddr: str, network: IPv4Network) -> Lease | None:
    """The address that nodes.conf gives to this hardware address, or None."""
    for owned, device in node.hwaddrs() if node is not None else ():
        if owned == hwaddr and device.ipaddr is not None:
            own = _own_network(device, network)
            return Lease(address=device.ipaddr, hwaddr=hwaddr, state=LeaseState.RESERVED, network=own, gateway=device.gateway)
    return None


def _own_network(device: NetDev, network: IPv4Network) -> IPv4Network | None:
    """A netmask in nodes.conf holds for addresses behind a relay; on the served network its own mask is the truth."""
    interface = device.interface
    return None if interface is None or interface.ip in network else interface.network


def lease_for(request: BootRequest, node: Node | None, table: LeaseTable, network: IPv4Network, now: float) -> Lease | None:
    """The lease that a message is about: a reservation, else a row of the table, made at need by a DISCOVER."""
    reserved = reservation(node, request.hwaddr, network)
    if reserved is not None and _reachable(reserved, request, network):
        return reserved
    if request.giaddr != IPv4Address(0) and request.giaddr not in network:
        return None
    if request.message is Message.DISCOVER:
        return table.offer(request.hwaddr, request.requested, now)
    return table.find(request.hwaddr)


def _reachable(reserved: Lease, request: BootRequest, network: IPv4Network) -> bool:
    """A reservation on another network than the machine is asking from cannot be used there."""
    if request.giaddr != IPv4Address(0):
        return request.giaddr in (reserved.network or network)
    return reserved.address in network
