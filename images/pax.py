"""What tar headers say, as values: pax records, numbers and times (POSIX.1-2017 pax, "pax Extended Header")."""

from functools import lru_cache

from images.errors import Error

MAX_EXTENSION = 1 << 20
"""Bytes of an entry's pax headers, long name or sparse map; a hostile archive could otherwise fill the memory."""
_MAX_INTEGER = (1 << 63) - 1
_UNUSED = (b"atime", b"ctime")
"""Keys that GNU tar writes for each entry, often alone, and nobody here asks for."""

Records = dict[bytes, bytes]
Xattrs = tuple[tuple[bytes, bytes], ...]
"""(name, value) of extended attributes."""


class MalformedTar(Error):
    """The only error of the tar codec; `offset` is that of the uncompressed archive."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(f"broken tar archive at byte {offset}: {reason}", hint="build or push the image again")
        self.offset = offset
        self.reason = reason


class Malformed(ValueError):
    """A value that cannot be; `images.tar` knows the offset and makes it a MalformedTar."""


@lru_cache(maxsize=4096)
def parse_number(field: bytes) -> int:
    """Octal text, or the base-256 form of GNU and star (first bit set)."""
    if field[0] & 0x80:
        bits = 8 * len(field) - 1
        value = int.from_bytes(field, "big") & ((1 << bits) - 1)
        if field[0] & 0x40:
            value -= 1 << bits
    else:
        text = field.strip(b" \0")
        if b"\0" in text:
            text = text.partition(b"\0")[0].strip()
        if text.strip(b"01234567"):
            raise Malformed(f"{field!r} is not a number")
        value = int(text or b"0", 8)
    if not -_MAX_INTEGER <= value <= _MAX_INTEGER:
        raise Malformed(f"{field!r} is not a number")
    return value


def parse_decimal(text: bytes) -> int:
    if not text.isdigit() or len(text) > 19 or int(text) > _MAX_INTEGER:
        raise Malformed(f"{text[:40]!r} is not a number")
    return int(text)


def parse_time(text: bytes) -> int:
    """`-12.345` seconds as nanoseconds, exactly; digits beyond the ninth are cut."""
    sign = -1 if text.startswith(b"-") else 1
    whole, _, fraction = text.removeprefix(b"-").partition(b".")
    if fraction and not fraction.isdigit():
        raise Malformed(f"{text[:40]!r} is not a time")
    return sign * (parse_decimal(whole or b"0") * 1_000_000_000 + int(fraction[:9].ljust(9, b"0")))


def parse_records(data: bytes) -> Records:
    """`LENGTH KEY=VALUE\\n` records, but atime and ctime; the keys that sparse format 0.0 repeats are gathered as in 0.1."""
    records: Records = {}
    sparse: list[bytes] = []
    at = 0
    while at < len(data):
        space = data.find(b" ", at, at + 12)
        digits = data[at:space] if space > at else b""
        if not digits.isdigit():
            raise Malformed("a pax record has no length")
        end = at + int(digits)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space + 1 or data[end - 1 : end] != b"\n" or not equals or not key:
            raise Malformed("a pax record does not fit its length")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            sparse.append(value)
        elif key not in _UNUSED:
            records[key] = value
        at = end
    if sparse:
        records[b"GNU.sparse.map"] = b",".join(sparse)
    return records


def parse_xattrs(records: Records) -> Xattrs:
    prefix = b"SCHILY.xattr."
    found = tuple((key[len(prefix) :], value) for key, value in records.items() if key.startswith(prefix))
    for name, _ in found:
        if not name or b"\0" in name:
            raise Malformed(f"{name!r} is not the name of an extended attribute")
    return found
