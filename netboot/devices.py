"""A node's network devices as every network stack needs them: the view that the network overlays' templates are written over.

`devices` says which are bonds, VLANs, slaves and parents of one another, what each one's addresses and routes are, and how it
gets them. A value that could break a file, and a device that makes no sense, is a NetworkError.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from itertools import chain

from images.errors import Error
from netboot import hwaddr as hardware
from netboot import nettags
from netboot.errors import NetworkError
from netboot.nettags import Bond, Route
from netboot.node import NetDev, Node

MAX_MTU = 65535
_ETHERNET, _INFINIBAND = 17, 59
"""Characters of a hardware address of six and of twenty octets, as netboot.hwaddr writes it."""


class Kind(StrEnum):
    """The types of devices that C1's `type` names; any other is a device that exists already, as Ethernet does."""

    ETHERNET = "ethernet"
    INFINIBAND = "infiniband"
    BOND = "bond"
    VLAN = "vlan"


_KINDS: Mapping[str, Kind] = {kind.value: kind for kind in Kind}


@dataclass(frozen=True, slots=True, kw_only=True)
class Device:
    """One network device; `network` is its key in nodes.conf, `name` the interface (empty: known by `hwaddr` alone)."""

    network: str
    name: str
    kind: Kind
    primary: bool = False
    onboot: bool = True
    hwaddr: str = ""
    """Of the card, to find it by; devices made by software have none."""
    cloned_address: str = ""
    """The hardware address that the device shall have; or preserve, permanent, random, stable, for NetworkManager."""
    mtu: int | None = None
    address: IPv4Interface | None = None
    address6: IPv6Interface | None = None
    gateway: IPv4Address | None = None
    gateway6: IPv6Address | None = None
    dhcp: bool = False
    """Whether the IPv4 address comes by DHCP. Without it and without `address` there is none."""
    ipv6: str = "ignore"
    """How the device gets IPv6 addresses: manual, auto, dhcp, link-local, ignore (the kernel decides), disabled."""
    metric: int | None = None
    """Of the default route, where the node has several; the primary network's is the lowest."""
    dns: tuple[IPv4Address | IPv6Address, ...] = ()
    search: tuple[str, ...] = ()
    routes: tuple[Route, ...] = ()
    bond: Bond | None = None
    slaves: tuple[str, ...] = ()
    """Labels of a bond's slaves."""
    master: str = ""
    """The bond of a slave."""
    vlan_id: int | None = None
    parent: str = ""
    """The device that a VLAN lies on."""
    vlans: tuple[str, ...] = ()
    """The VLANs that lie on this device."""

    @property
    def label(self) -> str:
        """What identifies the device: its name, else its network's."""
        return self.name or self.network

    @property
    def own_address(self) -> str:
        """The hardware address to set, where it is one."""
        return self.cloned_address if ":" in self.cloned_address else ""

    @property
    def is_virtual(self) -> bool:
        """Whether it exists only once something made it."""
        return self.kind in (Kind.BOND, Kind.VLAN)


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver:
    """What resolv.conf says."""

    servers: tuple[IPv4Address | IPv6Address, ...]
    search: tuple[str, ...]


def devices(node: Node) -> tuple[Device, ...]:
    """The node's devices by network name; those that nodes.conf only names as a VLAN's parent come last. Raises NetworkError.

    A network with neither a device name nor a hardware address, which a profile may hold for others, is none.
    """
    primary = node.primary_name
    owner = f"node {node.id}"
    found = [_device(owner, name, netdev, primary=name == primary) for name, netdev in sorted(node.network_devices.items())]
    own = [device for device in found if device.label]
    _check_unique(owner, own)
    linked = [_linked(owner, device, own) for device in own]
    named = {device.label for device in linked}
    parents = dict.fromkeys(device.parent for device in linked if device.parent and device.parent not in named)
    linked += (Device(network=name, name=name, kind=Kind.ETHERNET) for name in parents)
    return tuple(_with_metrics(_joined(linked)))


