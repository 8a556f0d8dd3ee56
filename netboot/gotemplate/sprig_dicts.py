"""Sprig's dict functions. `set`, `unset` and `merge` change the dict that they are given, as in sprig; a dict is what `dict` or
`fromJson` made: the tags of a node are another type in Go, and refused as there."""

from netboot.gotemplate.errors import FunctionError
from netboot.gotemplate.printing import plain as printed
from netboot.gotemplate.quoting import to_bytes
from netboot.gotemplate.values import Functions, GoList, GoMap, Value, function, is_true, text_of, type_name

_Dict = dict[str, Value]


def _plain_dict(value: Value) -> _Dict:
    if isinstance(value, dict) and not (isinstance(value, GoMap) and value.element != "interface {}"):
        return value
    raise FunctionError(f"wrong type for value; expected map[string]interface {{}}; got {type_name(value)}")


@function(params=("...any",))
def _dict(*pairs: Value) -> Value:
    return {printed(pairs[at]): pairs[at + 1] if at + 1 < len(pairs) else "" for at in range(0, len(pairs), 2)}


@function(params=("any", "string"))
def _get(given: Value, key: str) -> Value:
    return _plain_dict(given).get(key, "")


@function(params=("any", "string", "any"))
def _set(given: Value, key: str, value: Value) -> Value:
    plain = _plain_dict(given)
    plain[key] = value
    return plain


@function(params=("any", "string"))
def _unset(given: Value, key: str) -> Value:
    plain = _plain_dict(given)
    plain.pop(key, None)
    return plain


@function(params=("any", "string"))
def _has_key(given: Value, key: str) -> Value:
    return key in _plain_dict(given)


@function(params=("string", "...any"))
def _pluck(key: str, *dicts: Value) -> Value:
    return [plain[key] for plain in map(_plain_dict, dicts) if key in plain]


@function(params=("...any",))
def _keys(*dicts: Value) -> Value:
    """Sorted, where sprig leaves the order to chance."""
    return GoList([key for given in dicts for key in sorted(_plain_dict(given), key=to_bytes)], "string")


@function(params=("any",))
def _values(given: Value) -> Value:
    """In the order of their keys, where sprig leaves it to chance."""
    plain = _plain_dict(given)
    return [plain[key] for key in sorted(plain, key=to_bytes)]


@function(params=("any", "...string"))
def _pick(given: Value, *keys: str) -> Value:
    plain = _plain_dict(given)
    return {key: plain[key] for key in keys if key in plain}


@function(params=("any", "...string"))
def _omit(given: Value, *keys: str) -> Value:
    return {key: value for key, value in _plain_dict(given).items() if key not in keys}


def _merged(target: _Dict, source: _Dict, *, overwrite: bool) -> None:
    for key, value in source.items():
        present = target.get(key)
        if isinstance(present, dict) and isinstance(value, dict):
            if present is not value:
                _merged(present, value, overwrite=overwrite)
        elif overwrite or (value is not None and not is_true(present)):
            target[key] = value


@function(params=("any", "...any"))
def _merge(target: Value, *sources: Value) -> Value:
    """What the target lacks, or has empty, comes from the sources."""
    plain = _plain_dict(target)
    for source in sources:
        _merged(plain, _plain_dict(source), overwrite=False)
    return plain


@function(params=("any", "...any"))
def _merge_overwrite(target: Value, *sources: Value) -> Value:
    plain = _plain_dict(target)
    for source in sources:
        _merged(plain, _plain_dict(source), overwrite=True)
    return plain


@function(params=("...any",))
def _dig(*arguments: Value) -> Value:
    """`dig KEY... DEFAULT DICT`."""
    if len(arguments) < 3:
        raise FunctionError("dig needs at least three arguments")
    *keys, default, found = arguments
    for key in keys:
        name = text_of(key)
        if name is None:
            raise FunctionError(f"dig takes keys that are text, not {type_name(key)}")
        plain = _plain_dict(found)
        if name not in plain:
            return default
        found = plain[name]
    return found


@function(params=("any",))
def _deep_copy(value: Value) -> Value:
    return deep_copy(value)


def deep_copy(value: Value) -> Value:
    """A copy that shares no dict and no list with `value`."""
    if isinstance(value, GoMap):
        return GoMap({key: deep_copy(member) for key, member in value.items()}, value.element)
    if isinstance(value, dict):
        return {key: deep_copy(member) for key, member in value.items()}
    if isinstance(value, GoList):
        return GoList([deep_copy(member) for member in value], value.element)
    if isinstance(value, list | tuple):
        return [deep_copy(member) for member in value]
    return value


FUNCTIONS: Functions = {
    "dict": _dict,
    "get": _get,
    "set": _set,
    "unset": _unset,
    "hasKey": _has_key,
    "pluck": _pluck,
    "keys": _keys,
    "values": _values,
    "pick": _pick,
    "omit": _omit,
    "merge": _merge,
    "mustMerge": _merge,
    "mergeOverwrite": _merge_overwrite,
    "mustMergeOverwrite": _merge_overwrite,
    "dig": _dig,
    "deepCopy": _deep_copy,
    "mustDeepCopy": _deep_copy,
}
