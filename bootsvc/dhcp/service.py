"""The DHCP server: sockets, logging and saving around `answer`. Served on the one link that carries the boot network."""

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from ipaddress import IPv4Address
from typing import Protocol

from bootsvc.config import Config
from bootsvc.dhcp.answer import BROADCAST, CLIENT_PORT, SERVER_PORT, Reply, Site, answer
from bootsvc.dhcp.leases import Lease, LeaseTable, lease_for
from bootsvc.dhcp.options import Message
from bootsvc.dhcp.packet import Packet
from bootsvc.dhcp.request import Arrival, BootRequest
from bootsvc.errors import Ignored, MalformedPacket, PortUnavailable
from bootsvc.net.links import Link, find_link, until_gone, wait_link
from bootsvc.net.udp import Budget, Datagram, FrameSender, UdpEndpoint
from netboot.node import Node
from netboot.urls import Urls

log = logging.getLogger(__name__)

MAX_UNSAVED = 4096
"""ACKs that wait for their group commit; what comes beyond is dropped, and its client asks again."""
REOPEN_SECONDS = 5
MAX_RECENT = 65536
"""Reserved addresses remembered for `find_hwaddr`."""


class Nodes(Protocol):
    """The merged nodes of now; the registry is replaced whole, so it is asked anew for each packet."""

    def by_hwaddr(self, hwaddr: str) -> Node | None: ...

    def reserved(self, address: IPv4Address) -> bool:
        """Whether some node owns the address."""
        ...


class Leases(Protocol):
    """Where dynamic leases survive a restart."""

    def load_leases(self) -> list[Lease]: ...

    def save_lease(self, lease: Lease) -> "asyncio.Future[None]":
        """The future is done when the lease is on disk."""
        ...


