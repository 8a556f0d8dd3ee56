"""TFTP on this machine's addresses in the configured subnets."""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import asdict
from ipaddress import IPv4Address

from bootsvc.attached import Attached
from bootsvc.config import Config
from bootsvc.net.links import Link
from bootsvc.tftp.service import TftpService


class TftpSubnets:
    """One service for each address but that of the boot network, which has its own; `make` makes them."""

    def __init__(self, config: Callable[[], Config], make: Callable[[IPv4Address], TftpService]) -> None:
        self._make = make
        self._services: dict[IPv4Address, TftpService] = {}
        self._attached = Attached("tftp", config, self._serve)

    def count(self) -> Mapping[str, int]:
        """The counters of all of them, of each since it was last begun."""
        total: dict[str, int] = {}
        for service in self._services.values():
            for name, value in asdict(service.counters).items():
                total[name] = total.get(name, 0) + value
        return total

    async def run(self, ready: asyncio.Event) -> None:
        """Serve until cancelled."""
        await self._attached.run(ready)

    async def _serve(self, link: Link, begun: asyncio.Event) -> None:
        # Made anew each time: a service that has ended has closed what it had.
        service = self._services[link.address] = self._make(link.address)
        await service.run(begun)
