"""The DHCP server: receiving, saving and sending around `answer`, on every interface that carries a network of ours."""

import asyncio
import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from typing import Protocol

from bootsvc.config import Config
from bootsvc.dhcp.answer import Reply, answer
from bootsvc.dhcp.layout import by_interface, served
from bootsvc.dhcp.leases import Lease, lease_for, reservation
from bootsvc.dhcp.networks import Networks
from bootsvc.dhcp.options import Message
from bootsvc.dhcp.packet import Packet
from bootsvc.dhcp.proxy import proxy_answer
from bootsvc.dhcp.reporting import OnEvent, Reporter
from bootsvc.dhcp.request import Arrival, BootRequest
from bootsvc.dhcp.rivals import find_rival, probe
from bootsvc.dhcp.settings import Mode
from bootsvc.dhcp.site import Site
from bootsvc.dhcp.wire import Wire
from bootsvc.errors import BadState, Ignored, MalformedPacket, NoInterface, PortUnavailable
from bootsvc.net.arp import find_users
from bootsvc.net.links import CHECK_SECONDS, Link, choose_link, is_current, list_links
from bootsvc.net.udp import Datagram
from netboot.node import Node

log = logging.getLogger(__name__)

MAX_UNSAVED = 4096
"""ACKs that wait for their group commit; what comes beyond is dropped, and its client asks again."""
CHECKED_ADDRESSES = 32
"""Free addresses of each range that are kept checked by ARP, so that a client need not wait for it."""
CHECK_FREE_SECONDS = 1.0
PROBE_SECONDS = 600.0
"""Between two questions of ours for other DHCP servers."""


class Nodes(Protocol):
    """The merged nodes of now; the registry is replaced whole, so it is asked anew for each packet."""

    def by_hwaddr(self, hwaddr: str) -> Node | None: ...

    def by_address(self, address: IPv4Address) -> Node | None:
        """The node that has the address, the first of two."""
        ...

    def reserved(self, address: IPv4Address) -> bool:
        """Whether some node owns the address."""
        ...


class Leases(Protocol):
    """Where dynamic leases survive a restart."""

    def load_leases(self) -> list[Lease]: ...

    def write_lease(self, lease: Lease, saved: Callable[[BadState | None], None]) -> None:
        """`saved` is called in the loop when the lease is on disk, or cannot be."""
        ...


@dataclass(slots=True, kw_only=True)
class Counters:
    """What arrived since the start, for `/status`."""

    received: int = 0
    answered: int = 0
    ignored: int = 0
    malformed: int = 0
    """Datagrams that are not DHCP."""
    elsewhere: int = 0
    """Datagrams of another interface."""
    unsaved: int = 0
    """ACKs withheld because their lease could not be saved."""
    unsent: int = 0
    declined: int = 0
    """Addresses that a client found in use."""
    conflicts: int = 0
    """Free addresses that our own ARP probes found in use."""


