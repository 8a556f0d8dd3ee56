"""A machine that no node is takes the first discoverable node's place: one machine, one node, whoever asks at once. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bootsvc.changes import Change, apply, put_entries
from bootsvc.config import Config
from bootsvc.entries import Entry
from bootsvc.registry import Registry
from bootsvc.store import NODES, Snapshot
from netboot.fields import NETWORKS
from netboot.node import Node

DEFAULT_NETWORK = "default"
"""The network device that a node gets which has none yet, as `wwctl node add` names it."""
_TRUE = ("true", "yes", "1", "t")


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What a discovery came to: the node that the machine is, and nodes.conf after it."""

    node: str
    snapshot: Snapshot
    is_new: bool
    """False: the machine was that node before."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """The same of several machines: hardware address → node; who got none is in neither map."""

    known: Mapping[str, str]
    new: Mapping[str, str]
    snapshot: Snapshot


def find_place(registry: Registry) -> Node | None:
    """The first node, by cluster and name, that waits for a machine."""
    return next((node for node in registry.nodes if _waits(node)), None)


def discover(snapshot: Snapshot, hwaddr: str, config: Config, previous: Registry | None = None) -> Found | None:
    """Give the machine a node; None when no node waits for one. Raises Error when nodes.conf cannot take the change.

    Meant to run under the lock of nodes.conf, on the file as it is then, so that no other machine gets the same node.
    """
    places = discover_all(snapshot, [hwaddr], config, previous)
    name = places.known.get(hwaddr) or places.new.get(hwaddr)
    return None if name is None else Found(node=name, snapshot=places.snapshot, is_new=hwaddr in places.new)


def discover_all(snapshot: Snapshot, hwaddrs: Sequence[str], config: Config, previous: Registry | None = None) -> Places:
    """The same for machines that ask at once, first come, first served, in one change of nodes.conf."""
    registry = Registry.build(snapshot, config.network, previous=previous)
    free = (node for node in registry.nodes if _waits(node))
    known: dict[str, str] = {}
    new: dict[str, str] = {}
    entries: dict[str, Entry] = {}
    for hwaddr in dict.fromkeys(hwaddrs):
        owner = registry.by_hwaddr(hwaddr)
        if owner is not None:
            known[hwaddr] = owner.id
        elif (node := next(free, None)) is not None:
            device = node.primary_name or DEFAULT_NETWORK
            changes = [Change(path=(NETWORKS, device, "hwaddr"), value=hwaddr), Change(path=("discoverable",), value="false")]
            entries[node.id], new[hwaddr] = apply(snapshot.nodes[node.id], changes), node.id
    after = put_entries(snapshot, NODES, entries, config) if entries else snapshot
    return Places(known=known, new=new, snapshot=after)


def _waits(node: Node) -> bool:
    return node.discoverable.lower() in _TRUE
