"""Sprig's base64, base32, digests and JSON."""

import base64
import hashlib
import json
import math
import re
import zlib
from collections.abc import Iterator
from decimal import Decimal
from typing import Protocol, runtime_checkable

from netboot.gotemplate.errors import FunctionError
from netboot.gotemplate.quoting import REPLACEMENT, from_bytes, to_bytes
from netboot.gotemplate.values import Functions, NilPointer, Value, function, text_of, type_name


@runtime_checkable
class JsonSource(Protocol):
    """A record that can say what its JSON is made of."""

    def go_json(self) -> Value:
        """Plain dicts, lists and values."""


def _wrong64(data: bytes) -> int | None:
    """Where Go stops to decode base64, which must be padded and may have line breaks; None: it is right."""
    kept = [(at, byte) for at, byte in enumerate(data) if byte not in b"\r\n"]
    for count, (at, byte) in enumerate(kept):
        place = count % 4
        if byte == ord("=") and place >= 2:
            missing = place == 2 and (count + 1 == len(kept) or kept[count + 1][1] != ord("="))
            if missing:
                return len(data) if count + 1 == len(kept) else kept[count + 1][0] - 1
            last = count + (2 if place == 2 else 1)
            return kept[last][0] if last < len(kept) else None
        if byte not in _B64:
            return at
    # Without the rest of its group, the group is wrong from its beginning.
    return len(data) - len(kept) % 4 if len(kept) % 4 else None


def _wrong32(data: bytes) -> int | None:
    """Where Go stops to decode base32, which must be padded; what follows the padding is not looked at."""
    for start in range(0, len(data), 8):
        group = data[start : start + 8]
        for place, byte in enumerate(group):
            if byte == ord("=") and place >= 2:
                if len(group) < 8:
                    return len(data)
                other = next((later for later in range(place, 8) if group[later] != byte), None)
                return start + other - 1 if other is not None else start + place if place in (3, 6) else None
            if byte not in _B32:
                return start + place
        if len(group) < 8:
            return start
    return None


_B64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_B32 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"


@function(params=("string",))
def _b64enc(text: str) -> Value:
    return base64.b64encode(to_bytes(text)).decode()


@function(params=("string",))
def _b64dec(text: str) -> Value:
    """What is wrong is the result, as in sprig."""
    data = to_bytes(text)
    wrong = _wrong64(data)
    return from_bytes(base64.b64decode(data)) if wrong is None else f"illegal base64 data at input byte {wrong}"


@function(params=("string",))
def _b32enc(text: str) -> Value:
    return base64.b32encode(to_bytes(text)).decode()


@function(params=("string",))
def _b32dec(text: str) -> Value:
    data = to_bytes(text).translate(None, b"\r\n")
    wrong = _wrong32(data)
    end = data.find(b"=")
    data = data if end < 0 else data[: end - end % 8 + 8]
    return from_bytes(base64.b32decode(data)) if wrong is None else f"illegal base32 data at input byte {wrong}"


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
    if 1e-6 <= abs(number) < 1e21:
        return format(Decimal(digits), "f")
    if "e" not in digits:
        digits = f"{number:e}"
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
