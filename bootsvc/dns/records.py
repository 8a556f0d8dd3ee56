"""What DNS says of a name: resource records, and answers made of them (RFC 1035 §3.2)."""

from dataclasses import dataclass
from enum import IntEnum
from ipaddress import IPv4Address, IPv6Address

Address = IPv4Address | IPv6Address

TTL = 60
"""Seconds for which a client may keep an address; a changed nodes.conf is seen everywhere after that time."""
NEGATIVE_TTL = 10
"""The same for "no such name": whoever adds a node and tries its name at once should not wait a minute."""


class Type(IntEnum):
    """RFC 1035 §3.2.2, RFC 3596 §2.1; only those that we have data for, and those that need care."""

    A = 1
    NS = 2
    SOA = 6
    PTR = 12
    AAAA = 28
    OPT = 41
    IXFR = 251
    AXFR = 252
    ANY = 255

    @classmethod
    def of(cls, address: Address) -> "Type":
        return cls.A if isinstance(address, IPv4Address) else cls.AAAA


class Rcode(IntEnum):
    """RFC 1035 §4.1.1."""

    NOERROR = 0
    FORMERR = 1
    SERVFAIL = 2
    NXDOMAIN = 3
    NOTIMP = 4
    REFUSED = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Soa:
    """Who is responsible for a zone; the other times are constants, since nobody transfers our zones."""

    mname: str
    rname: str
    serial: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """One resource record of class IN; names are in lower case, without the last dot."""

    name: str
    type: Type
    value: Address | str | Soa
    ttl: int = TTL


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What we say with authority; without answers and with NOERROR the name exists, and has no data of that type."""

    rcode: Rcode = Rcode.NOERROR
    answers: tuple[Record, ...] = ()
    authority: tuple[Record, ...] = ()
    local: bool = False
    """It holds for the asked address of ours only."""
