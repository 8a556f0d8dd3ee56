"""Which doubtful addresses are looked at; what is found is tested with the exchanges, and on a wire."""

from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from bootsvc.dhcp import conflicts
from bootsvc.dhcp.conflicts import Conflicts
from bootsvc.dhcp.exchanges import Doubt
from bootsvc.dhcp.options import DISCOVER
from bootsvc.dhcp.request import BootRequest
from bootsvc.dhcp.site import Site
from bootsvc.net.links import Link
from netboot.urls import Urls

SERVER, NETWORK = IPv4Address("10.0.0.1"), IPv4Network("10.0.0.0/24")
LINK = Link(name="eth1", index=2, hwaddr="52:54:00:ff:ff:01", address=SERVER, network=NETWORK)
NO_WIRE: Any = None


def site(network: IPv4Network = NETWORK) -> Site:
    return Site(server=SERVER, network=network, urls=Urls(address=SERVER, port=9873))


def doubt(last: int, where: Site) -> Doubt:
    request = BootRequest(message=DISCOVER, hwaddr="52:54:00:00:00:01", xid=1, interface="eth1")
    return Doubt(address=IPv4Address(f"10.0.0.{last}"), site=where, wire=NO_WIRE, request=request)


def test_only_attached_networks_are_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(conflicts, "MAX_DOUBTS", 2)
    asked = Conflicts(lambda: [(LINK, site())])
    assert not asked.ask(doubt(100, site(IPv4Network("10.9.0.0/24")))), "behind a relay"
    assert [asked.ask(doubt(last, site())) for last in (100, 101, 102)] == [True, True, False], "one too many"
    assert asked.ask(doubt(101, site())), "its client asks again"
