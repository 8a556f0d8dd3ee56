"""Names and addresses of nodes as DNS answers (RFC 1034 §4.3.2): what is ours, what exists without data, what does not exist.

Each node has the names that /etc/hosts of the `hosts` overlay gives it, and NODE-ipmi: alone, and in the cluster's domain.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from bootsvc.dns.records import NEGATIVE_TTL, Address, Answer, Rcode, Record, Soa, Type
from bootsvc.dns.reverse import parse_reverse, prefixes, reverse_name
from netboot.node import NetDev, Node

SELF = "warewulf"
"""A name of this machine wherever Warewulf's nodes look for it."""
MAX_NAME = 253
DEFAULT_PREFIXLEN6 = "64"
_HOST = re.compile(r"[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")
_LOCALHOST: tuple[Address, ...] = (IPv4Address("127.0.0.1"), IPv6Address("::1"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Domain:
    """The cluster as DNS shows it."""

    name: str = ""
    """The domain, or empty: then nodes have their short names only."""
    whole: bool = False
    """Whether nobody else has names in that domain; else unknown ones are asked upstream."""
    server: str = SELF
    """This machine's own name, without the domain."""
    address: IPv4Address
    """Ours on the boot network."""
    network: IPv4Network
    """Its reverse names are ours."""
    subnets: tuple[IPv4Network, ...] = ()
    """Others that we serve, whose reverse names are ours where the addresses are private (RFC 6303 §3)."""
    serial: int = 1


class Zone:
    """All names of one registry; immutable, made anew when nodes change."""

    def __init__(self, nodes: Iterable[Node], domain: Domain) -> None:
        self.domain = domain
        self.unfit: list[str] = []
        """Nodes whose names cannot be names in DNS."""
        self._hosts: dict[str, tuple[Address, ...]] = {"localhost": _LOCALHOST}
        self._pointers: dict[Address, str] = {}
        self._suffix = f".{domain.name}" if domain.name else ""
        self._own: tuple[Address, ...] = (domain.address,)
        for name in (SELF, domain.server.lower()):
            self._hosts.setdefault(name, self._own)
        self._pointers[domain.address] = domain.server.lower()
        self._networks4 = (domain.network, *(subnet for subnet in domain.subnets if subnet.is_private))
        self._networks6: set[IPv6Network] = set()
        for node in nodes:
            self._add(node)
        self._above = frozenset(_ancestors(self._hosts))
        self._prefixes = frozenset(prefixes(self._pointers))

    @property
    def names(self) -> int:
        return len(self._hosts)

    def lookup(
        self,
        name: str,
        kind: int,
        *,
        alone: bool = False,
        local: IPv4Address | None = None,
        own: Collection[IPv4Address] = (),
    ) -> Answer | None:
        """The answer for a name in lower case without the last dot; None when others know it, unless we are `alone`.

        `local` is the address of ours that was asked, which this machine's own name has for whoever asks there: a machine on
        a subnet may have no way to the boot network. `own` are all addresses of ours that may be asked.
        """
        whole = self.domain.whole or alone
        if name.endswith(".arpa"):
            return self._lookup_reverse(name, kind, own if local is None else (local, *own))
        if name == self.domain.name and name:
            return self._apex(name, kind) if whole else None
        suffix = self._suffix
        inside = bool(suffix) and name.endswith(suffix)
        base = name[: -len(suffix)] if inside else name
        found = self._hosts.get(base)
        if found is self._own:
            record = Record(name=name, type=Type.A, value=local or self.domain.address)
            return replace(self._data(name, kind, [record]), local=True)
        if found is not None:
            return self._data(name, kind, [Record(name=name, type=Type.of(each), value=each) for each in found])
        if base in self._above and (inside or not suffix):
            return self._negative(name, Rcode.NOERROR)
        if inside:
            return self._negative(name, Rcode.NXDOMAIN) if whole else None
        if name and "." not in name and kind in (Type.A, Type.AAAA):
            # A short name that we do not know is nobody's: top-level domains have no addresses.
            return Answer(rcode=Rcode.NXDOMAIN)
        return None

    def _add(self, node: Node) -> None:
        name = node.id.lower()
        if self._suffix and name.endswith(self._suffix):
            name = name[: -len(self._suffix)]
        if not fits(name + self._suffix):
            self.unfit.append(node.id)
            return
        primary = node.primary_name
        for key, device in node.network_devices.items():
            addresses: tuple[Address, ...] = tuple(each for each in (device.ipaddr, device.ipaddr6) if each is not None)
            if not addresses:
                continue
            self._note_network(device)
            own = f"{name}-{key.lower()}"
            names = [own, f"{name}-{device.device.lower()}"] if device.device else [own]
            if key == primary:
                names.insert(0, name)
            self._put([each for each in names if fits(each + self._suffix)], addresses)
        if node.ipmi.ipaddr is not None:
            self._put([f"{name}-ipmi"], (node.ipmi.ipaddr,))

    def _put(self, names: list[str], addresses: tuple[Address, ...]) -> None:
        """The first who has a name keeps it, as the first line of /etc/hosts does."""
        for name in names:
            self._hosts.setdefault(name, addresses)
        for address in addresses if names else ():
            self._pointers.setdefault(address, names[0])

    def _note_network(self, device: NetDev) -> None:
        prefixlen = device.prefixlen6 or DEFAULT_PREFIXLEN6
        if device.ipaddr6 is not None and prefixlen.isascii() and prefixlen.isdigit() and len(prefixlen) <= 3:
            length = int(prefixlen)
            if 16 <= length <= 128:
                self._networks6.add(IPv6Network((device.ipaddr6, length), strict=False))

    def _data(self, name: str, kind: int, records: list[Record]) -> Answer:
        matching = tuple(record for record in records if kind in (record.type, Type.ANY))
        return Answer(answers=matching) if matching else self._negative(name, Rcode.NOERROR)

    def _apex(self, name: str, kind: int) -> Answer:
        return self._data(
            name, kind, [self._soa(name), Record(name=name, type=Type.NS, value=self._qualified(self.domain.server))]
        )

    def _negative(self, name: str, rcode: Rcode) -> Answer:
        """RFC 2308: the zone's SOA says how long to remember it; a name outside our domain has no zone."""
        inside = self._suffix and f".{name}".endswith(self._suffix)
        return Answer(rcode=rcode, authority=(self._soa(self.domain.name),) if inside else ())

    def _soa(self, zone: str) -> Record:
        server = self._qualified(self.domain.server)
        value = Soa(mname=server, rname=f"hostmaster.{server}", serial=self.domain.serial)
        return Record(name=zone, type=Type.SOA, value=value, ttl=NEGATIVE_TTL)

    def _qualified(self, name: str) -> str:
        return f"{name.lower()}{self._suffix}"

    def _lookup_reverse(self, name: str, kind: int, ours: Collection[IPv4Address]) -> Answer | None:
        found = parse_reverse(name)
        if found is None:
            return None
        value, bits, version = found
        full = bits == (32 if version == 4 else 128)
        pointer = None
        if full:
            address: Address = IPv4Address(value) if version == 4 else IPv6Address(value)
            pointer = self._pointers.get(address)
            own = pointer is None and address in ours
            if own:
                pointer = self.domain.server
            if pointer is not None and kind in (Type.PTR, Type.ANY):
                return Answer(answers=(Record(name=name, type=Type.PTR, value=self._qualified(pointer)),), local=own)
        apex = self._reverse_apex(value, bits, version)
        if apex is None:
            return None if pointer is None else Answer()
        if apex == name:
            soa, server = self._soa(apex), self._qualified(self.domain.server)
            records = (soa, Record(name=apex, type=Type.NS, value=server))
            matching = tuple(record for record in records if kind in (record.type, Type.ANY))
            return Answer(answers=matching) if matching else Answer(authority=(soa,))
        prefix = value >> ((32 if version == 4 else 128) - bits)
        exists = pointer is not None if full else (version, bits, prefix) in self._prefixes
        return Answer(rcode=Rcode.NOERROR if exists else Rcode.NXDOMAIN, authority=(self._soa(apex),))

    def _reverse_apex(self, value: int, bits: int, version: int) -> str | None:
        """The name of the reverse zone that holds this prefix, when it is of a network of ours."""
        networks: Iterable[IPv4Network | IPv6Network] = self._networks4 if version == 4 else self._networks6
        total, step = (32, 8) if version == 4 else (128, 4)
        for network in networks:
            length = network.prefixlen
            if bits >= length and value >> (total - length) == int(network.network_address) >> (total - length):
                # A network inside one octet is told by its whole addresses, and its zone has the name of all 256.
                cut = min(-(-length // step) * step, total - step)
                return reverse_name(value >> (total - cut), cut, version) if bits >= cut else None
        return None


def fits(name: str) -> bool:
    """Whether this can be a host's name (RFC 1123 §2.1, and underscores)."""
    return len(name) <= MAX_NAME and _HOST.fullmatch(name) is not None


def _ancestors(names: Iterable[str]) -> Iterator[str]:
    """Names that exist only because others lie below them (RFC 8020)."""
    for name in names:
        rest = name
        while "." in rest:
            rest = rest.partition(".")[2]
            yield rest
