"""DHCP options (RFC 2132 and later): one row each, with code, IANA name and value codec."""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Generic, TypeVar

from bootsvc.dhcp.option_values import (
    ADDRESS,
    ADDRESSES,
    ARCHS,
    CODES,
    MACHINE_ID,
    NAMES,
    RAW,
    TEXT,
    UINT8,
    UINT16,
    UINT32,
    USER_CLASSES,
    Codec,
)
from bootsvc.errors import MalformedPacket

T = TypeVar("T")


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


_MESSAGES = {bytes([message.value]): message for message in Message}
_MESSAGE_BYTES = {message: value for value, message in _MESSAGES.items()}
MESSAGE: Codec[Message] = Codec(parse=_MESSAGES.__getitem__, serialize=_MESSAGE_BYTES.__getitem__)

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