def resolver(node: Node, servers: Sequence[IPv4Address | IPv6Address] = ()) -> Resolver:
    """Name servers and domains of all networks, the primary's first; `servers` where no network has any.

    Raises NetworkError.
    """
    order = sorted(devices(node), key=lambda device: not device.primary)
    own = dict.fromkeys(chain.from_iterable(device.dns for device in order))
    search = dict.fromkeys(chain.from_iterable(device.search for device in order))
    return Resolver(servers=tuple(own or servers), search=tuple(search))


def check_devices(owner: str, found: Mapping[str, NetDev]) -> None:
    """Raises NetworkError, which begins with `owner`, for a name or value that no file may hold.

    What is only incomplete passes: the rest may come later, or stand elsewhere.
    """
    for name, netdev in found.items():
        with _Blame(owner, name):
            for key, value in netdev.tags.items():
                nettags.check_tag(key, value)
        _device(owner, name, netdev, primary=False, complete=False)


class _Blame:
    """Puts the node (or profile) and the network before the sentence of a NetworkError."""

    def __init__(self, owner: str, network: str) -> None:
        self._owner = f"{owner}: network {network!r}"

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if isinstance(error, Error):
            raise NetworkError(f"{self._owner}: {error.message}", hint=error.hint) from error


def _device(owner: str, network: str, netdev: NetDev, *, primary: bool, complete: bool = True) -> Device:
    """One device, not yet linked to the others; with an empty label when it is none."""
    with _Blame(owner, network):
        nettags.check_network(network)
        tags = netdev.tags
        kind = _KINDS.get(netdev.type.lower(), Kind.ETHERNET)
        virtual = kind in (Kind.BOND, Kind.VLAN)
        name = netdev.device or (network if virtual else "")
        if name:
            nettags.check_interface(name)
        hwaddr = hardware.parse(netdev.hwaddr) if netdev.hwaddr else ""
        if complete and kind is Kind.INFINIBAND and hwaddr and not name and len(hwaddr) != _INFINIBAND:
            raise NetworkError(f"no InfiniBand device can be found by {hwaddr!r} alone", hint="set its name with --netdev")
        master = nettags.master(tags)
        address = None if master else _address(netdev, complete)
        address6 = None if master else _address6(netdev)
        wanted = nettags.wants_dhcp(tags)
        dhcp = not master and address is None and (primary if wanted is None else wanted)
        ipv6 = _method6(nettags.ipv6_method(tags), address6 is not None, slave=bool(master))
        # Without an address of its family no gateway can be reached.
        routed = {4: address is not None or dhcp, 6: ipv6 in ("manual", "auto", "dhcp")}
        return Device(
            network=network if name or hwaddr else "",
            name=name,
            kind=kind,
            primary=primary,
            onboot=netdev.wanted_at_boot,
            hwaddr="" if virtual else hwaddr,
            # A bond takes its first slave's address, which is the one that the node booted with: hwaddr says which.
            cloned_address=nettags.cloned_address(tags) or (hwaddr if virtual and len(hwaddr) == _ETHERNET else ""),
            mtu=_number("mtu", netdev.mtu, MAX_MTU) if netdev.mtu else None,
            address=address,
            address6=address6,
            gateway=netdev.gateway if address else None,
            gateway6=netdev.gateway6 if address6 else None,
            dhcp=dhcp,
            ipv6=ipv6,
            dns=nettags.dns_servers(tags),
            search=nettags.dns_search(tags),
            routes=tuple(route for route in nettags.routes(tags) if routed[route.destination.version]),
            bond=nettags.bond(tags) if kind is Kind.BOND else None,
            master=master,
            vlan_id=nettags.vlan_id(tags, name) if kind is Kind.VLAN else None,
            parent=nettags.parent_device(tags, name) if kind is Kind.VLAN else "",
        )