class OnEvent(Protocol):
    """Told of each answered message, for the boot record."""

    def __call__(
        self, hwaddr: str, node: str | None, stage: str, detail: str, *, ipaddr: IPv4Address | None = None
    ) -> None: ...


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
        self._on_event = on_event
        self.counters = Counters()
        self._table = LeaseTable(self._excluded)
        self._recent: dict[IPv4Address, str] = {}
        self._link: Link | None = None
        self._endpoint: UdpEndpoint | None = None
        self._frames: FrameSender | None = None
        self._seen: tuple[Config, Nodes] | None = None
        self._site: Site | None = None
        self._unsaved = 0
        # A cluster that powers on sends a few thousand messages within seconds; a flood must not fill the disk.
        self._log_budget = Budget(rate=200, burst=20000)
        self._noise_budget = Budget(rate=1, burst=10)

    async def run(self, ready: asyncio.Event) -> None:
        """Serve until cancelled. Raises NoInterface and PortUnavailable at the start."""
        config = self._config()
        link = await find_link(config.ipaddr, config.network)
        self._table.configure(config.dhcp.range_start, config.dhcp.range_end)
        self._table.load(self._leases.load_leases())
        self._open(link)
        while True:
            ready.set()
            try:
                await until_gone(link)
            finally:
                self._close()
            link = await self._reopen()

    async def _reopen(self) -> Link:
        """Serve again on the link that is back; it may vanish once more, or another program may have the port for a while."""
        while True:
            config = self._config()
            link = await wait_link(config.ipaddr, config.network)
            try:
                self._open(link)
            except PortUnavailable as exc:
                log.warning("dhcp on %s is tried again in %d s: %s", link.name, REOPEN_SECONDS, exc)
                self._close()
                await asyncio.sleep(REOPEN_SECONDS)
            else:
                return link

    def find_hwaddr(self, address: IPv4Address) -> str | None:
        """The machine that was last given the address."""
        return self._recent.get(address) or self._table.find_hwaddr(address)

    def _open(self, link: Link) -> None:
        self._link, self._seen = link, None
        self._endpoint = UdpEndpoint.open(IPv4Address(0), SERVER_PORT, interface=link.name)
        try:
            self._frames = FrameSender(link.name)
        except OSError as exc:
            log.info("replies to machines without an address are broadcast: %s", exc.strerror)
        self._endpoint.start(self._receive)
        log.info("dhcp listening if=%s address=%s network=%s", link.name, link.address, link.network)

    def _close(self) -> None:
        for socket in (self._endpoint, self._frames):
            if socket is not None:
                socket.close()
        self._endpoint = self._frames = None

    def _excluded(self, address: IPv4Address) -> bool:
        site = self._site
        if site is None:
            return True
        edges = (site.server, site.network.network_address, site.network.broadcast_address, site.dhcp.router)
        return address in edges or address not in site.network or self._nodes().reserved(address)

    def _current_site(self, link: Link) -> Site:
        """The site of now; made anew, and the range with it, when configuration or nodes were swapped."""
        config, nodes = self._config(), self._nodes()
        if self._site is None or self._seen is None or self._seen[0] is not config or self._seen[1] is not nodes:
            self._site = Site(
                server=link.address,
                network=link.network if config.network is None else config.network,
                urls=Urls(address=link.address, port=config.http.port),
                dhcp=config.dhcp,
                loaders=config.tftp.ipxe,
            )
            self._seen = (config, nodes)
            self._table.configure(config.dhcp.range_start, config.dhcp.range_end)
        return self._site

    def _receive(self, datagram: Datagram) -> None:
        link = self._link
        self.counters.received += 1
        if link is None or datagram.ifindex != link.index:
            self.counters.elsewhere += 1
            return
        try:
            packet = Packet.parse(datagram.data)
            arrival = Arrival(interface=link.name, unicast=datagram.local == link.address)
            request = BootRequest.from_packet(packet, arrival)
        except MalformedPacket as exc:
            self.counters.malformed += 1
            self._noise("from %s: %s", datagram.source, exc)
            return
        if isinstance(request, Ignored):
            self.counters.ignored += 1
            self._noise("from %s: %s", datagram.source, request.reason)
            return
        site, now = self._current_site(link), time.time()
        node = self._nodes().by_hwaddr(request.hwaddr)
        self._line("%s received hwaddr=%s node=%s xid=%08x if=%s", request.message.name, request, node)
        if request.message in (Message.RELEASE, Message.DECLINE):
            self._give_up(request, node, now)
        lease = lease_for(request, node, self._table, site.network, now)
        reply = answer(request, node, lease, site)
        if isinstance(reply, Ignored):
            self.counters.ignored += 1
            self._noise("%s of %s: %s", request.message.name, request.hwaddr, reply.reason)
        elif reply.bind is None:
            self._send(request, node, reply)
        else:
            self._save_then_send(request, node, reply, self._table.bind(reply.bind, site.dhcp.lease_seconds, now))

    def _give_up(self, request: BootRequest, node: Node | None, now: float) -> None:
        """RELEASE and DECLINE change the table and are not answered."""
        address = request.ciaddr if request.message is Message.RELEASE else request.requested
        if address is None:
            return
        if request.message is Message.RELEASE:
            lease = self._table.release(request.hwaddr, address, now)
        else:
            lease = self._table.decline(request.hwaddr, address, now)
            if self._log_budget.take(time.monotonic()):
                log.warning("dhcp DECLINE hwaddr=%s: another machine uses %s", request.hwaddr, address)
        if lease is not None:
            self._leases.save_lease(lease).add_done_callback(_consume)

    def _save_then_send(self, request: BootRequest, node: Node | None, reply: Reply, lease: Lease) -> None:
        if self._unsaved >= MAX_UNSAVED:
            self.counters.unsaved += 1
            return
        self._unsaved += 1
        self._leases.save_lease(lease).add_done_callback(partial(self._saved, request, node, reply))

    def _saved(self, request: BootRequest, node: Node | None, reply: Reply, saved: "asyncio.Future[None]") -> None:
        self._unsaved -= 1
        if saved.cancelled() or saved.exception() is not None:
            # Without its lease on disk the address could be given to another machine after a restart.
            self.counters.unsaved += 1
            self._noise("no ACK for %s: its lease was not saved (%s)", request.hwaddr, saved)
            return
        self._send(request, node, reply)

    def _send(self, request: BootRequest, node: Node | None, reply: Reply) -> None:
        link, endpoint = self._link, self._endpoint
        if link is None or endpoint is None:
            return
        data, sent = reply.packet.serialize(), False
        if reply.chaddr is not None and self._frames is not None:
            source, to = (link.address, SERVER_PORT), (reply.destination, CLIENT_PORT)
            sent = self._frames.send(data, reply.chaddr, source, to)
        if not sent:
            destination = BROADCAST if reply.chaddr is not None else reply.destination
            sent = endpoint.send(data, destination, reply.port, ifindex=link.index, source=link.address)
        if not sent:
            self.counters.unsent += 1
            self._noise("%s to %s could not be sent", reply.message.name, reply.destination)
            return
        self.counters.answered += 1
        self._answered(request, node, reply)

    def _answered(self, request: BootRequest, node: Node | None, reply: Reply) -> None:
        yiaddr = reply.packet.yiaddr
        name = None if node is None else node.id
        if reply.message is Message.ACK and int(yiaddr):
            self._recent.pop(yiaddr, None)
            self._recent[yiaddr] = request.hwaddr
            if len(self._recent) > MAX_RECENT:
                del self._recent[next(iter(self._recent))]
        if self._log_budget.take(time.monotonic()):
            log.info(
                "dhcp %s hwaddr=%s node=%s yiaddr=%s file=%s xid=%08x if=%s%s",
                reply.message.name,
                request.hwaddr,
                name or "-",
                yiaddr,
                reply.boot_file or "-",
                request.xid,
                request.interface,
                f" note={reply.note!r}" if reply.note else "",
            )
        if self._on_event is not None:
            detail = reply.boot_file or reply.note
            ipaddr = yiaddr if int(yiaddr) else None
            self._on_event(request.hwaddr, name, f"DHCP {reply.message.name}", detail, ipaddr=ipaddr)

    def _line(self, text: str, message: str, request: BootRequest, node: Node | None) -> None:
        if self._log_budget.take(time.monotonic()):
            name = "-" if node is None else node.id
            log.info("dhcp " + text, message, request.hwaddr, name, request.xid, request.interface)

    def _noise(self, text: str, *args: object) -> None:
        if self._noise_budget.take(time.monotonic()):
            log.debug("dhcp " + text, *args)


def _consume(saved: "asyncio.Future[None]") -> None:
    """A lease given up need not be saved: take the error, so that nobody reports it as never retrieved."""
    if not saved.cancelled():
        saved.exception()
