"""The functions that every Go template has; `and`, `or` and `call` are no plain functions (see `expressions`, `shortcuts`)."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from netboot.gotemplate import escapes
from netboot.gotemplate.comparisons import eq, ge, gt, le, lt, ne
from netboot.gotemplate.errors import FunctionError
from netboot.gotemplate.formatting import sprintf
from netboot.gotemplate.limits import Limits
from netboot.gotemplate.printing import NO_VALUE, joined, lined
from netboot.gotemplate.quoting import from_bytes, to_bytes
from netboot.gotemplate.values import GoList, GoMap, NilPointer, Shape, Value, is_true, shape_of, text_of, type_name, zero


@dataclass(frozen=True, slots=True)
class Builtin:
    """`least` and `most` are numbers of arguments (None: any number); `first_is_text`: the first must be a string."""

    run: Callable[..., Value]
    least: int
    most: int | None
    takes_limits: bool = False
    first_is_text: bool = False


def negate(value: Value) -> bool:
    """`not`."""
    return not is_true(value)


def _pointed(value: Value) -> str:
    """The type of what a pointer points at."""
    return type_name(value).lstrip("*")


def length(value: Value) -> int:
    """`len`; of a text, in bytes."""
    text = text_of(value)
    if text is not None:
        return len(text) if text.isascii() else len(to_bytes(text))
    if isinstance(value, dict | list | tuple):
        return len(value)
    match shape_of(value):
        case Shape.POINTER | Shape.NIL:
            raise FunctionError("len of nil pointer")
        case Shape.MISSING:
            raise FunctionError("reflect: call of reflect.Value.Type on zero Value")
    raise FunctionError(f"len of type {_pointed(value)}")


def _place(index: Value, length: int) -> int:
    """An index as Go checks it: an int from 0 to `length`."""
    match shape_of(index):
        case Shape.NIL | Shape.MISSING:
            raise FunctionError("cannot index slice/array with nil")
        case Shape.INT if isinstance(index, int):
            if 0 <= index <= length:
                return index
            raise FunctionError(f"index out of range: {index}")
    raise FunctionError(f"cannot index slice/array with type {type_name(index)}")


def index(item: Value, *indexes: Value) -> Value:
    """`index x 1 "a"` is x[1]["a"]; a key that a map lacks gives the zero value of its elements."""
    if shape_of(item) in (Shape.NIL, Shape.MISSING):
        raise FunctionError("index of untyped nil")
    for at in indexes:
        item = _element(item, at)
    return item


def _element(item: Value, at: Value) -> Value:
    text = text_of(item)
    if text is not None:
        raw = to_bytes(text)
        return raw[_within(_place(at, len(raw)), len(raw), "string")]
    if isinstance(item, list | tuple):
        return item[_within(_place(at, len(item)), len(item), "slice")]
    if isinstance(item, dict):
        key = text_of(at)
        if shape_of(at) in (Shape.NIL, Shape.MISSING):
            raise FunctionError("value is nil; should be of type string")
        if key is None:
            if isinstance(at, int) and at in item:  # keys of other types come from YAML
                return item[at]
            raise FunctionError(f"value has type {type_name(at)}; should be string")
        return item[key] if key in item else zero(item.element) if isinstance(item, GoMap) else None
    if shape_of(item) in (Shape.NIL, Shape.MISSING, Shape.POINTER):
        raise FunctionError("index of nil pointer")
    raise FunctionError(f"can't index item of type {_pointed(item)}")


def _within(place: int, length: int, what: str) -> int:
    if place == length:
        raise FunctionError(f"reflect: {what} index out of range")
    return place


def cut(item: Value, *indexes: Value) -> Value:
    """`slice x 1 3` is x[1:3]; of a text, in bytes."""
    if shape_of(item) in (Shape.NIL, Shape.MISSING):
        raise FunctionError("slice of untyped nil")
    if isinstance(item, NilPointer):
        raise FunctionError("slice of nil pointer")
    if len(indexes) > 3:
        raise FunctionError(f"too many slice indexes: {len(indexes)}")
    text = text_of(item)
    if text is not None and len(indexes) == 3:
        raise FunctionError("cannot 3-index slice a string")
    if text is None and not isinstance(item, list | tuple):
        raise FunctionError(f"can't slice item of type {_pointed(item)}")
    whole: bytes | list[Value] = to_bytes(text) if text is not None else list(item)  # type: ignore[call-overload]
    bounds = [0, len(whole), len(whole)]
    for number, at in enumerate(indexes):
        bounds[number] = _place(at, len(whole))
    start, end, capacity = bounds
    if start > end:
        raise FunctionError(f"invalid slice index: {start} > {end}")
    if end > capacity:
        raise FunctionError(f"invalid slice index: {end} > {capacity}")
    part = whole[start:end]
    if isinstance(part, bytes):
        return from_bytes(part)
    return GoList(part, item.element) if isinstance(item, GoList) else part


def _print(limits: Limits, *values: Value) -> str:
    return joined(values, limits.output)


def _println(limits: Limits, *values: Value) -> str:
    return lined(values, limits.output)


def _printf(limits: Limits, template: str, *values: Value) -> str:
    return sprintf(template, values, limits)


def _escaper(escape: Callable[[str], str]) -> Callable[..., str]:
    def run(limits: Limits, *values: Value) -> str:
        shown = [NO_VALUE if value is None else value for value in values]
        text = shown[0] if len(shown) == 1 and type(shown[0]) is str else joined(shown, limits.output)
        return escape(text)

    return run


SHORT_CIRCUIT: Final = ("and", "or")
CALL: Final = "call"  # it calls what its first argument is

BUILTINS: Final[Mapping[str, Builtin]] = {
    "eq": Builtin(eq, 1, None),
    "ge": Builtin(ge, 2, 2),
    "gt": Builtin(gt, 2, 2),
    "html": Builtin(_escaper(escapes.html), 0, None, takes_limits=True),
    "index": Builtin(index, 1, None),
    "js": Builtin(_escaper(escapes.js), 0, None, takes_limits=True),
    "le": Builtin(le, 2, 2),
    "len": Builtin(length, 1, 1),
    "lt": Builtin(lt, 2, 2),
    "ne": Builtin(ne, 2, 2),
    "not": Builtin(negate, 1, 1),
    "print": Builtin(_print, 0, None, takes_limits=True),
    "printf": Builtin(_printf, 1, None, takes_limits=True, first_is_text=True),
    "println": Builtin(_println, 0, None, takes_limits=True),
    "slice": Builtin(cut, 1, None),
    "urlquery": Builtin(_escaper(escapes.urlquery), 0, None, takes_limits=True),
}

BUILTIN_NAMES: Final = frozenset({*BUILTINS, *SHORT_CIRCUIT, CALL})
