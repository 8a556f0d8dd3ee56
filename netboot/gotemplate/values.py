"""The values of a Go template, as Python objects.

| Go                    | Python                                                                                   |
| --------------------- | ---------------------------------------------------------------------------------------- |
| no value (a missing   | `MISSING`. A field of it is MISSING again, it prints `<no value>`, it is false. Functions |
| key, data of nil)     | never see it: their argument is None then.                                                |
| nil (an `any` of nil) | None. A field of it is an error. At the end of a pipeline it becomes MISSING.             |
| bool, string          | bool, str. Bytes that are no UTF-8 stand in a str as surrogate escapes (PEP 383);         |
|                       | `len`, `index` and `slice` count bytes.                                                   |
| int, int64, uint...   | int, named `int` in messages. Functions keep results within int64 with `wrap_int64`.      |
| float64               | float                                                                                     |
| []any                 | list or tuple; `GoList(values, "string")` is a []string                                   |
| map[string]any        | dict (ranged over and printed in sorted order of keys)                                    |
| map[string]string     | `GoMap(mapping, "string")`: `index` gives the zero value for a missing key ("" here),     |
|                       | where a plain dict gives nil. A missing `.key` is MISSING for both, as in Go.             |
| struct or pointer     | anything with the methods of `Record`. Always true.                                       |
| nil pointer           | `NilPointer("*node.KernelConf")`: false, prints `<nil>`, a field of it is an error        |
| fmt.Stringer          | anything with a method `go_string`, and ipaddress objects by str(). Text for `print`,     |
|                       | comparisons, `len`, truth and parameters of kind `string`, so that a template need not    |
|                       | know that it is no str; `print` sets spaces beside it. Paths and enums are plain strings. |
| func                  | a callable: a function, a bound method                                                    |

Booleans are no ints, though Python says so. Other objects print with str() and have the type name of their class.

Functions are given to `Template.execute` as a mapping from name to callable. A function takes values, returns one, and raises
FunctionError(message) for what a Go function returns as its error. `@function(params=...)` declares kinds that are checked
before the call; without it a function accepts anything that its Python signature takes.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum, auto
from ipaddress import IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network
from pathlib import PurePath
from typing import Final, Protocol, TypeAlias, TypeVar, final, runtime_checkable

Value: TypeAlias = object
Function: TypeAlias = Callable[..., Value]
Functions: TypeAlias = Mapping[str, Function]

INT_MIN: Final = -(1 << 63)
INT_MAX: Final = (1 << 63) - 1


@final
class Missing:
    """The class of MISSING, Go's invalid reflect.Value."""

    __slots__ = ()

    def __bool__(self) -> bool:
        return False

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = Missing()


@runtime_checkable
class Record(Protocol):
    """A struct (or a pointer to one) as templates see it."""

    def go_type(self) -> str:
        """Its type in messages, for example `*node.Node`."""
        ...

    def go_field(self, name: str) -> Value:
        """The value of an exported field, or MISSING when there is no such field (which is an error in the template)."""

    def go_method(self, name: str) -> Function | None:
        """A method by name; looked up before fields, called with the arguments that the template gives."""

    def go_string(self) -> str:
        """What `%v` and an action print, for example `{a b}`."""
        ...


@runtime_checkable
class TextWithMethods(Protocol):
    """A value that is text and has methods, as Go's net.IP; it has no fields."""

    def go_method(self, name: str) -> Function | None:
        """As that of a Record."""


@final
@dataclass(frozen=True, slots=True)
class NilPointer:
    """A typed nil pointer: false, prints `<nil>`, and a field of it is an error that names `type`.

    `fields`, where given, are the names that the struct has: others are told apart in messages.
    """

    type: str
    fields: frozenset[str] | None = None

    def __bool__(self) -> bool:
        return False


class GoMap(dict[str, Value]):
    """A map whose element type is known: `element` is a Go type such as `string`, `int`, `[]string`, `interface {}`."""

    __slots__ = ("element",)

    def __init__(self, values: Mapping[str, Value] | Iterable[tuple[str, Value]] = (), element: str = "interface {}") -> None:
        super().__init__(values)
        self.element = element


class GoList(list[Value]):
    """A slice whose element type is known; `element` as in GoMap."""

    __slots__ = ("element",)

    def __init__(self, values: Iterable[Value] = (), element: str = "interface {}") -> None:
        super().__init__(values)
        self.element = element


class Shape(Enum):
    """How the engine treats a value, by the class of it."""

    MISSING = auto()
    NIL = auto()
    BOOL = auto()
    INT = auto()
    FLOAT = auto()
    STRING = auto()
    TEXT = auto()
    SLICE = auto()
    MAP = auto()
    RECORD = auto()
    POINTER = auto()
    FUNC = auto()
    OTHER = auto()


