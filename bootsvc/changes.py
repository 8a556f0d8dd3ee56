"""Changes to the nodes of nodes.conf as values: applied to a snapshot, checked against all nodes, shown as a diff.

`wwctl` and the HTTP API both build on these; nothing here reads or writes a file.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from difflib import get_close_matches
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from bootsvc.config import Config
from bootsvc.registry import Registry, merged_node
from bootsvc.store import Entry, Snapshot
from images.errors import Error
from netboot.fields import NETWORKS, node_fields
from netboot.merge import without_negated
from netboot.node import Node

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?(\.[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?)*")
MAX_NAME = 253

Value = str | list[str] | None
KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Set the value at `path` of an entry; None removes it, and a mapping with it when `path` leads to one."""

    path: KeyPath
    value: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One value before and after; None is unset."""

    path: KeyPath
    before: Any
    after: Any


class UnknownName(Error):
    """A name that nothing has, with the closest one that something has."""

    def __init__(self, what: str, name: str, known: Sequence[str]) -> None:
        super().__init__(f"there is no {what} {name!r}", hint=closest(name, known) or _listed(what, known))
        self.name = name


def closest(name: str, known: Sequence[str]) -> str | None:
    """The question whether another name was meant, or None when none is close."""
    found = get_close_matches(name, known, n=1)
    return f"did you mean {found[0]!r}?" if found else None


def _listed(what: str, known: Sequence[str]) -> str:
    shown = ", ".join(sorted(known)[:8]) + (", …" if len(known) > 8 else "")
    return f"these exist: {shown}" if known else f"no {what} exists yet"


def add_nodes(snapshot: Snapshot, names: Sequence[str], changes: Sequence[Change], config: Config) -> Snapshot:
    """New nodes, each with these values; IPv4 addresses (also BMCs') go up by one from node to node.

    Without `profiles` among the changes the profile `default` is attached when there is one. Raises Error.
    """
    nodes = dict(snapshot.nodes)
    if not any(change.path == ("profiles",) for change in changes) and "default" in snapshot.profiles:
        changes = [Change(path=("profiles",), value=["default"]), *changes]
    for index, name in enumerate(names):
        _check_name(name)
        if name in nodes:
            again = name not in snapshot.nodes
            raise Error(
                f"the node {name!r} is named twice" if again else f"the node {name!r} exists already",
                hint="name it once" if again else f"`wwctl node set {name}` changes it",
            )
        nodes[name] = apply({}, [_counted(change, index, name) for change in changes])
    return _checked(snapshot, replace(snapshot, nodes=nodes), names, changes, config)


def set_nodes(snapshot: Snapshot, names: Sequence[str], changes: Sequence[Change], config: Config) -> Snapshot:
    """These nodes with the changes made; raises Error."""
    nodes = dict(snapshot.nodes)
    for name in names:
        if name not in nodes:
            raise UnknownName("node", name, list(snapshot.nodes))
        nodes[name] = apply(nodes[name], changes)
    return _checked(snapshot, replace(snapshot, nodes=nodes), names, changes, config)


def apply(entry: Entry, changes: Sequence[Change]) -> Entry:
    """A copy of an entry with the changes made; mappings left empty go too."""
    for change in changes:
        entry = _put(entry, change.path, change.value)
    return entry


def _put(entry: Entry, path: KeyPath, value: Value) -> dict[str, Any]:
    key, *rest = path
    copy = dict(entry)
    new: Any = value
    if rest:
        inner = entry.get(key)
        new = _put(inner if isinstance(inner, Mapping) else {}, tuple(rest), value) or None
    if new is None:
        copy.pop(key, None)
    else:
        copy[key] = new
    return copy


def _counted(change: Change, index: int, name: str) -> Change:
    """The change for the node at `index`: its address is that much higher."""
    is_address = change.path == ("ipmi", "ipaddr") or (change.path[0] == NETWORKS and change.path[-1] == "ipaddr")
    if not is_address or not isinstance(change.value, str):
        return change
    try:
        return replace(change, value=str(IPv4Address(change.value) + index))
    except AddressValueError as exc:
        raise Error(f"there is no IPv4 address left for the node {name!r}", hint="begin with a lower address") from exc


def _check_name(name: str) -> None:
    if len(name) > MAX_NAME or not _NAME.fullmatch(name):
        raise Error(
            f"{name!r} cannot be the name of a node",
            hint="letters, digits, hyphens and dots, at most 63 between two dots: n1, gpu-03, n1.cluster",
        )


def _checked(before: Snapshot, after: Snapshot, names: Sequence[str], changes: Sequence[Change], config: Config) -> Snapshot:
    """`after`, when the nodes in it can be used and share no address; raises Error."""
    for change in changes:
        if change.path == ("profiles",) and isinstance(change.value, list):
            for profile in without_negated(change.value):
                if profile not in after.profiles:
                    raise UnknownName("profile", profile, list(after.profiles))
    new = Registry.build(after, config.network)
    owners = _owners(new)
    for name in names:
        node = new.by_name(name)
        if node is None:
            reason = next((text for text in new.problems if text.startswith(f"node {name}: ")), f"node {name} is unusable")
            raise Error(reason.partition("; ")[0], hint="correct the value in nodes.conf")
        known = set(_addresses(_find(before, name, config)))
        for address in set(_addresses(node)) - known:
            _check_address(node, address, owners[address], config)
    return after


def _find(snapshot: Snapshot, name: str, config: Config) -> Node | None:
    """The merged node, or None when the snapshot has none that can be used."""
    try:
        entry = snapshot.nodes.get(name)
        return None if entry is None else merged_node(name, entry, snapshot.profiles, config.network)[0]
    except Error:
        return None


def _owners(registry: Registry) -> dict[tuple[str, str], list[str]]:
    owners: dict[tuple[str, str], list[str]] = {}
    for node in registry.nodes:
        for address in _addresses(node):
            owners.setdefault(address, []).append(node.id)
    return owners


def _addresses(node: Node | None) -> Iterator[tuple[str, str]]:
    """Each address of a node, with the name of its field."""
    if node is None:
        return
    for hwaddr, _ in node.hwaddrs():
        yield "hwaddr", hwaddr
    for device in node.network_devices.values():
        if device.ipaddr:
            yield "ipaddr", str(device.ipaddr)


def _check_address(node: Node, address: tuple[str, str], owners: Sequence[str], config: Config) -> None:
    kind, text = address
    others = [owner for owner in owners if owner != node.id]
    if others:
        raise Error(f"node {node.id}: the {kind} {text} belongs to node {others[0]}", hint=f"give {node.id} another one")
    if len(owners) > 1:
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


def differences(before: Entry, after: Entry, prefix: KeyPath = ()) -> list[Difference]:
    """What changed, value by value, in the order of the entries."""
    found: list[Difference] = []
    for key in dict.fromkeys((*before, *after)):
        old, new = before.get(key), after.get(key)
        if isinstance(old, Mapping) or isinstance(new, Mapping):
            inner_old = old if isinstance(old, Mapping) else {}
            inner_new = new if isinstance(new, Mapping) else {}
            found += differences(inner_old, inner_new, (*prefix, key))
        elif old != new:
            found.append(Difference(path=(*prefix, key), before=old, after=new))
    return found


def label(path: KeyPath) -> str:
    """A value's place in the words of the command line: `kernelargs`, `netname[default].hwaddr`, `tag[rack]`."""
    if path[0] == NETWORKS and len(path) > 2:
        return f"netname[{path[1]}].{_flag_name(path[2:], network=True)}"
    return _flag_name(path, network=False)


def _flag_name(path: KeyPath, *, network: bool) -> str:
    for field in node_fields():
        if field.network != network:
            continue
        if field.path == path and field.flag:
            return field.flag
        if field.flag is None and field.path == path[:-1]:
            return f"{field.path[0] if len(field.path) > 1 else ''}tag[{path[-1]}]"
    return ".".join(path)
