"""Which names exist, with what, and which are nobody's or somebody else's."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

import pytest

from bootsvc.dns.records import Answer, Rcode, Type
from bootsvc.dns.zone import Domain, Zone
from netboot.node import to_node

SERVER = IPv4Address("10.77.0.1")
NODES: dict[str, Any] = {
    "n1": {
        "ipmi": {"ipaddr": "10.78.0.11"},
        "primary network": "default",
        "network devices": {
            "default": {"device": "eth0", "ipaddr": "10.77.0.11", "ipaddr6": "fd00::11", "prefixlen6": "64"},
            "ib": {"ipaddr": "10.79.0.11"},
        },
    },
    "Rack.N2": {"network devices": {"default": {"ipaddr": "10.77.0.12"}}},
    "n3": {},
    "bad name": {"network devices": {"default": {"ipaddr": "10.77.0.13"}}},
}


def zone(
    *,
    domain: str = "cluster",
    whole: bool = True,
    network: str = "10.77.0.0/24",
    subnets: tuple[IPv4Network, ...] = (),
    **nodes: Any,
) -> Zone:
    return Zone(
        [to_node(name, fields) for name, fields in (nodes or NODES).items()],
        Domain(
            name=domain,
            whole=whole,
            server="head",
            address=SERVER,
            network=IPv4Network(network),
            subnets=subnets,
            serial=7,
        ),
    )


def values(answer: Answer | None) -> list[str]:
    assert answer is not None
    assert answer.rcode is Rcode.NOERROR
    return [str(record.value) for record in answer.answers]


def denial(answer: Answer | None) -> tuple[str, str]:
    """The code, and the zone that says so."""
    assert answer is not None
    assert answer.answers == ()
    (soa,) = answer.authority
    assert soa.type is Type.SOA
    return answer.rcode.name, soa.name


@pytest.mark.parametrize("name", ["n1", "n1-default", "n1-eth0"])
@pytest.mark.parametrize("suffix", ["", ".cluster"])
def test_a_node_has_the_names_of_the_hosts_file(name: str, suffix: str) -> None:
    assert values(zone().lookup(name + suffix, Type.A)) == ["10.77.0.11"]
    assert values(zone().lookup(name + suffix, Type.AAAA)) == ["fd00::11"]


def test_other_networks_the_bmc_and_this_machine() -> None:
    made = zone()
    assert values(made.lookup("n1-ib.cluster", Type.A)) == ["10.79.0.11"]
    assert values(made.lookup("n1-ipmi.cluster", Type.A)) == ["10.78.0.11"]
    assert values(made.lookup("rack.n2.cluster", Type.A)) == ["10.77.0.12"]
    assert values(made.lookup("head.cluster", Type.A)) == values(made.lookup("warewulf", Type.A)) == [str(SERVER)]
    assert values(made.lookup("n1.cluster", Type.ANY)) == ["10.77.0.11", "fd00::11"]
    assert made.unfit == ["bad name"]


def test_this_machine_has_the_address_that_was_asked() -> None:
    made, there = zone(), IPv4Address("10.80.0.1")
    asked = made.lookup("head.cluster", Type.A, local=there)
    assert (values(asked), asked and asked.local) == ([str(there)], True)
    assert values(made.lookup("warewulf", Type.A, local=there)) == [str(there)]
    reverse = made.lookup("1.0.80.10.in-addr.arpa", Type.PTR, local=there)
    assert (values(reverse), reverse and reverse.local) == (["head.cluster"], True)
    assert made.lookup("1.0.80.10.in-addr.arpa", Type.PTR) is None
    assert values(made.lookup("1.0.77.10.in-addr.arpa", Type.PTR, local=there)) == ["head.cluster"]
    node = made.lookup("n1.cluster", Type.A, local=there)
    assert (values(node), node and node.local) == (["10.77.0.11"], False)
    taken = zone(n1={"network devices": {"default": {"ipaddr": str(there)}}})
    assert values(taken.lookup("1.0.80.10.in-addr.arpa", Type.PTR, local=there)) == ["n1.cluster"], "as for any address"


def test_no_data_is_not_no_name() -> None:
    made = zone()
    assert denial(made.lookup("n1-ib.cluster", Type.AAAA)) == ("NOERROR", "cluster")
    assert denial(made.lookup("n1.cluster", 15)) == ("NOERROR", "cluster")
    # A name that exists only because rack.n2 lies below it (RFC 8020).
    assert denial(made.lookup("n2.cluster", Type.A)) == ("NOERROR", "cluster")
    assert denial(made.lookup("n4.cluster", Type.A)) == ("NXDOMAIN", "cluster")
    # A node without an address has no name.
    assert denial(made.lookup("n3.cluster", Type.A)) == ("NXDOMAIN", "cluster")
    assert denial(made.lookup("x.n1.cluster", Type.A)) == ("NXDOMAIN", "cluster")


def test_the_apex_says_who_is_responsible() -> None:
    made = zone()
    (soa,) = (made.lookup("cluster", Type.SOA) or Answer()).answers
    assert soa.value == made._soa("cluster").value
    assert values(made.lookup("cluster", Type.NS)) == ["head.cluster"]
    assert denial(made.lookup("cluster", Type.A)) == ("NOERROR", "cluster")


def test_a_shared_domain_is_ours_only_where_nodes_are() -> None:
    """The head node's own domain, example.org say, has names that only its other servers know."""
    made = zone(domain="example.org", whole=False)
    assert values(made.lookup("n1.example.org", Type.A)) == ["10.77.0.11"]
    assert denial(made.lookup("n1.example.org", 15)) == ("NOERROR", "example.org")
    assert made.lookup("www.example.org", Type.A) is None
    assert made.lookup("example.org", Type.SOA) is None
    assert denial(made.lookup("www.example.org", Type.A, alone=True)) == ("NXDOMAIN", "example.org")


