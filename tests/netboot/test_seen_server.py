"""By which address of the head node a node is told to reach it."""

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from netboot.engine import Server
from netboot.node import to_node
from netboot.seen_server import Place, SeenServer
from netboot.urls import Urls

ADDRESS = IPv4Address("10.0.0.1")
BOOT = Server(
    name="head",
    address=ADDRESS,
    network=IPv4Network("10.0.0.0/24"),
    domain="cluster",
    urls=Urls(address=ADDRESS, port=9873, tls=True),
    dns=(ADDRESS,),
)
PLACES = [
    Place(network=IPv4Network(f"10.{number}.0.0/16"), address=IPv4Address(f"10.{number}.0.1"), dns=(IPv4Address("10.9.9.9"),))
    for number in (1, 2)
]


def seen(primary: str = "", **addresses: str) -> Server:
    devices: dict[str, Any] = {name: {"ipaddr": address} if address else {} for name, address in addresses.items()}
    return SeenServer(BOOT, PLACES).by(to_node("n1", {"network devices": devices, "primary network": primary}))


@pytest.mark.parametrize(
    ("addresses", "primary", "address"),
    [
        ({"default": "10.0.0.7"}, "", "10.0.0.1"),
        ({"default": "10.1.3.7"}, "", "10.1.0.1"),
        ({"default": "10.2.3.7"}, "", "10.2.0.1"),
        ({"default": "192.0.2.7"}, "", "10.0.0.1"),
        ({"default": ""}, "", "10.0.0.1"),
        ({}, "", "10.0.0.1"),
        ({"ib": "192.0.2.7", "other": "10.2.3.7"}, "", "10.2.0.1"),
        ({"a": "10.1.3.7", "b": "10.2.3.7"}, "", "10.1.0.1"),
        ({"a": "10.1.3.7", "b": "10.2.3.7"}, "b", "10.2.0.1"),
        ({"a": "10.1.3.7", "b": "10.0.0.7"}, "a", "10.0.0.1"),
    ],
)
def test_a_node_sees_the_address_on_its_own_network(addresses: dict[str, str], primary: str, address: str) -> None:
    found = seen(primary, **addresses)
    assert str(found.address) == address
    assert found.urls == Urls(address=found.address, port=9873, tls=True)


def test_what_else_is_told_there() -> None:
    assert seen(default="10.0.0.7") is BOOT
    found = seen(default="10.1.3.7")
    assert (found.network, found.dns) == (PLACES[0].network, PLACES[0].dns)
    assert (found.name, found.domain) == (BOOT.name, BOOT.domain)
