"""Values of DHCP options (RFC 2132 §2 and later): bytes ↔ addresses, numbers, texts, names and what else options hold."""

import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Generic, TypeVar
from uuid import UUID

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec(Generic[T]):
    """Turns the bytes of a value into a value and back; `parse` raises ValueError, KeyError or struct.error."""

    parse: Callable[[bytes], T]
    serialize: Callable[[T], bytes]


@lru_cache(maxsize=16384)
def address(number: int) -> IPv4Address:
    """Those of servers, relays and clients that are here come again and again; to make one takes longer than to find it."""
    return IPv4Address(number)


@lru_cache(maxsize=16384)
def _parse_address(value: bytes) -> IPv4Address:
    if len(value) != 4:
        raise ValueError("not an address")
    return address(int.from_bytes(value, "big"))


def _parse_addresses(value: bytes) -> tuple[IPv4Address, ...]:
    if not value or len(value) % 4:
        raise ValueError("not a list of addresses")
    return tuple(IPv4Address(value[at : at + 4]) for at in range(0, len(value), 4))


def _parse_user_classes(value: bytes) -> tuple[bytes, ...]:
    """RFC 3004 wants length-prefixed instances; iPXE sends its four letters bare, so what does not fit is one class."""
    classes, at = [], 0
    while at < len(value):
        end = at + 1 + value[at]
        if value[at] == 0 or end > len(value):
            return (value,)
        classes.append(value[at + 1 : end])
        at = end
    return tuple(classes)


def _parse_archs(value: bytes) -> tuple[int, ...]:
    if not value or len(value) % 2:
        raise ValueError("not a list of 16-bit numbers")
    return struct.unpack(f"!{len(value) // 2}H", value)


def _parse_machine_id(value: bytes) -> UUID | None:
    """Type 0 is the only one there is (RFC 4578 §2.3); ROMs without a UUID send other things, which are no error."""
    if len(value) != 17 or value[0] != 0:
        return None
    # SMBIOS stores the first three fields little-endian, yet PXE ROMs and iPXE send them in network order.
    return UUID(bytes=value[1:])


def _parse_names(value: bytes) -> tuple[str, ...]:
    """Domain names as DNS writes them, compressed within the option (RFC 3397 §2)."""
    names, at = [], 0
    while at < len(value):
        labels, at = _parse_labels(value, at)
        names.append(b".".join(labels).decode("ascii"))
    return tuple(names)


def _parse_labels(value: bytes, at: int) -> tuple[list[bytes], int]:
    """The labels of one name, and where the next one begins."""
    labels: list[bytes] = []
    after = -1
    while True:
        if at >= len(value) or len(labels) > 127:
            raise ValueError("a name without end")
        length = value[at]
        if length == 0:
            return labels, after if after >= 0 else at + 1
        if length >= 0xC0:
            if at + 1 >= len(value):
                raise ValueError("half a pointer")
            target = (length & 0x3F) << 8 | value[at + 1]
            after = at + 2 if after < 0 else after
            # RFC 1035 §4.1.4: a pointer leads back, so that following it ends.
            if target >= at:
                raise ValueError("a pointer forward")
            at = target
            continue
        if length > 63 or at + 1 + length > len(value):
            raise ValueError("a label over the end")
        labels.append(value[at + 1 : at + 1 + length])
        at += 1 + length


def _serialize_names(names: tuple[str, ...]) -> bytes:
    """Without compression: every client can read that, and lists are short."""
    out = bytearray()
    for name in names:
        for label in name.strip(".").split("."):
            raw = label.encode("ascii", "replace")[:63]
            out += bytes((len(raw),)) + raw
        out.append(0)
    return bytes(out)


RAW: Codec[bytes] = Codec(parse=bytes, serialize=bytes)
# Some clients end a text with NUL, which RFC 2132 §2 tells servers to bear.
TEXT: Codec[str] = Codec(
    parse=lambda value: value.rstrip(b"\0").decode("utf-8", "replace"), serialize=lambda text: text.encode()
)
ADDRESS: Codec[IPv4Address] = Codec(parse=_parse_address, serialize=lambda address: address.packed)
ADDRESSES: Codec[tuple[IPv4Address, ...]] = Codec(
    parse=_parse_addresses, serialize=lambda addresses: b"".join(address.packed for address in addresses)
)
UINT8: Codec[int] = Codec(
    parse=lambda value: int(struct.unpack("!B", value)[0]), serialize=lambda number: struct.pack("!B", number)
)
UINT16: Codec[int] = Codec(
    parse=lambda value: int(struct.unpack("!H", value)[0]), serialize=lambda number: struct.pack("!H", number)
)
UINT32: Codec[int] = Codec(
    parse=lambda value: int(struct.unpack("!I", value)[0]), serialize=lambda number: struct.pack("!I", number)
)
CODES: Codec[tuple[int, ...]] = Codec(parse=tuple, serialize=bytes)
USER_CLASSES: Codec[tuple[bytes, ...]] = Codec(
    parse=_parse_user_classes,
    serialize=lambda classes: b"".join(bytes([len(item)]) + item for item in classes),
)
ARCHS: Codec[tuple[int, ...]] = Codec(parse=_parse_archs, serialize=lambda archs: struct.pack(f"!{len(archs)}H", *archs))
MACHINE_ID: Codec[UUID | None] = Codec(
    parse=_parse_machine_id, serialize=lambda uuid: b"" if uuid is None else b"\0" + uuid.bytes
)

NAMES: Codec[tuple[str, ...]] = Codec(parse=_parse_names, serialize=_serialize_names)