def test_what_others_know() -> None:
    made = zone()
    for name, kind in [("example.com", Type.A), ("com", Type.NS), ("", Type.NS), ("ncluster", 15)]:
        assert made.lookup(name, kind) is None
    # A short name without an address is nobody's: asking the root servers for it tells strangers what we look for.
    assert made.lookup("printer", Type.A) == Answer(rcode=Rcode.NXDOMAIN)
    assert values(made.lookup("localhost", Type.A)) == ["127.0.0.1"]


@pytest.mark.parametrize(
    ("address", "name"),
    [("10.77.0.11", "n1.cluster"), ("10.79.0.11", "n1-ib.cluster"), ("10.78.0.11", "n1-ipmi.cluster"),
     ("10.77.0.1", "head.cluster"), ("fd00::11", "n1-default.cluster")],
)  # fmt: skip
def test_addresses_have_names(address: str, name: str) -> None:
    made = zone()
    parsed = IPv6Address(address) if ":" in address else IPv4Address(address)
    found = values(made.lookup(parsed.reverse_pointer, Type.PTR))
    assert found == [name if name != "n1-default.cluster" else "n1.cluster"]


def test_reverse_names_of_the_boot_network_are_ours() -> None:
    made = zone()
    assert denial(made.lookup("99.0.77.10.in-addr.arpa", Type.PTR)) == ("NXDOMAIN", "0.77.10.in-addr.arpa")
    assert denial(made.lookup("11.0.77.10.in-addr.arpa", Type.A)) == ("NOERROR", "0.77.10.in-addr.arpa")
    assert values(made.lookup("0.77.10.in-addr.arpa", Type.NS)) == ["head.cluster"]
    assert denial(made.lookup("0.77.10.in-addr.arpa", Type.PTR)) == ("NOERROR", "0.77.10.in-addr.arpa")
    above6 = ".".join("0" * 15) + ".d.f.ip6.arpa"
    assert denial(made.lookup("0." + above6, Type.PTR))[0] == "NOERROR"
    assert denial(made.lookup("5." + above6, Type.PTR))[0] == "NXDOMAIN"


