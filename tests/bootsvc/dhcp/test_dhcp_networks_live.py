"""The server among others: behind a relay, on two interfaces, beside another DHCP server, and where an address is in use."""

import json
import re
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from boot_network import BootNetwork

pytestmark = pytest.mark.root

WITHIN_SECONDS = 20
RANGE = ["10.77.0.100", "10.77.0.101"]


def until(condition: Callable[[], object], what: Callable[[], str]) -> None:
    """Wait for something that only the log tells."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.05)


def test_a_second_interface_is_served_where_a_subnet_says_so(boot_network: BootNetwork) -> None:
    served = boot_network.serve(
        range=RANGE,
        subnets=[{"network": "192.168.77.0/24", "range": ["192.168.77.10", "192.168.77.11"], "router": "192.168.77.1"}],
    )
    given = boot_network.udhcpc(device="other0")
    assert given is not None, served.log
    assert (given["ip"], given["serverid"], given["router"]) == ("192.168.77.10", "192.168.77.1", "192.168.77.1")
    on_boot = boot_network.udhcpc()
    assert on_boot is not None, served.log
    assert (on_boot["ip"], on_boot["serverid"]) == ("10.77.0.100", "10.77.0.1")


def test_a_machine_behind_a_relay_gets_renews_and_releases(
    boot_network: BootNetwork, tmp_path: Path, require_tool: Callable[..., Path]
) -> None:
    relay = require_tool("dhcrelay", package="isc-dhcp-relay")
    machine = boot_network.machine("52:54:00:00:02:01")
    boot_network.on(machine, "ip", "link", "delete", "eth0")
    on_relay = boot_network.client
    boot_network.on(on_relay, "ip", "link", "add", "rack0", "type", "veth", "peer", "name", "eth0", "netns", machine)
    for namespace, command in (
        (machine, "link set eth0 address 52:54:00:00:02:01 up"),
        (on_relay, "link set rack0 up"),
        (on_relay, "address add 10.77.0.254/24 dev boot0"),
        (on_relay, "address add 10.78.0.254/24 dev rack0"),
        (boot_network.server, "route add 10.78.0.0/24 via 10.77.0.254"),
    ):
        boot_network.on(namespace, "ip", *command.split())
    boot_network.on(on_relay, "sysctl", "-q", "net.ipv4.ip_forward=1")
    served = boot_network.serve(
        range=RANGE, subnets=[{"network": "10.78.0.0/24", "range": ["10.78.0.100", "10.78.0.110"], "router": "10.78.0.254"}]
    )
    boot_network.popen(on_relay, str(relay), "-4", "-d", "-a", "-id", "rack0", "-iu", "boot0", "10.77.0.1")
    script = tmp_path / "rack.sh"
    script.write_text(
        '#!/bin/sh\ncase $1 in bound|renew) ip address replace "$ip/$mask" dev "$interface"\n'
        'ip route replace default via "$router";; esac\nexit 0\n'
    )
    script.chmod(0o755)
    client = boot_network.popen(machine, "busybox", "udhcpc", "-i", "eth0", "-f", "-R", "-T", "1", "-s", str(script))

    def count(pattern: str) -> int:
        return len(re.findall(rf"dhcp {pattern} hwaddr=52:54:00:00:02:01 node=- (yiaddr=10.78.0.100)?", served.log))

    until(lambda: count("ACK") == 1, lambda: served.log)
    until(lambda: "default via 10.78.0.254" in boot_network.on(machine, "ip", "route"), lambda: "the client is not bound")
    client.send_signal(signal.SIGUSR1)
    # The relay agent hears the renewal that it only routes, and relays it once more.
    until(lambda: count("ACK") >= 2, lambda: served.log)
    assert count("OFFER") == 1, "the renewal came straight to the server, from a network that is not its own"
    client.send_signal(signal.SIGTERM)
    until(lambda: count("RELEASE received") >= 1, lambda: served.log)
    assert "NAK" not in served.log


def test_an_address_that_somebody_uses_is_not_given(boot_network: BootNetwork) -> None:
    squatter = boot_network.machine("52:54:00:00:02:02")
    boot_network.on(squatter, "ip", "address", "add", "10.77.0.100/24", "dev", "eth0")
    served = boot_network.serve(range=RANGE)
    until(lambda: "10.77.0.100 of the range is used by 52:54:00:00:02:02 on boot0" in served.log, lambda: served.log)
    other = boot_network.machine("52:54:00:00:02:03")
    given = boot_network.udhcpc(namespace=other, device="eth0")
    assert given is not None, served.log
    assert given["ip"] == "10.77.0.101"
    assert served.stop()["dhcp"]["conflicts"] == 1


def test_an_address_that_somebody_uses_is_not_given_to_who_asks_for_it(boot_network: BootNetwork) -> None:
    """Of a range so large that it is not checked ahead."""
    wanted = "10.77.0.190"
    squatter = boot_network.machine("52:54:00:00:02:02")
    boot_network.on(squatter, "ip", "address", "add", f"{wanted}/24", "dev", "eth0")
    served = boot_network.serve(range=["10.77.0.100", "10.77.0.199"])
    other = boot_network.machine("52:54:00:00:02:03")
    given = boot_network.udhcpc("-r", wanted, namespace=other, device="eth0")
    assert given is not None, served.log
    assert given["ip"] != wanted
    assert f"{wanted} of the range is used by 52:54:00:00:02:02 on boot0" in served.log
    free = boot_network.udhcpc("-r", "10.77.0.191", namespace=boot_network.machine("52:54:00:00:02:04"), device="eth0")
    assert free is not None, served.log
    assert free["ip"] == "10.77.0.191"
    assert served.stop()["dhcp"]["conflicts"] == 1


SIMULATION = """
import json, socket, sys
from ipaddress import IPv4Address
from bootsvc.dhcp import options
from bootsvc.dhcp.options import Message
from bootsvc.dhcp.packet import Op, Packet
chaddr = bytes.fromhex("525400000204")
def sock(address):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"eth0")
    made.bind((address, 68))
    made.settimeout(5)
    return made
