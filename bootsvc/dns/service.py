"""The DNS server: UDP and TCP sockets on the boot interface, names of nodes from memory, the rest through the forwarder.

Served are the boot network and those that the settings name; whoever asks from elsewhere hears nothing, so that nobody can
aim our answers at others. It listens on our address of the boot network, and of each configured subnet that has one.
"""

import asyncio
import gc
import logging
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from functools import partial
from ipaddress import IPv4Address
from typing import Protocol

from bootsvc.attached import Attached
from bootsvc.config import Config
from bootsvc.dns.answer import answer
from bootsvc.dns.clients import Clients
from bootsvc.dns.packet import PLAIN_SIZE, Body, Query, parse_query, refuse_unreadable, respond
from bootsvc.dns.prepared import Prepared
from bootsvc.dns.sockets import Sockets, open_sockets, send
from bootsvc.dns.tcp import TcpServer
from bootsvc.dns.upstream import Forwarder, HostServers, Server, UpstreamCounters
from bootsvc.dns.zone import SELF, Domain, Zone, fits
from bootsvc.errors import MalformedPacket, PortUnavailable
from bootsvc.net.batch import Inbox, Outbox, client_of
from bootsvc.net.links import Link, find_link, until_gone, wait_link
from bootsvc.net.udp import Budget
from bootsvc.yamlfile import paused_gc
from netboot.node import Node

log = logging.getLogger(__name__)

PORT = 53
MAX_BATCH = 64
"""Datagrams that are read, or answered, in one system call."""
MAX_BATCHES = 2
"""Read before the loop's other work gets its turn."""
MAX_QUERY = 1232
"""Bytes of a datagram that are read; a query needs less than 300, and padding may follow (RFC 7830)."""
RETRY_SECONDS = 30.0
"""How often a port that another program holds is tried again."""
MAX_TOLD = 10
"""Names of nodes that are complained about."""

Send = Callable[[bytes], None]


class Nodes(Protocol):
    """The merged nodes of now."""

    @property
    def nodes(self) -> Sequence[Node]: ...


@dataclass(slots=True, kw_only=True)
class Counters:
    """What arrived since the start, for `/status`."""

    received: int = 0
    prepared: int = 0
    """Answered with what was ready."""
    ours: int = 0
    forwarded: int = 0
    malformed: int = 0
    elsewhere: int = 0
    """From networks that are not served."""
    dropped: int = 0
    upstream: UpstreamCounters = field(default_factory=UpstreamCounters)


