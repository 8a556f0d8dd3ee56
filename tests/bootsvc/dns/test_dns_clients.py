"""Whom DNS answers, by the settings of now."""

import dataclasses
from ipaddress import IPv4Address, IPv4Network

import pytest

from bootsvc.config import Config
from bootsvc.dhcp.settings import DhcpConfig, Subnet
from bootsvc.dns.clients import Clients
from bootsvc.dns.settings import DnsConfig
from bootsvc.net.links import Link

LINK = Link(name="eth1", index=2, hwaddr="", address=IPv4Address("10.0.0.1"), network=IPv4Network("10.0.0.0/24"))
CONFIG = Config(ipaddr=LINK.address, network=LINK.network)


@pytest.mark.parametrize(
    ("address", "served"),
    [("10.0.0.9", True), ("10.1.0.9", True), ("10.2.0.9", True), ("10.3.0.9", False)],
    ids=["boot network", "subnet", "named", "elsewhere"],
)
def test_networks_that_are_served(address: str, served: bool) -> None:
    config = dataclasses.replace(
        CONFIG,
        dhcp=DhcpConfig(subnets=(Subnet(network=IPv4Network("10.1.0.0/24")),)),
        dns=DnsConfig(networks=(IPv4Network("10.2.0.0/24"),)),
    )
    assert Clients(lambda: config, lambda: LINK).serves(address) is served


def test_what_was_found_is_remembered_until_the_settings_change() -> None:
    config = CONFIG
    clients = Clients(lambda: config, lambda: LINK)
    assert not clients.serves("10.2.0.9")
    config = dataclasses.replace(CONFIG, dns=DnsConfig(networks=(IPv4Network("10.2.0.0/24"),)))
    assert not clients.serves("10.2.0.9")
    clients.served.add(7)
    clients.forget()
    assert clients.serves("10.2.0.9")
    assert not clients.served


def test_nobody_is_served_without_a_link() -> None:
    assert not Clients(lambda: CONFIG, lambda: None).serves("10.0.0.9")
