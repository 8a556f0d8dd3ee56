"""What runs on each of this machine's addresses on the configured subnets, which come and go with their interfaces."""

import asyncio
import logging
from collections.abc import Awaitable, Callable

from bootsvc.config import Config
from bootsvc.dhcp.layout import by_interface
from bootsvc.errors import NoInterface, PortUnavailable
from bootsvc.net.links import CHECK_SECONDS, Link, choose_link, list_links

log = logging.getLogger(__name__)

Serve = Callable[[Link, asyncio.Event], Awaitable[None]]
"""Serves on one address until it is cancelled, and sets the event when it does; may raise PortUnavailable and OSError."""


class Attached:
    """Runs `serve` for each of our addresses but that of the boot network, which has its own; `what` is its name in the log."""

    def __init__(self, what: str, config: Callable[[], Config], serve: Serve) -> None:
        self._what = what
        self._config = config
        self._serve = serve
        self._told: set[Link] = set()

    async def run(self, ready: asyncio.Event) -> None:
        """Until cancelled; `ready` is set when those addresses are served that can be."""
        running: dict[Link, asyncio.Task[None]] = {}
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
                ready.set()
                await asyncio.sleep(CHECK_SECONDS)

    async def _wanted(self, before: frozenset[Link]) -> frozenset[Link]:
        config = self._config()
        if not config.dhcp.subnets:
            return frozenset()
        try:
            links = await list_links()
            boot = choose_link(links, config.ipaddr, config.network)
        except (NoInterface, OSError) as exc:
            log.debug("%s: %s", self._what, exc)
            return before
        wires = by_interface(config, boot, links).values()
        return frozenset(link for wire in wires for link in wire) - {boot}

    async def _run(self, link: Link, begun: asyncio.Event) -> None:
        """What cannot be served is said once, and tried again."""
        try:
            await self._serve(link, begun)
        except (PortUnavailable, OSError) as exc:
            if link not in self._told:
                log.warning("%s on %s, tried again every %d s: %s", self._what, link.address, CHECK_SECONDS, exc)
            self._told.add(link)
        else:
            self._told.discard(link)
        finally:
            begun.set()
