"""Profiles applied to a node: Warewulf 4.7's merge rules, on the plain mappings that nodes.conf holds.

Values win from left to right: profiles in expanded order, then the node. Scalars: the later one that is not empty.
Lists: appended. Mappings: by key, with the same rules inside. `profiles` and `comment` come from the node alone.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

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


class Merger:
    """Merges many nodes over the same profiles: what a list of profiles gives is worked out once."""

    def __init__(self, profiles: Mapping[str, Entry]) -> None:
        self._profiles = profiles
        self._known: dict[tuple[str, ...], _Base] = {}

    def merge(self, name: str, entry: Entry) -> Merged:
        """Apply its profiles to one node; a profile that does not exist is a warning. Parts of the result are shared."""
        base = self._base(entry.get("profiles"))
        merged = _over(base.entry, entry)
        for path in REMOVABLE:
            if path in base.negating or _negates(_at(entry, path)):
                merged = _without_negated_at(merged, path)
        if not base.missing:
            return Merged(entry=merged)
        return Merged(
            entry=merged, warnings=tuple(f"node {name} has the profile {gone!r}, which does not exist" for gone in base.missing)
        )

    def _base(self, listed: object) -> "_Base":
        key = tuple(_texts(listed))
        found = self._known.get(key)
        if found is None:
            order, missing = expand_profiles(listed, self._profiles)
            base: Entry = {}
            for profile in order:
                base = _over(base, _inherited(self._profiles[profile]))
            negating = frozenset(path for path in REMOVABLE if _negates(_at(base, path)))
            found = self._known[key] = _Base(base, missing, negating)
        return found


class _Base(NamedTuple):
    """What a list of profiles gives: the paths in `negating` lead to lists with a `~x`."""

    entry: Entry
    missing: tuple[str, ...]
    negating: frozenset[Path]


def merge(name: str, entry: Entry, profiles: Mapping[str, Entry]) -> Merged:
    """Apply its profiles to one node, as `Merger` does to many."""
    return Merger(profiles).merge(name, entry)


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


def listed_profiles(entry: Entry) -> frozenset[str]:
    """The profiles that an entry itself takes, without the negations."""
    return frozenset(name for name in _texts(entry.get("profiles")) if not name.startswith("~"))


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


_NOTHING: Entry = {}


def _over(base: Entry, layer: Entry) -> dict[str, Any]:
    """A new mapping: `layer` over `base`. Neither is changed; inner parts of `base` are shared."""
    result = dict(base)
    for key, value in layer.items():
        if isinstance(value, str):
            if value:
                result[key] = value
        elif isinstance(value, dict):
            present = result.get(key)
            result[key] = _over(present if isinstance(present, dict) else _NOTHING, value)
        elif isinstance(value, list):
            present = result.get(key)
            result[key] = [*present, *value] if isinstance(present, list) else list(value)
        elif isinstance(value, Mapping):
            present = result.get(key)
            result[key] = _over(present if isinstance(present, Mapping) else {}, value)
        elif value is not None:
            result[key] = value
    return result


def _is_set(value: Any) -> bool:
    """Empty text and empty lists say nothing; False does."""
    return value is not None and value not in ("", [])


def _at(entry: Entry, path: Path) -> Any:
    value: Any = entry.get(path[0])
    for key in path[1:]:
        value = value.get(key) if isinstance(value, dict) else None
    return value


def _negates(value: Any) -> bool:
    return isinstance(value, list) and any(isinstance(member, str) and member.startswith("~") for member in value)


def _without_negated_at(merged: dict[str, Any], path: Path) -> dict[str, Any]:
    """The mapping with the list at `path` as its negations leave it."""
    key, *rest = path
    present = merged.get(key)
    if rest:
        inner = _without_negated_at(present, tuple(rest)) if isinstance(present, dict) else present
        return merged if inner is present else {**merged, key: inner}
    if not isinstance(present, list):
        return merged
    kept = without_negated(present)
    return merged if len(kept) == len(present) else {**merged, key: kept}


def _texts(value: object) -> list[str]:
    """The names in a list; what is not a list of text is left to `to_node` to refuse."""
    return [member for member in value if isinstance(member, str)] if isinstance(value, list | tuple) else []
