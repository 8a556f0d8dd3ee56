"""Records of ours as the body of a response (RFC 1035 §4.1.3): the usual ones are written here, all others by dnslib."""

import struct
from collections.abc import Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address

import dnslib

from bootsvc.dns.packet import AA, HEADER, IN, Body
from bootsvc.dns.records import Answer, Rcode, Record, Soa, Type
from bootsvc.errors import MalformedPacket

_POINTED = struct.Struct("!HHHIH")
_FIRST_NAME = 0xC000 | HEADER.size
"""A pointer to the name in the question (RFC 1035 §4.1.4)."""
_REFRESH, _RETRY, _EXPIRE = 3600, 600, 604800


def body_of(answer: Answer, question: bytes) -> Body:
    """Our own records as the body of a response to this question; the names in it point back into the question."""
    if answer.answers and not answer.authority and all(each.type in (Type.A, Type.AAAA) for each in answer.answers):
        return _addresses(answer.answers)
    if not answer.answers and len(answer.authority) <= 1:
        return _denial(answer, question)
    # Packed behind the question as it was asked: compression then refers to the client's own spelling.
    kind, klass = struct.unpack("!HH", question[-4:])
    try:
        record = dnslib.DNSRecord(q=dnslib.DNSQuestion(_label(_labels(question)), kind, klass))
        record.add_answer(*map(_resource, answer.answers))
        record.add_auth(*map(_resource, answer.authority))
        packed = bytes(record.pack())
    except Exception as exc:
        raise MalformedPacket("dns", 0, f"cannot be written: {exc}") from exc
    counts = (len(answer.answers), len(answer.authority), 0)
    return Body(rcode=answer.rcode, counts=counts, data=packed[HEADER.size + len(question) :], flags=AA)


def _addresses(records: Sequence[Record]) -> Body:
    """Nearly all answers are addresses of the very name that was asked: ten times as fast, when a whole cluster asks."""
    parts = []
    for record in records:
        assert isinstance(record.value, IPv4Address | IPv6Address)
        packed = record.value.packed
        parts.append(_POINTED.pack(_FIRST_NAME, record.type, IN, record.ttl, len(packed)) + packed)
    return Body(rcode=Rcode.NOERROR, counts=(len(parts), 0, 0), data=b"".join(parts), flags=AA)


def _denial(answer: Answer, question: bytes) -> Body:
    """No such name or no such data, with the zone's SOA; also made here, since anybody may ask for thousands of such names."""
    if not answer.authority:
        return Body(rcode=answer.rcode, counts=(0, 0, 0), data=b"", flags=AA)
    (record,) = answer.authority
    assert isinstance(record.value, Soa)
    # The zone's name is the end of the question's: as many bytes as characters, and two more for a length and the root.
    zone_at = HEADER.size + len(question) - 4 - (len(record.name) + 2)
    rdata = _soa_rdata(record.value, record.ttl)
    data = _POINTED.pack(0xC000 | zone_at, record.type, IN, record.ttl, len(rdata)) + rdata
    return Body(rcode=answer.rcode, counts=(0, 1, 0), data=data, flags=AA)


@lru_cache(maxsize=16)
def _soa_rdata(soa: Soa, minimum: int) -> bytes:
    """RFC 1035 §3.3.13, its names written out."""
    names = b"".join(_wire_name(name) for name in (soa.mname, soa.rname))
    return names + struct.pack("!5I", soa.serial & 0xFFFFFFFF, _REFRESH, _RETRY, _EXPIRE, minimum)


def _wire_name(name: str) -> bytes:
    return b"".join(bytes([len(label)]) + label.encode("ascii") for label in name.split(".")) + b"\0"


def _resource(record: Record) -> dnslib.RR:
    value = record.value
    if isinstance(value, Soa):
        times = (value.serial & 0xFFFFFFFF, _REFRESH, _RETRY, _EXPIRE, record.ttl)
        data = dnslib.SOA(_name(value.mname), _name(value.rname), times)
    elif isinstance(value, str):
        data = (dnslib.NS if record.type is Type.NS else dnslib.PTR)(_name(value))
    elif record.type is Type.A:
        data = dnslib.A(str(value))
    else:
        data = dnslib.AAAA(str(value))
    return dnslib.RR(_name(record.name), int(record.type), rdata=data, ttl=record.ttl)


def _label(labels: Sequence[bytes]) -> dnslib.DNSLabel:
    """As bytes: text would be taken for an internationalised name."""
    return dnslib.DNSLabel([label.lower() for label in labels])


def _name(name: str) -> dnslib.DNSLabel:
    return _label(name.encode("latin-1").split(b".")) if name else dnslib.DNSLabel([])


def _labels(data: bytes) -> list[bytes]:
    """The labels of an uncompressed name that was parsed before."""
    labels, offset = [], 0
    while length := data[offset]:
        labels.append(data[offset + 1 : offset + 1 + length])
        offset += 1 + length
    return labels