def test_so_are_those_of_private_subnets() -> None:
    """RFC 6303: nobody else knows names there, and questions of which addresses are private are nobody else's business."""
    made = zone(subnets=(IPv4Network("10.79.0.0/24"), IPv4Network("9.9.9.0/24")))
    assert denial(made.lookup("99.0.79.10.in-addr.arpa", Type.PTR)) == ("NXDOMAIN", "0.79.10.in-addr.arpa")
    assert values(made.lookup("11.0.79.10.in-addr.arpa", Type.PTR)) == ["n1-ib.cluster"]
    assert values(made.lookup("0.79.10.in-addr.arpa", Type.NS)) == ["head.cluster"]
    assert made.lookup("99.9.9.9.in-addr.arpa", Type.PTR) is None, "a public one has names that its owner gave"
    ours = made.lookup("1.0.79.10.in-addr.arpa", Type.PTR, local=SERVER, own=[IPv4Address("10.79.0.1")])
    assert (values(ours), ours and ours.local) == (["head.cluster"], True), "whichever address of ours is asked"


def test_a_prefix_of_ipv6_is_of_64_bits_where_nobody_says_more() -> None:
    made = zone(n1={"network devices": {"default": {"ipaddr6": "fd77::11"}}})
    assert denial(made.lookup(IPv6Address("fd77::12").reverse_pointer, Type.PTR))[0] == "NXDOMAIN"
    assert made.lookup(IPv6Address("fd77:0:0:1::12").reverse_pointer, Type.PTR) is None


@pytest.mark.parametrize(
    "name",
    ["77.10.in-addr.arpa", "1.1.77.10.in-addr.arpa", "1.0.78.10.in-addr.arpa", "011.0.77.10.in-addr.arpa",
     "x.0.77.10.in-addr.arpa", "256.0.77.10.in-addr.arpa",
     "1.11.0.77.10.in-addr.arpa", "in-addr.arpa", "d.f.ip6.arpa", "10.d.f.ip6.arpa", "arpa"],
)  # fmt: skip
def test_reverse_names_of_others_are_not(name: str) -> None:
    assert zone().lookup(name, Type.PTR) is None


@pytest.mark.parametrize(
    ("network", "inside", "apex", "outside"),
    [
        ("10.77.0.0/16", "9.9.77.10", "77.10", "9.9.78.10"),
        ("10.77.16.0/20", "9.31.77.10", "31.77.10", "9.32.77.10"),
        ("10.77.0.0/25", "9.0.77.10", "0.77.10", "200.0.77.10"),
        ("10.0.0.0/8", "9.9.9.10", "10", "9.9.9.11"),
    ],
)
def test_networks_that_end_inside_an_octet(network: str, inside: str, apex: str, outside: str) -> None:
    made = zone(network=network, n1={"network devices": {"default": {"ipaddr": "10.77.0.11"}}})
    assert denial(made.lookup(f"{inside}.in-addr.arpa", Type.PTR)) == ("NXDOMAIN", f"{apex}.in-addr.arpa")
    assert made.lookup(f"{outside}.in-addr.arpa", Type.PTR) is None


def test_the_first_node_keeps_a_name() -> None:
    nodes: dict[str, Any] = {
        "a": {"network devices": {"x": {"ipaddr": "10.77.0.20"}}},
        "a-x": {"network devices": {"default": {"ipaddr": "10.77.0.21"}}},
    }
    made = zone(**nodes)
    assert values(made.lookup("a-x.cluster", Type.A)) == ["10.77.0.20"]
    assert values(made.lookup("a-x-default.cluster", Type.A)) == ["10.77.0.21"]


def test_a_node_that_is_named_with_the_domain_has_its_short_name_too() -> None:
    nodes: dict[str, Any] = {"n1.cluster": {"network devices": {"default": {"ipaddr": "10.77.0.11"}}}}
    made = zone(**nodes)
    assert values(made.lookup("n1.cluster", Type.A)) == values(made.lookup("n1", Type.A)) == ["10.77.0.11"]
    assert made.lookup("n1.cluster.cluster", Type.A) is not None
    assert denial(made.lookup("n1.cluster.cluster", Type.A)) == ("NXDOMAIN", "cluster")


def test_without_a_domain_there_are_short_names() -> None:
    made = zone(domain="")
    assert values(made.lookup("n1", Type.A)) == ["10.77.0.11"]
    assert values(made.lookup("11.0.77.10.in-addr.arpa", Type.PTR)) == ["n1"]
    assert made.lookup("n1", 15) == Answer()
