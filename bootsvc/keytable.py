"""A YAML mapping read by a table of its known keys: values with types, errors with file, line and key, and a warning
with the closest known key for each key that the table lacks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from enum import Enum
from ipaddress import AddressValueError, IPv4Address, IPv4Interface, IPv4Network, IPv6Network, ip_network
from pathlib import Path
from typing import Any

import msgspec
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from bootsvc.yamlfile import NULL, YamlError, error, items

Parse = Callable[[str], Any]
"""Turns a scalar's text into its value; raises ValueError with what was expected instead."""


class ListOf(msgspec.Struct, frozen=True):
    """A list of scalars, or one scalar alone."""

    parse: Parse


class MapOf(msgspec.Struct, frozen=True):
    """A mapping with keys of the user's choice."""

    parse: Parse


class RecordsOf(msgspec.Struct, frozen=True):
    """A list of mappings with the keys of this table; a key that a mapping lacks is not in its record."""

    table: "Mapping[str, Parse | ListOf | type[Anything]]"


class Anything:
    """A key that is accepted as it stands."""


Table = Mapping[str, "Table | Parse | ListOf | MapOf | RecordsOf | type[Anything]"]
KeyPath = tuple[str, ...]


@dataclass(slots=True)
class Settings:
    """What a file sets, by path of keys; a key that is absent or empty is not here."""

    source: Path
    values: dict[KeyPath, Any] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    _nodes: dict[KeyPath, Node] = field(default_factory=dict)

    def get(self, *path: str, default: Any = None) -> Any:
        return self.values.get(path, default)

    @property
    def lines(self) -> Mapping[KeyPath, int]:
        """Where each key that has a value stands, counted from 1."""
        return {path: node.start_mark.line + 1 for path, node in self._nodes.items()}

    def error(self, path: KeyPath, reason: str, hint: str | None = None) -> YamlError:
        """The error for a value that was read but cannot stand."""
        return error(self.source, self._nodes[path], reason, key=": ".join(path), hint=hint)

    def read(self, node: MappingNode, table: Table, prefix: KeyPath = ()) -> None:
        """Take over the mapping `node`; raises YamlError."""
        for item in items(node, self.source, ": ".join(prefix)):
            path = (*prefix, item.key)
            expected = table.get(item.key)
            if expected is None:
                self._warn(item.line, path, table)
            elif item.value.tag == NULL or expected is Anything:
                continue
            elif isinstance(expected, Mapping):
                if not isinstance(item.value, MappingNode):
                    keys = ", ".join(list(expected)[:3])
                    raise error(
                        self.source,
                        item.value,
                        "expected keys below this one",
                        key=": ".join(path),
                        hint=f"such as {keys}, each indented on its own line",
                    )
                self.read(item.value, expected, path)
            else:
                self._nodes[path] = item.value
                self.values[path] = self._value(item.value, expected, path)

    def _value(self, node: Node, expected: Any, path: KeyPath) -> Any:
        if isinstance(expected, MapOf):
            return {item.key: self._scalar(item.value, expected.parse, path) for item in items(node, self.source)}
        if isinstance(expected, ListOf):
            members = node.value if isinstance(node, SequenceNode) else [node]
            return tuple(self._scalar(member, expected.parse, path) for member in members)
        if isinstance(expected, RecordsOf):
            return self._records(node, expected.table, path)
        return self._scalar(node, expected, path)

    def _records(
        self, node: Node, table: "Mapping[str, Parse | ListOf | type[Anything]]", path: KeyPath
    ) -> tuple[dict[str, Any], ...]:
        key = ": ".join(path)
        if not isinstance(node, SequenceNode):
            raise error(self.source, node, "expected a list", key=key, hint="each of its members begins with `- `")
        records = []
        for member in node.value:
            record: dict[str, Any] = {}
            for item in items(member, self.source, key):
                expected = table.get(item.key)
                if expected is None:
                    self._warn(item.line, (*path, item.key), table)
                elif expected is not Anything and item.value.tag != NULL:
                    record[item.key] = self._value(item.value, expected, (*path, item.key))
            records.append(record)
        return tuple(records)

    def _scalar(self, node: Node, parse: Parse, path: KeyPath) -> Any:
        key = ": ".join(path)
        if not isinstance(node, ScalarNode):
            what = "a list" if isinstance(node, SequenceNode) else "keys"
            raise error(self.source, node, f"expected one value, not {what}", key=key)
        try:
            return parse(node.value)
        except ValueError as exc:
            raise error(self.source, node, f"{node.value!r} cannot be used", key=key, hint=str(exc)) from exc

    def _warn(self, line: int, path: KeyPath, table: Mapping[str, Any]) -> None:
        close = get_close_matches(path[-1], table, n=1)
        guess = f" (did you mean {close[0]!r}?)" if close else ""
        self.warnings.append(f"{self.source}:{line}: unknown key {': '.join(path)!r}{guess}")


