"""The kernel's neighbour table, in network namespaces."""

import json
import sys
from ipaddress import IPv4Address

import pytest
from boot_network import BootNetwork

from bootsvc.net.neighbours import Neighbours

LOOK = """
import json, sys
from ipaddress import IPv4Address
from bootsvc.net.neighbours import Neighbours
neighbours = Neighbours()
print(json.dumps([neighbours.find_hwaddr(IPv4Address(word)) for word in sys.argv[1:]]))
"""


@pytest.mark.root
def test_peers_on_attached_networks_are_known(boot_network: BootNetwork) -> None:
    on = boot_network.on
    on(boot_network.server, "ip", "neigh", "replace", "10.77.0.20", "lladdr", "52:54:00:00:00:20", "dev", "boot0")
    on(boot_network.server, "ip", "neigh", "replace", "10.77.0.21", "lladdr", "52:54:00:00:00:21", "dev", "boot0")
    on(boot_network.server, "ip", "route", "add", "10.99.0.0/24", "via", "10.77.0.20")
    asked = ["10.77.0.20", "10.77.0.21", "10.77.0.22", "10.99.0.1", "10.77.0.1", "203.0.113.1"]
    out = on(boot_network.server, sys.executable, "-c", LOOK, *asked)
    assert json.loads(out) == ["52:54:00:00:00:20", "52:54:00:00:00:21", None, None, None, None]


def test_this_machine_is_nobodys_neighbour() -> None:
    neighbours = Neighbours()
    try:
        assert neighbours.find_hwaddr(IPv4Address("127.0.0.1")) is None
    finally:
        neighbours.close()