_ADDRESSES = (IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network)
_SHAPES: dict[type, Shape] = {Missing: Shape.MISSING, type(None): Shape.NIL, NilPointer: Shape.POINTER}
_BY_BASE: tuple[tuple[type | tuple[type, ...], Shape], ...] = (
    ((Enum, PurePath, str), Shape.STRING),
    (_ADDRESSES, Shape.TEXT),
    (bool, Shape.BOOL),
    (int, Shape.INT),
    (float, Shape.FLOAT),
    (dict, Shape.MAP),
    ((list, tuple), Shape.SLICE),
)


def shape_of(value: Value) -> Shape:
    """The shape of a value; classes are looked at once."""
    kind = type(value)
    return _SHAPES.get(kind) or _SHAPES.setdefault(kind, _classify(kind))


def _classify(kind: type) -> Shape:
    if all(hasattr(kind, method) for method in ("go_type", "go_field", "go_method", "go_string")):
        return Shape.RECORD
    if hasattr(kind, "go_string"):
        return Shape.TEXT
    for bases, shape in _BY_BASE:
        if issubclass(kind, bases):
            return shape
    return Shape.FUNC if hasattr(kind, "__call__") else Shape.OTHER  # noqa: B004 (of the class, not of a value)


def text_of(value: Value) -> str | None:
    """The text of a value that is text to a template (str, what has `go_string`, address, path, enum), or None."""
    if type(value) is str:
        return value
    shape = shape_of(value)
    if shape is Shape.STRING:
        return str(value.value) if isinstance(value, Enum) else str(value)
    if shape is Shape.TEXT:
        # Asking for the method is many times as fast as asking the protocol.
        speak: Callable[[], str] | None = getattr(value, "go_string", None)
        return speak() if speak else str(value)
    return None


def zero(element: str) -> Value:
    """The zero value of a Go type (language specification, The zero value)."""
    match element:
        case "string":
            return ""
        case "bool":
            return False
        case "int" | "int64" | "uint":
            return 0
        case "float64":
            return 0.0
        case "interface {}":
            return None
    if element.startswith("[]"):
        return GoList((), element[2:])
    if element.startswith("map[string]"):
        return GoMap((), element.removeprefix("map[string]"))
    return NilPointer(element)


def type_name(value: Value) -> str:
    """The Go type that messages name."""
    match shape_of(value):
        case Shape.NIL | Shape.MISSING:
            return "interface {}"
        case Shape.RECORD if isinstance(value, Record):
            return value.go_type()
        case Shape.STRING:
            return "string"
        case Shape.TEXT if isinstance(value, _ADDRESSES):
            return "net.IP" if isinstance(value, IPv4Address | IPv6Address) else "net.IPNet"
        case Shape.BOOL:
            return "bool"
        case Shape.INT:
            return "int"
        case Shape.FLOAT:
            return "float64"
        case Shape.MAP:
            return f"map[string]{value.element if isinstance(value, GoMap) else 'interface {}'}"
        case Shape.SLICE:
            return f"[]{value.element if isinstance(value, GoList) else 'interface {}'}"
        case Shape.FUNC:
            return "func"
    return value.type if isinstance(value, NilPointer) else type(value).__name__


def is_true(value: Value) -> bool:
    """Go's truth: false are false, 0, nil and what is empty; a struct is always true."""
    kind = type(value)
    if kind is bool or kind is str or kind is int or kind is dict or kind is list:
        return bool(value)
    shape = shape_of(value)
    if shape in (Shape.RECORD, Shape.FUNC, Shape.OTHER):
        return True
    return text_of(value) != "" if shape in (Shape.STRING, Shape.TEXT) else bool(value)


def wrap_int64(number: int) -> int:
    """`number` as Go's 64-bit arithmetic leaves it (two's complement, wrapping)."""
    return number if INT_MIN <= number <= INT_MAX else ((number + (1 << 63)) & ((1 << 64) - 1)) - (1 << 63)


@dataclass(frozen=True, slots=True)
class Signature:
    """Kinds of the parameters: any, bool, int, float, string, slice, map; `variadic` is that of all further ones."""

    params: tuple[str, ...]
    variadic: str | None = None


F = TypeVar("F", bound=Function)


def function(*, params: tuple[str, ...]) -> Callable[[F], F]:
    """Declare the kinds of a template function's parameters; the last may be variadic: `("string", "...any")`.

    Wrong kinds and wrong counts are refused with Go's messages (`wrong type for value; expected string; got int`). An int
    literal is accepted for float. nil is given as None to any, slice and map, and refused for the other kinds.
    """
    variadic = params[-1].removeprefix("...") if params and params[-1].startswith("...") else None
    signature = Signature(params[:-1] if variadic else params, variadic)

    def declare(target: F) -> F:
        target.go_signature = signature  # type: ignore[attr-defined]
        return target

    return declare
