"""Bytes ↔ values; scapy is the peer, since dnslib is inside our own codec."""

import random
import struct
from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.dns import DNS, DNSQR, DNSRR, DNSRROPT, DNSRRSOA

from bootsvc.dns.answer_body import body_of
from bootsvc.dns.packet import (
    Body,
    Query,
    opt,
    parse_query,
    parse_response,
    refuse_unreadable,
    respond,
    serialize_query,
)
from bootsvc.dns.prepared import Prepared
from bootsvc.dns.records import Answer, Rcode, Record, Type
from bootsvc.dns.zone import Domain, Zone
from bootsvc.errors import MalformedPacket
from netboot.node import to_node

DEVICES = {"default": {"ipaddr": "10.77.0.11", "ipaddr6": "fd00::11"}}
ZONE = Zone(
    [to_node("n1", {"network devices": DEVICES})],
    Domain(name="cluster", whole=True, server="head", address=IPv4Address("10.77.0.1"), network=IPv4Network("10.77.0.0/24")),
)


def asked(name: str, kind: int = 1, *, identifier: int = 0x1234, rd: int = 1, edns: int | None = None, do: int = 0) -> bytes:
    extra = DNSRROPT(rclass=edns, z=0x8000 if do else 0) if edns is not None else None
    return bytes(DNS(id=identifier, rd=rd, qd=DNSQR(qname=name, qtype=kind), ar=[extra] if extra is not None else []))


def answered(data: bytes, *, limit: int | None = None) -> bytes:
    query = parse_query(data)
    found = ZONE.lookup(query.name, query.type)
    assert found is not None
    return respond(query, body_of(found, query.question), limit=limit)


def test_a_query_is_read() -> None:
    query = parse_query(asked("N1.Cluster", 28, edns=4096, do=1))
    assert (query.id, query.name, query.type, query.klass, query.opcode) == (0x1234, "n1.cluster", 28, 1, 0)
    assert query.question.startswith(b"\x02N1\x07Cluster\0")
    assert query.edns is not None
    assert (query.edns.size, query.edns.version, query.edns.dnssec_ok) == (4096, 0, True)
    assert query.limit == 1232
    assert parse_query(asked("n1")).limit == 512
    assert parse_query(asked(".", 2)).name == ""


def test_answers_are_what_another_reader_sees() -> None:
    seen = DNS(answered(asked("N1.cluster")))
    assert (seen.id, seen.qr, seen.aa, seen.ra, seen.rd, seen.rcode, seen.ancount) == (0x1234, 1, 1, 1, 1, 0, 1)
    assert seen.qd[0].qname == b"N1.cluster.", "the client's own spelling"
    assert (seen.an[0].rrname, seen.an[0].rdata, seen.an[0].ttl) == (b"N1.cluster.", "10.77.0.11", 60)
    pointer = DNS(answered(asked("11.0.77.10.in-addr.arpa", 12)))
    assert pointer.an[0].rdata == b"n1.cluster."
    missing = DNS(answered(asked("nope.CLUSTER", edns=1232)))
    assert (missing.rcode, missing.nscount, missing.arcount) == (3, 1, 1)
    assert (missing.ns[0].rrname, missing.ns[0].mname, missing.ns[0].minimum) == (b"CLUSTER.", b"head.cluster.", 10)


def test_what_is_too_long_is_cut_to_its_question() -> None:
    many = Answer(answers=tuple(Record(name="x", type=Type.A, value=IPv4Address(number)) for number in range(60)))
    query = parse_query(asked("x"))
    body = body_of(many, query.question)
    cut = DNS(respond(query, body, limit=query.limit))
    assert (cut.tc, cut.ancount, cut.qdcount) == (1, 0, 1)
    whole = DNS(respond(query, body, limit=65535))
    assert (whole.tc, whole.ancount) == (0, 60)


def test_an_upstream_answer_is_kept_as_it_came_without_its_opt() -> None:
    record = DNSRR(rrname="www.example.com", type="A", ttl=300, rdata="192.0.2.1")
    alias = DNSRR(rrname="example.com", type="CNAME", ttl=100, rdata="www.example.com")
    data = bytes(DNS(id=7, qr=1, ad=1, qd=DNSQR(qname="example.com"), an=[alias, record], ar=[DNSRROPT(rclass=1232)]))
    response = parse_response(data)
    assert (response.id, response.truncated, response.body.counts, response.body.seconds) == (7, False, (2, 0, 0), 100)
    query = parse_query(asked("example.com", identifier=9))
    seen = DNS(respond(query, response.body.aged(40)))
    assert (seen.id, seen.aa, seen.ad, seen.arcount) == (9, 0, 1, 0)
    assert [(each.type, each.ttl) for each in seen.an] == [(5, 60), (1, 260)]
    assert seen.an[1].rdata == "192.0.2.1"


