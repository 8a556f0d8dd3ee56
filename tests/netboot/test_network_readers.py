"""What the network overlays write is understood by the programs that read it on a node, each in namespaces of its own."""

import configparser
import json
import re
import stat
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from network_nodes import NODES, SERVER

from netboot.engine import RenderContext
from netboot.overlay import load, shipped
from netboot.overlay_render import render_items

RequireTool = Callable[..., Path]
CARDS: Mapping[str, Mapping[str, str]] = {
    "simple": {"eth0": "52:54:00:00:00:01"},
    "bonded": {"eno1": "52:54:00:00:00:21", "eno2": "52:54:00:00:00:22"},
    "vlan": {"eth0": "52:54:00:00:00:31", "eth1": "52:54:00:00:00:32"},
    "ipv6": {"eth0": "52:54:00:00:00:41", "eth1": "52:54:00:00:00:42"},
    "infiniband": {"eth0": "52:54:00:00:00:51", "ib0": "52:54:00:00:00:52"},
}
"""Of each node, the cards that it finds (Ethernet for InfiniBand, which only a card can be)."""


@pytest.fixture
def place(tmp_path: Path) -> Callable[[str, str], Path]:
    """Write what an overlay puts on a node below a folder, which is returned."""

    def write(overlay: str, node: str) -> Path:
        context = RenderContext(node=NODES[node], nodes=list(NODES.values()), server=SERVER)
        for path, item in render_items([load(overlay, [shipped()])], context).items.items():
            target = tmp_path / node / path.decode()
            if stat.S_ISDIR(item.mode):
                target.mkdir(parents=True, exist_ok=True)
            else:
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(item.content)
                target.chmod(item.mode & 0o7777)
        return tmp_path / node

    return write


