"""One message in, at most one out: parsing, deciding by `answer`, saving and sending; all inside the reader's callback."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from typing import Protocol

from bootsvc.clock import steady
from bootsvc.config import Config
from bootsvc.dhcp.answer import Reply, answer, refuse
from bootsvc.dhcp.layout import served
from bootsvc.dhcp.leases import Lease, lease_for
from bootsvc.dhcp.networks import Networks
from bootsvc.dhcp.options import DECLINE, DISCOVER, RELEASE, REQUEST
from bootsvc.dhcp.proxy import proxy_answer
from bootsvc.dhcp.reporting import Counters, OnEvent, Reporter
from bootsvc.dhcp.request import Arrival, BootRequest
from bootsvc.dhcp.reservations import reservation
from bootsvc.dhcp.settings import Mode
from bootsvc.dhcp.site import Site
from bootsvc.errors import BadState, Ignored, MalformedPacket
from bootsvc.net.batch import Client
from bootsvc.net.links import Link
from bootsvc.net.udp import Datagram
from netboot.node import Node

MAX_UNSAVED = 4096
"""ACKs that wait for their group commit; what comes beyond is dropped, and its client asks again."""
_PROXY = Mode.PROXY


class Nodes(Protocol):
    """The merged nodes of now; the registry is replaced whole, so it is asked anew for each packet."""

    def by_hwaddr(self, hwaddr: str) -> Node | None: ...

    def by_address(self, address: IPv4Address) -> Node | None:
        """The node that has the address, the first of two."""
        ...

    def reserved(self, address: IPv4Address) -> bool:
        """Whether some node owns the address."""
        ...


class Wire(Protocol):
    """The interface that a message came by, and its answer leaves by."""

    name: str
    index: int
    unicast: Arrival
    broadcast: Arrival

    def send(self, reply: Reply, data: bytes, source: IPv4Address, *, from_proxy: bool = False) -> bool:
        """False when it could not be sent."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Doubt:
    """An answer that waits until it is known whether another machine uses the address (RFC 2131 §3.1, step 2)."""

    address: IPv4Address
    site: Site
    wire: Wire
    request: BootRequest


class Look(Protocol):
    """Has it found out who uses a doubtful address, and `Exchanges.settle` told; False: that cannot be done here and now."""

    def __call__(self, doubt: Doubt) -> bool: ...


class Leases(Protocol):
    """Where dynamic leases survive a restart."""

    def load_leases(self) -> list[Lease]: ...

    def write_lease(self, lease: Lease, saved: Callable[[BadState | None], None]) -> None:
        """`saved` is called in the loop when the lease is on disk, or cannot be."""
        ...


