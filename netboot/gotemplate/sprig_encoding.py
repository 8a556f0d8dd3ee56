"""Sprig's base64, base32, digests and JSON."""

import base64
import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from netboot.gotemplate.errors import FunctionError
from netboot.gotemplate.quoting import REPLACEMENT, from_bytes, to_bytes
from netboot.gotemplate.values import Functions, NilPointer, Value, function, text_of, type_name


@runtime_checkable
class JsonSource(Protocol):
    """A record that can say what its JSON is made of."""

    def go_json(self) -> Value:
        """Plain dicts, lists and values."""


def _decoded(text: str, bits: int, alphabet: bytes) -> str:
    """Base64 or base32 decoded; what is wrong is the result, as in sprig."""
    data = to_bytes(text).translate(None, b"\r\n")
    group = 4 if bits == 6 else 8
    body = data.rstrip(b"=")
    wrong = next((at for at, byte in enumerate(body) if byte not in alphabet), None)
    if wrong is None and len(data) - len(body) != -len(body) % group:
        # Too little padding is noticed at the group that lacks it, too much where it begins to be.
        missing = len(data) < len(body) + -len(body) % group
        wrong = len(body) - len(body) % group if missing else len(body) + -len(body) % group
    if wrong is None and (len(body) % group) * bits % 8 >= bits:
        wrong = len(body)
    if wrong is not None:
        return f"illegal base{1 << bits} data at input byte {wrong}"
    return from_bytes(base64.b64decode(data) if bits == 6 else base64.b32decode(data))


_B64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_B32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@function(params=("string",))
def _b64enc(text: str) -> Value:
    return base64.b64encode(to_bytes(text)).decode()


@function(params=("string",))
def _b64dec(text: str) -> Value:
    return _decoded(text, 6, _B64)


@function(params=("string",))
def _b32enc(text: str) -> Value:
    return base64.b32encode(to_bytes(text)).decode()


@function(params=("string",))
def _b32dec(text: str) -> Value:
    return _decoded(text, 5, _B32)


@function(params=("string",))
def _sha1sum(text: str) -> Value:
    return hashlib.sha1(to_bytes(text), usedforsecurity=False).hexdigest()


@function(params=("string",))
def _sha256sum(text: str) -> Value:
    return hashlib.sha256(to_bytes(text)).hexdigest()


@function(params=("string",))
def _sha512sum(text: str) -> Value:
    return hashlib.sha512(to_bytes(text)).hexdigest()


@function(params=("string",))
def _adler32sum(text: str) -> Value:
    return str(zlib.adler32(to_bytes(text)))


