"""DHCP options (RFC 2132 and later): one row each, with code, IANA name and value codec; and the TLV field they stand in."""

import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import lru_cache
from ipaddress import IPv4Address
from typing import Generic, TypeVar
from uuid import UUID

from bootsvc.errors import MalformedPacket

T = TypeVar("T")

PAD = 0
END = 255
ENDING = bytes((END,))
MAX_VALUE = 65535
"""Bytes of one value after RFC 3396 concatenation; a packet that claims more is not honest."""


class Message(Enum):
    """MESSAGE_TYPE (RFC 2132 §9.6)."""

    DISCOVER = 1
    OFFER = 2
    REQUEST = 3
    DECLINE = 4
    ACK = 5
    NAK = 6
    RELEASE = 7
    INFORM = 8


# Plain names: reading a member through its class takes ten times as long, and every message is compared with most of them.
DISCOVER, OFFER, REQUEST, DECLINE = Message.DISCOVER, Message.OFFER, Message.REQUEST, Message.DECLINE
ACK, NAK, RELEASE, INFORM = Message.ACK, Message.NAK, Message.RELEASE, Message.INFORM


_NO_VALUE = (ValueError, KeyError, struct.error)


@dataclass(frozen=True, slots=True, kw_only=True)
class Codec(Generic[T]):
    """Turns the bytes of a value into a value and back; `parse` raises ValueError, KeyError or struct.error."""

    parse: Callable[[bytes], T]
    serialize: Callable[[T], bytes]


@dataclass(frozen=True, slots=True)
class Option(Generic[T]):
    """One row of the table."""

    code: int
    name: str
    codec: Codec[T]

    def parse(self, value: bytes) -> T:
        """Raises MalformedPacket when the bytes are not such a value."""
        try:
            return self.codec.parse(value)
        except _NO_VALUE as exc:
            raise self._malformed(value) from exc

    def find(self, options: Mapping[int, bytes]) -> T | None:
        """The value among raw options, or None; raises MalformedPacket."""
        value = options.get(self.code)
        if value is None:
            return None
        try:
            return self.codec.parse(value)
        except _NO_VALUE as exc:
            raise self._malformed(value) from exc

    def pair(self, value: T) -> tuple[int, bytes]:
        """Code and bytes, as raw options hold them."""
        return self.code, self.codec.serialize(value)

    def _malformed(self, value: bytes) -> MalformedPacket:
        return MalformedPacket("dhcp", 0, f"option {self.name} has a bad value of {len(value)} bytes")


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
_MESSAGES = {bytes([message.value]): message for message in Message}
_MESSAGE_BYTES = {message: value for value, message in _MESSAGES.items()}
MESSAGE: Codec[Message] = Codec(parse=_MESSAGES.__getitem__, serialize=_MESSAGE_BYTES.__getitem__)
USER_CLASSES: Codec[tuple[bytes, ...]] = Codec(
    parse=_parse_user_classes,
    serialize=lambda classes: b"".join(bytes([len(item)]) + item for item in classes),
)
ARCHS: Codec[tuple[int, ...]] = Codec(parse=_parse_archs, serialize=lambda archs: struct.pack(f"!{len(archs)}H", *archs))
MACHINE_ID: Codec[UUID | None] = Codec(
    parse=_parse_machine_id, serialize=lambda uuid: b"" if uuid is None else b"\0" + uuid.bytes
)

NAMES: Codec[tuple[str, ...]] = Codec(parse=_parse_names, serialize=_serialize_names)

SUBNET_MASK = Option(1, "SUBNET_MASK", ADDRESS)
ROUTER = Option(3, "ROUTER", ADDRESSES)
DOMAIN_NAME_SERVER = Option(6, "DOMAIN_NAME_SERVER", ADDRESSES)
HOST_NAME = Option(12, "HOST_NAME", TEXT)
DOMAIN_NAME = Option(15, "DOMAIN_NAME", TEXT)
INTERFACE_MTU = Option(26, "INTERFACE_MTU", UINT16)
BROADCAST_ADDRESS = Option(28, "BROADCAST_ADDRESS", ADDRESS)
NTP_SERVERS = Option(42, "NTP_SERVERS", ADDRESSES)
VENDOR_SPECIFIC = Option(43, "VENDOR_SPECIFIC", RAW)
REQUESTED_ADDRESS = Option(50, "REQUESTED_ADDRESS", ADDRESS)
LEASE_TIME = Option(51, "LEASE_TIME", UINT32)
OVERLOAD = Option(52, "OVERLOAD", UINT8)
MESSAGE_TYPE = Option(53, "MESSAGE_TYPE", MESSAGE)
SERVER_ID = Option(54, "SERVER_ID", ADDRESS)
PARAMETER_LIST = Option(55, "PARAMETER_LIST", CODES)
ERROR_MESSAGE = Option(56, "ERROR_MESSAGE", TEXT)
MAX_MESSAGE_SIZE = Option(57, "MAX_MESSAGE_SIZE", UINT16)
RENEWAL_TIME = Option(58, "RENEWAL_TIME", UINT32)
REBINDING_TIME = Option(59, "REBINDING_TIME", UINT32)
VENDOR_CLASS = Option(60, "VENDOR_CLASS", TEXT)
CLIENT_ID = Option(61, "CLIENT_ID", RAW)
TFTP_SERVER_NAME = Option(66, "TFTP_SERVER_NAME", TEXT)
BOOTFILE_NAME = Option(67, "BOOTFILE_NAME", TEXT)
USER_CLASS = Option(77, "USER_CLASS", USER_CLASSES)
RELAY_AGENT = Option(82, "RELAY_AGENT", RAW)
CLIENT_ARCH = Option(93, "CLIENT_ARCH", ARCHS)
CLIENT_MACHINE_ID = Option(97, "CLIENT_MACHINE_ID", MACHINE_ID)
DOMAIN_SEARCH = Option(119, "DOMAIN_SEARCH", NAMES)
ETHERBOOT = Option(175, "ETHERBOOT", RAW)
"""iPXE's own encapsulated options; IANA's registry calls the code "Etherboot (tentatively assigned)"."""

PXE_DISCOVERY_CONTROL = Option(6, "PXE_DISCOVERY_CONTROL", UINT8)
"""Inside VENDOR_SPECIFIC (PXE 2.1 specification, table 2-1)."""
PXE_BOOT_ITEM = Option(71, "PXE_BOOT_ITEM", RAW)
"""Inside VENDOR_SPECIFIC: which boot server and layer port 4011 is asked for."""
LINK_SELECTION = Option(5, "LINK_SELECTION", ADDRESS)
"""Inside RELAY_AGENT (RFC 3527): the client's network, where giaddr is only the relay's own address."""
IPXE_NO_PXEDHCP = Option(176, "IPXE_NO_PXEDHCP", UINT8)
"""Inside ETHERBOOT."""


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
