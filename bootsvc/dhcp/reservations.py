"""The address that nodes.conf gives to a hardware address, as a lease that never ends. Pure."""

from ipaddress import IPv4Network

from bootsvc.dhcp.leases import Lease, LeaseState
from bootsvc.dhcp.settings import MAX_MTU, MIN_MTU
from netboot.node import NetDev, Node


def reservation(node: Node | None, hwaddr: str, network: IPv4Network) -> Lease | None:
    """The address that nodes.conf gives to this hardware address, or None."""
    for owned, device in node.hwaddrs() if node is not None else ():
        if owned == hwaddr and device.ipaddr is not None:
            own = _own_network(device, network)
            return Lease(
                address=device.ipaddr,
                hwaddr=hwaddr,
                state=LeaseState.RESERVED,
                network=own,
                gateway=device.gateway,
                mtu=_mtu(device),
            )
    return None


def _mtu(device: NetDev) -> int | None:
    """A text in nodes.conf that is no MTU is told to nobody; `wwctl` and the overlays refuse it by name."""
    text = device.mtu
    value = int(text) if text.isascii() and text.isdigit() and len(text) <= 5 else 0
    return value if MIN_MTU <= value <= MAX_MTU else None


def _own_network(device: NetDev, network: IPv4Network) -> IPv4Network | None:
    """A netmask in nodes.conf holds for addresses behind a relay; on the served network its own mask is the truth."""
    # Nearly every node is on the served network, and making an interface of texts takes longer than the whole answer.
    if device.ipaddr is None or device.ipaddr in network:
        return None
    interface = device.interface
    return None if interface is None else interface.network
