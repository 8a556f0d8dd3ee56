"""Addresses of machines: a table of leases, and which of them a message is about. Pure: `now` is an argument."""

import heapq
from collections.abc import Callable, Iterable, Sequence
from enum import Enum
from ipaddress import IPv4Address, IPv4Network

import msgspec
from msgspec.structs import replace

from bootsvc.dhcp.option_values import address as interned
from bootsvc.dhcp.options import DISCOVER, REQUEST
from bootsvc.dhcp.request import BootRequest, Phase

MAX_LEASES = 65536
"""Rows of the table, one an address: a flood of made-up hardware addresses cannot grow it further."""
OFFER_SECONDS = 60.0
"""How long an offered address waits for its REQUEST."""
DECLINE_SECONDS = 600.0
"""How long an address is set aside after a client, or our own ARP probe, found it in use."""
CHECK_SECONDS = 300.0
"""How long a free address counts as checked."""


class LeaseState(Enum):
    OFFERED = "offered"
    BOUND = "bound"
    RELEASED = "released"
    DECLINED = "declined"
    RESERVED = "reserved"
    """A node's own address: in no table, never expires."""


# Plain names are read faster than a class's members.
_OFFERED, _BOUND, _DECLINED = LeaseState.OFFERED, LeaseState.BOUND, LeaseState.DECLINED


