"""What sprig tells about values: whether they are equal, empty, and of which type and kind."""

from netboot.gotemplate.errors import FunctionError
from netboot.gotemplate.values import Functions, GoList, GoMap, NilPointer, Record, Value, function, is_true, text_of, type_name


def deep_equal(left: Value, right: Value) -> bool:
    """Go's reflect.DeepEqual: of one type and alike all through; 1 and 1.0 differ, true is no number."""
    if left is right:
        return True
    first, second = text_of(left), text_of(right)
    if first is not None or second is not None:
        return first == second
    if isinstance(left, dict) and isinstance(right, dict):
        same = _element(left) == _element(right) and left.keys() == right.keys()
        return same and all(deep_equal(value, right[key]) for key, value in left.items())
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        same = _element(left) == _element(right) and len(left) == len(right)
        return same and all(map(deep_equal, left, right))
    return type(left) is type(right) and left == right


def _element(value: Value) -> str:
    return value.element if isinstance(value, GoMap | GoList) else "interface {}"


def _type(value: Value) -> str:
    return "<nil>" if value is None else type_name(value)


def _kind(value: Value) -> str:
    """Go's reflect.Kind."""
    if value is None:
        return "invalid"
    if isinstance(value, NilPointer):
        return "ptr"
    name = type_name(value)
    if isinstance(value, Record):
        return "ptr" if name.startswith("*") else "struct"
    return "slice" if name.startswith("[]") else name.partition("[")[0]


@function(params=("any",))
def _type_of(value: Value) -> Value:
    return _type(value)


@function(params=("string", "any"))
def _type_is(name: str, value: Value) -> Value:
    return name == _type(value)


@function(params=("string", "any"))
def _type_is_like(name: str, value: Value) -> Value:
    return _type(value) in (name, "*" + name)


@function(params=("any",))
def _kind_of(value: Value) -> Value:
    return _kind(value)


@function(params=("string", "any"))
def _kind_is(name: str, value: Value) -> Value:
    return name == _kind(value)


@function(params=("any", "any"))
def _deep_equal(left: Value, right: Value) -> Value:
    return deep_equal(left, right)


@function(params=("any", "...any"))
def _default(default: Value, *given: Value) -> Value:
    return given[0] if given and is_true(given[0]) else default


@function(params=("any",))
def _empty(value: Value) -> Value:
    return not is_true(value)


@function(params=("...any",))
def _coalesce(*values: Value) -> Value:
    return next(filter(is_true, values), None)


@function(params=("...any",))
def _all(*values: Value) -> Value:
    return all(map(is_true, values))


@function(params=("...any",))
def _any(*values: Value) -> Value:
    return any(map(is_true, values))


@function(params=("any", "any", "bool"))
def _ternary(if_true: Value, if_false: Value, test: bool) -> Value:
    return if_true if test else if_false


@function(params=("string",))
def _fail(message: str) -> Value:
    raise FunctionError(message)


FUNCTIONS: Functions = {
    "typeOf": _type_of,
    "typeIs": _type_is,
    "typeIsLike": _type_is_like,
    "kindOf": _kind_of,
    "kindIs": _kind_is,
    "deepEqual": _deep_equal,
    "default": _default,
    "empty": _empty,
    "coalesce": _coalesce,
    "all": _all,
    "any": _any,
    "ternary": _ternary,
    "fail": _fail,
}