class Exchanges:
    """Answers messages; configuration and nodes are asked for on each one, so a reload only swaps what they return."""

    def __init__(
        self,
        config: Callable[[], Config],
        nodes: Callable[[], Nodes],
        leases: Leases,
        on_event: OnEvent | None = None,
        look: Look = lambda _doubt: False,
    ) -> None:
        self._look = look
        self._config = config
        self._nodes = nodes
        self._leases = leases
        self.counters = Counters()
        self.reporter = Reporter(on_event)
        self.networks = Networks(lambda address: self._nodes().reserved(address))
        self._links: Sequence[Sequence[Link]] = ()
        self._own: frozenset[IPv4Address] = frozenset()
        self._own_numbers: frozenset[int] = frozenset()
        self._seen: tuple[Config, Nodes] | None = None
        self._unsaved = 0

    def serve(self, links: Sequence[Sequence[Link]], own: frozenset[IPv4Address]) -> None:
        """From now on the interfaces with these addresses of ours are served; `own` are all that we have."""
        if (links, own) != (self._links, self._own):
            self._links, self._own, self._own_numbers = links, own, frozenset(int(address) for address in own)
            self._seen = None
        self._current()

    def _current(self) -> Nodes:
        """The nodes of now; the sites are made anew when configuration, nodes or interfaces were swapped."""
        config, nodes = self._config(), self._nodes()
        seen = self._seen
        if seen is None or seen[0] is not config or seen[1] is not nodes:
            self._seen = (config, nodes)
            self.networks.update(served(config, self._links, self._own))
        return nodes

    def receive(self, wire: Wire, datagram: Datagram) -> None:
        request = self._parse(wire, datagram)
        if request is None:
            return
        nodes = self._current()
        node = nodes.by_hwaddr(request.hwaddr)
        site = self.networks.find_site(request, wire.index, node)
        if site is None:
            self.counters.elsewhere += 1
            return
        self.reporter.received(request, node)
        self._decide(wire, site, request, node, nodes)

    def _decide(self, wire: Wire, site: Site, request: BootRequest, node: Node | None, nodes: Nodes) -> None:
        now = steady()
        if site.dhcp.mode is _PROXY:
            self._reply(wire, site, request, node, proxy_answer(request, node, site))
            return
        if request.message is RELEASE or request.message is DECLINE:
            self._give_up(request, node, site, now)
        reserved = self._reservation(request, node, site, nodes)
        table = self.networks.table(site.name)
        lease = lease_for(request, reserved, table, site.network, now)
        if node is not None and reserved is not None and lease is not reserved and request.message is DISCOVER:
            self.reporter.outside(request, node, reserved, lease, site)
        reply = answer(request, node, lease, site)
        if lease is not None and lease.doubtful and isinstance(reply, Reply) and int(reply.packet.yiaddr):
            doubt = Doubt(address=lease.address, site=site, wire=wire, request=request)
            if self._look(doubt):
                return
        if isinstance(reply, Ignored) or reply.bind is None:
            self._reply(wire, site, request, node, reply)
            return
        bound = table.bind(reply.bind, site.dhcp.lease_seconds, now)
        if self._unsaved >= MAX_UNSAVED:
            self.counters.unsaved += 1
            return
        self._unsaved += 1
        self._leases.write_lease(bound, partial(self._saved, wire, site, request, node, reply))

    def settle(self, doubt: Doubt, user: str | None) -> None:
        """What was asked of `look`: who else uses the address, if anybody; now its machine gets its answer."""
        wire, request, name = doubt.wire, doubt.request, doubt.site.name
        nodes = self._current()
        node = nodes.by_hwaddr(request.hwaddr)
        site = self.networks.find_site(request, wire.index, node)
        if site is None or site.name != name:
            return
        table = self.networks.table(name)
        # It may well have the address still, and answer for it itself.
        if user is None or user == request.hwaddr:
            table.prove(request.hwaddr, doubt.address, steady())
        elif (lease := table.set_aside(doubt.address, user, steady())) is not None:
            self.conflict(request.interface, lease)
            if request.message is REQUEST:
                self._reply(wire, site, request, node, refuse(request, f"{doubt.address} is used by another machine", site))
                return
        self._decide(wire, site, request, node, nodes)

    def conflict(self, interface: str, lease: Lease) -> None:
        """An address was set aside because a machine uses it that did not get it here."""
        self.counters.conflicts += 1
        self._leases.write_lease(lease, unneeded)
        self.reporter.conflict(interface, lease.address, lease.hwaddr)

    def receive_proxy(self, wire: Wire, datagram: Datagram) -> None:
        """Port 4011: a ROM asks the boot server that it chose among the proxy's offers."""
        request = self._parse(wire, datagram)
        if request is None:
            return
        node = self._current().by_hwaddr(request.hwaddr)
        site = self.networks.find_site(request, wire.index, node)
        if site is None:
            self.counters.elsewhere += 1
            return
        self.reporter.received(request, node)
        reply = proxy_answer(request, node, site, (datagram.source, datagram.port))
        self._reply(wire, site, request, node, reply, from_proxy=True)

    def refused(self, wire: Wire, client: Client) -> None:
        """The kernel did not take a reply, which was counted and told as an answer."""
        self.counters.answered -= 1
        self.counters.unsent += 1
        self.reporter.unsent(client[0], wire.name)

    def _parse(self, wire: Wire, datagram: Datagram) -> BootRequest | None:
        self.counters.received += 1
        if datagram.ifindex != wire.index:
            self.counters.elsewhere += 1
            return None
        try:
            arrival = wire.unicast if int(datagram.local) in self._own_numbers else wire.broadcast
            request = BootRequest.parse(datagram.data, arrival)
        except MalformedPacket as exc:
            self.counters.malformed += 1
            self.reporter.noise("from %s: %s", datagram.source, exc)
            return None
        if isinstance(request, Ignored):
            self.counters.ignored += 1
            self.reporter.noise("from %s: %s", datagram.source, request.reason)
            return None
        return request

    def _reservation(self, request: BootRequest, node: Node | None, site: Site, nodes: Nodes) -> Lease | None:
        """The node's own address, unless another node has it, too: then the first of the two has it."""
        if node is None:
            return None
        if request.hwaddr in site.reserved:
            return site.reserved[request.hwaddr]
        reserved = reservation(node, request.hwaddr, site.network)
        owner = None if reserved is None else nodes.by_address(reserved.address)
        if reserved is not None and owner is not None and owner.id != node.id:
            self.reporter.once(
                ("twice", node.id),
                "node %s does not get %s: node %s has that address, too; give one of them another",
                *(node.id, reserved.address, owner.id),
            )
            return None
        site.reserved[request.hwaddr] = reserved
        return reserved

    def _give_up(self, request: BootRequest, node: Node | None, site: Site, now: float) -> None:
        """RELEASE and DECLINE change the table and are not answered."""
        table = self.networks.table(site.name)
        if request.message is RELEASE:
            lease = table.release(request.hwaddr, request.ciaddr, now)
        elif request.requested is None:
            return
        else:
            self.counters.declined += 1
            lease = table.decline(request.hwaddr, request.requested, now)
            self.reporter.declined(request, node, lease)
        if lease is not None:
            self._leases.write_lease(lease, unneeded)

    def _saved(
        self, wire: Wire, site: Site, request: BootRequest, node: Node | None, reply: Reply, failure: BadState | None
    ) -> None:
        self._unsaved -= 1
        if failure is not None:
            # Without its lease on disk the address could be given to another machine after a restart.
            self.counters.unsaved += 1
            self.reporter.noise("no ACK for %s: its lease was not saved (%s)", request.hwaddr, failure)
            return
        self._reply(wire, site, request, node, reply)

    def _reply(
        self,
        wire: Wire,
        site: Site,
        request: BootRequest,
        node: Node | None,
        reply: Reply | Ignored,
        *,
        from_proxy: bool = False,
    ) -> None:
        if isinstance(reply, Ignored):
            self.counters.ignored += 1
            self.reporter.ignored(request, node, reply, site, len(self.networks.table(site.name)))
        elif wire.send(reply, reply.packet.serialize(), site.server, from_proxy=from_proxy):
            self.counters.answered += 1
            self.reporter.answered(request, node, reply)
        else:
            self.counters.unsent += 1
            self.reporter.noise("%s to %s could not be sent", reply.message.name, reply.destination)


def unneeded(failure: BadState | None) -> None:
    """A lease given up need not be saved; the state itself says that it cannot be written."""
