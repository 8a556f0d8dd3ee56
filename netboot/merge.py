"""Profiles applied to a node: Warewulf 4.7's merge rules, on the plain mappings that nodes.conf holds.

Values win from left to right: profiles in expanded order, then the node. Scalars: the later one that is not empty.
Lists: appended. Mappings: by key, with the same rules inside. `profiles` and `comment` come from the node alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Entry = Mapping[str, Any]
Path = tuple[str, ...]

NODE_ONLY = frozenset(("profiles", "comment"))

REMOVABLE: tuple[Path, ...] = (("profiles",), ("system overlay",), ("runtime overlay",), ("kernel", "args"))
"""The lists in which `~x` removes every x and itself."""

SUPERSEDED = "SUPERSEDED"


@dataclass(frozen=True, slots=True, kw_only=True)
class Merged:
    """A node's entry with its profiles applied, ready for `netboot.node.to_node`."""

    entry: Entry
    warnings: tuple[str, ...] = ()


def merge(name: str, entry: Entry, profiles: Mapping[str, Entry]) -> Merged:
    """Apply its profiles to one node; a profile that does not exist is a warning."""
    order, missing = expand_profiles(entry.get("profiles"), profiles)
    merged: dict[str, Any] = {}
    for layer in (*(_inherited(profiles[profile]) for profile in order), entry):
        _merge_into(merged, layer)
    for path in REMOVABLE:
        _remove_negated(merged, path)
    return Merged(
        entry=merged, warnings=tuple(f"node {name} has the profile {gone!r}, which does not exist" for gone in missing)
    )


def expand_profiles(names: object, profiles: Mapping[str, Entry]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The profiles in the order in which they apply, each once, and the names that are no profile.

    A profile's own profiles come before it; a cycle is cut where it closes; `~p` anywhere removes every p.
    """
    expanded: list[str] = []
    missing: list[str] = []
    seen: set[str] = set()

    def visit(listed: object) -> None:
        for name in _texts(listed):
            if name in seen:
                continue
            seen.add(name)
            if name.startswith("~"):
                expanded.append(name)
            elif name in profiles:
                visit(profiles[name].get("profiles"))
                expanded.append(name)
            else:
                missing.append(name)

    visit(names)
    order = without_negated(expanded)
    return tuple(order), tuple(name for name in missing if "~" + name not in seen)


def without_negated(values: Sequence[Any]) -> list[Any]:
    """The list after each `~x` has removed all x, wherever they stand, and itself."""
    negated = {value[1:] for value in values if isinstance(value, str) and value.startswith("~")}
    if not negated:
        return list(values)
    return [value for value in values if not (isinstance(value, str) and (value.startswith("~") or value in negated))]


def sources(name: str, entry: Entry, profiles: Mapping[str, Entry]) -> dict[Path, str]:
    """Where each value of the merged node comes from, by path.

    "" is the node itself, SUPERSEDED the node against a profile that says it too, else the profile; an appended list
    names all of its sources.
    """
    order, _ = expand_profiles(entry.get("profiles"), profiles)
    found: dict[Path, list[str]] = {}
    layers = [(profile, _inherited(profiles[profile])) for profile in order]
    lists: set[Path] = set()
    for source, layer in (*layers, (name, entry)):
        for path, value in leaves(layer):
            found.setdefault(path, []).append(source)
            if isinstance(value, list):
                lists.add(path)
    result: dict[Path, str] = {}
    for path, origins in found.items():
        if origins == [name]:
            result[path] = ""
        elif path in lists:
            result[path] = ",".join(origins)
        else:
            result[path] = SUPERSEDED if origins[-1] == name else origins[-1]
    return result


def leaves(entry: Entry, prefix: Path = ()) -> Iterator[tuple[Path, Any]]:
    """Every value that is set and is not a mapping, with its path."""
    for key, value in entry.items():
        if isinstance(value, Mapping):
            yield from leaves(value, (*prefix, key))
        elif _is_set(value):
            yield (*prefix, key), value


def _inherited(profile: Entry) -> Entry:
    return {key: value for key, value in profile.items() if key not in NODE_ONLY}


def _merge_into(target: dict[str, Any], layer: Entry) -> None:
    for key, value in layer.items():
        present = target.get(key)
        if isinstance(value, Mapping):
            inner = present if isinstance(present, dict) else {}
            _merge_into(inner, value)
            target[key] = inner
        elif isinstance(value, list):
            target[key] = [*present, *value] if isinstance(present, list) else list(value)
        elif _is_set(value):
            target[key] = value


def _is_set(value: Any) -> bool:
    """Empty text and empty lists say nothing; False does."""
    return value is not None and value not in ("", [])


def _remove_negated(merged: dict[str, Any], path: Path) -> None:
    *parents, last = path
    holder: Any = merged
    for key in parents:
        holder = holder.get(key)
        if not isinstance(holder, dict):
            return
    if isinstance(holder.get(last), list):
        holder[last] = without_negated(holder[last])


def _texts(value: object) -> list[str]:
    """The names in a list; what is not a list of text is left to `to_node` to refuse."""
    return [member for member in value if isinstance(member, str)] if isinstance(value, list | tuple) else []
