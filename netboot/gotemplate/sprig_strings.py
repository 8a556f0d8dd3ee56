"""Sprig's string functions. Where sprig counts or cuts bytes, so do these; half a character stays as surrogate escapes."""

from netboot.gotemplate.errors import FunctionError, LimitExceeded
from netboot.gotemplate.printing import plain
from netboot.gotemplate.quoting import from_bytes, quote, to_bytes
from netboot.gotemplate.values import Functions, Value, function

MAX_TEXT = 16 << 20
"""Characters of the longest text that a function makes out of shorter ones."""

_SPACES = " \t\n\v\f\r\x85\u00a0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
"""What Go takes for white space (unicode.IsSpace)."""


def check_size(size: int) -> None:
    """Raises LimitExceeded for a text of so many characters."""
    if size > MAX_TEXT:
        raise LimitExceeded(f"a text of {size} characters is longer than {MAX_TEXT}")


@function(params=("string",))
def _trim(text: str) -> Value:
    return text.strip(_SPACES)


@function(params=("string", "string"))
def _trim_all(characters: str, text: str) -> Value:
    return text.strip(characters) if characters else text


@function(params=("string", "string"))
def _trim_suffix(suffix: str, text: str) -> Value:
    return text.removesuffix(suffix)


@function(params=("string", "string"))
def _trim_prefix(prefix: str, text: str) -> Value:
    return text.removeprefix(prefix)


@function(params=("string",))
def _nospace(text: str) -> Value:
    return "".join(text.split())


@function(params=("int", "string"))
def _repeat(count: int, text: str) -> Value:
    if count < 0:
        raise FunctionError("strings: negative Repeat count")
    check_size(count * len(text))
    return text * count


@function(params=("int", "int", "string"))
def _substr(start: int, end: int, text: str) -> Value:
    """Bytes from `start` up to `end`; a negative start means from 0, a negative or too large end means to the end."""
    data = to_bytes(text)
    if start < 0:
        start = 0
        if end < 0:
            raise FunctionError(f"slice bounds out of range [:{end}]")
    elif end < 0 or end > len(data):
        end = len(data)
    if end > len(data) or start > end:
        raise FunctionError(f"slice bounds out of range [{start}:{end}]")
    return from_bytes(data[start:end])


@function(params=("int", "string"))
def _trunc(size: int, text: str) -> Value:
    data = to_bytes(text)
    if size < 0:
        return from_bytes(data[size:]) if -size < len(data) else text
    return from_bytes(data[:size])


def _abbreviated(data: bytes, offset: int, width: int) -> bytes:
    """At most `width` bytes, with three dots where text before `offset` or at the end was left out."""
    if len(data) <= width:
        return data
    offset = min(offset, len(data))
    if len(data) - offset < width - 3:
        offset = len(data) - (width - 3)
    if offset <= 4:
        return data[: width - 3] + b"..."
    if offset + width - 3 < len(data):
        return b"..." + _abbreviated(data[offset:], 0, width - 3)
    return b"..." + data[len(data) - (width - 3) :]


@function(params=("int", "string"))
def _abbrev(width: int, text: str) -> Value:
    return text if width < 4 else from_bytes(_abbreviated(to_bytes(text), 0, width))


@function(params=("int", "int", "string"))
def _abbrevboth(left: int, width: int, text: str) -> Value:
    if width < 4 or (left > 0 and width < 7):
        return text
    return from_bytes(_abbreviated(to_bytes(text), left, width))


@function(params=("string",))
def _initials(text: str) -> Value:
    return "".join(word[0] for word in text.split())


def _wrapped(text: str, width: int, newline: str, *, long_words: bool) -> str:
    """Lines broken at blanks, at most `width` long; longer words are cut only where `long_words` says so."""
    width, newline = max(width, 1), newline or "\n"
    data, rest, lines = to_bytes(text), 0, []
    while len(data) - rest > width:
        if data[rest : rest + 1] == b" ":
            rest += 1
            continue
        blank = data.rfind(b" ", rest, width + rest + 1)
        if blank < 0 and long_words:
            lines.append(data[rest : rest + width])
            rest += width
            continue
        if blank < 0:
            blank = data.find(b" ", width + rest)
        if blank < 0:
            break
        lines.append(data[rest:blank])
        rest = blank + 1
    check_size(len(data) + len(lines) * len(newline))
    return from_bytes(to_bytes(newline).join([*lines, data[rest:]]))


@function(params=("int", "string"))
def _wrap(width: int, text: str) -> Value:
    return _wrapped(text, width, "\n", long_words=False)


@function(params=("int", "string", "string"))
def _wrap_with(width: int, newline: str, text: str) -> Value:
    return _wrapped(text, width, newline, long_words=True)


@function(params=("string", "string"))
def _contains(part: str, text: str) -> Value:
    return part in text


@function(params=("string", "string"))
def _has_prefix(prefix: str, text: str) -> Value:
    return text.startswith(prefix)


@function(params=("string", "string"))
def _has_suffix(suffix: str, text: str) -> Value:
    return text.endswith(suffix)


@function(params=("...any",))
def _quote(*values: Value) -> Value:
    return " ".join(quote(plain(value)) for value in values if value is not None)


@function(params=("...any",))
def _squote(*values: Value) -> Value:
    return " ".join(f"'{plain(value)}'" for value in values if value is not None)


@function(params=("...any",))
def _cat(*values: Value) -> Value:
    return " ".join(plain(value) for value in values if value is not None)


def _indented(width: int, text: str) -> str:
    if width < 0:
        raise FunctionError("strings: negative Repeat count")
    check_size(len(text) + width * (text.count("\n") + 1))
    pad = " " * width
    return pad + text.replace("\n", "\n" + pad)


@function(params=("int", "string"))
def _indent(width: int, text: str) -> Value:
    return _indented(width, text)


@function(params=("int", "string"))
def _nindent(width: int, text: str) -> Value:
    return "\n" + _indented(width, text)


@function(params=("string", "string", "string"))
def _replace(old: str, new: str, text: str) -> Value:
    check_size(len(text) + (text.count(old)) * len(new))
    return text.replace(old, new)


@function(params=("string", "string", "int"))
def _plural(one: str, many: str, count: int) -> Value:
    return one if count == 1 else many


@function(params=("any",))
def _to_string(value: Value) -> Value:
    return plain(value)


@function(params=())
def _hello() -> Value:
    return "Hello!"


FUNCTIONS: Functions = {
    "hello": _hello,
    "trim": _trim,
    "trimAll": _trim_all,
    "trimall": _trim_all,
    "trimSuffix": _trim_suffix,
    "trimPrefix": _trim_prefix,
    "nospace": _nospace,
    "repeat": _repeat,
    "substr": _substr,
    "trunc": _trunc,
    "abbrev": _abbrev,
    "abbrevboth": _abbrevboth,
    "initials": _initials,
    "wrap": _wrap,
    "wrapWith": _wrap_with,
    "contains": _contains,
    "hasPrefix": _has_prefix,
    "hasSuffix": _has_suffix,
    "quote": _quote,
    "squote": _squote,
    "cat": _cat,
    "indent": _indent,
    "nindent": _nindent,
    "replace": _replace,
    "plural": _plural,
    "toString": _to_string,
}
