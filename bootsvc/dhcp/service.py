"""The DHCP server on every interface that carries a network of ours: which are served, free addresses, other servers."""

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address

from bootsvc.clock import steady
from bootsvc.config import Config
from bootsvc.dhcp.conflicts import Conflicts
from bootsvc.dhcp.exchanges import Exchanges, Leases, Nodes
from bootsvc.dhcp.layout import by_interface
from bootsvc.dhcp.reporting import OnEvent
from bootsvc.dhcp.rivals import find_rival, probe
from bootsvc.dhcp.settings import Mode
from bootsvc.dhcp.site import Site
from bootsvc.dhcp.wire import Wire
from bootsvc.errors import NoInterface, PortUnavailable
from bootsvc.net.links import CHECK_SECONDS, Link, choose_link, is_current, list_links

log = logging.getLogger(__name__)

PROBE_SECONDS = 600.0
"""Between two questions of ours for other DHCP servers."""
QUIET_SECONDS, QUIET_PROBES = 10.0, 3
"""In proxy mode, how long an answer is waited for, and how often it is asked again: a server that pings first takes seconds."""


class DhcpService:
    """Answers DHCP; configuration and nodes are asked for on each packet, so a reload only swaps what they return."""

    def __init__(
        self,
        config: Callable[[], Config],
        nodes: Callable[[], Nodes],
        leases: Leases,
        *,
        on_event: OnEvent | None = None,
        quiet_seconds: float = QUIET_SECONDS,
    ) -> None:
        self._quiet_seconds = quiet_seconds
        self._givers: set[str] = set()
        """Interfaces on which another server has given an address since the last probe."""
        self._config = config
        self._leases = leases
        self._conflicts = Conflicts(self._lending)
        self._exchanges = Exchanges(config, nodes, leases, on_event, self._conflicts.ask)
        self.counters = self._exchanges.counters
        self._reporter, self._networks = self._exchanges.reporter, self._exchanges.networks
        self._wires: dict[int, Wire] = {}
        self._opened = asyncio.Event()
        """Set when an interface, or another mode, has begun to be served."""
        self._own: frozenset[IPv4Address] = frozenset()

    async def run(self, ready: asyncio.Event) -> None:
        """Serve until cancelled. Raises NoInterface and PortUnavailable at the start."""
        config = self._config()
        links = await list_links()
        # The boot network must be there; other interfaces may come later.
        boot = choose_link(links, config.ipaddr, config.network)
        self._networks.load(self._leases.load_leases(), steady())
        try:
            self._open(by_interface(config, boot, links), links, strict=boot.index)
            ready.set()
            async with asyncio.TaskGroup() as group:
                group.create_task(self._tend_wires())
                group.create_task(self._conflicts.run(self._exchanges))
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
                    self._wires.pop(index).close()
            self._exchanges.serve([wire.links for wire in self._wires.values()], self._own)
            config = self._config()
            try:
                links = await list_links()
                boot = choose_link(links, config.ipaddr, config.network)
                self._open(by_interface(config, boot, links), links)
            except (NoInterface, OSError) as exc:
                log.debug("%s", exc)

    def _open(self, wanted: Mapping[int, Sequence[Link]], links: Sequence[Link], strict: int = -1) -> None:
        """Serve these interfaces and no others; what cannot be opened is tried again, except `strict`, which raises."""
        proxy = self._config().dhcp.mode is Mode.PROXY
        self._own = frozenset(link.address for link in links)
        for index, wire in list(self._wires.items()):
            if wire.links != tuple(wanted.get(index, ())) or wire.proxy is not proxy:
                self._wires.pop(index).close()
        for index, found in wanted.items():
            if index in self._wires:
                continue
            wire = Wire(found, proxy=proxy)
            try:
                wire.open(self._exchanges.receive, self._exchanges.receive_proxy, self._overhear, self._exchanges.refused)
            except PortUnavailable as exc:
                if index == strict:
                    raise
                self._reporter.once(("port", wire.name), "on %s, and tried again every %d s: %s", wire.name, CHECK_SECONDS, exc)
                continue
            self._wires[index] = wire
            self._opened.set()
            for link in found:
                log.info("dhcp listening if=%s address=%s network=%s", link.name, link.address, link.network)
        self._exchanges.serve([wire.links for wire in self._wires.values()], self._own)

    def _lending(self) -> list[tuple[Link, Site]]:
        """The attached networks that lend addresses, each with our link there."""
        return [pair for wire in self._wires.values() for pair in self._lending_on(wire)]

    def _lending_on(self, wire: Wire) -> list[tuple[Link, Site]]:
        here = self._networks.served(wire.index)
        sites = () if here is None or wire.proxy else here.direct
        return [
            (link, site)
            for link in wire.links
            for site in sites
            if link.address == site.server and site.dhcp.range_start is not None
        ]

    async def _look_for_rivals(self) -> None:
        """Ask whether another DHCP server answers, every PROBE_SECONDS and on what is new at once; `_overhear` hears it."""
        while True:
            self._givers.clear()
            self._opened.clear()
            await self._await_givers(self._probe(self._wires.values()))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(PROBE_SECONDS):
                    await self._opened.wait()

    def _probe(self, wires: Iterable[Wire]) -> list[Wire]:
        """Those of the interfaces on which it was asked."""
        asked = []
        for wire in wires:
            chaddr = bytes.fromhex(wire.links[0].hwaddr.replace(":", ""))
            if len(chaddr) == 6 and wire.ask(probe(chaddr, int.from_bytes(os.urandom(4), "big")).serialize()):
                asked.append(wire)
        return asked

    async def _await_givers(self, asked: Sequence[Wire]) -> None:
        """As a proxy we give no addresses: where nobody else does, machines get none, and somebody should know."""
        silent = [wire for wire in asked if wire.proxy]
        for _ in range(QUIET_PROBES):
            if not silent:
                return
            await asyncio.sleep(self._quiet_seconds)
            silent = self._probe(wire for wire in silent if wire.name not in self._givers)
        await asyncio.sleep(self._quiet_seconds)
        for wire in silent:
            # Meanwhile the mode may have changed, and with it the interface's sockets.
            if wire.name not in self._givers and self._wires.get(wire.index) is wire:
                self._reporter.nobody_gives(wire.name)

    def _overhear(self, wire: Wire, source: IPv4Address, data: bytes) -> None:
        rival = find_rival(data, source, self._own)
        if rival is not None:
            if rival.gives_addresses:
                self._givers.add(wire.name)
            self._reporter.rival(wire.name, rival, proxy=wire.proxy)
