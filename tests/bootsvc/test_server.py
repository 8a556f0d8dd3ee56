"""`wwctl server` as a process in a network namespace: what it serves, what it notices by itself, how it ends."""

import json
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

pytestmark = pytest.mark.root

WWCTL = Path(sys.executable).with_name("wwctl")
CONF = """\
ipaddr: 10.77.0.1/24
dhcp:
  range start: 10.77.0.100
  range end: 10.77.0.110
paths:
  sysconfdir: {root}/etc
  localstatedir: {root}/lib
  cachedir: {root}/cache
"""
NODES = """\
nodes:
  n1:
    image name: none
    network devices:
      default:
        hwaddr: 52:54:00:00:00:01
        ipaddr: 10.77.0.11
"""


class Server:
    """The running process; its log is read line by line."""

    def __init__(self, network: Any, root: Path) -> None:
        self._network = network
        self.nodes_conf = root / "etc/warewulf/nodes.conf"
        self.nodes_conf.parent.mkdir(parents=True)
        self.nodes_conf.write_text(NODES)
        (root / "warewulf.conf").write_text(CONF.format(root=root))
        self._command = [str(WWCTL), "--warewulfconf", str(root / "warewulf.conf"), "server"]
        self.process = self.start()
        self.log = ""

    def start(self) -> "subprocess.Popen[str]":
        process: subprocess.Popen[str] = self._network.popen(self._network.server, *self._command)
        return process

    def wait_log(self, pattern: str) -> None:
        """Read the log up to a line that matches; the test's own time limit ends a wait in vain."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log += line
            if re.search(pattern, line):
                return
        pytest.fail(f"{pattern!r} is not in the log: {self.log}")

    def get(self, path: str) -> str:
        """Fetched from the other end of the wire."""
        url = f"http://10.77.0.1:9873{path}"
        answer: str = self._network.on(self._network.client, "curl", "--silent", "--max-time", "10", url)
        return answer


@pytest.fixture
def server(boot_network: Any, tmp_path: Path) -> Server:
    boot_network.on(boot_network.client, "ip", "address", "add", "10.77.0.11/24", "dev", "boot0")
    made = Server(boot_network, tmp_path)
    made.wait_log("INFO ready")
    return made


def test_it_answers_dhcp_tftp_and_http(server: Server, boot_network: Any, tmp_path: Path) -> None:
    offered = boot_network.udhcpc("-V", "PXEClient:Arch:00000:UNDI:002001")
    assert offered is not None
    assert (offered["ip"], offered["boot_file"]) == ("10.77.0.11", "undionly.kpxe")
    loader = tmp_path / "loader"
    boot_network.on(boot_network.client, "curl", "--silent", "--output", str(loader), "tftp://10.77.0.1/undionly.kpxe")
    assert loader.read_bytes() == Path("/usr/lib/ipxe/undionly.kpxe").read_bytes()
    assert "there is no image 'none'" in server.get("/ipxe/52-54-00-00-00-01").replace("?", "'")
    status = json.loads(server.get("/status"))
    assert status["nodes"]["n1"]["stage"] == "ipxe"
    assert status["counters"]["tftp"]["complete"] == 1


def test_changes_take_effect_by_themselves(server: Server) -> None:
    assert "no node has" in server.get("/ipxe/52-54-00-00-00-02")
    server.nodes_conf.write_text(
        NODES + NODES.partition("\n")[2].replace("n1", "n2").replace(":01", ":02").replace(".11", ".12")
    )
    server.wait_log("2 nodes loaded")
    assert "no image" in server.get("/ipxe/52-54-00-00-00-02")
    server.nodes_conf.write_text("nodes: [broken\n")
    server.wait_log("nodes.conf is not used, the nodes stay as they were: .*nodes.conf")
    assert "no image" in server.get("/ipxe/52-54-00-00-00-02")


def test_what_needs_a_restart_is_not_half_taken_over(server: Server, boot_network: Any, tmp_path: Path) -> None:
    conf = tmp_path / "warewulf.conf"
    changed = conf.read_text().replace("10.77.0.1", "10.99.0.1") + "warewulf: {port: 9999}\ntftp: {enabled: false}\n"
    boot_network.on(boot_network.client, "ip", "link", "set", "boot0", "address", "52:54:00:00:00:09")
    conf.write_text(changed)
    for name in ("ipaddr", "network", "http", "tftp enabled"):
        server.wait_log(f"a change of {name} in warewulf.conf takes effect when the server is started again")
    server.wait_log("warewulf.conf loaded")
    offered = boot_network.udhcpc("-x", "0x4d:69505845")
    assert offered is not None
    assert offered["ip"].startswith("10.77.0.1")
    assert offered["boot_file"].startswith("http://10.77.0.1:9873/")


def test_a_node_with_the_servers_own_address_is_named(server: Server, boot_network: Any) -> None:
    server.nodes_conf.write_text(NODES.replace("10.77.0.11", "10.77.0.1"))
    server.wait_log(r"WARNING node n1 gets no address: its 10\.77\.0\.1 is this server's own")
    assert boot_network.udhcpc() is None


@pytest.mark.parametrize("broken", ["loop", "no folder"])
def test_a_nodes_conf_out_of_reach_leaves_the_nodes(server: Server, broken: str) -> None:
    folder = server.nodes_conf.parent
    if broken == "loop":
        server.nodes_conf.unlink()
        server.nodes_conf.symlink_to(server.nodes_conf.name)
    else:
        folder.rename(folder.with_name("away"))
        folder.touch()
    server.wait_log("nodes.conf is not used, the nodes stay as they were")
    assert "no image" in server.get("/ipxe/52-54-00-00-00-01")


def test_up_is_what_the_nodes_own_address_says(server: Server) -> None:
    assert server.get("/report/52-54-00-00-00-01?event=up") == "ok\n"
    assert json.loads(server.get("/status"))["nodes"]["n1"]["stage"] == "up"
    server.process.send_signal(signal.SIGKILL)
    server.process.wait(10)
    server.process = server.start()
    server.wait_log("INFO ready")
    assert json.loads(server.get("/status"))["nodes"]["n1"]["stage"] == "up", "a crash forgets nothing"


def test_an_address_asked_for_again_does_not_hide_that_a_node_is_up(server: Server, boot_network: Any) -> None:
    server.get("/report/52-54-00-00-00-01?event=up")
    assert boot_network.udhcpc() is not None
    assert json.loads(server.get("/status"))["nodes"]["n1"]["stage"] == "up"
    assert boot_network.udhcpc("-V", "PXEClient:Arch:00000:UNDI:002001") is not None
    assert json.loads(server.get("/status"))["nodes"]["n1"]["stage"] == "DHCP ACK"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_cleanly(server: Server, number: signal.Signals) -> None:
    server.process.send_signal(number)
    out, _ = server.process.communicate(timeout=20)
    assert server.process.returncode == 0, out
    assert out.splitlines()[-1].endswith("stopping")


def test_a_second_copy_is_told_what_is_taken(server: Server) -> None:
    second = server.start()
    out, _ = second.communicate(timeout=20)
    assert second.returncode == 1
    assert re.search(r"^wwctl: .*port.* 67 .*", out, re.MULTILINE), out
    assert "Traceback" not in out
    assert json.loads(server.get("/status"))["nodes"], "the first goes on"


def test_an_unknown_machine_becomes_the_discoverable_node(server: Server, boot_network: Any) -> None:
    server.nodes_conf.write_text(NODES + "  n2:\n    discoverable: true\n    image name: none\n")
    server.wait_log("2 nodes loaded")
    machine = "52:54:00:00:00:02"
    boot_network.on(boot_network.client, "ip", "link", "set", "boot0", "address", machine)
    offered = boot_network.udhcpc("-x", "0x4d:69505845")
    assert offered is not None
    assert "/discover/52-54-00-00-00-02?" in offered["boot_file"]
    boot_network.on(boot_network.client, "ip", "address", "flush", "dev", "boot0", "scope", "global")
    boot_network.on(boot_network.client, "ip", "address", "add", f"{offered['ip']}/24", "dev", "boot0")
    assert "this machine is now node n2" in server.get("/discover/52-54-00-00-00-02")
    assert "52:54:00:00:00:02" in server.nodes_conf.read_text()
    assert "there is no image 'none'" in server.get("/ipxe/52-54-00-00-00-02"), "it is that node from now on"