def _address(netdev: NetDev, complete: bool) -> IPv4Interface | None:
    if netdev.ipaddr is not None and netdev.netmask is None and complete:
        raise NetworkError(f"the address {netdev.ipaddr} has no netmask", hint="set it with --netmask")
    return netdev.interface


def _address6(netdev: NetDev) -> IPv6Interface | None:
    length = _number("prefixlen6", netdev.prefixlen6 or "64", 128)
    return None if netdev.ipaddr6 is None else IPv6Interface(f"{netdev.ipaddr6}/{length}")


def _method6(tagged: str, has_address: bool, *, slave: bool) -> str:
    if slave:
        return "disabled"
    if has_address and tagged not in ("auto", "dhcp"):
        return "manual"
    return "ignore" if tagged in ("", "manual") and not has_address else tagged


def _number(field: str, text: str, high: int) -> int:
    if text.isascii() and text.isdigit() and int(text) <= high:
        return int(text)
    raise NetworkError(f"{field} {text!r} is no number from 0 to {high}", hint=f"set it with --{field}")


def _check_unique(owner: str, found: Iterable[Device]) -> None:
    owners: dict[str, str] = {}
    for device in found:
        other = owners.setdefault(device.name, device.network) if device.name else device.network
        if other != device.network:
            raise NetworkError(
                f"{owner}: the networks {other!r} and {device.network!r} are both of the device {device.name}",
                hint="a device has one network; give the other one its own --netdev",
            )


def _find(found: Iterable[Device], wanted: str) -> Device | None:
    """The device of this name, else that of the network of this name."""
    candidates = list(found)
    return next(
        (device for attribute in ("name", "network") for device in candidates if getattr(device, attribute) == wanted), None
    )


def _linked(owner: str, device: Device, found: Sequence[Device]) -> Device:
    """With its bond and its parent by their labels; raises NetworkError when they cannot be."""
    with _Blame(owner, device.network):
        if device.master:
            bond = _find(found, device.master)
            if bond is None or bond.kind is not Kind.BOND:
                raise NetworkError(
                    f"its master {device.master!r} is no bond of this node", hint="add a network of --type bond for that device"
                )
            return replace(device, master=bond.name)
        if device.kind is not Kind.VLAN:
            return device
        if device.vlan_id is None:
            raise NetworkError("the VLAN has no number", hint="set it with --nettagadd vlan_id=NUMBER")
        if not device.parent:
            raise NetworkError("the VLAN has no parent device", hint="set it with --nettagadd parent_device=DEVICE")
        parent = _find((other for other in found if other is not device), device.parent)
        if device.parent == device.name:
            raise NetworkError("the VLAN is its own parent device", hint="set it with --nettagadd parent_device=DEVICE")
        if parent is not None and not parent.name:
            raise NetworkError(
                f"its parent {device.parent!r} has no device name", hint=f"set it with --netname {parent.network} --netdev NAME"
            )
        return replace(device, parent=device.parent if parent is None else parent.name)


def _joined(found: Sequence[Device]) -> list[Device]:
    """With each bond's slaves and each parent's VLANs."""
    slaves: dict[str, list[str]] = {}
    vlans: dict[str, list[str]] = {}
    for device in found:
        if device.master:
            slaves.setdefault(device.master, []).append(device.label)
        if device.parent:
            vlans.setdefault(device.parent, []).append(device.label)
    return [
        replace(device, slaves=tuple(slaves.get(device.label, ())), vlans=tuple(vlans.get(device.label, ())))
        for device in found
    ]


def _with_metrics(found: Sequence[Device]) -> Iterator[Device]:
    """With the metrics that make the primary network's default route the one in use, where there are several."""
    routed = [device for device in found if device.gateway or device.gateway6 or device.dhcp or device.ipv6 in ("auto", "dhcp")]
    order = sorted(routed, key=lambda device: not device.primary)
    metrics: Mapping[str, int] = {device.label: 100 + place for place, device in enumerate(order)} if len(routed) > 1 else {}
    return (replace(device, metric=metrics.get(device.label)) for device in found)
