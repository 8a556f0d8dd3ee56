"""By which address of the head node a node is to reach it: the one on the node's own network, where the head node has one."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network

from netboot.engine import Server
from netboot.node import Node


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A network besides the boot network where the head node has an address; `dns` are the name servers that are told there."""

    network: IPv4Network
    address: IPv4Address
    dns: tuple[IPv4Address, ...] = ()


class SeenServer:
    """The head node as each node sees it; a node that is on none of the networks sees that of the boot network."""

    def __init__(self, boot: Server, places: Sequence[Place] = ()) -> None:
        self.boot = boot
        self.places = tuple(places)
        self._servers = [
            (
                place.network,
                replace(
                    boot,
                    address=place.address,
                    network=place.network,
                    urls=replace(boot.urls, address=place.address),
                    dns=place.dns,
                ),
            )
            for place in places
        ]

    def by(self, node: Node) -> Server:
        """A node on the boot network and others uses the boot network; else its primary network counts first."""
        if not self._servers:
            return self.boot
        primary = node.primary
        devices = [*([primary] if primary is not None else ()), *node.network_devices.values()]
        addresses = [device.ipaddr for device in devices if device.ipaddr is not None]
        if any(address in self.boot.network for address in addresses):
            return self.boot
        found = (server for address in addresses for network, server in self._servers if address in network)
        return next(found, self.boot)
