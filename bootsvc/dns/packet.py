"""DNS messages (RFC 1035 §4, EDNS: RFC 6891): bytes ↔ values.

Answers of upstream servers are passed on as they came, so that record types which nobody here knows stay whole.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass

from bootsvc.dns.records import Rcode, Type
from bootsvc.errors import MalformedPacket

HEADER = struct.Struct("!HHHHHH")
_RECORD = struct.Struct("!HHIH")
QR, AA, TC, RD, RA, AD, CD = 0x8000, 0x0400, 0x0200, 0x0100, 0x0080, 0x0020, 0x0010
OPCODE = 0x7800
IN = 1
DO = 0x8000
"""The bit of the OPT record's flags by which a client asks for DNSSEC records (RFC 3225)."""
PLAIN_SIZE = 512
EDNS_SIZE = 1232
"""What crosses every network unfragmented; also the most that we send over UDP."""
BADVERS = 16
_MAX_NAME = 255


@dataclass(frozen=True, slots=True, kw_only=True)
class Edns:
    """What the client's OPT record says."""

    size: int
    version: int
    dnssec_ok: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A question; `question` is its bytes as the client spelled them, `name` the same in lower case without the last dot."""

    id: int
    flags: int
    name: str
    type: int
    klass: int
    question: bytes
    edns: Edns | None = None

    @property
    def opcode(self) -> int:
        return (self.flags & OPCODE) >> 11

    @property
    def limit(self) -> int:
        """Bytes that the client takes in one datagram."""
        return PLAIN_SIZE if self.edns is None else max(PLAIN_SIZE, min(self.edns.size, EDNS_SIZE))


@dataclass(frozen=True, slots=True, kw_only=True)
class Body:
    """The part of a response behind its question; `ttls` are the offsets of its TTL fields."""

    rcode: int
    counts: tuple[int, int, int]
    data: bytes
    flags: int = 0
    """AA and AD, as far as they are set."""
    ttls: tuple[int, ...] = ()
    seconds: int = 0
    """For how long it may be kept; 0 for not at all."""

    def aged(self, seconds: int) -> "Body":
        """As it is after that time: every TTL is less by it."""
        if seconds <= 0 or not self.ttls:
            return self
        data = bytearray(self.data)
        for offset in self.ttls:
            (ttl,) = struct.unpack_from("!I", data, offset)
            struct.pack_into("!I", data, offset, max(0, ttl - seconds))
        return Body(rcode=self.rcode, counts=self.counts, data=bytes(data), flags=self.flags)


@dataclass(frozen=True, slots=True, kw_only=True)
class Response:
    """What an upstream server said."""

    id: int
    truncated: bool
    question: bytes
    body: Body


def parse_query(data: bytes) -> Query:
    """Raises MalformedPacket for what is no query with exactly one question."""
    if len(data) < HEADER.size:
        raise MalformedPacket("dns", len(data), "shorter than a header")
    identifier, flags, questions, answers, authorities, additional = HEADER.unpack_from(data)
    if flags & QR:
        raise MalformedPacket("dns", 2, "a response")
    if questions != 1 or answers or authorities > 1 or additional > 2:
        raise MalformedPacket("dns", 4, "not one question")
    name, end = _parse_name(data, HEADER.size)
    if end + 4 > len(data):
        raise MalformedPacket("dns", end, "the question is cut off")
    kind, klass = struct.unpack_from("!HH", data, end)
    edns, offset = None, end + 4
    for _ in range(authorities + additional):
        offset = _skip_name(data, offset)
        if offset + _RECORD.size > len(data):
            raise MalformedPacket("dns", offset, "a record is cut off")
        record, size, extended, length = _RECORD.unpack_from(data, offset)
        offset += _RECORD.size + length
        if offset > len(data):
            raise MalformedPacket("dns", offset, "a record is cut off")
        if record == Type.OPT:
            if edns is not None:
                raise MalformedPacket("dns", offset, "two OPT records")
            edns = Edns(size=size, version=extended >> 16 & 0xFF, dnssec_ok=bool(extended & DO))
    question = data[HEADER.size : end + 4]
    return Query(id=identifier, flags=flags, name=name, type=kind, klass=klass, question=question, edns=edns)


def refuse_unreadable(data: bytes) -> bytes | None:
    """The answer to what `parse_query` cannot read, so that its sender need not wait (RFC 1035 §4.1.1, RFC 9619 §4).

    None for what is no query at all.
    """
    if len(data) < HEADER.size:
        return None
    identifier, flags = struct.unpack_from("!HH", data)
    if flags & QR:
        return None
    rcode = Rcode.NOTIMP if flags & OPCODE else Rcode.FORMERR
    return HEADER.pack(identifier, QR | flags & (OPCODE | RD) | RA | rcode, 0, 0, 0, 0)


def serialize_query(identifier: int, question: bytes, *, flags: int, dnssec_ok: bool, edns: bool = True) -> bytes:
    """A query for an upstream server."""
    header = HEADER.pack(identifier, flags & CD | RD, 1, 0, 0, 1 if edns else 0)
    return header + question + (opt(DO if dnssec_ok else 0) if edns else b"")


def opt(flags: int, *, extended_rcode: int = 0) -> bytes:
    """Our OPT record; `extended_rcode` is the upper eight bits of the response code."""
    return struct.pack("!BHHBBHH", 0, Type.OPT, EDNS_SIZE, extended_rcode, 0, flags, 0)


def respond(query: Query, body: Body, *, limit: int | None = None) -> bytes:
    """The whole response; longer than `limit` bytes it is cut to its question, with TC, so that the client asks over TCP."""
    additional = b""
    if query.edns is not None:
        additional = opt(DO if query.edns.dnssec_ok else 0, extended_rcode=body.rcode >> 4)
    flags = QR | query.flags & (OPCODE | RD | CD) | RA | body.flags | body.rcode & 0xF
    answers, authorities, more = body.counts
    data = body.data
    if limit is not None and HEADER.size + len(query.question) + len(data) + len(additional) > limit:
        flags, data, answers, authorities, more = flags | TC, b"", 0, 0, 0
    count = more + (1 if additional else 0)
    header = HEADER.pack(query.id, flags, 1, answers, authorities, count)
    return header + query.question + data + additional


def parse_response(data: bytes) -> Response:
    """Raises MalformedPacket; the OPT record is taken out, with all that follows the authority if it is not the last."""
    if len(data) < HEADER.size:
        raise MalformedPacket("dns", len(data), "shorter than a header")
    identifier, flags, questions, *counts = HEADER.unpack_from(data)
    if not flags & QR or questions != 1 or sum(counts) > len(data) // 11:
        raise MalformedPacket("dns", 2, "not a response to one question")
    start = _skip_name(data, HEADER.size) + 4
    truncated = bool(flags & TC)
    try:
        walk = _Walk.of(data, start, counts) if not truncated else _Walk()
    except struct.error as exc:
        raise MalformedPacket("dns", start, "a record is cut off") from exc
    rcode = flags & 0xF | walk.extended_rcode << 4
    body = Body(
        rcode=rcode,
        counts=(counts[0], counts[1], walk.additional) if not truncated else (0, 0, 0),
        data=data[start : walk.end] if not truncated else b"",
        flags=flags & AD,
        ttls=tuple(offset - start for offset in walk.ttls if offset < walk.end),
        seconds=walk.seconds(denied=rcode == Rcode.NXDOMAIN or not counts[0])
        if rcode in (Rcode.NOERROR, Rcode.NXDOMAIN)
        else 0,
    )
    return Response(id=identifier, truncated=truncated, question=data[HEADER.size : start], body=body)


class _Walk:
    """One pass over the records of a response."""

    def __init__(self) -> None:
        self.ttls: list[int] = []
        self.end = 0
        self.additional = 0
        self.extended_rcode = 0
        self._positive: list[int] = []
        self._negative: list[int] = []

    @classmethod
    def of(cls, data: bytes, start: int, counts: Sequence[int]) -> "_Walk":
        walk, offset = cls(), start
        for section, count in enumerate(counts):
            for index in range(count):
                begin = offset
                offset = _skip_name(data, offset)
                kind, _, ttl, length = _RECORD.unpack_from(data, offset)
                ttl_at, offset = offset + 4, offset + _RECORD.size + length
                if offset > len(data):
                    raise MalformedPacket("dns", begin, "a record is cut off")
                if kind == Type.OPT and section == 2:
                    walk.extended_rcode = ttl >> 24
                    walk.end, walk.additional = (begin, index) if index == count - 1 else (walk.end, 0)
                    return walk
                walk.ttls.append(ttl_at)
                if section == 0:
                    walk._positive.append(ttl)
                elif section == 1 and kind == Type.SOA and length >= 20:
                    walk._negative.append(min(ttl, int.from_bytes(data[offset - 4 : offset], "big")))
                if section == 2:
                    walk.additional = index + 1
            # Should the OPT not be the last, the additional records are left out.
            walk.end = offset
        return walk

    def seconds(self, *, denied: bool) -> int:
        """RFC 1035 §3.2.1, RFC 2308 §5: an answer lives as long as its shortest record, a denial as its SOA says."""
        if denied and not self._negative:
            return 0
        return min([*self._positive, *self._negative], default=0)


def _parse_name(data: bytes, offset: int) -> tuple[str, int]:
    """An uncompressed name, as queries have them, in lower case; and where it ends."""
    labels, start = [], offset
    while True:
        if offset >= len(data):
            raise MalformedPacket("dns", offset, "a name is cut off")
        length = data[offset]
        if length > 63 or offset - start > _MAX_NAME - 1 - length:
            raise MalformedPacket("dns", offset, "not a name")
        offset += 1
        if not length:
            break
        label = data[offset : offset + length]
        if len(label) != length:
            raise MalformedPacket("dns", offset, "a name is cut off")
        # A dot inside a label must not look like one between two.
        labels.append(label.replace(b".", b"\0").lower().decode("latin-1"))
        offset += length
    return ".".join(labels), offset


def _skip_name(data: bytes, offset: int) -> int:
    """Where a name ends that may be compressed; where its pointer leads does not matter here."""
    start = offset
    while offset < len(data):
        length = data[offset]
        if length >= 0xC0:
            if offset + 2 > len(data):
                break
            return offset + 2
        if length > 63 or offset - start > _MAX_NAME:
            break
        offset += 1 + length
        if not length:
            return offset
    raise MalformedPacket("dns", start, "not a name")
