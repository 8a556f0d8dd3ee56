"""Go's quoted strings, characters and runes (strconv), on str with surrogate escapes for bytes that are no UTF-8."""

import re

_NAMED = {7: "a", 8: "b", 12: "f", 10: "n", 13: "r", 9: "t", 11: "v"}
_UNNAMED = {letter: code for code, letter in _NAMED.items()}
_ESCAPE = re.compile(
    r"\\(?:(?P<named>[abfnrtv\\'\"])|x(?P<byte>[0-9a-fA-F]{2})|(?P<octal>[0-7]{3})"
    r"|u(?P<u4>[0-9a-fA-F]{4})|U(?P<u8>[0-9a-fA-F]{8}))"
)
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def is_raw_byte(char: str) -> bool:
    """Whether a character stands for a byte that is no UTF-8 (PEP 383)."""
    return "\udc80" <= char <= "\udcff"


def to_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def from_bytes(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


def quote(text: str, *, ascii_only: bool = False, mark: str = '"') -> str:
    """`text` as a Go literal; `mark` is the quotation mark (strconv.Quote, QuoteToASCII, QuoteRune)."""
    return f"{mark}{''.join(_escape(char, ascii_only=ascii_only, mark=mark) for char in text)}{mark}"


def _escape(char: str, *, ascii_only: bool, mark: str) -> str:
    code = ord(char)
    if char in (mark, "\\"):
        return "\\" + char
    if is_raw_byte(char):
        return f"\\x{code - 0xDC00:02x}"
    if code < 0x7F or not ascii_only:
        if char.isprintable():
            return char
        if code in _NAMED:
            return "\\" + _NAMED[code]
    if code < 0x20 or code == 0x7F:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


def quote_rune(code: int, *, ascii_only: bool = False) -> str:
    """A character literal; what is no character is U+FFFD (strconv.QuoteRune)."""
    return quote(rune(code), ascii_only=ascii_only, mark="'")


def rune(code: int) -> str:
    """The character of a code point, U+FFFD for what is none (as `string(rune)` in Go)."""
    return REPLACEMENT if not 0 <= code <= 0x10FFFF or 0xD800 <= code <= 0xDFFF else chr(code)


def unicode_name(char: str) -> str:
    """`U+0040 '@'`, as the verb `%#U` writes it."""
    code = 0xFFFD if is_raw_byte(char) else ord(char)
    return f"U+{code:04X} '{chr(code)}'" if chr(code).isprintable() else f"U+{code:04X}"


def can_backquote(text: str) -> bool:
    """Whether a raw string literal can hold `text` on one line (strconv.CanBackquote)."""
    return not any(is_raw_byte(char) or char in ("\ufeff", "`", "\x7f") or (char < " " and char != "\t") for char in text)


def unquote(literal: str) -> str | None:
    """The text of a `"..."` or a raw string literal, or None when its syntax is wrong (strconv.Unquote)."""
    body = literal[1:-1]
    if literal[0] == "`":
        return body.replace("\r", "")
    raw = bytearray()
    at = 0
    while at < len(body):
        if body[at] != "\\":
            end = body.find("\\", at)
            end = len(body) if end < 0 else end
            plain = body[at:end]
            raw += (
                b"".join(REPLACEMENT.encode() if is_raw_byte(c) else c.encode() for c in plain)
                if not plain.isascii()
                else plain.encode()
            )
            at = end
            continue
        found = _ESCAPE.match(body, at)
        piece = _escaped(found, '"') if found else None
        if found is None or piece is None:
            return None
        raw += bytes((piece[0],)) if piece[1] else chr(piece[0]).encode()
        at = found.end()
    return from_bytes(bytes(raw))


def _escaped(found: re.Match[str], mark: str) -> tuple[int, bool] | None:
    """(value, whether it is one byte) of an escape, or None for one that Go refuses between these quotation marks."""
    if named := found["named"]:
        if named in "'\"" and named != mark:
            return None
        return _UNNAMED.get(named, ord(named)), True
    if found["byte"]:
        return int(found["byte"], 16), True
    if found["octal"]:
        value = int(found["octal"], 8)
        return (value, True) if value < 256 else None
    value = int(found["u4"] or found["u8"], 16)
    return None if value > 0x10FFFF or 0xD800 <= value <= 0xDFFF else (value, False)


def unquote_char(literal: str) -> tuple[int, str] | None:
    """(code point, what follows it) of a character literal after its first mark, or None when its syntax is wrong."""
    body = literal[1:]
    if not body or body[0] == "'":
        return None
    if body[0] != "\\":
        return (0xFFFD if is_raw_byte(body[0]) else ord(body[0])), body[1:]
    found = _ESCAPE.match(body)
    piece = _escaped(found, "'") if found else None
    return None if found is None or piece is None else (piece[0], body[found.end() :])
