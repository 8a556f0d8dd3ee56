"""What is answered here, and what is left to an upstream server."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from bootsvc.dns.answer import answer
from bootsvc.dns.packet import BADVERS, IN, RD, Edns, Query
from bootsvc.dns.records import Rcode, Type
from bootsvc.dns.zone import Domain, Zone
from netboot.node import to_node

LOCAL = IPv4Address("10.77.0.1")
ZONE = Zone(
    [to_node("n1", {"network devices": {"default": {"ipaddr": "10.77.0.11"}}})],
    Domain(name="cluster", whole=True, server="head", address=LOCAL, network=IPv4Network("10.77.0.0/24")),
)
NOTIFY = 4 << 11


def query(name: str = "n1.cluster", kind: int = Type.A, *, flags: int = RD, klass: int = IN, edns: Edns | None = None) -> Query:
    question = b"".join(bytes([len(label)]) + label.encode() for label in name.split(".")) + b"\0\0\1\0\1"
    return Query(id=1, flags=flags, name=name, type=kind, klass=klass, question=question, edns=edns)


@pytest.mark.parametrize(
    ("asked", "rcode"),
    [
        (query(flags=NOTIFY), Rcode.NOTIMP),
        (query(edns=Edns(size=1232, version=1, dnssec_ok=False)), BADVERS),
        (query(klass=3), Rcode.REFUSED),
        (query(kind=Type.AXFR), Rcode.REFUSED),
        (query("example.com", flags=0), Rcode.REFUSED),
        (query("nope.cluster"), Rcode.NXDOMAIN),
        (query(), Rcode.NOERROR),
    ],
)
def test_what_is_answered_here(asked: Query, rcode: int) -> None:
    own = answer(asked, ZONE, alone=False, local=LOCAL)
    assert own is not None
    assert own.body.rcode == rcode
    assert own.holds == (rcode == Rcode.NOERROR)


def test_this_machines_own_name_holds_for_the_asked_address_alone() -> None:
    own = answer(query("head.cluster"), ZONE, alone=False, local=IPv4Address("10.80.0.1"))
    assert own is not None
    assert own.body.data.endswith(IPv4Address("10.80.0.1").packed)
    assert not own.holds


@pytest.mark.parametrize("zone", [ZONE, None])
def test_others_are_asked_if_there_are_any(zone: Zone | None) -> None:
    assert answer(query("example.com"), zone, alone=False, local=LOCAL) is None
    alone = answer(query("example.com"), zone, alone=True, local=LOCAL)
    assert alone is not None
    assert alone.body.rcode is Rcode.REFUSED
