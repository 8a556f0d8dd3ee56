"""Who boots an image: the nodes and profiles of nodes.conf that name it. Values only; nothing here reads or writes a file."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from bootsvc.registry import Registry
from bootsvc.store import Entry, Snapshot

KEY = "image name"
SHOWN = 8
"""So many names are told at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Users:
    """Sorted names; `nodes` also holds those that get the image from a profile."""

    nodes: tuple[str, ...]
    profiles: tuple[str, ...]

    def __bool__(self) -> bool:
        return bool(self.nodes or self.profiles)

    def __str__(self) -> str:
        """`n1, n2 and profile default`; of many names the first, and how many more there are."""
        profiles = f"profile{'s' if len(self.profiles) > 1 else ''} {_first(self.profiles)}" if self.profiles else ""
        return " and ".join(filter(None, (_first(self.nodes), profiles)))


def users(snapshot: Snapshot, registry: Registry, image: str) -> Users:
    """A node that is left out of the registry for some mistake counts when its own entry names the image."""
    merged = {node.id for node in registry.nodes_of_image(image)}
    return Users(
        nodes=tuple(sorted(merged | _named(snapshot.nodes, image))), profiles=tuple(sorted(_named(snapshot.profiles, image)))
    )


def renamed(snapshot: Snapshot, old: str, new: str) -> Snapshot:
    """A copy in which every node and profile that names the image says its new name."""
    return replace(snapshot, nodes=_renamed(snapshot.nodes, old, new), profiles=_renamed(snapshot.profiles, old, new))


def _first(names: tuple[str, ...]) -> str:
    more = len(names) - SHOWN
    return ", ".join(names) if more <= 0 else f"{', '.join(names[:SHOWN])} ({more} more)"


def _named(entries: Mapping[str, Entry], image: str) -> set[str]:
    return {name for name, entry in entries.items() if entry.get(KEY) == image}


def _renamed(entries: Mapping[str, Entry], old: str, new: str) -> Mapping[str, Entry]:
    return {name: {**entry, KEY: new} if entry.get(KEY) == old else entry for name, entry in entries.items()}