def test_a_denial_lives_as_its_soa_says() -> None:
    soa = DNSRRSOA(rrname="example.com", ttl=900, minimum=30, mname="ns.example.com", rname="x.example.com")
    data = bytes(DNS(qr=1, rcode=3, qd=DNSQR(qname="no.example.com"), ns=[soa]))
    assert parse_response(data).body.seconds == 30
    assert parse_response(bytes(DNS(qr=1, rcode=3, qd=DNSQR(qname="no.example.com")))).body.seconds == 0
    assert parse_response(bytes(DNS(qr=1, rcode=2, qd=DNSQR(qname="no.example.com"), ns=[soa]))).body.seconds == 0


def test_a_cut_answer_is_worth_nothing() -> None:
    record = DNSRR(rrname="x.example.com", type="A", ttl=300, rdata="192.0.2.1")
    response = parse_response(bytes(DNS(qr=1, tc=1, qd=DNSQR(qname="x.example.com"), an=[record])))
    assert (response.truncated, response.body.counts, response.body.data, response.body.seconds) == (True, (0, 0, 0), b"", 0)


def test_an_opt_that_is_not_last_takes_the_additional_records_with_it() -> None:
    record = DNSRR(rrname="a.example.com", type="A", ttl=5, rdata="192.0.2.1")
    data = bytes(DNS(qr=1, qd=DNSQR(qname="a.example.com"), an=[record], ar=[DNSRROPT(rclass=1232), record]))
    body = parse_response(data).body
    assert body.counts == (1, 0, 0)
    assert len(DNS(respond(parse_query(asked("a.example.com")), body)).an) == 1


def test_a_query_for_an_upstream_server() -> None:
    question = parse_query(asked("Example.com")).question
    seen = DNS(serialize_query(5, question, flags=0, dnssec_ok=True))
    assert (seen.id, seen.rd, seen.qd[0].qname, seen.ar[0].rclass, seen.ar[0].z) == (5, 1, b"Example.com.", 1232, 0x8000)
    assert DNS(serialize_query(5, question, flags=0, dnssec_ok=False, edns=False)).arcount == 0


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(11),
        bytes(DNS(qr=1, qd=DNSQR(qname="x"))),
        bytes(12),
        bytes(DNS(qd=[DNSQR(qname="x"), DNSQR(qname="y")])),
        asked("n1.cluster")[:-1],
        b"\0\0\1\0\0\1\0\0\0\0\0\0\xc0\x0c\0\1\0\1",
        b"\0\0\1\0\0\1\0\0\0\0\0\0" + b"\x3f" + b"a" * 63 + b"\x3f",
        b"\0\0\1\0\0\1\0\0\0\0\0\0" + (b"\x3f" + b"a" * 63) * 4 + b"\0\0\1\0\1",
        asked("n1.cluster", edns=512)[:-1],
        bytes(DNS(qd=[DNSQR(qname="x")], ar=[DNSRROPT(), DNSRROPT()])),
    ],
)
def test_what_is_no_query_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedPacket):
        parse_query(data)


@pytest.mark.parametrize(
    ("data", "rcode"),
    [
        (b"\0" * 11, None),
        (bytes(DNS(qr=1, qd=DNSQR(qname="x"))), None),
        (bytes(DNS(id=7, qd=[DNSQR(qname="x"), DNSQR(qname="y")])), Rcode.FORMERR),
        (bytes(DNS(id=7, qd=[DNSQR(qname="x")], ar=[DNSRROPT(), DNSRROPT()])), Rcode.FORMERR),
        # A stateful operation has no question (RFC 8490 §5.4).
        (bytes(DNS(id=7, opcode=6, qd=[])), Rcode.NOTIMP),
    ],
)
def test_whose_query_cannot_be_read_is_told_so(data: bytes, rcode: Rcode | None) -> None:
    answer = refuse_unreadable(data)
    if rcode is None:
        assert answer is None, "two servers could tell each other so for ever"
        return
    assert answer is not None
    seen = DNS(answer)
    assert (seen.id, seen.qr, seen.opcode, seen.rcode) == (7, 1, DNS(data).opcode, rcode)
    assert (seen.qdcount, seen.ancount, seen.nscount, seen.arcount) == (0, 0, 0, 0)


