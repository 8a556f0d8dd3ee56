"""TFTP on this machine's addresses in the configured subnets, which come and go with their interfaces."""

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import asdict
from ipaddress import IPv4Address

from bootsvc.config import Config
from bootsvc.dhcp.layout import by_interface
from bootsvc.errors import NoInterface, PortUnavailable
from bootsvc.net.links import CHECK_SECONDS, choose_link, list_links
from bootsvc.tftp.service import TftpService

log = logging.getLogger(__name__)


class TftpSubnets:
    """One service for each address but `boot`, which has its own; `serve` makes them."""

    def __init__(self, config: Callable[[], Config], boot: IPv4Address, serve: Callable[[IPv4Address], TftpService]) -> None:
        self._config = config
        self._boot = boot
        self._serve = serve
        self._services: dict[IPv4Address, TftpService] = {}
        self._told: set[IPv4Address] = set()

    def count(self) -> Mapping[str, int]:
        """The counters of all of them, of each since it was last begun."""
        total: dict[str, int] = {}
        for service in self._services.values():
            for name, value in asdict(service.counters).items():
                total[name] = total.get(name, 0) + value
        return total

    async def run(self, ready: asyncio.Event) -> None:
        """Serve until cancelled."""
        ready.set()
        running: dict[IPv4Address, asyncio.Task[None]] = {}
        async with asyncio.TaskGroup() as group:
            while True:
                wanted = await self._wanted()
                for address in [address for address, task in running.items() if task.done() or address not in wanted]:
                    running.pop(address).cancel()
                for address in wanted - running.keys():
                    running[address] = group.create_task(self._run(address))
                await asyncio.sleep(CHECK_SECONDS)

    async def _wanted(self) -> frozenset[IPv4Address]:
        config = self._config()
        if not config.dhcp.subnets:
            return frozenset()
        try:
            links = await list_links()
            boot = choose_link(links, config.ipaddr, config.network)
        except (NoInterface, OSError) as exc:
            log.debug("tftp: %s", exc)
            return frozenset(self._services)
        served = by_interface(config, boot, links)
        return frozenset(link.address for wire in served.values() for link in wire) - {self._boot}

    async def _run(self, address: IPv4Address) -> None:
        """Until it is cancelled, or cannot have the port; that is said once, and tried again."""
        # Made anew each time: a service that has ended has closed what it had.
        service = self._services[address] = self._serve(address)
        try:
            await service.run(asyncio.Event())
        except (PortUnavailable, OSError) as exc:
            if address not in self._told:
                log.warning("tftp on %s, tried again every %d s: %s", address, CHECK_SECONDS, exc)
            self._told.add(address)
