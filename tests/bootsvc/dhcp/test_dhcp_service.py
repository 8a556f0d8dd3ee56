"""The DHCP server for real: across a veth, with udhcpc and raw packets."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from boot_network import BootNetwork, output_of

N1 = {"n1": {"network devices": {"default": {"hwaddr": "52:54:00:00:00:01", "ipaddr": "10.77.0.11"}}}}
RANGE = ["10.77.0.100", "10.77.0.101"]

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("dhcp_tools")]


@pytest.fixture
def dhcp_tools(require_tool: Callable[..., Path]) -> None:
    require_tool("ip", package="iproute2")
    require_tool("busybox", package="busybox-static")


@pytest.mark.parametrize("options", [[], ["-B"]], ids=["unicast", "broadcast"])
def test_a_node_gets_its_reservation(boot_network: BootNetwork, options: list[str]) -> None:
    served = boot_network.serve(nodes=N1)
    given = boot_network.udhcpc(*options)
    assert given is not None, served.log
    assert given["ip"] == "10.77.0.11"
    assert given["subnet"] == "255.255.255.0"
    assert given["hostname"] == "n1"
    assert given["serverid"] == "10.77.0.1"
    assert given["lease"] == "3600"
    assert "router" not in given
    assert "boot_file" not in given
    assert "dhcp ACK hwaddr=52:54:00:00:00:01 node=n1 yiaddr=10.77.0.11 file=- xid=" in served.log
    counters = served.stop()["dhcp"]
    assert counters["answered"] == counters["received"] == 2


def test_a_reply_reaches_a_client_without_address_by_unicast(
    boot_network: BootNetwork, require_tool: Callable[..., Path]
) -> None:
    """The frame goes to the client's hardware address; a broadcast would wake the whole rack."""
    require_tool("tcpdump")
    boot_network.serve(nodes=N1)
    sniffer = boot_network.popen(
        boot_network.client, "tcpdump", "-lnevv", "--immediate-mode", "-c", "2", "-i", "boot0", "udp src port 67"
    )
    for line in output_of(sniffer):
        if "listening on" in line:
            break
    assert boot_network.udhcpc() is not None
    seen, _ = sniffer.communicate(timeout=20)
    assert seen.count("> 52:54:00:00:00:01, ethertype IPv4") == 2
    assert seen.count("10.77.0.1.67 > 10.77.0.11.68: [udp sum ok]") == 2


def test_an_unknown_machine_gets_a_lease_that_survives_kill_9(boot_network: BootNetwork) -> None:
    served = boot_network.serve(range=RANGE)
    first = boot_network.udhcpc()
    assert first is not None, served.log
    assert first["ip"] == "10.77.0.100"
    served.kill()

    served = boot_network.serve(range=RANGE)
    boot_network.on(boot_network.client, "ip", "link", "set", "boot0", "address", "52:54:00:00:00:02")
    second = boot_network.udhcpc()
    assert second is not None, served.log
    assert second["ip"] == "10.77.0.101", "the first machine's lease was forgotten"
    boot_network.on(boot_network.client, "ip", "link", "set", "boot0", "address", "52:54:00:00:00:03")
    assert boot_network.udhcpc() is None, "the range is used up"
    boot_network.on(boot_network.client, "ip", "link", "set", "boot0", "address", "52:54:00:00:00:01")
    again = boot_network.udhcpc("-x", "0x3d:ff00112233", "-C")
    assert again is not None, served.log
    assert again["ip"] == "10.77.0.100", "one machine, one address, whatever its client identifier"


def test_an_unknown_machine_without_range_gets_no_answer(boot_network: BootNetwork) -> None:
    served = boot_network.serve(nodes=N1)
    boot_network.on(boot_network.client, "ip", "link", "set", "boot0", "address", "52:54:00:00:00:02")
    assert boot_network.udhcpc() is None
    assert "no node has hwaddr 52:54:00:00:00:02, and no range is configured" in served.log
    assert served.stop()["dhcp"]["answered"] == 0


def test_the_other_interface_is_not_served(boot_network: BootNetwork) -> None:
    served = boot_network.serve(range=RANGE)
    assert boot_network.udhcpc(device="other0") is None
    counters = served.stop()["dhcp"]
    assert counters["answered"] == 0
    assert counters["received"] == counters["elsewhere"] == 0, "the socket is bound to the boot interface"


SEND = """
import json, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"boot0")
for data in json.loads(sys.argv[1]):
    sock.sendto(bytes.fromhex(data), ("10.77.0.1", 67))
"""


def test_what_is_not_dhcp_is_counted_and_the_service_lives(boot_network: BootNetwork) -> None:
    served = boot_network.serve(nodes=N1)
    boot_network.on(boot_network.client, "ip", "address", "add", "10.77.0.50/24", "dev", "boot0")
    noise = [b"", b"x", b"GET / HTTP/1.1\r\n\r\n", bytes(300), b"\x01\x01\x06\x00" + bytes(400), b"\xff" * 1400]
    sent = json.dumps([data.hex() for data in noise * 20])
    boot_network.on(boot_network.client, "python3", "-c", SEND, sent)
    assert boot_network.udhcpc() is not None, served.log
    counters = served.stop()["dhcp"]
    assert counters["malformed"] == 120
    assert counters["answered"] == 2
    assert "Traceback" not in served.log
    assert served.log.count("magic cookie") < 15, "noise is logged within a budget"
