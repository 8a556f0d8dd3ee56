"""Values as an action, `print` and `println` write them: Go's %v and the spaces between operands (package fmt)."""

from collections.abc import Iterable, Mapping

from netboot.gotemplate.errors import LimitExceeded
from netboot.gotemplate.floats import general
from netboot.gotemplate.limits import DEFAULT_LIMITS
from netboot.gotemplate.values import MISSING, Record, Shape, Value, shape_of, text_of, type_name

NO_VALUE, NIL = "<no value>", "<nil>"
MAX_PRINTED_DEPTH = 100  # lists within lists; Go would write on until its stack ends


def show(value: Value, limit: int = DEFAULT_LIMITS.output) -> str:
    """What an action writes. Raises LimitExceeded beyond `limit` characters."""
    return NO_VALUE if value is None or value is MISSING else plain(value, limit)


def plain(value: Value, limit: int = DEFAULT_LIMITS.output) -> str:
    """`%v`. Raises LimitExceeded beyond `limit` characters."""
    kind = type(value)
    if kind is str:
        return value  # type: ignore[return-value]
    if kind is int:
        return str(value)
    pieces: list[str] = []
    _write(value, pieces, limit, 0)
    return "".join(pieces)


def _write(value: Value, pieces: list[str], room: int, depth: int) -> int:
    """Append the text of `value`; returns the room that is left."""
    if depth > MAX_PRINTED_DEPTH:
        raise LimitExceeded(f"a value is nested more than {MAX_PRINTED_DEPTH} deep")
    match shape_of(value):
        case Shape.MAP if isinstance(value, dict):
            pieces.append("map[")
            for number, key in enumerate(sorted_keys(value)):
                pieces.append(" " * (number > 0))
                room = _write(key, pieces, room - 2, depth + 1)
                pieces.append(":")
                room = _write(value[key], pieces, room, depth + 1)
            text = "]"
        case Shape.SLICE if isinstance(value, list | tuple):
            pieces.append("[")
            for number, item in enumerate(value):
                pieces.append(" " * (number > 0))
                room = _write(item, pieces, room - 1, depth + 1)
            text = "]"
        case _:
            text = scalar(value)
    pieces.append(text)
    room -= len(text)
    if room < 0:
        raise LimitExceeded("a text is longer than the limit of an output")
    return room


def scalar(value: Value) -> str:
    """`%v` of what is neither list nor map."""
    text = text_of(value)
    if text is not None:
        return text
    match shape_of(value):
        case Shape.BOOL:
            return "true" if value else "false"
        case Shape.FLOAT if isinstance(value, float):
            return general(value)
        case Shape.NIL | Shape.MISSING | Shape.POINTER:
            return NIL
        case Shape.RECORD if isinstance(value, Record):
            return value.go_string()
        case Shape.FUNC:
            return type_name(value)
    return str(value)


def sorted_keys(mapping: Mapping[Value, Value]) -> list[Value]:
    """Keys in the order in which Go ranges over and prints a map; of mixed kinds, numbers come before texts."""
    try:
        return sorted(mapping)  # type: ignore[type-var]
    except TypeError:
        return sorted(mapping, key=lambda key: (isinstance(key, str), key if isinstance(key, int | float) else 0, str(key)))


def is_string(value: Value) -> bool:
    """Whether `print` sets no space beside it."""
    return type(value) is str or shape_of(value) is Shape.STRING


def joined(values: Iterable[Value], limit: int) -> str:
    """`print`: a space between two operands when neither is a string."""
    pieces: list[str] = []
    after_string = True
    for value in values:
        string = is_string(value)
        if not string and not after_string:
            pieces.append(" ")
        pieces.append(plain(value, limit))
        after_string = string
    return "".join(pieces)


def lined(values: Iterable[Value], limit: int) -> str:
    """`println`: a space between operands, and a newline."""
    return " ".join(plain(value, limit) for value in values) + "\n"
