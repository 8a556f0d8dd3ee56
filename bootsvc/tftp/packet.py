"""TFTP packets (RFC 1350, options RFC 2347): bytes ↔ values. Requests go through tftpy's classes.

DATA, ACK and ERROR are framed here: tftpy logs each ERROR it reads as an error of its own, and cannot write our messages.
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from functools import lru_cache

from tftpy.TftpPacketFactory import TftpPacketFactory
from tftpy.TftpPacketTypes import TftpPacketOACK, TftpPacketRRQ, TftpPacketWRQ
from tftpy.TftpShared import TftpException

from bootsvc.errors import MalformedPacket

MAX_REQUEST = 2048
"""Bytes of a request; RFC 2347 allows 512, and some ROMs pad beyond."""
_HEADER = struct.Struct("!HH")
ACK_HEAD = 4 << 16
"""The first four bytes of an ACK as one number, but for its block."""


class Opcode(IntEnum):
    RRQ = 1
    WRQ = 2
    DATA = 3
    ACK = 4
    ERROR = 5
    OACK = 6


class ErrorCode(IntEnum):
    """RFC 1350 §5 and RFC 2347."""

    UNDEFINED = 0
    FILE_NOT_FOUND = 1
    ACCESS_VIOLATION = 2
    ILLEGAL_OPERATION = 4
    UNKNOWN_TID = 5
    OPTION_REFUSED = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadRequest:
    """RRQ; `mode` and the option names in lower case."""

    filename: str
    mode: str = "octet"
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteRequest:
    """WRQ, which is always refused."""

    filename: str
    mode: str = "octet"
    options: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Data:
    """DATA; `block` as on the wire, 0 to 65535."""

    block: int
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Ack:
    block: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorPacket:
    """ERROR; `code` may be one that RFC 1350 does not know."""

    code: int
    message: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OptionAck:
    """OACK."""

    options: Mapping[str, str]


Packet = ReadRequest | WriteRequest | Data | Ack | ErrorPacket | OptionAck


def frame_data(block: int, data: bytes) -> bytes:
    """DATA; `block` counted from 1 without end, and rolled over here."""
    return _HEADER.pack(3, block & 0xFFFF) + data


def parse(data: bytes) -> Packet:
    """Raises MalformedPacket, and nothing else."""
    if len(data) < 4:
        raise MalformedPacket("tftp", len(data), f"{len(data)} bytes are too short for a packet")
    opcode = int.from_bytes(data[:2], "big")
    if opcode == Opcode.DATA:
        return Data(block=int.from_bytes(data[2:4], "big"), data=data[4:])
    if opcode == Opcode.ACK:
        return Ack(block=int.from_bytes(data[2:4], "big"))
    if opcode == Opcode.ERROR:
        message = data[4:].partition(b"\0")[0].decode("ascii", "replace")
        return ErrorPacket(code=int.from_bytes(data[2:4], "big"), message=message)
    if len(data) > MAX_REQUEST:
        raise MalformedPacket("tftp", MAX_REQUEST, f"a request of {len(data)} bytes")
    return _parse_request(opcode, data)


# Machines of one kind send the same bytes.
@lru_cache(maxsize=256)
def _parse_request(opcode: int, data: bytes) -> Packet:
    if opcode in (Opcode.RRQ, Opcode.WRQ):
        # Some ROMs pad a request with zeros, which tftpy takes for empty options.
        data = data.rstrip(b"\0") + b"\0" if data.endswith(b"\0\0") else data
        data = _without_empty_options(data)
    try:
        parsed = TftpPacketFactory().parse(data)
    # UnicodeDecodeError: a name that is not ASCII, which the factory lets escape.
    except (TftpException, UnicodeDecodeError, struct.error, AssertionError) as exc:
        raise MalformedPacket("tftp", 2, f"opcode {opcode}: {exc}") from exc
    return _from_tftpy(parsed)


def _without_empty_options(data: bytes) -> bytes:
    """Of a request: `multicast` (RFC 2090), which we do not know and so need not answer, has an empty value."""
    if not data.endswith(b"\0"):
        return data
    fields = data[2:-1].split(b"\0")
    valued = [field for pair in zip(fields[2::2], fields[3::2], strict=False) if pair[1] for field in pair]
    return data[:2] + b"\0".join([*fields[:2], *valued]) + b"\0"


def _from_tftpy(parsed: object) -> Packet:
    options = {str(name).lower(): str(value) for name, value in getattr(parsed, "options", {}).items()}
    if isinstance(parsed, TftpPacketOACK):
        return OptionAck(options=options)
    kind = ReadRequest if isinstance(parsed, TftpPacketRRQ) else WriteRequest
    return kind(filename=str(getattr(parsed, "filename", "")), mode=str(getattr(parsed, "mode", "")), options=options)


def serialize(packet: Packet) -> bytes:
    """Bytes of a packet; RRQ and WRQ in mode octet only."""
    match packet:
        case Data(block=block, data=data):
            return _HEADER.pack(Opcode.DATA, block) + data
        case ErrorPacket(code=code, message=message):
            return _HEADER.pack(Opcode.ERROR, code) + message.encode("ascii", "replace") + b"\0"
        case Ack(block=block):
            return _HEADER.pack(Opcode.ACK, block)
        case OptionAck(options=options):
            foreign = TftpPacketOACK()
            foreign.options = dict(options)
        case ReadRequest() | WriteRequest():
            foreign = TftpPacketRRQ() if isinstance(packet, ReadRequest) else TftpPacketWRQ()
            foreign.filename, foreign.mode, foreign.options = packet.filename, packet.mode, dict(packet.options)
    return bytes(foreign.encode().buffer)
