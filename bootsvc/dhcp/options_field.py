"""The field that DHCP options stand in (RFC 2131 §3, RFC 2132 §2): code, length and value of each, one after another."""

from collections.abc import Iterable, Iterator, Mapping
from typing import TypeVar

from bootsvc.dhcp.options import Option
from bootsvc.errors import MalformedPacket

T = TypeVar("T")

END = 255
ENDING = bytes((END,))
MAX_VALUE = 65535
"""Bytes of one value after RFC 3396 concatenation; a packet that claims more is not honest."""


def parse_fields(data: bytes, start: int, end: int, into: dict[int, bytes]) -> None:
    """Add the options in data[start:end] to `into`; one that occurs again goes on with its value (RFC 3396 §7).

    A missing END is borne, as every server does; a value that runs over the end raises MalformedPacket.
    """
    at = start
    while at < end:
        code = data[at]
        # PAD and END are literal here, which is faster.
        if code == 0:
            at += 1
            continue
        if code == 255:
            return
        first = at + 2
        if first > end or (after := first + data[at + 1]) > end:
            raise MalformedPacket("dhcp", at, f"option {code} runs over the end")
        value = data[first:after]
        if code in into:
            value = into[code] + value
            if len(value) > MAX_VALUE:
                raise MalformedPacket("dhcp", at, f"option {code} is longer than {MAX_VALUE} bytes")
        into[code] = value
        at = after


def find_field(data: bytes | None, option: Option[T]) -> T | None:
    """A sub-option of an encapsulating option's value; None where it is missing or broken, since a stranger wrote it."""
    if not data:
        return None
    fields: dict[int, bytes] = {}
    try:
        parse_fields(data, 0, len(data), fields)
        return option.find(fields)
    except MalformedPacket:
        return None


class Encoded(Mapping[int, bytes]):
    """Options that are bytes already (`field`, without END): a reply repeats what others were told, and is not taken apart."""

    __slots__ = ("field",)

    def __init__(self, field: bytes) -> None:
        self.field = field

    def __getitem__(self, code: int) -> bytes:
        return self._parsed()[code]

    def __iter__(self) -> Iterator[int]:
        return iter(self._parsed())

    def __len__(self) -> int:
        return len(self._parsed())

    def __repr__(self) -> str:
        return f"Encoded({self._parsed()})"

    def _parsed(self) -> dict[int, bytes]:
        fields: dict[int, bytes] = {}
        parse_fields(self.field, 0, len(self.field), fields)
        return fields


def size_of(options: Iterable[tuple[int, bytes]]) -> int:
    """Bytes that `serialize_fields` makes of the options, without END."""
    size = 0
    for _, value in options:
        length = len(value)
        size += length + (2 if length < 256 else 2 * -(-length // 255))
    return size


def serialize_fields(options: Iterable[tuple[int, bytes]]) -> bytes:
    """The options in their order, with END; a value over 255 bytes is split (RFC 3396 §5)."""
    return join_fields(options) + ENDING


def join_fields(options: Iterable[tuple[int, bytes]]) -> bytes:
    """As `serialize_fields`, without END."""
    parts: list[bytes] = []
    for code, value in options:
        if len(value) < 256:
            parts += (bytes((code, len(value))), value)
            continue
        for at in range(0, len(value), 255):
            part = value[at : at + 255]
            parts += (bytes((code, len(part))), part)
    return b"".join(parts)
