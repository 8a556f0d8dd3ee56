"""The fields of nodes and profiles as data, out of `netboot.node`: where each stands in nodes.conf, the `wwctl` flag
that sets it, and what text it takes. CLI, file checks and documentation are made from this."""

import csv
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cache
from ipaddress import AddressValueError, IPv4Address, IPv6Address
from types import UnionType
from typing import Any, get_args, get_origin, get_type_hints

import msgspec

from images.errors import Error
from netboot import hwaddr, nettags
from netboot.node import Disk, FileSystem, NetDev, Node, Partition, Profile, Record

NETWORKS = "network devices"
TRUE_WORDS = ("true", "yes", "1")
FALSE_WORDS = ("false", "no", "0")
CLEAR_WORDS = ("UNSET", "UNDEF")
"""Given as a value, they remove the field."""


class Scope(Enum):
    """Which record of a node a field belongs to; the value is the word in --WORDname and --WORDdel."""

    NODE = ""
    NETWORK = "net"
    DISK = "disk"
    PARTITION = "part"
    FILESYSTEM = "fs"

    def path(self, names: Mapping["Scope", str]) -> tuple[str, ...]:
        """Where the record stands in an entry of nodes.conf; `names` says which network, disk, … is meant."""
        if self is Scope.NODE:
            return ()
        if self is Scope.PARTITION:
            return (*Scope.DISK.path(names), PARTITIONS, names[self])
        return (_SCOPE_KEYS[self], names[self])

    @classmethod
    def of(cls, path: Sequence[str]) -> tuple["Scope", tuple[str, ...], tuple[str, ...]]:
        """The record that a path in an entry leads into, that record's own names, and the rest of the path."""
        for scope, key in _SCOPE_KEYS.items():
            if path[0] == key and len(path) > 1:
                if scope is cls.DISK and len(path) > 3 and path[2] == PARTITIONS:
                    return cls.PARTITION, (path[1], path[3]), tuple(path[4:])
                return scope, (path[1],), tuple(path[2:])
        return cls.NODE, (), tuple(path)


PARTITIONS = "partitions"
_SCOPE_KEYS = {Scope.NETWORK: NETWORKS, Scope.DISK: "disks", Scope.FILESYSTEM: "filesystems"}
_RECORDS: Mapping[Scope, type[Record]] = {
    Scope.NETWORK: NetDev,
    Scope.DISK: Disk,
    Scope.PARTITION: Partition,
    Scope.FILESYSTEM: FileSystem,
}


