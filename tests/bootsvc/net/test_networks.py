"""Which addresses a set of networks has."""

from ipaddress import IPv4Address, IPv4Network

import pytest

from bootsvc.net.networks import NetworkSet

NETWORKS = [IPv4Network(text) for text in ("10.0.0.0/24", "10.0.2.0/24", "192.168.0.0/16", "192.0.2.7/32")]


@pytest.mark.parametrize(
    "address", ["10.0.0.0", "10.0.0.255", "10.0.1.0", "10.0.2.9", "192.168.255.1", "192.169.0.0", "192.0.2.7", "192.0.2.8"]
)
def test_it_has_what_one_of_its_networks_has(address: str) -> None:
    asked = IPv4Address(address)
    assert (asked in NetworkSet.of(NETWORKS)) is any(asked in network for network in NETWORKS)


def test_no_netmask_has_everything() -> None:
    assert IPv4Address("10.0.0.1") not in NetworkSet([(int(IPv4Address("10.0.0.1")), 0)])
    assert IPv4Address("10.0.0.1") not in NetworkSet(())