def ask(made, message, to):
    pairs = [options.MESSAGE_TYPE.pair(message), options.VENDOR_CLASS.pair("PXEClient:Arch:00007:UNDI:003016"),
             options.CLIENT_ARCH.pair((7,)), options.PARAMETER_LIST.pair((1, 3, 43, 60, 66, 67))]
    packet = Packet(op=Op.BOOTREQUEST, xid=77, flags=0x8000, chaddr=chaddr, options=dict(pairs))
    made.sendto(packet.serialize(), to)
def heard(made):
    packet = Packet.parse(made.recv(2000))
    return {"yiaddr": str(packet.yiaddr), "server": str(options.SERVER_ID.find(packet.options)), "file": packet.file.decode(),
            "class": options.VENDOR_CLASS.find(packet.options), "name": options.BOOTFILE_NAME.find(packet.options),
            "message": options.MESSAGE_TYPE.find(packet.options).name}
if sys.argv[1] == "67":
    made = sock("")
    ask(made, Message.DISCOVER, ("255.255.255.255", 67))
    print(json.dumps([heard(made), heard(made)]))
else:
    made = sock("10.77.0.60")
    ask(made, Message.REQUEST, ("10.77.0.1", 4011))
    print(json.dumps(heard(made)))
"""


def start_rival(boot_network: BootNetwork, program: str, folder: Path) -> None:
    """dnsmasq as the DHCP server 10.77.0.2 of the same wire."""
    namespace: str = boot_network.machine("52:54:00:00:02:09")
    boot_network.on(namespace, "ip", "address", "add", "10.77.0.2/24", "dev", "eth0")
    options = ["--conf-file=/dev/null", "--port=0", "--no-ping", "--user=root", "--interface=eth0", "--bind-interfaces"]
    files = [f"--dhcp-leasefile={folder}/rival.leases", f"--pid-file={folder}/rival.pid"]
    boot_network.popen(namespace, program, "-k", *options, *files, "--dhcp-range=10.77.0.50,10.77.0.59,1h")
    until(lambda: boot_network.on(namespace, "ss", "-Huln", "sport = :67").strip(), lambda: "dnsmasq did not start")


@pytest.fixture
def rival(boot_network: BootNetwork, require_tool: Callable[..., Path], tmp_path: Path) -> None:
    start_rival(boot_network, str(require_tool("dnsmasq", package="dnsmasq-base")), tmp_path)


@pytest.mark.usefixtures("rival")
def test_another_server_is_named_once(boot_network: BootNetwork) -> None:
    served = boot_network.serve(range=RANGE)
    until(lambda: "another DHCP server answers on boot0: 10.77.0.2;" in served.log, lambda: served.log)
    machine = boot_network.machine("52:54:00:00:02:05")
    assert boot_network.udhcpc(namespace=machine, device="eth0") is not None
    assert served.log.count("another DHCP server answers") == 1


@pytest.mark.usefixtures("rival")
def test_a_proxy_adds_the_boot_file_to_another_servers_addresses(boot_network: BootNetwork) -> None:
    served = boot_network.serve(mode="proxy", quiet_seconds=2)
    machine = boot_network.machine("52:54:00:00:02:04")
    offers = json.loads(boot_network.on(machine, sys.executable, "-c", SIMULATION, "67"))
    ours, theirs = sorted(offers, key=lambda offer: str(offer["server"]))
    assert theirs["yiaddr"].startswith("10.77.0.5")
    assert ours == {
        "yiaddr": "0.0.0.0",
        "server": "10.77.0.1",
        "file": "snponly.efi",
        "class": "PXEClient",
        "name": "snponly.efi",
        "message": "OFFER",
    }
    boot_network.on(machine, "ip", "address", "add", "10.77.0.60/24", "dev", "eth0")
    answer = json.loads(boot_network.on(machine, sys.executable, "-c", SIMULATION, "4011"))
    assert answer == {**ours, "message": "ACK"}
    assert boot_network.udhcpc(namespace=machine, device="eth0") is not None, "the other server gives addresses"
    assert "another DHCP server answers" not in served.log
    until(lambda: "addresses on boot0 come from 10.77.0.2" in served.log, lambda: served.log)
    assert "dhcp ACK hwaddr=52:54:00:00:02:04 node=- yiaddr=10" not in served.log
    assert "no other DHCP server answers" not in served.log


def test_a_proxy_says_that_nobody_gives_addresses(
    boot_network: BootNetwork, require_tool: Callable[..., Path], tmp_path: Path
) -> None:
    program = str(require_tool("dnsmasq", package="dnsmasq-base"))
    served = boot_network.serve(mode="proxy", quiet_seconds=0.3)
    until(
        lambda: "no other DHCP server answers on boot0, and `mode: proxy` gives no addresses" in served.log, lambda: served.log
    )
    start_rival(boot_network, program, tmp_path)
    machine = boot_network.machine("52:54:00:00:02:06")
    # Its answer to a machine is heard as well as one to us.
    assert boot_network.udhcpc("-B", namespace=machine, device="eth0") is not None
    until(lambda: "addresses on boot0 come from 10.77.0.2" in served.log, lambda: served.log)
    assert served.log.count("no other DHCP server answers") == 1


NOBODY = "no other DHCP server answers on boot0, and `mode: proxy` gives no addresses"


def test_a_server_that_becomes_a_proxy_says_at_once_that_nobody_gives_addresses(boot_network: BootNetwork) -> None:
    served = boot_network.serve(range=RANGE, quiet_seconds=0.3, check_seconds=0.2)
    assert boot_network.udhcpc() is not None
    served.change(mode="proxy")
    until(lambda: NOBODY in served.log, lambda: served.log)
    served.change(mode="authoritative")
    until(lambda: served.log.count("dhcp listening if=boot0") == 3, lambda: served.log)
    assert boot_network.udhcpc() is not None
    assert served.log.count(NOBODY) == 1


def test_a_proxy_that_becomes_a_server_no_longer_waits_for_others(
    boot_network: BootNetwork, require_tool: Callable[..., Path], tmp_path: Path
) -> None:
    program = str(require_tool("dnsmasq", package="dnsmasq-base"))
    served = boot_network.serve(mode="proxy", range=RANGE, quiet_seconds=1, check_seconds=0.1)
    served.change(mode="authoritative")
    until(lambda: served.log.count("dhcp listening if=boot0") == 2, lambda: served.log)
    start_rival(boot_network, program, tmp_path)
    # What is asked next comes after the wait of the proxy's four questions.
    until(lambda: "another DHCP server answers on boot0: 10.77.0.2;" in served.log, lambda: served.log)
    assert NOBODY not in served.log