class DnsService:
    """Answers DNS; `server` gives this machine's host name and domain."""

    def __init__(
        self,
        config: Callable[[], Config],
        nodes: Callable[[], Nodes],
        server: Callable[[Config], tuple[str, str]],
        *,
        holder: Callable[[str, int], str] = lambda _protocol, _port: "",
        on_serving: Callable[[frozenset[IPv4Address]], None] = lambda _addresses: None,
        port: int = PORT,
        upstream_port: int = PORT,
    ) -> None:
        """`holder` names the program that has a port; `on_serving` is told on which addresses answers are given from now on."""
        self._config = config
        self._nodes = nodes
        self._server = server
        self._holder = holder
        self._on_serving = on_serving
        self._port = port
        self._upstream_port = upstream_port
        self.counters = Counters()
        self._noise = Budget(rate=1, burst=10)
        self._ready = asyncio.Event()
        self._link: Link | None = None
        self._addresses: frozenset[IPv4Address] = frozenset()
        self._attached = Attached("dns", config, self._serve_subnet)
        self._clients = Clients(config, lambda: self._link)
        self._prepared = Prepared()
        self._zone: Zone | None = None
        self._forwarder: Forwarder | None = None
        self._forwarders: tuple[IPv4Address, ...] = ()

    def count(self) -> dict[str, int]:
        """All counters, those of the forwarder as `upstream …`."""
        own = {name: value for name, value in asdict(self.counters).items() if name != "upstream"}
        return {**own, **{f"upstream {name}": value for name, value in asdict(self.counters.upstream).items()}}

    async def run(self, ready: asyncio.Event) -> None:
        """Serve until cancelled. Raises NoInterface at the start; a port that is taken is only said, and tried again."""
        config = self._config()
        link = await find_link(config.ipaddr, config.network)
        self._ready, told = ready, False
        while True:
            self._link = None
            try:
                await self._serve(link)
            except PortUnavailable as exc:
                if not told:
                    log.warning("dns is off: %s", self._explain(link, exc))
                told = True
                ready.set()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                told = False
            link = await wait_link(self._config().ipaddr, self._config().network)

    @property
    def link(self) -> Link | None:
        """Where it serves now."""
        return self._link

    def build(self, nodes: Sequence[Node], config: Config, link: Link) -> Zone:
        """The zone of these nodes and settings; for 10 000 nodes it takes a while, and may be called in a thread."""
        # A host name that DNS cannot hold is nobody's fault here, and no reason to be without names.
        name, domain = (part if fits(part.lower()) else "" for part in self._server(config))
        with paused_gc():
            zone = Zone(
                nodes,
                Domain(
                    name=(config.dns.domain or domain).lower().strip("."),
                    whole=bool(config.dns.domain),
                    server=name if name and name != "localhost" else SELF,
                    address=link.address,
                    network=config.network or link.network,
                    subnets=tuple(subnet.network for subnet in config.dhcp.subnets),
                    serial=int(time.time()),
                ),
            )
            # As the registry: nothing in it refers to itself, and looking for that would stop the loop.
            gc.freeze()
        return zone

    def use(self, zone: Zone) -> None:
        """Answer with this zone, and with the settings of now."""
        config = self._config()
        forwarders = config.dns.forwarders
        if self._forwarder is not None and self._forwarders != forwarders:
            self._forwarder.forget()
        self._forwarders = forwarders
        self._zone, self._prepared = zone, Prepared()
        self._clients.forget()
        for unfit in zone.unfit[:MAX_TOLD]:
            log.warning("node %s has no name in DNS: a name there is made of letters, digits, - and _", unfit)

    def _explain(self, link: Link, exc: PortUnavailable) -> str:
        holder = self._holder("udp", self._port) or self._holder("tcp", self._port)
        held = f", which {holder} holds" if holder else ""
        return f"cannot listen on port {self._port} of {link.address}{held}: {exc.reason}"

    async def _serve(self, link: Link) -> None:
        """On this link, until it is gone, and meanwhile on the subnets. Raises PortUnavailable."""
        async with AsyncExitStack() as stack:
            sockets = open_sockets(stack, link, self._port)
            group = await stack.enter_async_context(asyncio.TaskGroup())
            servers = HostServers([link.address])
            self._forwarder = Forwarder(
                group,
                lambda now: self._others(self._forwarders or servers(now)),
                self.counters.upstream,
                port=self._upstream_port,
            )
            self._link = link
            self.use(await asyncio.to_thread(self.build, self._nodes().nodes, self._config(), link))
            await self._listen(stack, link, sockets)
            begun = asyncio.Event()
            stack.callback(group.create_task(self._attached.run(begun)).cancel)
            await begun.wait()
            self._ready.set()
            await until_gone(link)

    async def _serve_subnet(self, link: Link, begun: asyncio.Event) -> None:
        async with AsyncExitStack() as stack:
            await self._listen(stack, link, open_sockets(stack, link, self._port))
            begun.set()
            await until_gone(link)

    async def _listen(self, stack: AsyncExitStack, link: Link, sockets: Sockets) -> None:
        """Answer what is asked there until the stack is left."""
        loop, local = asyncio.get_running_loop(), link.address
        for sock in sockets.datagrams:
            inbox = Inbox(sock, stride=MAX_QUERY, count=MAX_BATCH)
            outbox = Outbox(sock, stride=PLAIN_SIZE, count=MAX_BATCH)
            loop.add_reader(sock.fileno(), self._drain, local, sock, inbox, outbox)
            stack.callback(loop.remove_reader, sock.fileno())
        for sock in sockets.streams:
            await stack.enter_async_context(TcpServer(sock, self._clients.serves, partial(self._receive, local)))
        stack.callback(self._tell, local, False)
        self._tell(local, True)
        domain = self._zone.domain.name if self._zone else ""
        log.info("dns listening if=%s address=%s domain=%s", link.name, local, domain or "-")

    def _tell(self, address: IPv4Address, serving: bool) -> None:
        self._addresses = self._addresses | {address} if serving else self._addresses - {address}
        self._on_serving(self._addresses)

    def _others(self, servers: Sequence[Server]) -> Sequence[Server]:
        """Upstream is nobody who would ask us."""
        return [each for each in servers if each not in self._addresses]

    def _drain(self, local: IPv4Address, sock: socket.socket, inbox: Inbox, outbox: Outbox) -> None:
        """What has arrived. What happens to each datagram is kept short: a cluster asks for names all the time."""
        served, reply, put, data_of = self._clients.served, self._prepared.reply, outbox.put, inbox.data
        peers, addresses = inbox.peers, inbox.addresses
        for _ in range(MAX_BATCHES):
            count = inbox.receive()
            if not count:
                return
            ready = 0
            for index in range(count):
                peer, data = peers[index], data_of(index)
                if addresses[index] not in served:
                    if not self._clients.serves(client_of(peer)[0]):
                        self.counters.elsewhere += 1
                        continue
                    served.add(addresses[index])
                prepared = reply(data)
                if prepared is None:
                    self._receive_datagram(local, sock, data, client_of(peer))
                else:
                    ready += 1
                    put(peer, prepared)
            self.counters.received += count
            self.counters.prepared += ready
            for client, data, _size in outbox.flush():
                send(sock, client, data)

    def _receive_datagram(self, local: IPv4Address, sock: socket.socket, data: bytes, source: tuple[str, int]) -> None:
        try:
            self._receive(local, data, source[0], partial(send, sock, source), datagram=True)
        except Exception:
            if self._noise.take(time.monotonic()):
                log.exception("a DNS datagram of %s", source[0])

    def _receive(self, local: IPv4Address, data: bytes, client: str, send: Send, *, datagram: bool = False) -> None:
        """One message of a client that is served, to our address `local`; the answer goes to `send`, now or later, or never."""
        try:
            query = parse_query(data)
        except MalformedPacket as exc:
            self.counters.malformed += 1
            if self._noise.take(time.monotonic()):
                log.debug("dns from %s: %s", client, exc)
            refusal = refuse_unreadable(data)
            if refusal is not None:
                send(refusal)
            return
        limit = query.limit if datagram else 65535
        forwarder = self._forwarder
        own = answer(query, self._zone, alone=forwarder is None or not forwarder.servers, local=local, own=self._addresses)
        if own is not None:
            if own.holds:
                self._prepared.keep(query, own.body)
            self.counters.ours += 1
            send(respond(query, own.body, limit=limit))
            return
        self.counters.forwarded += 1
        done = partial(_pass_on, query, limit, send)
        if forwarder is None or not forwarder.ask(query, client, done):
            self.counters.dropped += 1


def _pass_on(query: Query, limit: int, send: Send, body: Body) -> None:
    send(respond(query, body, limit=limit))
