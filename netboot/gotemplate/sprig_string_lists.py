"""Sprig's functions between a text and the list of its parts, and of lists of texts."""

from netboot.gotemplate.printing import plain
from netboot.gotemplate.quoting import to_bytes
from netboot.gotemplate.sprig_strings import check_size
from netboot.gotemplate.values import Functions, GoList, GoMap, Value, function


def _strings_of(value: Value) -> list[str]:
    """Sprig's list of strings: a list's members that are not nil, or the one value."""
    if value is None:
        return []
    if isinstance(value, list | tuple):
        return [plain(member) for member in value if member is not None]
    return [plain(value)]


@function(params=("string", "any"))
def _join(separator: str, values: Value) -> Value:
    texts = _strings_of(values)
    check_size(sum(map(len, texts)) + len(separator) * len(texts))
    return separator.join(texts)


def _split_text(separator: str, text: str, count: int = -1) -> list[str]:
    """Go's strings.SplitN: without a separator into characters."""
    if count == 0:
        return []
    if separator:
        return text.split(separator, count - 1 if count > 0 else -1)
    characters = list(text)
    if 0 < count < len(characters):
        characters = [*characters[: count - 1], "".join(characters[count - 1 :])]
    return characters


def _numbered(parts: list[str]) -> GoMap:
    return GoMap({f"_{position}": part for position, part in enumerate(parts)}, "string")


@function(params=("string", "string"))
def _split_list(separator: str, text: str) -> Value:
    return GoList(_split_text(separator, text), "string")


@function(params=("string", "string"))
def _split(separator: str, text: str) -> Value:
    return _numbered(_split_text(separator, text))


@function(params=("string", "int", "string"))
def _splitn(separator: str, count: int, text: str) -> Value:
    return _numbered(_split_text(separator, text, count))


@function(params=("any",))
def _sort_alpha(values: Value) -> Value:
    texts = _strings_of(values) if isinstance(values, list | tuple) else [plain(values)]
    texts.sort(key=to_bytes)
    return GoList(texts, "string")


@function(params=("any",))
def _to_strings(values: Value) -> Value:
    return GoList(_strings_of(values), "string")


FUNCTIONS: Functions = {
    "join": _join,
    "splitList": _split_list,
    "split": _split,
    "splitn": _splitn,
    "sortAlpha": _sort_alpha,
    "toStrings": _to_strings,
}
