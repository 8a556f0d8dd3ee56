"""Names of addresses, as Python's ipaddress spells them, too."""

from ipaddress import IPv4Address, IPv6Address

from hypothesis import given
from hypothesis import strategies as st

from bootsvc.dns.records import Address
from bootsvc.dns.reverse import parse_reverse, prefixes, reverse_name


@given(st.ip_addresses())
def test_a_whole_address_and_what_is_above_it(address: Address) -> None:
    total = address.max_prefixlen
    assert reverse_name(int(address), total, address.version) == address.reverse_pointer
    assert parse_reverse(address.reverse_pointer) == (int(address), total, address.version)
    above = list(prefixes([address]))
    assert len(above) == {4: 3, 6: 31}[address.version]
    for version, bits, prefix in above:
        name = reverse_name(prefix, bits, version)
        assert address.reverse_pointer.endswith("." + name)
        assert parse_reverse(name) == (prefix << (total - bits), bits, version)


def test_what_is_no_reverse_name() -> None:
    for name in ("01.0.0.10.in-addr.arpa", "256.10.in-addr.arpa", "1.2.3.4.5.in-addr.arpa", "10.ip6.arpa", "g.ip6.arpa", "n1"):
        assert parse_reverse(name) is None
    assert parse_reverse("10.in-addr.arpa") == (int(IPv4Address("10.0.0.0")), 8, 4)
    assert parse_reverse("d.f.ip6.arpa") == (int(IPv6Address("fd00::")), 8, 6)
