"""A set of IPv4 networks that is asked whether one of them has an address. Pure."""

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network


class NetworkSet:
    """Takes as long as there are different netmasks, whatever the number of networks; immutable."""

    def __init__(self, networks: Iterable[tuple[int, int]]) -> None:
        """Pairs of an address and a netmask, as numbers; a netmask of zero, which has every address, is left out."""
        found: dict[int, set[int]] = {}
        for address, mask in networks:
            if mask:
                found.setdefault(mask, set()).add(address & mask)
        self._by_mask = tuple(found.items())

    @classmethod
    def of(cls, networks: Iterable[IPv4Network]) -> "NetworkSet":
        return cls((int(network.network_address), int(network.netmask)) for network in networks)

    def __contains__(self, address: IPv4Address) -> bool:
        number = int(address)
        return any(number & mask in known for mask, known in self._by_mask)
