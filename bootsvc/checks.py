"""Whether changed nodes and profiles can stand: every node still usable, no two with one address, no profile missing."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from bootsvc.config import Config
from bootsvc.names import UnknownName
from bootsvc.registry import Merging, check_profile
from bootsvc.store import NODES, Entry, Snapshot
from images.errors import Error
from netboot import hwaddr as hardware
from netboot.devices import check_devices
from netboot.fields import NETWORKS
from netboot.merge import expand_profiles, listed_profiles
from netboot.node import NetDev, Node

_MADE_BY_SOFTWARE = ("bond", "vlan", "bridge")
Address = tuple[str, str]
"""The name of a field, and the address in it."""


def checked(before: Snapshot, after: Snapshot, section: str, names: Sequence[str], config: Config) -> Snapshot:
    """`after`, in which these nodes or profiles are new or changed, when it can stand; raises Error.

    What was wrong before and is not made worse is not complained about, except in the very nodes that are named.
    """
    for name in names:
        was = listed_profiles(before.entries(section).get(name, {}))
        for profile in listed_profiles(after.entries(section)[name]) - was:
            if profile not in after.profiles:
                raise UnknownName("profile", profile, list(after.profiles))
    if section == NODES:
        _check_nodes(before, after, names, config, named=True)
    else:
        _check_profiles(before, after, names)
        _check_nodes(before, after, list(_nodes_of(names, before, after)), config, named=False)
    return after


def _check_profiles(before: Snapshot, after: Snapshot, names: Sequence[str]) -> None:
    for name in names:
        profile = check_profile(name, after.profiles[name])
        _check_networks(f"profile {name}", profile, _find_profile(name, before.profiles.get(name)))
        others = {key: entry for key, entry in after.profiles.items() if key != name}
        for listed in listed_profiles(after.profiles[name]):
            if listed == name or name in expand_profiles([listed], {**others, name: {}})[0]:
                raise Error(f"the profile {name!r} would contain itself", hint=f"take {name} out of the profile {listed} first")


def _find_profile(name: str, entry: Entry | None) -> Node | None:
    """The profile as a node, or None when it cannot be used."""
    try:
        return None if entry is None else check_profile(name, entry)
    except Error:
        return None


def _check_networks(owner: str, record: Node, was: Node | None) -> None:
    """Raises NetworkError for a name or a tag of a network that no overlay could write; what was there before may stay."""
    old = {} if was is None else was.network_devices
    changed = {name: netdev for name, netdev in record.network_devices.items() if netdev != old.get(name)}
    check_devices(owner, {name: _new(netdev, old.get(name)) for name, netdev in changed.items()})


def _new(netdev: NetDev, was: NetDev | None) -> NetDev:
    """The device with what it had not before, or all of it when it is of another type now."""
    if was is None or was.type != netdev.type:
        return netdev
    kept = {name for name in NetDev.__struct_fields__ if getattr(netdev, name) == getattr(was, name)} - {"type"}
    tags = {key: value for key, value in netdev.tags.items() if was.tags.get(key) != value}
    new = {name: getattr(netdev, name) for name in NetDev.__struct_fields__ if name not in kept}
    return NetDev(**{**new, "tags": tags})


def _nodes_of(profiles: Sequence[str], before: Snapshot, after: Snapshot) -> Iterator[str]:
    """The nodes that have one of these profiles, before or after."""
    wanted = frozenset(profiles)
    known: dict[tuple[str, ...], bool] = {}
    for name, entry in after.nodes.items():
        key = tuple(sorted(listed_profiles(entry)))
        if key not in known:
            orders = (expand_profiles(list(key), snapshot.profiles)[0] for snapshot in (before, after))
            known[key] = any(wanted.intersection(order) for order in orders)
        if known[key]:
            yield name


def _check_nodes(before: Snapshot, after: Snapshot, names: Sequence[str], config: Config, *, named: bool) -> None:
    """A node that is not `named` may have been unusable before."""
    old, new = (Merging(snapshot.profiles, config.network) for snapshot in (before, after))
    owners: Mapping[Address, Sequence[str]] | None = None
    for name in names:
        entry = before.nodes.get(name)
        was = None if entry is None else _find(old, name, entry)
        try:
            node = new.node(name, after.nodes[name])[0]
        except Error:
            if named or was is not None:
                raise
            continue
        _check_networks(f"node {name}", node, was)
        for address in Counter(_addresses(node)) - Counter(_addresses(was)):
            if owners is None:
                owners = _owners(after, new)
            _check_address(node, address, owners.get(address, ()), config)


def _find(merging: Merging, name: str, entry: Entry) -> Node | None:
    """The merged node, or None when it cannot be used."""
    try:
        return merging.node(name, entry)[0]
    except Error:
        return None


def _owners(snapshot: Snapshot, merging: Merging) -> Mapping[Address, Sequence[str]]:
    """Who has which address. Nodes need not be merged for it unless profiles hold addresses, which is rare."""
    owners: dict[Address, list[str]] = {}
    merge = any(any(_own_addresses(entry)) for entry in snapshot.profiles.values())
    for name, entry in snapshot.nodes.items():
        for address in _addresses(_find(merging, name, entry)) if merge else _own_addresses(entry):
            owners.setdefault(address, []).append(name)
    return owners


def _own_addresses(entry: Entry) -> Iterator[Address]:
    """The addresses that stand in one entry of nodes.conf."""
    devices = entry.get(NETWORKS)
    for device in devices.values() if isinstance(devices, Mapping) else ():
        if not isinstance(device, Mapping):
            continue
        hwaddr, ipaddr = _canonical(device.get("hwaddr")), device.get("ipaddr")
        if hwaddr:
            yield "hwaddr", hwaddr
        if isinstance(ipaddr, str) and ipaddr:
            yield "ipaddr", ipaddr


def _canonical(hwaddr: object) -> str | None:
    """A hardware address in its usual spelling, or None."""
    try:
        return hardware.parse(hwaddr) if isinstance(hwaddr, str) and hwaddr else None
    except Error:
        return None


def _addresses(node: Node | None) -> Iterator[Address]:
    """Each address of a node, with the name of its field."""
    if node is None:
        return
    for hwaddr, _ in node.hwaddrs():
        yield "hwaddr", hwaddr
    for device in node.network_devices.values():
        if device.ipaddr:
            yield "ipaddr", str(device.ipaddr)


def _of_one_card(node: Node, hwaddr: str) -> bool:
    """Whether at most one card has the address: a bond may have that of a port of its own, a VLAN its parent's."""
    owners = [device for device in node.network_devices.values() if device.hwaddr == hwaddr]
    return sum(device.type.lower() not in _MADE_BY_SOFTWARE for device in owners) < 2


def _check_address(node: Node, address: Address, owners: Sequence[str], config: Config) -> None:
    kind, text = address
    others = [owner for owner in owners if owner != node.id]
    if others:
        raise Error(f"node {node.id}: the {kind} {text} belongs to node {others[0]}", hint=f"give {node.id} another one")
    if len(owners) > 1 and not (kind == "hwaddr" and _of_one_card(node, text)):
        raise Error(f"node {node.id}: two of its networks have the {kind} {text}", hint="give one of them another one")
    if kind != "ipaddr":
        return
    if text == str(config.ipaddr):
        raise Error(f"node {node.id}: {text} is this server's own address", hint="give the node another one")
    for device in node.network_devices.values():
        interface = device.interface
        if interface is None or str(interface.ip) != text or interface.network.prefixlen > 30:
            continue
        if interface.ip in (interface.network.network_address, interface.network.broadcast_address):
            raise Error(
                f"node {node.id}: {text} is an address that no machine in {interface.network} can have",
                hint="choose another address, or another netmask",
            )
