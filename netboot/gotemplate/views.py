"""Our records as the structs that a Go template sees: fields under Go's names, and every read noted (`netboot.reads`)."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address
from typing import Any

from netboot.gotemplate.printing import plain
from netboot.gotemplate.values import MISSING, Function, GoList, GoMap, NilPointer, Value, function
from netboot.reads import EACH, KEYS, ReadPath, Trace

NO_ADDRESS = NilPointer("net.IP")
"""An address that is not set: false, and prints as `<nil>`."""
TRUE_WORDS = ("true", "yes", "1", "t")


class Switch(str):
    """A boolean that nodes.conf holds as text (Warewulf's WWbool): text, with methods."""

    __slots__ = ()

    def go_method(self, name: str) -> Function | None:
        given = self.lower()
        match name:
            case "Bool":
                return _returning(given in TRUE_WORDS)
            case "BoolDefaultTrue":
                return _returning(given in ("", *TRUE_WORDS))
            case "String":
                return _returning(str(self))
        return None


@dataclass(frozen=True, slots=True)
class Address:
    """An address that is set (Go's net.IP): text, with methods."""

    value: IPv4Address | IPv6Address

    def __str__(self) -> str:
        return str(self.value)

    def go_string(self) -> str:
        return str(self.value)

    def go_method(self, name: str) -> Function | None:
        match name:
            case "String":
                return _returning(str(self.value))
            case "IsUnspecified" | "IsLoopback" | "IsMulticast" | "IsPrivate":
                tests = {"IsUnspecified": "is_unspecified", "IsLoopback": "is_loopback", "IsMulticast": "is_multicast"}
                return _returning(bool(getattr(self.value, tests.get(name, "is_private"))))
        return None


@lru_cache(maxsize=16384)
def _address(value: IPv4Address | IPv6Address | None) -> Value:
    return NO_ADDRESS if value is None else Address(value)


def _returning(value: Value) -> Function:
    return function(params=())(lambda: value)


Getter = Callable[["View"], Value]


class Struct:
    """A Go type: its name, and its fields (and methods without arguments) in the order in which they print."""

    def __init__(self, name: str, fields: Mapping[str, Getter]) -> None:
        self.name = name
        self.fields = dict(fields)


class View:
    """A record as a pointer to a struct; `key` is its name in the mapping that holds it, `parent` whose it is."""

    __slots__ = ("_struct", "key", "parent", "path", "record", "trace")

    def __init__(
        self, struct: Struct, record: Any, path: ReadPath, trace: Trace, key: str = "", parent: "View | None" = None
    ) -> None:
        self._struct, self.record, self.path, self.trace = struct, record, path, trace
        self.key, self.parent = key, parent

    def read(self, name: str) -> Any:
        """An attribute of the record, noted."""
        self.trace.paths.add((*self.path, name))
        return getattr(self.record, name)

    def go_type(self) -> str:
        return self._struct.name

    def go_field(self, name: str) -> Value:
        getter = self._struct.fields.get(name)
        return MISSING if getter is None else getter(self)

    def go_method(self, name: str) -> Function | None:
        return None

    def go_string(self) -> str:
        return "&{" + " ".join(plain(getter(self)) for getter in self._struct.fields.values()) + "}"

    def go_json(self) -> Value:
        return {name: getter(self) for name, getter in self._struct.fields.items()}


def text(name: str) -> Getter:
    """A field that is text in Go."""

    def get(view: View) -> Value:
        value = view.read(name)
        return value if isinstance(value, str) else "" if value is None else str(value)

    return get


def switch(name: str) -> Getter:
    return lambda view: Switch(view.read(name))


def flag(name: str) -> Getter:
    """A boolean; what is not set is false."""
    return lambda view: bool(view.read(name))


def number(name: str) -> Getter:
    def get(view: View) -> Value:
        value: Value = view.read(name)
        return value

    return get


def address(name: str) -> Getter:
    return lambda view: _address(view.read(name))


def texts(name: str) -> Getter:
    """A list of strings; a new one each time, because templates may change lists."""
    return lambda view: GoList(view.read(name), "string")


def tags(name: str) -> Getter:
    return lambda view: GoMap(view.read(name), "string")


def part(name: str, struct: Struct) -> Getter:
    """A record within the record."""
    return lambda view: View(struct, getattr(view.record, name), (*view.path, name), view.trace, parent=view)


def parts(name: str, struct: Struct) -> Getter:
    """A mapping of records; what is read of one counts for every one."""

    def get(view: View) -> Value:
        return GoMap(((each.key, each) for each in members(view, name, struct)), struct.name)

    return get


def members(view: View, name: str, struct: Struct) -> list[View]:
    """The records of a mapping as views, sorted by key."""
    view.trace.paths.add((*view.path, name, KEYS))
    path = (*view.path, name, EACH)
    records = getattr(view.record, name)
    return [View(struct, records[key], path, view.trace, key, view) for key in sorted(records)]


def listed(name: str, struct: Struct, order: Callable[[Iterable[View]], Iterable[View]] = list) -> Getter:
    """A mapping of records as a list."""
    return lambda view: GoList(order(members(view, name, struct)), struct.name)


def key_of(view: View) -> Value:
    return view.key