class DhcpService:
    """Answers DHCP; configuration and nodes are asked for on each packet, so a reload only swaps what they return."""

    def __init__(
        self,
        config: Callable[[], Config],
        nodes: Callable[[], Nodes],
        leases: Leases,
        *,
        on_event: OnEvent | None = None,
    ) -> None:
        self._config = config
        self._nodes = nodes
        self._leases = leases
        self.counters = Counters()
        self._reporter = Reporter(on_event)
        self._networks = Networks(self._reserved)
        self._wires: dict[int, Wire] = {}
        self._own: frozenset[IPv4Address] = frozenset()
        self._seen: tuple[Config, Nodes] | None = None
        self._unsaved = 0

    async def run(self, ready: asyncio.Event) -> None:
        """Serve until cancelled. Raises NoInterface and PortUnavailable at the start."""
        config = self._config()
        links = await list_links()
        # The boot network must be there; other interfaces may come later.
        boot = choose_link(links, config.ipaddr, config.network)
        self._networks.load(self._leases.load_leases())
        try:
            self._open(by_interface(config, boot, links), links, strict=boot.index)
            ready.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tend_wires())
                group.create_task(self._check_free())
                group.create_task(self._look_for_rivals())
        finally:
            for wire in self._wires.values():
                wire.close()
            self._wires.clear()

    def find_hwaddr(self, address: IPv4Address) -> str | None:
        """The machine that was last given the address."""
        return self._reporter.find_hwaddr(address) or self._networks.find_hwaddr(address)

    async def _tend_wires(self) -> None:
        """Close what is gone, open what has come: a bridge made anew, a subnet that warewulf.conf names since now."""
        while True:
            await asyncio.sleep(CHECK_SECONDS)
            for index, wire in list(self._wires.items()):
                if not is_current(wire.links[0]):
                    log.warning("interface %s is gone", wire.name)
                    self._wires.pop(index).close()
                    self._seen = None
            links, config = await list_links(), self._config()
            try:
                boot = choose_link(links, config.ipaddr, config.network)
            except NoInterface as exc:
                log.debug("%s", exc)
                continue
            self._open(by_interface(config, boot, links), links)

    def _open(self, wanted: Mapping[int, Sequence[Link]], links: Sequence[Link], strict: int = -1) -> None:
        """Serve these interfaces and no others; what cannot be opened is tried again, except `strict`, which raises."""
        proxy = self._config().dhcp.mode is Mode.PROXY
        self._own = frozenset(link.address for link in links)
        for index, wire in list(self._wires.items()):
            if wire.links != tuple(wanted.get(index, ())) or wire.proxy is not proxy:
                self._wires.pop(index).close()
                self._seen = None
        for index, found in wanted.items():
            if index in self._wires:
                continue
            wire = Wire(found, proxy=proxy)
            try:
                wire.open(self._receive, self._receive_proxy, self._overhear)
            except PortUnavailable as exc:
                if index == strict:
                    raise
                self._reporter.once(("port", wire.name), "on %s, and tried again every %d s: %s", wire.name, CHECK_SECONDS, exc)
                continue
            self._wires[index], self._seen = wire, None
            for link in found:
                log.info("dhcp listening if=%s address=%s network=%s", link.name, link.address, link.network)
        self._current()

    def _current(self) -> Nodes:
        """The nodes of now; the sites are made anew when configuration, nodes or interfaces were swapped."""
        config, nodes = self._config(), self._nodes()
        if self._seen is None or self._seen[0] is not config or self._seen[1] is not nodes:
            self._seen = (config, nodes)
            self._networks.update(served(config, [wire.links for wire in self._wires.values()], self._own))
        return nodes

    def _reserved(self, address: IPv4Address) -> bool:
        return self._nodes().reserved(address)

    def _receive(self, wire: Wire, datagram: Datagram) -> None:
        request = self._parse(wire, datagram)
        if request is None:
            return
        nodes, now = self._current(), time.time()
        node = nodes.by_hwaddr(request.hwaddr)
        site = self._networks.find_site(request, wire.index, node)
        if site is None:
            self.counters.elsewhere += 1
            return
        self._reporter.received(request, node)
        if site.dhcp.mode is Mode.PROXY:
            self._reply(wire, site, request, node, proxy_answer(request, node, site))
            return
        if request.message in (Message.RELEASE, Message.DECLINE):
            self._give_up(request, node, site, now)
        reserved = self._reservation(request, node, site, nodes)
        lease = lease_for(request, reserved, self._networks.table(site.network), site.network, now)
        self._reporter.check_address(request, node, reserved, lease, site)
        reply = answer(request, node, lease, site)
        if isinstance(reply, Ignored) or reply.bind is None:
            self._reply(wire, site, request, node, reply)
            return
        bound = self._networks.table(site.network).bind(reply.bind, site.dhcp.lease_seconds, now)
        if self._unsaved >= MAX_UNSAVED:
            self.counters.unsaved += 1
            return
        self._unsaved += 1
        self._leases.write_lease(bound, partial(self._saved, wire, site, request, node, reply))

    def _receive_proxy(self, wire: Wire, datagram: Datagram) -> None:
        """Port 4011: a ROM asks the boot server that it chose among the proxy's offers."""
        request = self._parse(wire, datagram)
        if request is None:
            return
        node = self._current().by_hwaddr(request.hwaddr)
        site = self._networks.find_site(request, wire.index, node)
        if site is None:
            self.counters.elsewhere += 1
            return
        self._reporter.received(request, node)
        reply = proxy_answer(request, node, site, (datagram.source, datagram.port))
        self._reply(wire, site, request, node, reply, from_proxy=True)

    def _parse(self, wire: Wire, datagram: Datagram) -> BootRequest | None:
        self.counters.received += 1
        if datagram.ifindex != wire.index:
            self.counters.elsewhere += 1
            return None
        try:
            packet = Packet.parse(datagram.data)
            arrival = Arrival(interface=wire.name, unicast=datagram.local in self._own)
            request = BootRequest.from_packet(packet, arrival)
        except MalformedPacket as exc:
            self.counters.malformed += 1
            self._reporter.noise("from %s: %s", datagram.source, exc)
            return None
        if isinstance(request, Ignored):
            self.counters.ignored += 1
            self._reporter.noise("from %s: %s", datagram.source, request.reason)
            return None
        return request

    def _reservation(self, request: BootRequest, node: Node | None, site: Site, nodes: Nodes) -> Lease | None:
        """The node's own address, unless another node has it, too: then the first of the two has it."""
        if node is None:
            return None
        reserved = reservation(node, request.hwaddr, site.network)
        owner = None if reserved is None else nodes.by_address(reserved.address)
        if reserved is not None and owner is not None and owner.id != node.id:
            self._reporter.once(
                ("twice", node.id),
                "node %s does not get %s: node %s has that address, too; give one of them another",
                *(node.id, reserved.address, owner.id),
            )
            return None
        return reserved

    def _give_up(self, request: BootRequest, node: Node | None, site: Site, now: float) -> None:
        """RELEASE and DECLINE change the table and are not answered."""
        table = self._networks.table(site.network)
        if request.message is Message.RELEASE:
            lease = table.release(request.hwaddr, request.ciaddr, now)
        elif request.requested is None:
            return
        else:
            self.counters.declined += 1
            lease = table.decline(request.hwaddr, request.requested, now)
            self._reporter.declined(request, node)
        if lease is not None:
            self._leases.write_lease(lease, _unneeded)

    def _saved(
        self, wire: Wire, site: Site, request: BootRequest, node: Node | None, reply: Reply, failure: BadState | None
    ) -> None:
        self._unsaved -= 1
        if failure is not None:
            # Without its lease on disk the address could be given to another machine after a restart.
            self.counters.unsaved += 1
            self._reporter.noise("no ACK for %s: its lease was not saved (%s)", request.hwaddr, failure)
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
            self._reporter.ignored(request, node, reply, site, len(self._networks.table(site.network)))
        elif wire.send(reply, reply.packet.serialize(), site.server, from_proxy=from_proxy):
            self.counters.answered += 1
            self._reporter.answered(request, node, reply)
        else:
            self.counters.unsent += 1
            self._reporter.noise("%s to %s could not be sent", reply.message.name, reply.destination)

    async def _check_free(self) -> None:
        """Keep some free addresses of each attached range checked by ARP."""
        while True:
            for link, site in [pair for wire in self._wires.values() for pair in self._lending(wire)]:
                table = self._networks.table(site.network)
                due = table.to_check(CHECKED_ADDRESSES, time.time())
                try:
                    users = await find_users(link, due) if due else {}
                except OSError as exc:
                    log.debug("no ARP on %s: %s", link.name, exc.strerror)
                    users = {}
                for address in due:
                    lease = table.checked(address, users.get(address), time.time())
                    if lease is not None:
                        self.counters.conflicts += 1
                        self._leases.write_lease(lease, _unneeded)
                        self._reporter.conflict(link.name, address, lease.hwaddr)
            await asyncio.sleep(CHECK_FREE_SECONDS)

    def _lending(self, wire: Wire) -> list[tuple[Link, Site]]:
        """The networks on an interface that lend addresses, each with our link there."""
        here = self._networks.served(wire.index)
        sites = () if here is None or wire.proxy else here.direct
        return [
            (link, site)
            for link in wire.links
            for site in sites
            if link.address == site.server and site.dhcp.range_start is not None
        ]

    async def _look_for_rivals(self) -> None:
        """Ask, now and every PROBE_SECONDS, whether another DHCP server answers; `_overhear` hears it."""
        while True:
            for wire in self._wires.values():
                chaddr = bytes.fromhex(wire.links[0].hwaddr.replace(":", ""))
                if len(chaddr) == 6:
                    wire.ask(probe(chaddr, int.from_bytes(os.urandom(4), "big")).serialize())
            await asyncio.sleep(PROBE_SECONDS)

    def _overhear(self, wire: Wire, source: IPv4Address, data: bytes) -> None:
        rival = find_rival(data, source, self._own)
        if rival is not None:
            self._reporter.rival(wire.name, rival, proxy=wire.proxy)


def _unneeded(failure: BadState | None) -> None:
    """A lease given up need not be saved; the state itself says that it cannot be written."""
