"""Sprig's regular expressions: Go's syntax, which is RE2's, and RE2's linear time."""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Protocol, cast

import re2

from netboot.gotemplate.errors import FunctionError, LimitExceeded
from netboot.gotemplate.quoting import from_bytes, to_bytes
from netboot.gotemplate.values import Functions, GoList, Value, function

MAX_PATTERN = 4096
"""Bytes of the longest pattern."""
MAX_RESULT = 16 << 20
"""Bytes of the longest text that a replacement makes."""

_REFERENCE = re.compile(rb"\$(?:\$|\{(\w+)\}|([0-9A-Za-z_]+))")
_META = re.compile(r"[\\.+*?()|\[\]{}^$]")
_OPTIONS = re2.Options()
_OPTIONS.log_errors = False


class _Match(Protocol):
    def span(self) -> tuple[int, int]: ...

    def start(self) -> int: ...

    def end(self) -> int: ...

    def group(self, index: int = 0) -> bytes | None: ...


class _Pattern(Protocol):
    """What re2 makes of a pattern in bytes; positions are bytes."""

    @property
    def groups(self) -> int: ...

    @property
    def groupindex(self) -> Mapping[bytes, int]: ...

    def search(self, text: bytes, pos: int = 0) -> _Match | None: ...


@lru_cache(maxsize=256)
def _compiled(pattern: str) -> _Pattern:
    data = to_bytes(pattern)
    if len(data) > MAX_PATTERN:
        raise FunctionError(f"the regular expression has more than {MAX_PATTERN} bytes")
    try:
        compiled = cast(_Pattern, re2.compile(data, _OPTIONS))
    except re2.error as exc:
        reason = exc.args[0]
        told = reason.decode(errors="replace") if isinstance(reason, bytes) else reason
        raise FunctionError(f"error parsing regexp: {told} (in `{pattern}`)") from exc
    return compiled


def _matches(compiled: _Pattern, data: bytes, count: int = -1) -> Iterator[_Match]:
    """Up to `count` matches (all for a negative one); an empty one right behind another match is none, as in Go."""
    position, last_end, found = 0, -1, 0
    while position <= len(data) and found != count:
        match = compiled.search(data, position)
        if match is None:
            return
        start, end = match.span()
        if start != end or start != last_end:
            found += 1
            yield match
        last_end = end
        position = end if end > position and start != end else _next_character(data, max(end, position))


def _next_character(data: bytes, position: int) -> int:
    position += 1
    while position < len(data) and data[position] & 0xC0 == 0x80:
        position += 1
    return position


@function(params=("string", "string"))
def _match(pattern: str, text: str) -> Value:
    """A pattern that is none matches nothing, as in sprig."""
    try:
        return _must_match(pattern, text)
    except FunctionError:
        return False


@function(params=("string", "string"))
def _must_match(pattern: str, text: str) -> Value:
    return _compiled(pattern).search(to_bytes(text)) is not None


@function(params=("string", "string"))
def _find(pattern: str, text: str) -> Value:
    match = _compiled(pattern).search(to_bytes(text))
    return "" if match is None else from_bytes(match.group() or b"")


@function(params=("string", "string", "int"))
def _find_all(pattern: str, text: str, count: int) -> Value:
    return GoList([from_bytes(match.group() or b"") for match in _matches(_compiled(pattern), to_bytes(text), count)], "string")


def _replaced(compiled: _Pattern, data: bytes, parts: Sequence[bytes | int]) -> Value:
    result: list[bytes] = []
    kept, size = 0, 0
    for match in _matches(compiled, data):
        pieces = [data[kept : match.start()]]
        pieces += [part if isinstance(part, bytes) else match.group(part) or b"" for part in parts]
        result += pieces
        size += sum(map(len, pieces))
        if size > MAX_RESULT:
            raise LimitExceeded(f"a replacement makes more than {MAX_RESULT} bytes")
        kept = match.end()
    return from_bytes(b"".join([*result, data[kept:]]))


def _template(compiled: _Pattern, replacement: str) -> Sequence[bytes | int]:
    """Literal bytes and numbers of groups (Go's Regexp.Expand); a group that the pattern lacks is nothing."""
    data, at = to_bytes(replacement), 0
    parts: list[bytes | int] = []
    for match in _REFERENCE.finditer(data):
        parts.append(data[at : match.start()])
        at = match.end()
        name: bytes = match[1] or match[2] or b""
        if not name:
            parts.append(b"$")
            continue
        number = int(name[:9]) if name.isdigit() else compiled.groupindex.get(name, -1)
        if 0 <= number <= compiled.groups:
            parts.append(number)
    return [*parts, data[at:]]


@function(params=("string", "string", "string"))
def _replace_all(pattern: str, text: str, replacement: str) -> Value:
    compiled = _compiled(pattern)
    return _replaced(compiled, to_bytes(text), _template(compiled, replacement))


@function(params=("string", "string", "string"))
def _replace_all_literal(pattern: str, text: str, replacement: str) -> Value:
    return _replaced(_compiled(pattern), to_bytes(text), [to_bytes(replacement)])


@function(params=("string", "string", "int"))
def _split(pattern: str, text: str, count: int) -> Value:
    """At most `count` parts (Go's Regexp.Split); a match of nothing at the beginning splits off nothing."""
    compiled, data = _compiled(pattern), to_bytes(text)
    if count == 0:
        return GoList((), "string")
    if pattern and not data:
        return GoList(("",), "string")
    parts: list[bytes] = []
    begin, end = 0, 0
    for match in _matches(compiled, data, count):
        if 0 < count == len(parts) + 1:
            break
        end = match.start()
        if match.end() != 0:
            parts.append(data[begin:end])
        begin = match.end()
    if end != len(data):
        parts.append(data[begin:])
    return GoList(map(from_bytes, parts), "string")


@function(params=("string",))
def _quote_meta(text: str) -> Value:
    return _META.sub(lambda match: "\\" + match[0], text)


FUNCTIONS: Functions = {
    "regexMatch": _match,
    "mustRegexMatch": _must_match,
    "regexFind": _find,
    "mustRegexFind": _find,
    "regexFindAll": _find_all,
    "mustRegexFindAll": _find_all,
    "regexReplaceAll": _replace_all,
    "mustRegexReplaceAll": _replace_all,
    "regexReplaceAllLiteral": _replace_all_literal,
    "mustRegexReplaceAllLiteral": _replace_all_literal,
    "regexSplit": _split,
    "mustRegexSplit": _split,
    "regexQuoteMeta": _quote_meta,
}