_ESCAPES = {'"': '\\"', "\\": "\\\\", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
_TO_ESCAPE = re.compile('["\\\\\x00-\x1f\u2028\u2029\ud800-\udfff]')
_HTML = re.compile("[<>&]")


def _json_text(text: str) -> str:
    def escape(match: re.Match[str]) -> str:
        char = match[0]
        if "\ud800" <= char <= "\udfff":
            return "\\ufffd"
        return _ESCAPES.get(char) or f"\\u{ord(char):04x}"

    return f'"{_TO_ESCAPE.sub(escape, text)}"'


def _json_number(number: float) -> str:
    """As encoding/json: exponents only below 1e-6 and from 1e21 on, without a leading zero."""
    if not math.isfinite(number):
        raise FunctionError(f"json: unsupported value: {number}")
    if number == int(number) and abs(number) < 1e21:
        return str(int(number)) if number or math.copysign(1, number) > 0 else "-0"
    digits = repr(number)
    if "e" not in digits or 1e-6 <= abs(number) < 1e21:
        return digits if "e" not in digits else f"{number:.30f}".rstrip("0")
    mantissa, _, exponent = digits.partition("e")
    return f"{mantissa}e{'-' if exponent[0] == '-' else '+'}{exponent.lstrip('+-0')}"


def _encoded(value: Value, indent: str) -> Iterator[str]:
    """The JSON of a value in pieces; `indent` is a line break with what stands before the members, or empty."""
    text = text_of(value)
    if text is not None:
        yield _json_text(text)
    elif value is None or isinstance(value, NilPointer):
        yield "null"
    elif isinstance(value, bool):
        yield "true" if value else "false"
    elif isinstance(value, int):
        yield str(value)
    elif isinstance(value, float):
        yield _json_number(value)
    elif isinstance(value, dict):
        members = [(_json_text(key) + (": " if indent else ":"), value[key]) for key in sorted(value, key=to_bytes)]
        yield from _bracketed("{", members, "}", indent)
    elif isinstance(value, list | tuple):
        yield from _bracketed("[", [("", member) for member in value], "]", indent)
    elif isinstance(value, JsonSource):
        yield from _encoded(value.go_json(), indent)
    else:
        raise FunctionError(f"json: unsupported type: {type_name(value)}")


def _bracketed(left: str, members: list[tuple[str, Value]], right: str, indent: str) -> Iterator[str]:
    yield left
    inner = indent and indent + "  "
    for position, (key, member) in enumerate(members):
        yield f"{',' if position else ''}{inner}{key}"
        yield from _encoded(member, inner)
    yield (indent if members else "") + right


def to_json(value: Value, *, pretty: bool = False, html: bool = True) -> str:
    """JSON as Go writes it: keys sorted, `<`, `>` and `&` escaped where `html` says so. Raises FunctionError."""
    try:
        text = "".join(_encoded(value, "\n" if pretty else ""))
    except RecursionError as exc:
        raise FunctionError("json: the value is nested too deeply") from exc
    return _HTML.sub(lambda match: f"\\u{ord(match[0]):04x}", text) if html else text


@function(params=("any",))
def _must_to_json(value: Value) -> Value:
    return to_json(value)


@function(params=("any",))
def _must_to_pretty_json(value: Value) -> Value:
    return to_json(value, pretty=True)


@function(params=("any",))
def _must_to_raw_json(value: Value) -> Value:
    return to_json(value, html=False)


@function(params=("any",))
def _to_json(value: Value) -> Value:
    try:
        return to_json(value)
    except FunctionError:
        return ""


@function(params=("any",))
def _to_pretty_json(value: Value) -> Value:
    try:
        return to_json(value, pretty=True)
    except FunctionError:
        return ""


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


def _number(digits: str) -> float:
    number = float(digits)
    return number if math.isfinite(number) else _refuse(digits)


def _whole(value: Value) -> Value:
    """Half surrogate pairs, which JSON can spell, as the character that stands for what is no text."""
    if isinstance(value, str):
        return value if value.isascii() else re.sub("[\ud800-\udfff]", REPLACEMENT, value)
    if isinstance(value, dict):
        return {str(_whole(key)): _whole(member) for key, member in value.items()}
    return [_whole(member) for member in value] if isinstance(value, list) else value


@function(params=("string",))
def _must_from_json(text: str) -> Value:
    try:
        return _whole(json.loads(text, parse_int=_number, parse_float=_number, parse_constant=_refuse))
    except (ValueError, RecursionError) as exc:
        raise FunctionError(f"the text is no JSON: {exc}") from exc


@function(params=("string",))
def _from_json(text: str) -> Value:
    try:
        return _must_from_json(text)
    except FunctionError:
        return None


FUNCTIONS: Functions = {
    "b64enc": _b64enc,
    "b64dec": _b64dec,
    "b32enc": _b32enc,
    "b32dec": _b32dec,
    "sha1sum": _sha1sum,
    "sha256sum": _sha256sum,
    "sha512sum": _sha512sum,
    "adler32sum": _adler32sum,
    "toJson": _to_json,
    "mustToJson": _must_to_json,
    "toPrettyJson": _to_pretty_json,
    "mustToPrettyJson": _must_to_pretty_json,
    "toRawJson": _must_to_raw_json,
    "mustToRawJson": _must_to_raw_json,
    "fromJson": _from_json,
    "mustFromJson": _must_from_json,
}
