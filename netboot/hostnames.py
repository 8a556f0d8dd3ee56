"""The lines of a hosts file for all nodes. A name that no host can have is left out, for it would spoil every node's file."""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

from netboot.node import Node

_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")


@lru_cache(maxsize=65_536)
def _legal(name: str) -> bool:
    return _NAME.fullmatch(name) is not None


def host_names(nodes: Iterable[Node]) -> Iterator[tuple[IPv4Address | IPv6Address, str]]:
    """Each address of each node, and its names in one text: NODE (of the primary network), NODE-NETWORK, NODE-DEVICE."""
    for node in nodes:
        primary = node.primary_name
        for network, device in sorted(node.network_devices.items()):
            if device.ipaddr is None and device.ipaddr6 is None:
                continue
            suffixes = dict.fromkeys(suffix for suffix in (network, device.device) if suffix and _legal(suffix))
            names = [node.id] if network == primary and _legal(node.id) else []
            names += [f"{node.id}-{suffix}" for suffix in suffixes if _legal(node.id)]
            for address in (device.ipaddr, device.ipaddr6):
                if address is not None and names:
                    yield address, " ".join(names)