class Lease(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One address of one machine; `expires` in seconds since the epoch."""

    address: IPv4Address
    hwaddr: str
    expires: float = 0.0
    seconds: float | None = None
    """For how long it was lent, or set aside; None: nobody knows any more."""
    state: LeaseState = LeaseState.BOUND
    network: IPv4Network | None = None
    """Of a reservation with its own netmask; None: the served network."""
    gateway: IPv4Address | None = None
    mtu: int | None = None
    """Of a reservation whose device has its own, in bytes; None: the served network's."""
    doubtful: bool = False
    """Given because its machine named it or had it before: whether another uses it meanwhile is not known yet."""


class LeaseTable:
    """Leases of the range [first, last]; keyed on the hardware address, so firmware, iPXE and OS share one address.

    A lease that expired stays as its machine's previous address until the address is needed for another. Free addresses can
    be taken out for a check of whether somebody uses them (`to_check`, `checked`); checked ones are given first, and an
    address whose check is not over is given all the same when there is no better one: no client waits for it. One that a
    client names, or had until a while ago, is marked `doubtful`: it is looked at before it is told (`prove`, `set_aside`).
    """

    def __init__(self, excluded: Callable[[IPv4Address], bool]) -> None:
        """`excluded` says of an address that it must never be leased (a reservation, our own, the router's)."""
        self._excluded = excluded
        self._first = 1
        self._last = 0
        self._fresh = 1
        self._by_hwaddr: dict[str, Lease] = {}
        self._by_address: dict[int, Lease] = {}
        self._expiry: list[tuple[float, int]] = []
        # Free addresses taken out for a check: when the check ended, None while it runs. In the order in which they are given.
        self._taken_out: dict[int, float | None] = {}

    def configure(self, first: IPv4Address | None, last: IPv4Address | None) -> None:
        """Set the range; at most MAX_LEASES addresses of it are used. Leases outside it rest, for a range may be corrected.

        Call it again when `excluded` changed its mind, so that addresses it gave up are found.
        """
        self._first, self._last = (1, 0) if first is None or last is None else (int(first), int(last))
        self._last = min(self._last, self._first + MAX_LEASES - 1)
        self._fresh = self._first
        self._taken_out.clear()
        self._rebuild_expiry()

    def load(self, leases: Iterable[Lease]) -> None:
        """Take over what an earlier run saved."""
        for lease in leases:
            if self.in_range(lease.address):
                self._put(lease)

    def __len__(self) -> int:
        """Addresses that are or were lent."""
        return len(self._by_address)

    def leases(self) -> Sequence[Lease]:
        """All that are known, one for each address."""
        return tuple(self._by_address.values())

    def in_range(self, address: IPv4Address) -> bool:
        return self._first <= int(address) <= self._last

    def find(self, hwaddr: str) -> Lease | None:
        """The machine's lease, also an expired one that nobody took; None when its address may no longer be used."""
        lease = self._by_hwaddr.get(hwaddr)
        return None if lease is None or not self.in_range(lease.address) or self._excluded(lease.address) else lease

    def find_hwaddr(self, address: IPv4Address) -> str | None:
        """Whose address it is."""
        lease = self._by_address.get(int(address))
        return None if lease is None else lease.hwaddr

    def offer(self, hwaddr: str, requested: IPv4Address | None, now: float) -> Lease | None:
        """An address for the machine: its previous one, the one it asks for, a checked, a fresh, or the longest expired one."""
        lease = self.find(hwaddr)
        if lease is not None and lease.state is _BOUND and lease.expires > now:
            return lease
        if lease is not None:
            return self._offer(hwaddr, lease.address, now, doubtful=is_doubtful(lease, now))
        address = self._choose(requested, now)
        if address is None:
            return None
        # Whoever asks for nothing gets a checked one, if there is any.
        doubtful = address == requested and self._taken_out.get(int(address)) is None
        return self._offer(hwaddr, address, now, doubtful=doubtful)

    def regain(self, hwaddr: str, requested: IPv4Address, now: float) -> Lease | None:
        """The offer of just this address, made anew: a restart forgets offers, and the client still has ours."""
        if not self.in_range(requested) or not self._usable(requested, now):
            return None
        return self._offer(hwaddr, requested, now, doubtful=True)

    def _offer(self, hwaddr: str, address: IPv4Address, now: float, *, doubtful: bool) -> Lease:
        expires = now + OFFER_SECONDS
        return self._put(Lease(address=address, hwaddr=hwaddr, expires=expires, state=_OFFERED, doubtful=doubtful))

    def prove(self, hwaddr: str, address: IPv4Address, now: float) -> None:
        """Nobody else uses the machine's address, which was doubtful."""
        lease = self._by_hwaddr.get(hwaddr)
        if lease is not None and lease.address == address and is_doubtful(lease, now):
            self._offer(hwaddr, address, now, doubtful=False)

    def set_aside(self, address: IPv4Address, user: str, now: float) -> Lease | None:
        """The machine `user` uses the address. None: it does so by right."""
        holder = self._by_address.get(int(address))
        if holder is not None and holder.hwaddr == user and holder.state is _BOUND and holder.expires > now:
            return None
        return self._set_aside(address, user, now)

    def _set_aside(self, address: IPv4Address, user: str, now: float) -> Lease:
        expires = now + DECLINE_SECONDS
        return self._put(Lease(address=address, hwaddr=user, expires=expires, seconds=DECLINE_SECONDS, state=_DECLINED))

    def bind(self, lease: Lease, seconds: int, now: float) -> Lease:
        """The lease as it must be saved before its ACK leaves."""
        return self._put(Lease(address=lease.address, hwaddr=lease.hwaddr, expires=now + seconds, seconds=seconds))

    def release(self, hwaddr: str, address: IPv4Address, now: float) -> Lease | None:
        """The machine gives its address back; it is kept as its previous one. None: it has no such lease."""
        lease = self._by_hwaddr.get(hwaddr)
        if lease is None or lease.address != address:
            return None
        return self._put(replace(lease, expires=now, seconds=0.0, state=LeaseState.RELEASED))

    def decline(self, hwaddr: str, address: IPv4Address, now: float) -> Lease | None:
        """The machine found its address in use: set aside for DECLINE_SECONDS. None: it has no such lease."""
        lease = self._by_hwaddr.get(hwaddr)
        if lease is None or lease.address != address:
            return None
        return self._set_aside(lease.address, hwaddr, now)

    def to_check(self, wanted: int, now: float) -> list[IPv4Address]:
        """Free addresses whose check is due, so that `wanted` of them are checked; each is to be told to `checked`."""
        due = [number for number, at in self._taken_out.items() if at is not None and at + CHECK_SECONDS <= now]
        while len(self._taken_out) < wanted and (address := self._next_free(now)) is not None:
            self._taken_out[int(address)] = None
            due.append(int(address))
        for number in due:
            self._taken_out[number] = None
        return [IPv4Address(number) for number in due]

    def checked(self, address: IPv4Address, user: str | None, now: float) -> Lease | None:
        """The check is over: nobody uses the address, or the machine `user` does, and it is set aside (the lease returned)."""
        number = int(address)
        if number not in self._taken_out:
            return None
        if user is None:
            self._taken_out[number] = now
            return None
        del self._taken_out[number]
        return self.set_aside(address, user, now)

    def _choose(self, requested: IPv4Address | None, now: float) -> IPv4Address | None:
        if requested is not None and self.in_range(requested) and self._usable(requested, now):
            return requested
        for running in (False, True) if self._taken_out else ():
            while (number := self._first_taken_out(running=running)) is not None:
                del self._taken_out[number]
                address = IPv4Address(number)
                if self._usable(address, now):
                    return address
        return self._next_free(now)

    def _first_taken_out(self, *, running: bool) -> int | None:
        return next((number for number, at in self._taken_out.items() if (at is None) is running), None)

    def _next_free(self, now: float) -> IPv4Address | None:
        """The next address never lent, else the longest expired."""
        while self._fresh <= self._last:
            address = interned(self._fresh)
            self._fresh += 1
            if int(address) not in self._by_address and int(address) not in self._taken_out and not self._excluded(address):
                return address
        while self._expiry and self._expiry[0][0] <= now:
            expires, number = heapq.heappop(self._expiry)
            lease = self._by_address.get(number)
            if lease is None or lease.expires != expires or number in self._taken_out or not self.in_range(lease.address):
                continue
            if not self._excluded(lease.address):
                return lease.address
            self._forget(lease)
        return None

    def _usable(self, address: IPv4Address, now: float) -> bool:
        lease = self._by_address.get(int(address))
        return (lease is None or lease.expires <= now) and not self._excluded(address)

    def _put(self, lease: Lease) -> Lease:
        number = int(lease.address)
        holder, previous = self._by_address.get(number), self._by_hwaddr.get(lease.hwaddr)
        if holder is not None and (holder is not previous or lease.state is _DECLINED):
            self._forget(holder)
        if self._taken_out:
            self._taken_out.pop(number, None)
        if lease.state is not _DECLINED:
            if previous is not None and previous is not holder and previous.address != lease.address:
                self._forget(previous)
                self._fresh = max(self._first, min(self._fresh, int(previous.address)))
            self._by_hwaddr[lease.hwaddr] = lease
        self._by_address[number] = lease
        heapq.heappush(self._expiry, (lease.expires, number))
        if len(self._expiry) > 4 * len(self._by_address) + 64:
            # Each renewal leaves an outdated entry behind.
            self._rebuild_expiry()
        return lease

    def _rebuild_expiry(self) -> None:
        self._expiry = [(lease.expires, number) for number, lease in self._by_address.items()]
        heapq.heapify(self._expiry)

    def _forget(self, lease: Lease) -> None:
        self._by_address.pop(int(lease.address), None)
        if self._by_hwaddr.get(lease.hwaddr) is lease:
            del self._by_hwaddr[lease.hwaddr]


def bounded(lease: Lease, now: float) -> Lease:
    """The lease of an earlier run: it ends no later than if it had begun now, whatever was done to the clock meanwhile."""
    if lease.seconds is None or lease.expires <= now + lease.seconds:
        return lease
    return replace(lease, expires=now + lease.seconds)


def is_doubtful(lease: Lease, now: float) -> bool:
    """Whether somebody else may have come to use the address: nobody looked, or its machine had it until a while ago."""
    return lease.doubtful or lease.expires + CHECK_SECONDS <= now


def lease_for(
    request: BootRequest, reserved: Lease | None, table: LeaseTable, network: IPv4Network, now: float
) -> Lease | None:
    """The lease that a message is about: a reservation, else a row of the table, made at need by a DISCOVER."""
    if reserved is not None and _reachable(reserved, request, network):
        return reserved
    if request.relayed and request.selector not in network:
        return None
    if request.message is DISCOVER:
        return table.offer(request.hwaddr, request.requested, now)
    lease = table.find(request.hwaddr)
    if lease is None and request.message is REQUEST and request.phase is Phase.SELECTING and request.requested:
        return table.regain(request.hwaddr, request.requested, now)
    if lease is not None and not lease.doubtful and is_doubtful(lease, now):
        return replace(lease, doubtful=True)
    return lease


def _reachable(reserved: Lease, request: BootRequest, network: IPv4Network) -> bool:
    """A reservation on another network than the machine is asking from cannot be used there."""
    if request.relayed:
        return request.selector in (reserved.network or network)
    # Behind a relay a client renews straight with us: nothing but its own address says where it is.
    return reserved.address in network or (request.unicast and request.ciaddr == reserved.address)
