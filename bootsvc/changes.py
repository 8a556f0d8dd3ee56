"""Changes to the nodes and profiles of nodes.conf as values: applied to a snapshot, checked, shown as a diff.

`wwctl` and the HTTP API both build on these; nothing here reads or writes a file. `section` is store.NODES or
store.PROFILES: whatever can be done to a node can be done to a profile.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from ipaddress import AddressValueError, IPv4Address
from typing import Any

from bootsvc import hostlist
from bootsvc.checks import checked
from bootsvc.config import Config
from bootsvc.names import UnknownName as UnknownName
from bootsvc.names import closest as closest
from bootsvc.store import NODES, PROFILES, Entry, Snapshot
from images.errors import Error
from netboot.fields import NETWORKS, Scope, node_fields
from netboot.merge import listed_profiles

_LABEL = "[A-Za-z0-9]([A-Za-z0-9_-]{0,61}[A-Za-z0-9])?"
_NAMES = {NODES: re.compile(rf"{_LABEL}(\.{_LABEL})*"), PROFILES: re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+-]*")}
_NAME_HINTS = {
    NODES: "letters, digits, hyphens and dots, at most 63 between two dots: n1, gpu-03, n1.cluster",
    PROFILES: "letters, digits, and . _ + - after the first",
}
MAX_NAME = 253
WORDS = {NODES: "node", PROFILES: "profile"}
"""What one entry of a section is called."""

ANY = "*"

Value = str | list[str] | bool | None
KeyPath = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """Set the value at `path` of an entry; None removes it, and a mapping with it when `path` leads to one.

    `("disks", ANY, …)` stands for every disk of the entry.
    """

    path: KeyPath
    value: Value


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """One value before and after; None is unset."""

    path: KeyPath
    before: Any
    after: Any


def add_entries(snapshot: Snapshot, section: str, names: Sequence[str], changes: Sequence[Change], config: Config) -> Snapshot:
    """New nodes or profiles, each with these values; a node's IPv4 addresses (also its BMC's) go up by one from node to node.

    Without `profiles` among the changes the profile `default` is attached to a node when there is one. Raises Error.
    """
    entries, word = dict(snapshot.entries(section)), WORDS[section]
    if section == NODES and "default" in snapshot.profiles and not any(change.path == ("profiles",) for change in changes):
        changes = [Change(path=("profiles",), value=["default"]), *changes]
    for index, name in enumerate(names):
        check_name(section, name)
        if name in entries:
            again = name not in snapshot.entries(section)
            raise Error(
                f"the {word} {name!r} is named twice" if again else f"the {word} {name!r} exists already",
                hint="name it once" if again else f"`wwctl {word} set {name}` changes it",
            )
        counted = [_counted(change, index, name) for change in changes] if section == NODES else changes
        entries[name] = apply({}, counted)
    return checked(snapshot, snapshot.with_entries(section, entries), section, names, config)


def set_entries(snapshot: Snapshot, section: str, names: Sequence[str], changes: Sequence[Change], config: Config) -> Snapshot:
    """These nodes or profiles with the changes made; raises Error."""
    known = snapshot.entries(section)
    for name in names:
        if name not in known:
            raise UnknownName(WORDS[section], name, list(known))
    return put_entries(snapshot, section, {name: apply(known[name], changes) for name in names}, config)


def put_entries(snapshot: Snapshot, section: str, entries: Mapping[str, Entry], config: Config) -> Snapshot:
    """These entries instead of those of the same names, or as new ones; raises Error."""
    known = snapshot.entries(section)
    for name in entries:
        if name not in known:
            check_name(section, name)
    return checked(snapshot, snapshot.with_entries(section, {**known, **entries}), section, list(entries), config)


def delete_entries(snapshot: Snapshot, section: str, names: Sequence[str]) -> Snapshot:
    """Without these nodes or profiles; raises Error for a profile that is used, and for `default`."""
    gone = frozenset(names)
    if section == PROFILES:
        if "default" in gone:
            raise Error(
                "the profile 'default' cannot be deleted",
                hint="`wwctl node set --profile` and `wwctl profile unset default` change what it does",
            )
        for name in names:
            used = profile_users(snapshot, name, gone)
            if used:
                raise Error(f"the profile {name!r} is used by {used}", hint="take it from them first, with `set --profile`")
    return snapshot.with_entries(
        section, {name: entry for name, entry in snapshot.entries(section).items() if name not in gone}
    )


def profile_users(snapshot: Snapshot, profile: str, without: frozenset[str] = frozenset()) -> str:
    """The nodes and profiles that list a profile, in words; empty when none does. Profiles in `without` do not count."""
    nodes = [name for name, entry in snapshot.nodes.items() if profile in listed_profiles(entry)]
    profiles = [name for name, entry in snapshot.profiles.items() if name not in without and profile in listed_profiles(entry)]
    return " and ".join(
        f"{word}{'s' if len(users) > 1 else ''} {hostlist.compress(users)}"
        for word, users in (("node", nodes), ("profile", profiles))
        if users
    )


def merged_into(entry: Entry, new: Entry) -> Entry:
    """`entry` with all that `new` says; a list replaces a list, mappings are joined by key."""
    joined = dict(entry)
    for key, value in new.items():
        present = joined.get(key)
        joined[key] = merged_into(present, value) if isinstance(present, Mapping) and isinstance(value, Mapping) else value
    return joined


def apply(entry: Entry, changes: Sequence[Change]) -> Entry:
    """A copy of an entry with the changes made; mappings left empty go too."""
    for change in changes:
        for path in _paths(entry, change.path):
            entry = _put(entry, path, change.value)
    return entry


def _paths(entry: Entry, path: KeyPath) -> list[KeyPath]:
    if path[:2] != ("disks", ANY):
        return [path]
    disks = entry.get("disks")
    return [("disks", disk, *path[2:]) for disk in disks] if isinstance(disks, Mapping) else []


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


def check_name(section: str, name: str) -> None:
    """Raises Error for what cannot be the name of a node or profile."""
    if len(name) > MAX_NAME or not _NAMES[section].fullmatch(name):
        raise Error(f"{name!r} cannot be the name of a {WORDS[section]}", hint=_NAME_HINTS[section])


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


@lru_cache(maxsize=10_000)
def label(path: KeyPath) -> str:
    """A value's place in the words of the command line: `kernelargs`, `netname[default].hwaddr`, `tag[rack]`."""
    scope, names, rest = Scope.of(path)
    if not rest:
        # A whole record, which is empty.
        return ".".join(path)
    words = ("diskname", "partname") if scope is Scope.PARTITION else (f"{scope.value}name",)
    owner = "".join(f"{word}[{name}]." for word, name in zip(words, names, strict=False))
    return owner + _flag_name(rest, scope)


def _flag_name(path: KeyPath, scope: Scope) -> str:
    for field in node_fields():
        if field.scope is not scope:
            continue
        if field.path == path and field.flag:
            return field.flag
        if field.flag is None and field.path == path[:-1]:
            return f"{field.path[0] if len(field.path) > 1 else ''}tag[{path[-1]}]"
    return ".".join(path)
