"""A machine that no node is takes the first discoverable node's place: one machine, one node, whoever asks at once. Pure."""

from dataclasses import dataclass

from bootsvc.changes import Change, set_entries
from bootsvc.config import Config
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


def find_place(registry: Registry) -> Node | None:
    """The first node, by cluster and name, that waits for a machine."""
    return next((node for node in registry.nodes if node.discoverable.lower() in _TRUE), None)


def discover(snapshot: Snapshot, hwaddr: str, config: Config, previous: Registry | None = None) -> Found | None:
    """Give the machine a node; None when no node waits for one. Raises Error when nodes.conf cannot take the change.

    Meant to run under the lock of nodes.conf, on the file as it is then, so that no other machine gets the same node.
    """
    registry = Registry.build(snapshot, config.network, previous=previous)
    known = registry.by_hwaddr(hwaddr)
    if known is not None:
        return Found(node=known.id, snapshot=snapshot, is_new=False)
    node = find_place(registry)
    if node is None:
        return None
    device = node.primary_name or DEFAULT_NETWORK
    changes = [Change(path=(NETWORKS, device, "hwaddr"), value=hwaddr), Change(path=("discoverable",), value="false")]
    after = set_entries(snapshot, NODES, [node.id], changes, config)
    return Found(node=node.id, snapshot=after, is_new=True)
