"""The merged nodes in memory, by hardware address, address and name. Immutable: a change builds another one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from ipaddress import AddressValueError, IPv4Address, IPv4Network
from typing import Any, NamedTuple

import msgspec

from bootsvc.net.networks import NetworkSet
from bootsvc.store import Entry, Snapshot
from bootsvc.yamlfile import paused_gc
from images.errors import Error
from netboot import hwaddr as hardware
from netboot.fields import NETWORKS, known_keys
from netboot.merge import Merger
from netboot.node import Node, ipv4, to_node

_TYPES = {
    "`bool | null`": "true or false",
    "`object`": "keys and values",
    "`array`": "a list",
    "`str | array`": "text or a list",
    "`str`": "text",
    "`null`": "nothing",
    "`int`": "a number",
}
"""msgspec's names, in the words of who writes nodes.conf."""
_NO_NAME = re.compile(r"[\x00-\x20/\x7f]|\A\.|\A\Z")
"""What makes a name unfit for a path and a log line. Warewulf takes more names than `wwctl node add` gives."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Registry:
    """All nodes that are usable; `problems` says what is wrong with the file, one sentence each."""

    nodes: tuple[Node, ...] = ()
    """Sorted by cluster name, then by name."""
    problems: tuple[str, ...] = ()
    _names: Mapping[str, Node] = field(default_factory=dict)
    _hwaddrs: Mapping[str, Node] = field(default_factory=dict)
    _addresses: Mapping[int, Node] = field(default_factory=dict)
    """By number: an IPv4Address takes several times as long to look up, and each DHCP message does it."""
    _networks: NetworkSet = field(default_factory=lambda: NetworkSet(()))
    _merging: "Merging | None" = None

    @classmethod
    def build(cls, snapshot: Snapshot, network: IPv4Network | None = None, *, previous: "Registry | None" = None) -> "Registry":
        """Merge and index; `network` is the boot network, whose netmask a device in it need not repeat.

        A node with a bad field is left out and named in `problems`; of two nodes with one address the first has it.
        Nodes whose entries are as in `previous` are taken over from there.
        """
        with paused_gc():
            return cls._build(snapshot, Merging(snapshot.profiles, network, previous._merging if previous else None))

    @classmethod
    def _build(cls, snapshot: Snapshot, merging: "Merging") -> "Registry":
        nodes: list[Node] = []
        problems: list[str] = []
        for name, entry in snapshot.nodes.items():
            result = merging.result(name, entry)
            problems += result.problems
            if result.node is not None:
                nodes.append(result.node)
        for name, entry in snapshot.profiles.items():
            problems += unknown_keys(f"profile {name}", entry)
        nodes.sort(key=lambda node: (node.cluster_name, node.id))
        hwaddrs: dict[str, Node] = {}
        addresses: dict[int, Node] = {}
        networks: set[tuple[int, int]] = set()
        edges = _edges(merging.network)
        for node in nodes:
            for hwaddr, _ in node.hwaddrs():
                if hwaddrs.setdefault(hwaddr, node) is not node:
                    problems.append(f"nodes {hwaddrs[hwaddr].id} and {node.id} both have the hwaddr {hwaddr}")
            for device in node.network_devices.values():
                if device.ipaddr and addresses.setdefault(number := int(device.ipaddr), node) is not node:
                    problems.append(f"nodes {addresses[number].id} and {node.id} both have the ipaddr {device.ipaddr}")
                if device.ipaddr and number in edges:
                    problems.append(
                        f"node {node.id} gets no address: {device.ipaddr} is one that no machine in {merging.network} can have"
                    )
                if device.ipaddr and device.netmask:
                    mask = int(device.netmask)
                    networks.add((int(device.ipaddr) & mask, mask))
                    if device.gateway and (int(device.gateway) ^ number) & mask and mask != _ALL_ONES:
                        problems.append(
                            f"node {node.id}: its gateway {device.gateway} is not on its network, that of {device.ipaddr} with "
                            f"the netmask {device.netmask}: DHCP tells it no gateway"
                        )
        return cls(
            nodes=tuple(nodes),
            problems=tuple(problems),
            _names={node.id: node for node in nodes},
            _hwaddrs=hwaddrs,
            _addresses=addresses,
            _networks=NetworkSet(networks),
            _merging=merging,
        )

    def by_hwaddr(self, hwaddr: str) -> Node | None:
        """The node with this hardware address (lower case, colons)."""
        return self._hwaddrs.get(hwaddr)

    def by_name(self, name: str) -> Node | None:
        return self._names.get(name)

    def by_address(self, address: IPv4Address) -> Node | None:
        return self._addresses.get(int(address))

    def reserved(self, address: IPv4Address) -> bool:
        """Whether some node owns the address, so that no other machine may get it."""
        return int(address) in self._addresses

    def is_near(self, address: IPv4Address) -> bool:
        """Whether some node has the address, or one in the same network by its own netmask."""
        return int(address) in self._addresses or address in self._networks

    def nodes_of_image(self, image: str) -> tuple[Node, ...]:
        """The nodes that boot this image, by their own word or a profile's."""
        return tuple(node for node in self.nodes if node.image_name == image)


_ALL_ONES = 0xFFFFFFFF
"""A netmask of one address: whatever its gateway is, is outside, and meant so."""


