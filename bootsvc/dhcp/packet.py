"""DHCP packets (RFC 2131 §2): bytes ↔ values. Options stay raw here, so that unknown ones survive a round trip."""

import struct
from collections.abc import Mapping
from enum import IntEnum
from ipaddress import IPv4Address

import msgspec

from bootsvc.dhcp.option_values import address
from bootsvc.dhcp.options import OVERLOAD
from bootsvc.dhcp.options_field import ENDING, Encoded, parse_fields, serialize_fields
from bootsvc.errors import MalformedPacket

MAGIC_COOKIE = bytes((99, 130, 83, 99))
BROADCAST_FLAG = 0x8000
ETHERNET = 1
"""htype (RFC 1700)."""
MIN_SIZE = 300
"""A BOOTP message is padded to this many bytes: old relays and ROMs drop shorter ones (RFC 1542 §2.1)."""
MAX_SIZE = 65535

_HEADER = struct.Struct("!4BI2H4I16s64s128s4s")
_SNAME_AT, _FILE_AT, _COOKIE_AT, _OPTIONS_AT = 44, 108, 236, 240
SNAME_SIZE, FILE_SIZE = 64, 128
HEADER_SIZE = _OPTIONS_AT
"""Bytes before the options, the magic cookie included."""
_FILE_OVERLOADED, _SNAME_OVERLOADED = 1, 2
ZERO = IPv4Address(0)
"""The address of every field that a message does not use: one object, so that `is` tells."""


class Op(IntEnum):
    """Direction of a message."""

    BOOTREQUEST = 1
    BOOTREPLY = 2


# Plain numbers: an enum's own comparison costs more than all other checks of a header.
_REQUEST, _REPLY = int(Op.BOOTREQUEST), int(Op.BOOTREPLY)
_OVERLOAD = OVERLOAD.code


class Packet(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One message; `options` maps code to the bytes of the value, in the order of their first occurrence."""

    op: int
    htype: int = ETHERNET
    hops: int = 0
    xid: int = 0
    secs: int = 0
    flags: int = 0
    ciaddr: IPv4Address = ZERO
    yiaddr: IPv4Address = ZERO
    siaddr: IPv4Address = ZERO
    giaddr: IPv4Address = ZERO
    chaddr: bytes = b""
    """Only the first `hlen` bytes of the field."""
    sname: bytes = b""
    file: bytes = b""
    options: Mapping[int, bytes] = {}
    file_options: Mapping[int, bytes] = {}
    """Options that stand in the `file` field for want of room (RFC 2132 §9.3), to be sent; `parse` joins them to `options`."""
    sname_options: Mapping[int, bytes] = {}

    @classmethod
    def parse(cls, data: bytes) -> "Packet":
        """Raises MalformedPacket, and nothing else, for bytes that are not a DHCP message."""
        options, overload = options_of(data)
        op, htype, hlen, hops, xid, secs, flags, ci, yi, si, gi, chaddr, sname, file, _ = _HEADER.unpack_from(data)
        return cls(
            op=op,
            htype=htype,
            hops=hops,
            xid=xid,
            secs=secs,
            flags=flags,
            ciaddr=IPv4Address(ci) if ci else ZERO,
            yiaddr=IPv4Address(yi) if yi else ZERO,
            siaddr=IPv4Address(si) if si else ZERO,
            giaddr=address(gi) if gi else ZERO,
            chaddr=chaddr[:hlen],
            sname=b"" if overload & _SNAME_OVERLOADED else sname.partition(b"\0")[0],
            file=b"" if overload & _FILE_OVERLOADED else file.partition(b"\0")[0],
            options=options,
        )

    def serialize(self) -> bytes:
        """The message padded to MIN_SIZE; `sname`, `file` and `chaddr` must fit their fields, and so must options in them."""
        overload = (_FILE_OVERLOADED if self.file_options else 0) | (_SNAME_OVERLOADED if self.sname_options else 0)
        header = _HEADER.pack(
            self.op,
            self.htype,
            len(self.chaddr),
            self.hops,
            self.xid,
            self.secs,
            self.flags,
            0 if self.ciaddr is ZERO else int(self.ciaddr),
            0 if self.yiaddr is ZERO else int(self.yiaddr),
            0 if self.siaddr is ZERO else int(self.siaddr),
            0 if self.giaddr is ZERO else int(self.giaddr),
            self.chaddr,
            serialize_fields(self.sname_options.items()) if self.sname_options else self.sname,
            serialize_fields(self.file_options.items()) if self.file_options else self.file,
            MAGIC_COOKIE,
        )
        if isinstance(self.options, Encoded) and not overload:
            return (header + self.options.field + ENDING).ljust(MIN_SIZE, b"\0")
        pairs = [OVERLOAD.pair(overload), *self.options.items()] if overload else self.options.items()
        return (header + serialize_fields(pairs)).ljust(MIN_SIZE, b"\0")


def options_of(data: bytes) -> tuple[dict[int, bytes], int]:
    """All options of a message, and which of `file` and `sname` held some of them, as OVERLOAD says.

    Raises MalformedPacket, and nothing else, for bytes that are not a DHCP message.
    """
    if len(data) < _OPTIONS_AT:
        raise MalformedPacket("dhcp", len(data), f"{len(data)} bytes are too short for a message")
    if len(data) > MAX_SIZE:
        raise MalformedPacket("dhcp", MAX_SIZE, "longer than a datagram can be")
    if not data.startswith(MAGIC_COOKIE, _COOKIE_AT):
        raise MalformedPacket("dhcp", _COOKIE_AT, "no magic cookie")
    if data[0] != _REQUEST and data[0] != _REPLY:
        raise MalformedPacket("dhcp", 0, f"op {data[0]} is neither request nor reply")
    if data[2] > 16:
        raise MalformedPacket("dhcp", 2, f"hlen {data[2]} is longer than the chaddr field")
    options: dict[int, bytes] = {}
    parse_fields(data, _OPTIONS_AT, len(data), options)
    if _OVERLOAD not in options:
        return options, 0
    overload = OVERLOAD.find(options) or 0
    # RFC 3396 §5: the aggregate is the options field, then file, then sname.
    if overload & _FILE_OVERLOADED:
        parse_fields(data, _FILE_AT, _FILE_AT + FILE_SIZE, options)
    if overload & _SNAME_OVERLOADED:
        parse_fields(data, _SNAME_AT, _SNAME_AT + SNAME_SIZE, options)
    del options[_OVERLOAD]
    return options, overload
