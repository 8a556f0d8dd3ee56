"""Router advertisements: their bytes as scapy reads them, and an answer to a real solicitation."""

from pathlib import Path
from typing import Any

import pytest
from appliance import Server
from boot_network import BootNetwork
from scapy.layers.inet6 import ICMPv6ND_RA, ICMPv6NDOptSrcLLAddr

from bootsvc.net.ra import serialize_advertisement


def test_no_router_no_prefix_no_flags() -> None:
    message = ICMPv6ND_RA(serialize_advertisement("52:54:00:00:00:01"))
    assert (message.type, message.code) == (134, 0)
    assert (message.routerlifetime, message.M, message.O) == (0, 0, 0)
    assert message[ICMPv6NDOptSrcLLAddr].lladdr == "52:54:00:00:00:01"
    assert len(serialize_advertisement("52:54:00:00:00:01")) == 24, "one option only"
    assert len(serialize_advertisement("")) == 16


SOLICIT = """
import socket, struct, sys
raw = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
index = socket.if_nametoindex("boot0")
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
raw.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_RECVHOPLIMIT, 1)
raw.settimeout(0.5)
for _ in range(20):
    raw.sendto(bytes([133]) + bytes(7), ("ff02::2", 0, 0, index))
    try:
        data, ancillary, _, source = raw.recvmsg(2048, 1024)
    except TimeoutError:
        continue
    if data[0] == 134:
        print(data[6:8].hex(), data[5], struct.unpack("@i", ancillary[0][2])[0], source[0].split("%")[0])
        sys.exit()
sys.exit("no advertisement")
"""


@pytest.mark.root
def test_a_solicitation_is_answered(boot_network: BootNetwork) -> None:
    served = boot_network.serve()
    lifetime, flags, hops, source = boot_network.on(boot_network.client, "python3", "-c", SOLICIT).split()
    assert (lifetime, flags, hops) == ("0000", "0", "255")
    assert source.startswith("fe80::")
    assert boot_network.on(boot_network.client, "ip", "-6", "route", "show", "default") == ""
    assert served.stop()["advertisements"] >= 1


@pytest.mark.root
@pytest.mark.parametrize(
    ("sysctl", "settings", "said"),
    [
        ("net.ipv6.conf.boot0.forwarding=1", {}, "boot0 forwards IPv6"),
        ("net.ipv6.conf.boot0.forwarding=0", {"router_advertisements": False}, ""),
        ("net.ipv6.conf.boot0.disable_ipv6=1", {}, ""),
    ],
)
def test_silence(boot_network: BootNetwork, sysctl: str, settings: dict[str, Any], said: str) -> None:
    boot_network.on(boot_network.server, "sysctl", "-q", sysctl)
    served = boot_network.serve(range=["10.77.0.100", "10.77.0.100"], **settings)
    assert boot_network.udhcpc() is not None, "DHCP goes on"
    assert said in served.log
    assert served.stop()["advertisements"] == 0


@pytest.mark.root
def test_so_is_one_on_a_subnet(boot_network: Any, tmp_path: Path) -> None:
    subnets = "bootsvc: {dhcp: {subnets: [{network: 192.168.77.0/24}]}}\n"
    Server(boot_network, tmp_path, settings=subnets).wait_log("INFO ready")
    for device in ("boot0", "other0"):
        script = SOLICIT.replace("boot0", device)
        lifetime, flags, hops, _ = boot_network.on(boot_network.client, "python3", "-c", script).split()
        assert (lifetime, flags, hops) == ("0000", "0", "255")
