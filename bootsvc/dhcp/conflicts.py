"""Who uses an address of a range on an attached network, by ARP: of free ones ahead, of doubtful ones before they are told."""

import asyncio
import contextlib
import logging
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from bootsvc.clock import steady
from bootsvc.dhcp.exchanges import Doubt, Exchanges
from bootsvc.dhcp.site import Site
from bootsvc.net.arp import find_users
from bootsvc.net.links import Link

log = logging.getLogger(__name__)

CHECKED_ADDRESSES = 32
"""Free addresses of each range that are kept checked, so that a client need not wait for it."""
CHECK_FREE_SECONDS = 1.0
MAX_DOUBTS = 256
"""Answers that wait; beyond it, as when a cluster powers on, a doubtful address is told at once."""

_Key = tuple[str, IPv4Address]
"""A network's name and our address in it."""


class Conflicts:
    """`run` looks at what `ask` was given, all that came meanwhile at once."""

    def __init__(self, lending: Callable[[], Sequence[tuple[Link, Site]]]) -> None:
        """`lending`: the attached networks that lend addresses, each with our link there."""
        self._lending = lending
        self._doubts: dict[tuple[_Key, IPv4Address], Doubt] = {}
        self._asked = asyncio.Event()

    def ask(self, doubt: Doubt) -> bool:
        """Find out who uses the address and tell `Exchanges.settle`; False: that cannot be done, or not now.

        What is asked of an address again takes the place of what was asked before: the client repeated itself.
        """
        key = _key(doubt.site)
        known = (key, doubt.address) in self._doubts
        if not known and (len(self._doubts) >= MAX_DOUBTS or key not in self._keys()):
            return False
        self._doubts[key, doubt.address] = doubt
        self._asked.set()
        return True

    async def run(self, exchanges: Exchanges) -> None:
        """Until cancelled."""
        while True:
            self._asked.clear()
            keys = self._keys()
            for place, doubt in list(self._doubts.items()):
                if place[0] not in keys:
                    # The interface went meanwhile.
                    del self._doubts[place]
                    exchanges.settle(doubt, None)
            async with asyncio.TaskGroup() as group:
                for link, site in self._lending():
                    group.create_task(self._look(exchanges, link, site))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CHECK_FREE_SECONDS):
                    await self._asked.wait()

    def _keys(self) -> frozenset[_Key]:
        return frozenset(_key(site) for _, site in self._lending())

    async def _look(self, exchanges: Exchanges, link: Link, site: Site) -> None:
        table = exchanges.networks.table(site.name)
        free = table.to_check(CHECKED_ADDRESSES, steady())
        doubtful = [place for place in self._doubts if place[0] == _key(site)]
        due = [*free, *(address for _, address in doubtful)]
        try:
            users = await find_users(link, due) if due else {}
        except OSError as exc:
            log.debug("no ARP on %s: %s", link.name, exc.strerror)
            users = {}
        for address in free:
            lease = table.checked(address, users.get(address), steady())
            if lease is not None:
                exchanges.conflict(link.name, lease)
        for place in doubtful:
            exchanges.settle(self._doubts.pop(place), users.get(place[1]))


def _key(site: Site) -> _Key:
    return site.name, site.server
