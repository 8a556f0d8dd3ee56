"""`eq ne lt le gt ge`: Go's rules for values of basic kinds, and its refusals."""

from typing import Final

from netboot.gotemplate.errors import FunctionError
from netboot.gotemplate.limits import DEFAULT_LIMITS
from netboot.gotemplate.printing import plain
from netboot.gotemplate.values import Shape, Value, shape_of, text_of, type_name
from netboot.gotemplate.verbs import Flags, Verbs

# Basic kinds; all texts are one kind. What is in no row has no kind, like nil, lists and structs.
_KINDS: Final = {
    Shape.BOOL: "bool",
    Shape.INT: "int",
    Shape.FLOAT: "float",
    Shape.STRING: "string",
    Shape.TEXT: "string",
}
_NOTHING: Final = (Shape.NIL, Shape.MISSING)


def _as_text(value: Value) -> str:
    """`%s`, as Go shows the value in a refusal."""
    return Verbs(Flags(), DEFAULT_LIMITS.output).text(value, "s")


def _basic(value: Value) -> Value:
    text = text_of(value)
    return value if text is None else text


def eq(first: Value, *others: Value) -> bool:
    """Whether the first equals any of the others."""
    if not others:
        raise FunctionError("missing argument for comparison")
    return any(_equal(first, other) for other in others)


def _equal(first: Value, second: Value) -> bool:
    shape, other = shape_of(first), shape_of(second)
    kind = _KINDS.get(shape)
    if kind != _KINDS.get(other):
        if shape in _NOTHING or other in _NOTHING:
            return False
        raise FunctionError(f"incompatible types for comparison: {type_name(first)} and {type_name(second)}")
    if kind is not None:
        return _basic(first) == _basic(second)
    nothing = (*_NOTHING, Shape.POINTER)
    if shape is not other and not (shape in _NOTHING or other in _NOTHING) and Shape.POINTER not in (shape, other):
        shown = f"{_as_text(first)}: {type_name(first)}, {type_name(second)}: {plain(second)}"
        raise FunctionError(f"non-comparable types {shown}")
    if shape in nothing or other in nothing:
        return shape in nothing and other in nothing
    if other in (Shape.SLICE, Shape.MAP, Shape.FUNC):
        raise FunctionError(f"non-comparable type {_as_text(second)}: {type_name(second)}")
    return first is second or first == second


def ne(first: Value, second: Value) -> bool:
    return not _equal(first, second)


def lt(first: Value, second: Value) -> bool:
    kind, other = _KINDS.get(shape_of(first)), _KINDS.get(shape_of(second))
    if kind is None or other is None:
        raise FunctionError("invalid type for comparison")
    if kind != other:
        raise FunctionError(f"incompatible types for comparison: {type_name(first)} and {type_name(second)}")
    if kind == "bool":
        raise FunctionError("invalid type for comparison")
    return bool(_basic(first) < _basic(second))  # type: ignore[operator]


def le(first: Value, second: Value) -> bool:
    return lt(first, second) or _equal(first, second)


def gt(first: Value, second: Value) -> bool:
    return not le(first, second)


def ge(first: Value, second: Value) -> bool:
    return not lt(first, second)