def given(**values: Any) -> Mapping[str, Any]:
    """Only what is set; a record's own default stands for the rest."""
    return {name: value for name, value in values.items() if value is not None}


def text(value: str) -> str:
    return value


def flag(value: str) -> bool:
    """YAML 1.1's words too: Warewulf's own reader takes them for a boolean field."""
    lower = value.lower()
    if lower in ("true", "yes", "on"):
        return True
    if lower in ("false", "no", "off"):
        return False
    raise ValueError("expected true or false")


def number(low: int, high: int) -> Parse:
    def parse(value: str) -> int:
        if value.isascii() and value.isdigit() and len(value) < 12 and low <= int(value) <= high:
            return int(value)
        raise ValueError(f"expected a number from {low} to {high}")

    return parse


def choice(of: type[Enum]) -> Parse:
    """One of an enum's values."""

    def parse(value: str) -> Enum:
        # YAML 1.1 takes `off` for a boolean; the text is what it was.
        try:
            return of(value.lower())
        except ValueError as exc:
            raise ValueError("expected " + " or ".join(str(member.value) for member in of)) from exc

    return parse


def network(value: str) -> IPv4Network:
    try:
        if "/" in value:
            return IPv4Network(value)
    except ValueError as exc:
        raise ValueError(f"expected a network such as 10.1.0.0/16: {exc}") from exc
    raise ValueError("expected a network with its prefix length, such as 10.1.0.0/16")


def ipv4_network(value: str) -> IPv4Network:
    """A network, or one address as the network of itself."""
    try:
        return IPv4Network(value)
    except ValueError as exc:
        raise ValueError(f"expected a network such as 10.0.0.0/24: {exc}") from exc


def ipv4(value: str) -> IPv4Address:
    try:
        return IPv4Address(value)
    except AddressValueError as exc:
        raise ValueError("expected an IPv4 address such as 10.0.0.1") from exc


def ipv4_or_cidr(value: str) -> IPv4Address | IPv4Interface:
    """An address, or one with the length of its network's prefix."""
    try:
        return IPv4Interface(value) if "/" in value else IPv4Address(value)
    except ValueError as exc:
        raise ValueError("expected an IPv4 address such as 10.0.0.1 or 10.0.0.1/24") from exc


def network_or_address(value: str) -> IPv4Address | IPv4Network:
    """A network's address, or the network with the length of its prefix."""
    try:
        return IPv4Network(value) if "/" in value else IPv4Address(value)
    except ValueError as exc:
        raise ValueError(f"expected a network such as 10.0.0.0 or 10.0.0.0/24: {exc}") from exc


def subnet(value: str) -> IPv4Network | IPv6Network:
    """A network, or one address as the network of itself."""
    try:
        return ip_network(value, strict=False)
    except ValueError as exc:
        raise ValueError("expected a network such as 10.0.0.0/24 or fd00::/64") from exc


def absolute_path(value: str) -> Path:
    if value.startswith("/"):
        return Path(value)
    raise ValueError("expected a path that begins with /")
