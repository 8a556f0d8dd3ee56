"""Decides what a query is answered from what is known here, or that an upstream server is asked (RFC 1034 §4.3.2)."""

from collections.abc import Collection
from dataclasses import dataclass
from ipaddress import IPv4Address

from bootsvc.dns.answer_body import body_of
from bootsvc.dns.packet import BADVERS, IN, RD, Body, Query
from bootsvc.dns.records import Rcode, Type
from bootsvc.dns.zone import Zone


@dataclass(frozen=True, slots=True)
class Own:
    """Our own answer; `holds` as long as the zone does, and for every address of ours."""

    body: Body
    holds: bool = False


_REFUSED = Own(Body(rcode=Rcode.REFUSED, counts=(0, 0, 0), data=b""))
_NOT_IMPLEMENTED = Own(Body(rcode=Rcode.NOTIMP, counts=(0, 0, 0), data=b""))
_BAD_VERSION = Own(Body(rcode=BADVERS, counts=(0, 0, 0), data=b""))


def answer(
    query: Query, zone: Zone | None, *, alone: bool, local: IPv4Address, own: Collection[IPv4Address] = ()
) -> Own | None:
    """The answer to a query that came to our address `local`; None when an upstream server must be asked.

    `alone`: there is none to ask. `own` are all addresses of ours that may be asked.
    """
    if query.opcode != 0:
        return _NOT_IMPLEMENTED
    if query.edns is not None and query.edns.version > 0:
        return _BAD_VERSION
    if query.klass != IN or query.type in (Type.AXFR, Type.IXFR, Type.OPT):
        return _REFUSED
    found = None
    if zone is not None:
        found = zone.lookup(query.name, query.type, alone=alone, local=local, own=own)
    if found is None:
        # To look further is what RD asks for; without anybody to ask there is nothing to be had here.
        return _REFUSED if alone or not query.flags & RD else None
    return Own(body_of(found, query.question), holds=found.rcode is Rcode.NOERROR and not found.local)
