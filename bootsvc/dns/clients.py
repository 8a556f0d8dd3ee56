"""Whom DNS answers: machines of the boot network, of its subnets, and of the networks that the settings name.

What was found is remembered, because a cluster asks for names all the time.
"""

from collections.abc import Callable
from ipaddress import IPv4Address

from bootsvc.config import Config
from bootsvc.net.links import Link
from bootsvc.net.strangers import Strangers

MAX_CLIENTS = 65536
"""Addresses of which it is remembered whether they are served."""


class Clients:
    """`link` is that of the boot network, None while there is none, and then nobody is served."""

    def __init__(self, config: Callable[[], Config], link: Callable[[], Link | None]) -> None:
        self._config = config
        self._link = link
        self._known: dict[str, bool] = {}
        self._strangers = Strangers("dns")
        self.served: set[int] = set()
        """Those of them that are served, the way an inbox has them; added by who reads it."""

    def serves(self, address: str) -> bool:
        known = self._known.get(address)
        if known is None:
            if len(self._known) >= MAX_CLIENTS:
                self.forget()
            known = self._known[address] = self._decide(IPv4Address(address))
        return known

    def forget(self) -> None:
        """The settings may have changed."""
        self._known.clear()
        self.served.clear()

    def _decide(self, address: IPv4Address) -> bool:
        config, link = self._config(), self._link()
        if link is None:
            return False
        boot_networks = (config.network or link.network, *(subnet.network for subnet in config.dhcp.subnets))
        if any(address in network for network in (*boot_networks, *config.dns.networks)):
            return True
        self._strangers.tell(address)
        return False
