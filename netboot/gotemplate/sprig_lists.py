"""Sprig's list functions; a list is never changed, each makes a new one. The `must` forms differ in name alone here."""

from collections.abc import Sequence

from netboot.gotemplate.errors import FunctionError
from netboot.gotemplate.sprig_equality import deep_equal
from netboot.gotemplate.values import Functions, GoList, Value, function, is_true, type_name

_Members = Sequence[Value]


def _members(name: str, values: Value) -> _Members:
    if not isinstance(values, list | tuple):
        raise FunctionError(f"Cannot find {name} on type {type_name(values)}")
    return values


@function(params=("...any",))
def _list(*values: Value) -> Value:
    return list(values)


@function(params=("any",))
def _first(values: Value) -> Value:
    members = _members("first", values)
    return members[0] if members else None


@function(params=("any",))
def _last(values: Value) -> Value:
    members = _members("last", values)
    return members[-1] if members else None


@function(params=("any",))
def _rest(values: Value) -> Value:
    return list(_members("rest", values)[1:])


@function(params=("any",))
def _initial(values: Value) -> Value:
    return list(_members("initial", values)[:-1])


@function(params=("any", "any"))
def _append(values: Value, value: Value) -> Value:
    return [*_members("push", values), value]


@function(params=("any", "any"))
def _prepend(values: Value, value: Value) -> Value:
    return [value, *_members("prepend", values)]


@function(params=("...any",))
def _concat(*lists: Value) -> Value:
    return [member for values in lists for member in _members("concat", values)]


@function(params=("any",))
def _reverse(values: Value) -> Value:
    return list(reversed(_members("reverse", values)))


@function(params=("any",))
def _uniq(values: Value) -> Value:
    kept: list[Value] = []
    seen: set[str] = set()
    for member in _members("uniq", values):
        if type(member) is str:
            if member not in seen:
                seen.add(member)
                kept.append(member)
        elif not _holds(kept, member):
            kept.append(member)
    return kept


def _holds(values: _Members, wanted: Value) -> bool:
    return any(deep_equal(member, wanted) for member in values)


@function(params=("any", "...any"))
def _without(values: Value, *omitted: Value) -> Value:
    return [member for member in _members("without", values) if not _holds(omitted, member)]


@function(params=("any", "any"))
def _has(wanted: Value, values: Value) -> Value:
    return values is not None and _holds(_members("has", values), wanted)


@function(params=("any",))
def _compact(values: Value) -> Value:
    return [member for member in _members("compact", values) if is_true(member)]


@function(params=("any", "...any"))
def _slice(values: Value, *bounds: Value) -> Value:
    if not isinstance(values, list | tuple):
        raise FunctionError(f"list should be type of slice or array but {type_name(values)}")
    if not values:
        return None
    numbers = [bound for bound in bounds if isinstance(bound, int) and not isinstance(bound, bool)]
    if len(numbers) != len(bounds):
        raise FunctionError("the bounds of a slice are integers")
    start, end = (*numbers[:2], *(0, len(values))[len(numbers[:2]) :])
    if not 0 <= start <= end <= len(values):
        raise FunctionError(f"slice bounds out of range [{start}:{end}] with {len(values)} members")
    part = values[start:end]
    return GoList(part, values.element) if isinstance(values, GoList) else list(part)


@function(params=("int", "any"))
def _chunk(size: int, values: Value) -> Value:
    members = _members("chunk", values)
    if size < 1:
        raise FunctionError(f"cannot cut a list into pieces of {size}")
    return GoList([list(members[at : at + size]) for at in range(0, len(members), size)], "[]interface {}")


_BASE: Functions = {
    "first": _first,
    "last": _last,
    "rest": _rest,
    "initial": _initial,
    "append": _append,
    "push": _append,
    "prepend": _prepend,
    "reverse": _reverse,
    "uniq": _uniq,
    "without": _without,
    "has": _has,
    "compact": _compact,
    "slice": _slice,
    "chunk": _chunk,
}

FUNCTIONS: Functions = {
    "list": _list,
    "tuple": _list,
    "concat": _concat,
    **_BASE,
    **{f"must{name[0].upper()}{name[1:]}": given for name, given in _BASE.items()},
}
