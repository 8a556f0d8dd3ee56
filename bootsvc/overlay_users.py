"""Who has an overlay: the nodes and profiles of nodes.conf whose lists name it. Values only."""

from collections.abc import Mapping

from bootsvc.image_users import Users
from bootsvc.registry import Registry
from bootsvc.store import Entry, Snapshot

KEYS = ("system overlay", "runtime overlay")


def users(snapshot: Snapshot, registry: Registry, overlay: str) -> Users:
    """Nodes also by a profile of theirs; a node that is left out of the registry counts by its own entry."""
    merged = {node.id for node in registry.nodes if overlay in (*node.system_overlay, *node.runtime_overlay)}
    return Users(
        nodes=tuple(sorted(merged | _named(snapshot.nodes, overlay))),
        profiles=tuple(sorted(_named(snapshot.profiles, overlay))),
    )


def _named(entries: Mapping[str, Entry], overlay: str) -> set[str]:
    return {name for name, entry in entries.items() for key in KEYS if overlay in (entry.get(key) or ())}