def run(*command: str, stdin: str = "", expected: int = 0) -> str:
    """A program's standard output."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == expected, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout


CONFINE = """
set -e
findmnt -rno TARGET --real | while read -r place; do mount -o remount,bind,ro "$place"; done
mount --bind {folder} {folder}; mount -o remount,bind,rw {folder}; mount -t tmpfs none /run
mount -t sysfs -o {sysfs} none /sys; ip link set lo up
"""


def on_node(folder: Path, script: str, *, cards: str = "", sysfs: str = "rw") -> str:
    """Run a script of bash in a network with the cards of the node of this name. Its standard output.

    Network, processes and mounts are its own; what it starts ends with it. It can write files in `folder`, /run and /sys alone,
    for these programs are made to change the machine that they run on.
    """
    made = "\n".join(
        f"ip link add {name} address {hwaddr} type veth peer name peer-{name}; ip link set peer-{name} up"
        for name, hwaddr in CARDS.get(cards, {}).items()
    )
    whole = f"{CONFINE.format(folder=folder, sysfs=sysfs)}\n{made}\n{script}"
    own = ("--net", "--mount", "--propagation", "private", "--pid", "--fork", "--kill-child", "--mount-proc")
    return run("unshare", *own, "bash", "-c", whole)


SHOW = "ip -json address; echo =; ip -json route; echo =; ip -json -6 route"


def addresses(output: str) -> Mapping[str, set[str]]:
    """Device → addresses with their lengths, of `ip -json address`; link-local ones left out."""
    return {
        link["ifname"]: {f"{at['local']}/{at['prefixlen']}" for at in link["addr_info"] if at["scope"] == "global"}
        for link in json.loads(output)
    }


def routes(output: str) -> set[tuple[str, str | None, int | None]]:
    """Destination, gateway and metric of what `ip -json route` shows and the kernel did not make itself."""
    found: list[dict[str, Any]] = json.loads(output)
    return {(route["dst"], route.get("gateway"), route.get("metric")) for route in found if route.get("protocol") != "kernel"}


@pytest.mark.root
def test_nothing_here_can_change_the_machine(tmp_path: Path) -> None:
    script = f"""
    for place in /etc/resolv.conf /var/lib/bootsvc-test /usr/bootsvc-test {Path(__file__).parent}/bootsvc-test; do
        if : 2>/dev/null >>$place; then echo $place; fi
    done"""
    assert on_node(tmp_path, script) == ""


# --- systemd-networkd -----------------------------------------------------------------------------------------------

NETWORKD = """
mkdir -p /run/systemd/netif; chown systemd-network:systemd-network /run/systemd/netif
mount --bind {folder}/etc/systemd/network /etc/systemd/network
: >{folder}/log
SYSTEMD_LOG_LEVEL=debug SYSTEMD_LOG_TARGET=console /lib/systemd/systemd-networkd >>{folder}/log 2>&1 & daemon=$!
{until} || true
kill $daemon; wait $daemon || true
"""
UP = "/lib/systemd/systemd-networkd-wait-online --timeout=30"


def configured(folder: Path, count: int) -> str:
    """The command that waits until so many links have found their file."""
    return f"timeout 30 grep -q -m{count} 'Configuring with' < <(tail --pid=$daemon -n +1 -f {folder}/log)"


def networkd(folder: Path, node: str, until: str) -> tuple[list[str], str]:
    """Run it until a command ends: what `ip` shows then, and its log."""
    # It waits for udev unless /sys is read-only, as in a container.
    output = on_node(folder, NETWORKD.format(folder=folder, until=until) + SHOW, cards=node, sysfs="ro")
    return output.split("="), (folder / "log").read_text()


def complaints(log: str) -> list[str]:
    return re.findall(r"^.*/etc/systemd/network/\S+:[0-9]+: .*$", log, flags=re.MULTILINE)


@pytest.mark.root
def test_systemd_networkd_gives_addresses_and_routes(place: Callable[[str, str], Path]) -> None:
    folder = place("systemd.networkd", "ipv6")
    (links, routes4, routes6), log = networkd(folder, "ipv6", f"{UP} -i eth0:routable -i eth1:routable >&2")
    assert complaints(log) == []
    found = addresses(links)
    assert found["eth0"] == {"10.0.0.4/24", "fd00::4/64"}
    assert found["eth1"] == {"fd00:2::4/56"}
    assert {link["ifname"]: link["mtu"] for link in json.loads(links)}["eth0"] == 9000
    assert routes(routes4) == {("default", "10.0.0.254", None), ("10.9.0.0/16", "10.0.0.253", None)}
    assert {("default", "fd00::1", 1024), ("fd00:1::/64", "fd00::2", 50)} <= routes(routes6)


@pytest.mark.root
def test_systemd_networkd_routes_of_an_infiniband_device(place: Callable[[str, str], Path]) -> None:
    (links, routes4, _), log = networkd(
        place("systemd.networkd", "infiniband"), "infiniband", f"{UP} -i eth0:routable -i ib0:routable >&2"
    )
    assert complaints(log) == []
    assert addresses(links)["ib0"] == {"10.1.0.5/16"}
    assert routes(routes4) == {
        ("10.8.0.0/16", "10.1.0.254", None),
        ("10.7.0.0/16", "10.1.0.253", 20),
        ("10.6.0.0/16", None, None),
    }


@pytest.mark.root
@pytest.mark.parametrize(
    ("node", "said", "links"),
    [
        ("bonded", ['bond0: loaded "bond"', 'bond1: loaded "bond"', "eno1: Configuring with"], 1),
        ("vlan", ['eth0.902: loaded "vlan"', 'lab: loaded "vlan"', "eth0: Configuring with", "eth1: Configuring with"], 2),
    ],
)
def test_systemd_networkd_reads_bonds_and_vlans(
    place: Callable[[str, str], Path], node: str, said: list[str], links: int
) -> None:
    """Whether they come up is the kernel's matter: a small one has neither."""
    folder = place("systemd.networkd", node)
    _, log = networkd(folder, node, configured(folder, links))
    assert complaints(log) == []
    assert [line for line in said if line not in log] == []


@pytest.mark.root
def test_a_mistake_in_a_networkd_file_would_be_seen(place: Callable[[str, str], Path]) -> None:
    folder = place("systemd.networkd", "simple")
    file = next(folder.glob("etc/systemd/network/*.network"))
    file.write_text(file.read_text().replace("Address=10", "Adress=10"))
    assert len(complaints(networkd(folder, "simple", configured(folder, 1))[1])) == 1


