"""What runs on each of this machine's addresses on the configured subnets, which come and go with their interfaces."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from ipaddress import IPv4Address

from bootsvc.config import Config
from bootsvc.dhcp.layout import by_interface
from bootsvc.errors import NoInterface
from bootsvc.net.links import CHECK_SECONDS, Link, choose_link, find_link, is_current, list_links, until_gone
from images.errors import Error

log = logging.getLogger(__name__)

Serve = Callable[[Link, asyncio.Event], Awaitable[None]]
"""Serves on one address until it is cancelled, and sets the event when it does; may raise Error and OSError."""


class Attached:
    """Runs `serve` for each of our addresses; `what` is its name in the log."""

    def __init__(self, what: str, config: Callable[[], Config], serve: Serve, *, boot: bool = False) -> None:
        """With `boot` it does so for that of the boot network, too, and `run` raises what keeps that one from being served."""
        self._what = what
        self._config = config
        self._serve = serve
        self._boot = boot
        self._indispensable: Link | None = None
        self._told: set[Link] = set()

    async def run(self, ready: asyncio.Event) -> None:
        """Until cancelled; `ready` is set when those addresses are served that can be, and nothing raises from then on."""
        running: dict[Link, asyncio.Task[None]] = {}
        if self._boot:
            config = self._config()
            self._indispensable = await find_link(config.ipaddr, config.network)
        async with asyncio.TaskGroup() as group:
            while True:
                wanted = await self._wanted(frozenset(running))
                for link in [link for link, task in running.items() if task.done() or link not in wanted]:
                    running[link].cancel()
                    # Whoever comes next may want the same port.
                    await asyncio.wait([running.pop(link)])
                begun = {link: asyncio.Event() for link in wanted if link not in running}
                for link, event in begun.items():
                    running[link] = group.create_task(self._run(link, event))
                for event in begun.values():
                    await event.wait()
                self._indispensable = None
                ready.set()
                await asyncio.sleep(CHECK_SECONDS)

    async def _wanted(self, before: frozenset[Link]) -> frozenset[Link]:
        config = self._config()
        if not config.dhcp.subnets and not self._boot:
            return frozenset()
        try:
            links = await list_links()
            boot = choose_link(links, config.ipaddr, config.network)
        except (NoInterface, OSError) as exc:
            log.debug("%s: %s", self._what, exc)
            return before
        wires = by_interface(config, boot, links).values()
        found = frozenset(link for wire in wires for link in wire)
        return found if self._boot else found - {boot}

    async def _run(self, link: Link, begun: asyncio.Event) -> None:
        """What cannot be served is said once, and tried again."""
        try:
            await self._serve(link, begun)
        except (Error, OSError) as exc:
            if link == self._indispensable:
                raise
            if link not in self._told:
                log.warning("%s on %s, tried again every %d s: %s", self._what, link.address, CHECK_SECONDS, exc)
            self._told.add(link)
        else:
            self._told.discard(link)
        finally:
            begun.set()


class GoneInterfaces:
    """Says of an interface that something is served on that it is gone, once for all services."""

    def __init__(self, config: Callable[[], Config]) -> None:
        self._config = config

    async def run(self, ready: asyncio.Event) -> None:
        """Until cancelled."""
        served: Sequence[Link] = ()
        while True:
            gone = [link for link in served if not is_current(link)]
            for link in gone:
                log.warning("interface %s is gone", link.name)
            served = await self._served() or [link for link in served if link not in gone]
            ready.set()
            await asyncio.sleep(CHECK_SECONDS)

    async def _served(self) -> Sequence[Link]:
        """One address of each; nothing while that of the boot network is missing."""
        config = self._config()
        try:
            links = await list_links()
            boot = choose_link(links, config.ipaddr, config.network)
        except (NoInterface, OSError) as exc:
            log.debug("interfaces: %s", exc)
            return ()
        return [link for link, *_ in by_interface(config, boot, links).values()]


async def find_attached(config: Config) -> tuple[Link, frozenset[IPv4Address]]:
    """The boot network's link, and the addresses on subnets, for a command. Raises NoInterface."""
    links = await list_links()
    boot = choose_link(links, config.ipaddr, config.network)
    wires = by_interface(config, boot, links).values()
    return boot, frozenset(link.address for wire in wires for link in wire) - {boot.address}


class AttachedAddresses:
    """Those addresses, as they are now."""

    def __init__(self, config: Callable[[], Config]) -> None:
        self.now: frozenset[IPv4Address] = frozenset()
        self._attached = Attached("addresses", config, self._keep)

    async def run(self, ready: asyncio.Event) -> None:
        """Keep them until cancelled."""
        await self._attached.run(ready)

    async def _keep(self, link: Link, begun: asyncio.Event) -> None:
        self.now |= {link.address}
        begun.set()
        try:
            await until_gone(link)
        finally:
            self.now -= {link.address}
