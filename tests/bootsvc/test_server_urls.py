"""By which of this server's addresses a machine is sent to it."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network

import pytest

from bootsvc.server_urls import ServerUrls
from netboot.urls import Urls

BOOT = Urls(address=IPv4Address("10.0.0.1"), port=9873, tls=True)
SUBNETS = [IPv4Network("10.1.0.0/16")]


@pytest.mark.parametrize(
    ("local", "told"),
    [
        (None, "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),
        ("10.1.0.1", "10.1.0.1"),
        # A proxy on this machine, and an address that nodes may not reach.
        ("127.0.0.1", "10.0.0.1"),
        ("192.0.2.1", "10.0.0.1"),
    ],
)
def test_the_address_that_was_asked_on_a_subnet_of_ours(local: str | None, told: str) -> None:
    urls = ServerUrls(BOOT, lambda: SUBNETS).at(None if local is None else IPv4Address(local))
    assert urls == replace(BOOT, address=IPv4Address(told))