@given(st.binary(max_size=300), st.integers(0, 40), st.integers(0, 255))
def test_nothing_else_comes_out(noise: bytes, at: int, value: int) -> None:
    """Random bytes, truncated and mutated messages; a prepared answer never fails either."""
    whole = asked("n1.cluster", edns=1232)
    mutated = whole[:at] + bytes([value]) + whole[at + 1 :]
    prepared = Prepared()
    query = parse_query(asked("n1.cluster"))
    prepared.keep(query, body_of(ZONE.lookup("n1.cluster", 1) or Answer(), query.question))
    for data in (noise, whole[:at], mutated, mutated + noise, whole[:12] + noise):
        prepared.reply(data)
        for parse in (parse_query, parse_response):
            try:
                parsed = parse(data)
            except MalformedPacket:
                continue
            if isinstance(parsed, Query):
                found = ZONE.lookup(parsed.name, parsed.type)
                respond(parsed, body_of(found, parsed.question) if found else Body(rcode=5, counts=(0, 0, 0), data=b""))
            else:
                parsed.body.aged(10)


def test_dots_inside_labels_are_no_borders() -> None:
    data = b"\0\0\1\0\0\1\0\0\0\0\0\0" + b"\x0an1.cluster\0" + struct.pack("!HH", 1, 1)
    query = parse_query(data)
    assert not query.name.endswith(".cluster")
    assert ZONE.lookup(query.name, 1) == Answer(rcode=Rcode.NXDOMAIN), "one label, and nobody's"
    inside = parse_query(b"\0\0\1\0\0\1\0\0\0\0\0\0" + b"\x05n1\xff. \x07cluster\0" + struct.pack("!HH", 1, 1))
    found = ZONE.lookup(inside.name, 1)
    assert found is not None
    assert DNS(respond(inside, body_of(found, inside.question))).rcode == 3


def test_a_prepared_answer_is_what_would_be_made_anew() -> None:
    """Whatever the client's spelling, id, flags and EDNS are; what is not plain is left to the slow way."""
    chance = random.Random(7)
    prepared = Prepared()
    names = ["n1.cluster", "n1-default.cluster", "11.0.77.10.in-addr.arpa"]
    replied = 0
    for _ in range(3000):
        name = "".join(chance.choice((str.upper, str.lower))(char) for char in chance.choice(names))
        kind = chance.choice([1, 28, 12, 65, 97])
        edns = chance.choice([None, 0, 512, 1232, 4096])
        data = bytearray(
            asked(name, kind, identifier=chance.randrange(65536), rd=chance.randrange(2), edns=edns, do=chance.randrange(2))
        )
        if chance.random() < 0.2:
            data[chance.choice([2, 3, 4, 5, 7, 9, 11, len(data) - 1])] ^= 1 << chance.randrange(8)
        found = prepared.reply(bytes(data))
        if found is not None:
            replied += 1
            assert found == answered(bytes(data), limit=512)
            continue
        try:
            query = parse_query(bytes(data))
        except MalformedPacket:
            continue
        answer = ZONE.lookup(query.name, query.type)
        if answer is not None and answer.rcode is Rcode.NOERROR and query.opcode == 0:
            prepared.keep(query, body_of(answer, query.question))
    assert replied > 1000


def test_types_that_look_like_letters_are_not_folded() -> None:
    """65 (HTTPS) is the byte of "A", 97 that of "a"."""
    prepared = Prepared()
    query = parse_query(asked("n1", 1))
    prepared.keep(query, Body(rcode=0, counts=(0, 0, 0), data=b""))
    assert prepared.reply(asked("N1", 1)) is not None
    assert prepared.reply(asked("n1", 65)) is prepared.reply(asked("n1", 97)) is None


def test_ipv6_addresses_are_packed() -> None:
    seen = DNS(answered(asked("n1.cluster", 28)))
    assert IPv6Address(seen.an[0].rdata) == IPv6Address("fd00::11")
    assert opt(0)[:3] == b"\0\0\x29"