def _edges(network: IPv4Network | None) -> tuple[int, ...]:
    """The addresses of a network that are nobody's."""
    if network is None or network.prefixlen > 30:
        return ()
    return int(network.network_address), int(network.broadcast_address)


class Result(NamedTuple):
    """What one entry gave: a node, or None when it is unusable, and what is wrong with it."""

    entry: Entry
    node: Node | None
    problems: tuple[str, ...]


class Merging:
    """Merges nodes one by one over the same profiles, and remembers what each entry gave."""

    def __init__(self, profiles: Mapping[str, Entry], network: IPv4Network | None, previous: "Merging | None" = None) -> None:
        self.profiles = profiles
        self.network = network
        self.results: dict[str, Result] = {}
        self._merger = Merger(profiles)
        same = previous is not None and previous.network == network and previous.profiles == profiles
        self._previous: Mapping[str, Result] = previous.results if same and previous else {}

    def result(self, name: str, entry: Entry) -> Result:
        found = self._previous.get(name)
        if found is None or found.entry != entry:
            found = self._merge(name, entry)
        self.results[name] = found
        return found

    def _merge(self, name: str, entry: Entry) -> Result:
        if _NO_NAME.search(name):
            return Result(entry, None, (f"{name!r} cannot be the name of a node; the node is left out",))
        unknown = unknown_keys(f"node {name}", entry)
        try:
            node, warnings = self.node(name, entry)
        except Error as exc:
            return Result(entry, None, (*unknown, f"{exc.message}; the node is left out"))
        return Result(entry, node, (*unknown, *warnings))

    def node(self, name: str, entry: Entry) -> tuple[Node, tuple[str, ...]]:
        """One node with its profiles, and warnings; raises Error that names node and field when a value is unusable."""
        merged = self._merger.merge(name, entry)
        return _to_node(f"node {name}", name, merged.entry, self.network), merged.warnings


def check_profile(name: str, entry: Entry) -> Node:
    """The profile as a node without a name; raises Error when no node could have it, because a value in it is unusable."""
    return _to_node(f"profile {name}", "", entry, None)


def _to_node(owner: str, name: str, entry: Entry, network: IPv4Network | None) -> Node:
    complete = _complete(owner, entry, network)
    try:
        return to_node(name, complete)
    except msgspec.ValidationError as exc:
        raise Error(f"{owner}: {_explain(complete, exc)}", hint="correct the value in nodes.conf") from exc


def _complete(owner: str, entry: Entry, network: IPv4Network | None) -> Entry:
    """Hardware addresses in one spelling, and the boot network's netmask where a device in it has none."""
    devices = entry.get(NETWORKS)
    if not isinstance(devices, Mapping):
        return entry
    return {**entry, NETWORKS: {key: _complete_device(owner, key, device, network) for key, device in devices.items()}}


def _complete_device(owner: str, key: str, device: Any, network: IPv4Network | None) -> Any:
    if not isinstance(device, Mapping):
        return device
    completed = dict(device)
    if isinstance(device.get("hwaddr"), str):
        try:
            completed["hwaddr"] = hardware.parse(device["hwaddr"])
        except Error as exc:
            raise Error(f"{owner}: {NETWORKS}.{key}.hwaddr: {exc.message}", hint=exc.hint) from exc
    if network and device.get("ipaddr") and not device.get("netmask") and _inside(device["ipaddr"], network):
        completed["netmask"] = str(network.netmask)
    return completed


def _inside(address: object, network: IPv4Network) -> bool:
    try:
        return ipv4(str(address)) in network
    except AddressValueError:
        return False


def _explain(entry: Entry, error: msgspec.ValidationError) -> str:
    """msgspec's sentence; it says `[...]` for the key of a mapping, so the network device is sought."""
    reason, _, path = str(error).partition(" - at `$.")
    path = path.rstrip("`")
    if path.startswith(f"{NETWORKS}[...]"):
        for key, device in entry[NETWORKS].items():
            try:
                to_node("", {NETWORKS: {key: device}})
            except msgspec.ValidationError as exc:
                reason, _, path = str(exc).partition(" - at `$.")
                path = path.rstrip("`").replace("[...]", f".{key}", 1)
                break
    for name, words in _TYPES.items():
        reason = reason.replace(name, words)
    return f"{path}: {reason[:1].lower()}{reason[1:]}" if path else reason


def unknown_keys(owner: str, entry: Entry) -> list[str]:
    """A sentence for each key that no field has, with the closest that one has."""
    return [
        f"{owner}: unknown key {'.'.join(path)!r}" + (f" (did you mean {close[0]!r}?)" if close else "")
        for path, known in _unknown(entry, known_keys())
        for close in [get_close_matches(path[-1], known, n=1)]
    ]


def _unknown(entry: Entry, known: Mapping[Any, Any], prefix: tuple[str, ...] = ()) -> list[tuple[tuple[str, ...], list[str]]]:
    found = []
    other = known.get(..., entry)
    for key, value in entry.items():
        inner = known.get(key, other)
        if inner is entry:
            found.append(((*prefix, key), list(known)))
        elif inner and isinstance(value, dict):
            found += _unknown(value, inner, (*prefix, key))
    return found
