"""The URLs of this server as the asking machine reaches it."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

from netboot.urls import Urls


class ServerUrls:
    """`boot` is right on the boot network, and for whoever comes by way of a router, a relay or a proxy.

    A machine on a subnet that we are attached to may have no way to the boot network, so it is told the address that it asked.
    """

    def __init__(self, boot: Urls, subnets: Callable[[], Sequence[IPv4Network]] = lambda: ()) -> None:
        self.boot = boot
        self._subnets = subnets

    def at(self, local: IPv4Address | None) -> Urls:
        """`local` is our end of the connection, where that is known."""
        if local is None or local == self.boot.address or not any(local in subnet for subnet in self._subnets()):
            return self.boot
        return replace(self.boot, address=local)