class Kind(Enum):
    """What a field holds."""

    TEXT = "text"
    BOOLEAN = "true|false"
    LIST = "list"
    IPV4 = "IPv4 address"
    IPV6 = "IPv6 address"
    TAGS = "tags"


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field; `path` leads to it in the record of its scope."""

    path: tuple[str, ...]
    scope: Scope
    kind: Kind
    flag: str | None
    short: str | None
    help: str
    typed: bool = False
    """A boolean that nodes.conf must hold as one, not as text."""
    node_only: bool = False
    """Profiles lack it."""

    def full_path(self, names: Mapping[Scope, str]) -> tuple[str, ...]:
        """The path in an entry; `names` says which network, disk, … is meant."""
        return (*self.scope.path(names), *self.path)

    def parse(self, text: str) -> str | list[str] | bool:
        """What nodes.conf says for `text`, in its usual spelling; raises Error."""
        if self.kind is Kind.LIST:
            return split_list(text)
        if self.typed:
            return _boolean(text) == "true"
        check = _CHECKS.get(self.path[-1]) or _KIND_CHECKS.get(self.kind)
        return check(text) if check else text


def split_list(text: str) -> list[str]:
    """Members between commas; quotes keep one together, as in Warewulf: `quiet,"console=ttyS0,115200"`. Raises Error."""
    try:
        parts = next(csv.reader([text], skipinitialspace=True), [])
    except csv.Error as exc:
        raise Error(f"{text!r} is no list: it holds a line break", hint="members stand between commas, in one line") from exc
    return [member for member in (part.strip() for part in parts) if member]


@cache
def node_fields() -> tuple[Field, ...]:
    """Every field of a node, in the order of `netboot.node`; those of network devices, disks, … come last."""
    nested = (one for scope, record in _RECORDS.items() for one in _fields(record, (), scope))
    return (*_fields(Node, (), Scope.NODE), *nested)


def _fields(record: type[Record], prefix: tuple[str, ...], scope: Scope) -> tuple[Field, ...]:
    found: list[Field] = []
    hints = get_type_hints(record, include_extras=True)
    for info in msgspec.structs.fields(record):
        hint = hints[info.name]
        path = (*prefix, info.encode_name)
        if isinstance(hint, type) and issubclass(hint, Record):
            found += _fields(hint, path, scope)
        elif metas := [extra for extra in getattr(hint, "__metadata__", ()) if isinstance(extra, msgspec.Meta)]:
            extra: Mapping[str, Any] = metas[0].extra or {}
            found.append(
                Field(
                    path=path,
                    scope=scope,
                    kind=Kind.BOOLEAN if extra.get("boolean") else _kind(get_args(hint)[0]),
                    flag=extra.get("flag"),
                    short=extra.get("short"),
                    help=metas[0].description or "",
                    typed=bool in get_args(get_args(hint)[0]),
                    node_only=record is Node and info.name not in Profile.__struct_fields__,
                )
            )
    return tuple(found)


def _kind(hint: Any) -> Kind:
    if get_origin(hint) is tuple:
        return Kind.LIST
    if get_origin(hint) is dict:
        return Kind.TAGS
    if isinstance(hint, UnionType) and str not in get_args(hint):
        return Kind.IPV4 if IPv4Address in get_args(hint) else Kind.IPV6
    return Kind.TEXT


@cache
def known_keys() -> Mapping[str, Any]:
    """The keys of an entry: nested for records, `...` where any key may stand, None for a value."""
    return _known(Node)


def _known(record: type[Record]) -> dict[str, Any]:
    hints = get_type_hints(record)
    known: dict[str, Any] = {}
    for info in msgspec.structs.fields(record):
        hint = hints[info.name]
        if isinstance(hint, type) and issubclass(hint, Record):
            known[info.encode_name] = _known(hint)
        elif get_origin(hint) is dict and isinstance(get_args(hint)[1], type) and issubclass(get_args(hint)[1], Record):
            known[info.encode_name] = {...: _known(get_args(hint)[1])}
        else:
            known[info.encode_name] = None
    known.pop("id", None)
    return known


def _boolean(text: str) -> str:
    lower = text.lower()
    if lower in TRUE_WORDS:
        return "true"
    if lower in FALSE_WORDS:
        return "false"
    raise Error(f"{text!r} is neither true nor false", hint="say true or false")


def _ipv4(text: str) -> str:
    try:
        return str(IPv4Address(text))
    except AddressValueError as exc:
        hint = "give the address alone; --netmask takes the mask" if "/" in text else "four numbers: 10.0.0.5"
        raise Error(f"{text!r} is no IPv4 address: {exc}", hint=hint) from exc


def _ipv6(text: str) -> str:
    try:
        return str(IPv6Address(text))
    except AddressValueError as exc:
        hint = "give the address alone; --prefixlen6 takes the length" if "/" in text else "such as fd00::5"
        raise Error(f"{text!r} is no IPv6 address: {exc}", hint=hint) from exc


def _netmask(text: str) -> str:
    mask = int(IPv4Address(_ipv4(text)))
    inverted = mask ^ 0xFFFFFFFF
    if inverted & (inverted + 1) or not mask:
        raise Error(f"{text!r} is no netmask: its ones must come first", hint="such as 255.255.255.0")
    return str(IPv4Address(mask))


def _number(low: int, high: int) -> Callable[[str], str]:
    def check(text: str) -> str:
        if re.fullmatch(r"[0-9]{1,9}", text) and low <= int(text) <= high:
            return text
        raise Error(f"{text!r} is no number from {low} to {high}")

    return check


def _guid(text: str) -> str:
    if re.fullmatch(r"[0-9A-Fa-f]{8}(-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}", text):
        return text
    raise Error(f"{text!r} is no GUID", hint="such as 0FC63DAF-8483-4772-8E79-3D69D8477DE4 for Linux data")


_KIND_CHECKS: Mapping[Kind, Callable[[str], str]] = {
    Kind.BOOLEAN: _boolean,
    Kind.IPV4: _ipv4,
    Kind.IPV6: _ipv6,
}
_CHECKS: Mapping[str, Callable[[str], str]] = {
    "number": _number(0, 128),
    "size_mib": _number(0, 999_999_999),
    "type_guid": _guid,
    "device": nettags.check_interface,
    "hwaddr": hwaddr.parse,
    "netmask": _netmask,
    # RFC 791 §3.2: every module must forward 68 octets.
    "mtu": _number(68, 65535),
    "prefixlen6": _number(0, 128),
    "port": _number(1, 65535),
}