# --- NetworkManager -------------------------------------------------------------------------------------------------


def keyfile(text: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(strict=True, interpolation=None, delimiters=("=",))
    parser.read_string(text)
    return parser


@pytest.mark.root
@pytest.mark.parametrize("node", NODES)
def test_network_manager_takes_every_key(place: Callable[[str, str], Path], node: str, require_tool: RequireTool) -> None:
    """`nmcli --offline` checks a connection and writes what it has understood, without what is a default."""
    require_tool("nmcli", package="network-manager")
    folder = place("NetworkManager", node)
    files = sorted((folder / "etc/NetworkManager/system-connections").iterdir())
    modify = "nmcli --offline connection modify connection.autoconnect-retries 3"
    on_node(folder, "\n".join(f"{modify} <{file} >{folder}/{file.name}" for file in files))
    for file in files:
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        told, understood = keyfile(file.read_text()), keyfile((folder / file.name).read_text())
        lost = {
            (section, key, value)
            for section in told.sections()
            for key, value in told[section].items()
            if understood.get(section, key, fallback="").lower() != value.lower()
        }
        assert lost <= {("connection", "autoconnect", "true")}, file.name


@pytest.mark.root
def test_network_manager_takes_its_settings(place: Callable[[str, str], Path], require_tool: RequireTool) -> None:
    require_tool("NetworkManager", package="network-manager")
    folder = place("NetworkManager", "simple")
    (folder / "main.conf").write_text("[main]\nplugins=keyfile\n")
    places = f"--config={folder}/main.conf --config-dir={folder}/etc/NetworkManager/conf.d --system-config-dir={folder}/none"
    script = f"mount -t tmpfs none /var/lib/NetworkManager; NetworkManager --print-config {places}"
    assert "\nno-auto-default=*\n" in on_node(folder, script)


NETWORK_MANAGER = """
mount -t tmpfs none /var/lib/NetworkManager; mkdir /run/dbus /run/NetworkManager
mount --bind {folder}/etc/NetworkManager /etc/NetworkManager
dbus-daemon --system --fork --nopidfile
NetworkManager --no-daemon >{folder}/log 2>&1 &
nm-online --wait-for-startup --quiet --timeout=30 || echo late >>{folder}/log
"""


@pytest.mark.root
def test_network_manager_gives_addresses_and_routes(place: Callable[[str, str], Path], require_tool: RequireTool) -> None:
    require_tool("NetworkManager", package="network-manager")
    folder = place("NetworkManager", "ipv6")
    # It waits for udev unless /sys is read-only.
    output = on_node(folder, NETWORK_MANAGER.format(folder=folder) + SHOW, cards="ipv6", sysfs="ro")
    links, routes4, routes6 = output.split("=")
    found = addresses(links)
    assert found["eth0"] == {"10.0.0.4/24", "fd00::4/64"}, (folder / "log").read_text()
    assert found["eth1"] == {"fd00:2::4/56"}
    assert {link["ifname"]: link["mtu"] for link in json.loads(links)}["eth0"] == 9000
    assert {(to, via) for to, via, _ in routes(routes4)} == {("default", "10.0.0.254"), ("10.9.0.0/16", "10.0.0.253")}
    assert {("default", "fd00::1"), ("fd00:1::/64", "fd00::2")} <= {(to, via) for to, via, _ in routes(routes6)}


# --- ifupdown -------------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_ifupdown_gives_addresses_and_routes(place: Callable[[str, str], Path], require_tool: RequireTool) -> None:
    require_tool("ifup", package="ifupdown")
    folder = place("ifupdown", "ipv6")
    (folder / "interfaces").write_text(f"source {folder}/etc/network/interfaces.d/*\n")
    script = f"mkdir /run/network; ifup --interfaces={folder}/interfaces -a >&2; {SHOW}"
    links, routes4, routes6 = on_node(folder, script, cards="ipv6").split("=")
    found = addresses(links)
    assert found["eth0"] == {"10.0.0.4/24", "fd00::4/64"}
    assert found["eth1"] == {"fd00:2::4/56"}
    assert {("default", "10.0.0.254", None), ("10.9.0.0/16", "10.0.0.253", None)} == routes(routes4)
    assert {("default", "fd00::1", 1024), ("fd00:1::/64", "fd00::2", 50)} <= routes(routes6)


@pytest.mark.root
def test_ifupdown_finds_a_card_by_its_address(place: Callable[[str, str], Path], require_tool: RequireTool) -> None:
    require_tool("ifup", package="ifupdown")
    folder = place("ifupdown", "dhcp")
    output = on_node(
        folder,
        f"ip link set eth0 address 52:54:00:00:00:11; mkdir /run/network; "
        f"ifup --no-act -v --interfaces={folder}/etc/network/interfaces.d/warewulf-default -a 2>&1",
        cards="simple",
    )
    assert "configuring interface eth0=warewulf-default (inet)" in output


@pytest.mark.root
@pytest.mark.parametrize(
    ("node", "device", "wanted"),
    [
        ("bonded", "bond0", {"address": "10.0.0.2", "bond-mode": "802.3ad", "bond-slaves": "eno1 eno2", "mtu": "9000"}),
        ("bonded", "eno2", {"bond-master": "bond0"}),
        ("vlan", "eth0.902", {"address": "10.2.0.3", "gateway": "10.2.0.254"}),
        ("vlan", "lab", {"mtu": "1400", "hwaddress": "52:54:00:00:00:3a"}),
    ],
)
def test_ifquery_reads_bonds_and_vlans(
    place: Callable[[str, str], Path], node: str, device: str, wanted: Mapping[str, str], require_tool: RequireTool
) -> None:
    require_tool("ifquery", package="ifupdown")
    folder = place("ifupdown", node)
    (folder / "interfaces").write_text(f"source {folder}/etc/network/interfaces.d/*\n")
    output = on_node(folder, f"mkdir /run/network; ifquery --interfaces={folder}/interfaces {device}")
    options = dict(line.split(": ", 1) for line in output.splitlines())
    assert {key: options.get(key) for key in wanted} == wanted


# --- netplan --------------------------------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("node", NODES)
def test_netplan_generates(place: Callable[[str, str], Path], node: str, require_tool: RequireTool) -> None:
    require_tool("netplan", package="netplan.io")
    folder = place("netplan", node)
    on_node(folder, f"netplan generate --root-dir {folder}")
    made = {file.name: file.read_text() for file in (folder / "run/systemd/network").iterdir()}
    everything = "\n".join(made.values())
    expected = {
        "simple": ["Address=10.0.0.1/24", "PermanentMACAddress=52:54:00:00:00:01"],
        "dhcp": ["DHCP=ipv4", "ClientIdentifier=mac", "RouteMetric=101", "ActivationPolicy=manual"],
        "bonded": [
            "Mode=802.3ad",
            "MIIMonitorSec=50ms",
            "TransmitHashPolicy=layer3+4",
            "Bond=bond0",
            "Bond=bond1",
            "Metric=101",
        ],
        "vlan": ["Id=902", "Id=7", "VLAN=eth0.902", "VLAN=lab", "Destination=192.168.1.0/24", "MACAddress=52:54:00:00:00:3a"],
        "ipv6": ["Address=fd00::4/64", "Gateway=fd00::1", "Destination=fd00:1::/64", "DNS=fd00::3", "Domains=cluster"],
        "infiniband": ["Name=ib0", "Address=10.1.0.5/16", "Gateway=10.1.0.254", "Scope=link"],
    }
    assert [line for line in expected[node] if f"\n{line}\n" not in f"\n{everything}\n"] == []


# --- ifcfg ----------------------------------------------------------------------------------------------------------


def shell_values(file: Path) -> Mapping[str, str]:
    """The variables that a shell has after it read the file, as network-scripts do."""
    lines = run("env", "-i", "sh", "-euc", '. "$1"; set', "sh", str(file)).splitlines()
    pairs = (line.partition("=") for line in lines)
    return {key: value.strip("'") for key, _, value in pairs if key.isupper()}


@pytest.mark.parametrize("node", NODES)
def test_a_shell_reads_ifcfg_files(place: Callable[[str, str], Path], node: str) -> None:
    folder = place("ifcfg", node) / "etc/sysconfig"
    assert shell_values(folder / "network")["HOSTNAME"] == node
    for file in folder.glob("network-scripts/ifcfg-*"):
        values = shell_values(file)
        assert values.get("DEVICE", values["NAME"].removeprefix("warewulf-")) == file.name.removeprefix("ifcfg-")


def test_ifcfg_files_of_a_bond(place: Callable[[str, str], Path]) -> None:
    folder = place("ifcfg", "bonded") / "etc/sysconfig/network-scripts"
    bond = shell_values(folder / "ifcfg-bond0")
    assert (bond["BONDING_OPTS"].split()[0], bond["IPADDR"], bond["DOMAIN"]) == (
        "mode=802.3ad",
        "10.0.0.2",
        "cluster example.org",
    )
    assert shell_values(folder / "ifcfg-eno2")["MASTER"] == "bond0"


@pytest.mark.root
def test_ip_takes_the_lines_of_route_files(place: Callable[[str, str], Path]) -> None:
    """network-scripts hand each line to `ip route add`."""
    folder = place("ifcfg", "ipv6") / "etc/sysconfig/network-scripts"
    output = on_node(
        folder,
        "ip link set eth0 up; ip address add 10.0.0.4/24 dev eth0; ip address add fd00::4/64 dev eth0 nodad;"
        f"xargs -L1 ip route add <{folder}/route-eth0; xargs -L1 ip -6 route add <{folder}/route6-eth0;"
        "ip -json route; echo =; ip -json -6 route",
        cards="ipv6",
    )
    routes4, routes6 = output.split("=")
    assert ("10.9.0.0/16", "10.0.0.253", None) in routes(routes4)
    assert ("fd00:1::/64", "fd00::2", 50) in routes(routes6)


# --- udev -----------------------------------------------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize("node", ["infiniband", "vlan"])
def test_udev_names_the_card(place: Callable[[str, str], Path], node: str) -> None:
    folder = place("systemd.netname", node)
    place("udev.netname", node)
    output = on_node(
        folder,
        f"mkdir /run/udev; mount --bind {folder}/etc/systemd/network /etc/systemd/network;"
        f"mount --bind {folder}/etc/udev/rules.d /etc/udev/rules.d; ip link set eth0 name new;"
        "udevadm test --action=add /sys/class/net/new 2>&1",
        cards=node,
    )
    assert "Reading rules file: /etc/udev/rules.d/70-warewulf-netname.rules" in output
    # An error in a line is said with its number.
    assert re.findall(r"/etc/(?:udev|systemd)/\S+:[0-9]+.*", output) == []
    assert "ID_NET_NAME=eth0" in output


# --- glibc ----------------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_getent_knows_every_node(place: Callable[[str, str], Path]) -> None:
    folder = place("hosts", "simple")
    names = ("head", "warewulf", "bonded", "bonded-bond0", "vlan-tagged", "vlan-eth0.902", "ipv6", "bonded-eno1")
    asked = "; ".join(f"getent ahosts {name} || echo none RAW {name}" for name in names)
    output = on_node(folder, f"mount --bind {folder}/etc/hosts /etc/hosts; {asked}")
    found = [tuple(line.split()[::2]) for line in output.splitlines() if line.split()[1] == "RAW" and len(line.split()) == 3]
    # ahosts says the first name of a line beside the first socket type; the rest have the address alone.
    assert found == [("none", "bonded-eno1")]
    first = [line.split()[0] for line in output.splitlines() if "STREAM" in line]
    assert first == ["10.0.0.100", "10.0.0.100", "10.0.0.2", "10.0.0.2", "10.2.0.3", "10.2.0.3", "fd00::4", "10.0.0.4"]


@pytest.mark.root
def test_the_kernel_takes_the_host_name(place: Callable[[str, str], Path]) -> None:
    folder = place("hostname", "simple")
    assert on_node(folder, f"unshare --uts sh -c 'hostname -F {folder}/etc/hostname; uname -n'") == "simple\n"
