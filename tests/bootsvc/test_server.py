"""`wwctl server` as a process in a network namespace: what it serves, what it notices by itself, how it ends."""

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from appliance import NODES, WWCTL, Server
from boot_network import BootNetwork

from bootsvc.config import Config
from bootsvc.process.unit import render

pytestmark = pytest.mark.root


@pytest.fixture
def server(boot_network: BootNetwork, tmp_path: Path) -> Server:
    boot_network.on(boot_network.client, "ip", "address", "add", "10.77.0.11/24", "dev", "boot0")
    made = Server(boot_network, tmp_path)
    made.wait_log("INFO ready")
    return made


def test_it_answers_dhcp_tftp_and_http(server: Server, boot_network: BootNetwork, tmp_path: Path) -> None:
    offered = boot_network.udhcpc("-V", "PXEClient:Arch:00000:UNDI:002001")
    assert offered is not None
    assert (offered["ip"], offered["boot_file"]) == ("10.77.0.11", "undionly.kpxe")
    loader = tmp_path / "loader"
    boot_network.on(boot_network.client, "curl", "--silent", "--output", str(loader), "tftp://10.77.0.1/undionly.kpxe")
    assert loader.read_bytes() == Path("/usr/lib/ipxe/undionly.kpxe").read_bytes()
    assert "there is no image 'none'" in server.get("/ipxe/52-54-00-00-00-01").replace("?", "'")
    status = json.loads(server.get("/status"))
    n1 = status["nodes"]["n1"]
    assert (n1["stage"], n1["sent"], n1["why"]) == ("ipxe", "NOT_FOUND", "there is no image 'none'")
    assert status["counters"]["tftp"]["complete"] == 1


def test_lines_of_every_server_have_node_address_and_interface(server: Server, boot_network: BootNetwork) -> None:
    """That by which the machine came, whatever address it has, and whatever address of ours it asks."""
    for namespace, host in ((boot_network.server, 1), (boot_network.client, 2)):
        boot_network.on(namespace, "ip", "address", "add", f"fd77::{host}/64", "dev", "other0", "nodad")
    boot_network.on(boot_network.client, "ip", "address", "add", "192.168.77.2/24", "dev", "other0")
    path = ":9873/ipxe/52-54-00-00-00-01"
    for url, client, interface in (
        (f"http://10.77.0.1{path}", r"10\.77\.0\.11", "boot0"),
        (f"http://192.168.77.1{path}", r"192\.168\.77\.2", "other0"),
        (f"http://[fd77::1]{path}", "fd77::2", "other0"),
    ):
        server.on_client("curl", "-sSg", url)
        server.wait_log(f"http IPXE hwaddr=52:54:00:00:00:01 node=n1 sent=NOT_FOUND client={client} if={interface}$")
    server.on_client("ip", "route", "add", "10.77.0.1/32", "via", "192.168.77.1", "src", "10.77.0.11")
    server.on_client("curl", "-sSg", f"http://10.77.0.1{path}")
    server.wait_log(r"http IPXE .* client=10\.77\.0\.11 if=other0$")
    server.on_client("ip", "route", "delete", "10.77.0.1/32")
    server.on_client("curl", "-sSo", "/dev/null", "tftp://10.77.0.1/undionly.kpxe")
    server.wait_log(r"tftp ACK hwaddr=52:54:00:00:00:01 node=n1 file=undionly.kpxe .* client=10\.77\.0\.11 if=boot0$")
    assert boot_network.udhcpc() is not None
    server.wait_log(r"dhcp ACK hwaddr=52:54:00:00:00:01 node=n1 yiaddr=10\.77\.0\.11 .* if=boot0$")


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


def test_a_key_that_nobody_knows_is_told_at_a_change_too(server: Server) -> None:
    server.warewulf_conf.write_text(server.warewulf_conf.read_text() + "warewulf: {prot: 9874}\n")
    server.wait_log(r"WARNING \S+/warewulf.conf:\d+: unknown key 'warewulf: prot' \(did you mean 'port'\?\)$")
    server.wait_log("warewulf.conf loaded")


def test_what_needs_a_restart_is_not_half_taken_over(server: Server, boot_network: BootNetwork, tmp_path: Path) -> None:
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


def test_a_node_with_the_servers_own_address_is_named(server: Server, boot_network: BootNetwork) -> None:
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


def test_an_address_asked_for_again_does_not_hide_that_a_node_is_up(server: Server, boot_network: BootNetwork) -> None:
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


def test_a_second_copy_is_told_which_process_is_the_first(server: Server) -> None:
    second = server.start()
    out, _ = second.communicate(timeout=20)
    assert second.returncode == 1
    assert out.startswith(f"wwctl: `wwctl server` runs already, as process {server.process.pid}\n(")
    assert "Traceback" not in out
    assert json.loads(server.get("/status"))["nodes"], "the first goes on"


def test_an_unknown_machine_becomes_the_discoverable_node(server: Server, boot_network: BootNetwork) -> None:
    server.nodes_conf.write_text(NODES + "  n2:\n    discoverable: true\n    image name: none\n")
    server.wait_log("2 nodes loaded")
    os.chown(server.nodes_conf, 1000, 1001)
    server.nodes_conf.chmod(0o640)
    machine = "52:54:00:00:00:02"
    boot_network.on(boot_network.client, "ip", "link", "set", "boot0", "address", machine)
    offered = boot_network.udhcpc("-x", "0x4d:69505845")
    assert offered is not None
    assert "/discover/52-54-00-00-00-02?" in offered["boot_file"]
    boot_network.on(boot_network.client, "ip", "address", "flush", "dev", "boot0", "scope", "global")
    boot_network.on(boot_network.client, "ip", "address", "add", f"{offered['ip']}/24", "dev", "boot0")
    boot_network.on(boot_network.client, "ip", "link", "set", "boot0", "address", "52:54:00:00:00:09")
    refused = server.get("/discover/52-54-00-00-00-02")
    assert refused == f"{offered['ip']} is not the address of {machine}\n", "one machine does not take nodes in others' names"
    boot_network.on(boot_network.client, "ip", "link", "set", "boot0", "address", machine)
    boot_network.on(boot_network.client, "ping", "-c", "1", "10.77.0.1", check=False)
    assert "this machine is now node n2" in server.get("/discover/52-54-00-00-00-02")
    assert "52:54:00:00:00:02" in server.nodes_conf.read_text()
    kept = server.nodes_conf.stat()
    assert (kept.st_uid, kept.st_gid, kept.st_mode & 0o777) == (1000, 1001, 0o640)
    assert "there is no image 'none'" in server.get("/ipxe/52-54-00-00-00-02"), "it is that node from now on"


def test_a_subnet_on_another_interface_is_served_by_the_address_there(boot_network: BootNetwork, tmp_path: Path) -> None:
    subnet = "{network: 192.168.77.0/24, range start: 192.168.77.100, range end: 192.168.77.110}"
    server = Server(boot_network, tmp_path, settings=f"bootsvc: {{dhcp: {{subnets: [{subnet}]}}}}\n")
    server.wait_log("INFO ready")
    offered = boot_network.udhcpc("-V", "PXEClient:Arch:00000:UNDI:002001", device="other0")
    assert offered is not None
    assert (offered["siaddr"], offered["boot_file"]) == ("192.168.77.1", "undionly.kpxe")
    boot_network.on(boot_network.client, "ip", "address", "add", f"{offered['ip']}/24", "dev", "other0")
    loader = tmp_path / "loader"
    boot_network.on(boot_network.client, "curl", "-sSo", str(loader), f"tftp://{offered['siaddr']}/{offered['boot_file']}")
    assert loader.read_bytes() == Path("/usr/lib/ipxe/undionly.kpxe").read_bytes()
    offered = boot_network.udhcpc("-x", "0x4d:69505845", device="other0")
    assert offered is not None
    url = offered["boot_file"].partition("?")[0]
    assert url.startswith("http://192.168.77.1:9873/discover/")
    assert "http://192.168.77.1:9873/discover/" in boot_network.on(boot_network.client, "curl", "-sS", url)
    boot_network.on(boot_network.client, "ip", "address", "add", "10.77.0.11/24", "dev", "boot0")
    boot_network.on(boot_network.server, "ip", "link", "delete", "other0")
    server.wait_log("WARNING interface other0 is gone")
    assert server.counters()["tftp"]["subnets complete"] == 1


def test_tftp_answers_only_networks_that_boot_from_here(boot_network: BootNetwork, tmp_path: Path) -> None:
    strangers = {"10.99.0.5": "10.99.0.0/24", "10.98.0.5": "10.98.0.0/24", "10.97.0.5": "10.97.0.0/24"}
    for address, network in (*strangers.items(), ("10.77.0.11", None)):
        boot_network.on(
            boot_network.client, "ip", "address", "add", f"{address}/24" if network is None else address, "dev", "boot0"
        )
        if network is not None:
            boot_network.on(boot_network.server, "ip", "route", "add", network, "dev", "boot0")
    elsewhere = "  n9:\n    network devices: {default: {ipaddr: 10.98.0.77, netmask: 255.255.255.0}}\n"
    settings = "bootsvc: {tftp: {networks: [10.97.0.0/24]}}\n"
    server = Server(boot_network, tmp_path, settings=settings, nodes=NODES + elsewhere)
    server.wait_log("INFO ready")

    def gets(source: str) -> bool:
        got = tmp_path / "got"
        got.unlink(missing_ok=True)
        options = ("-sS", "--interface", source, "--max-time", "3", "-o", str(got), "tftp://10.77.0.1/undionly.kpxe")
        server.on_client("curl", *options, check=False)
        return got.exists() and got.read_bytes() == Path("/usr/lib/ipxe/undionly.kpxe").read_bytes()

    assert [source for source in ("10.77.0.11", *strangers) if gets(source)] == ["10.77.0.11", "10.98.0.5", "10.97.0.5"]
    server.wait_log("WARNING tftp: 10.99.0.5 is in no network that is served")
    assert server.counters()["tftp"]["elsewhere"] > 0
    server.nodes_conf.write_text(NODES + elsewhere.replace("10.98.0.77", "10.99.0.77"))
    server.wait_log("2 nodes loaded")
    assert [source for source in strangers if gets(source)] == ["10.99.0.5", "10.97.0.5"], "as nodes.conf is now"


def test_http_may_be_kept_to_the_networks_that_boot_from_here(boot_network: BootNetwork, tmp_path: Path) -> None:
    network = boot_network
    for device, address in (("boot0", "10.77.0.11/24"), ("other0", "192.168.77.2/24")):
        network.on(network.client, "ip", "address", "add", address, "dev", device)
    # Somebody else's server, on an address that is none of ours to serve.
    network.on(network.server, "ip", "address", "add", "10.99.0.1/24", "dev", "boot0")
    network.popen(network.server, "python3", "-m", "http.server", "--bind", "10.99.0.1", "9873")
    server = Server(network, tmp_path, settings="bootsvc: {http: {listen: networks}}\n")
    server.wait_log("INFO ready")

    def reaches(where: str, *options: str, on: str = network.client) -> bool:
        return "counters" in network.on(
            on, "curl", "-s", "--max-time", "2", *options, f"http://{where}:9873/status", check=False
        )

    assert reaches("10.77.0.1")
    assert [each for each in ("10.77.0.1", "127.0.0.1", "[::1]") if not reaches(each, on=network.server)] == []
    assert not reaches("192.168.77.1")
    # IPv6 addresses come later than the server, and are those of the same interfaces.
    for net, device in (("fd77", "boot0"), ("fd78", "other0")):
        for namespace, host in ((network.server, 1), (network.client, 2)):
            network.on(namespace, "ip", "address", "add", f"{net}::{host}/64", "dev", device, "nodad")
    assert reaches("[fd77::1]", "-g")
    assert reaches("[fd77::1]", "-g", on=network.server), "this machine itself, without the wire"
    assert not reaches("[fd78::1]", "-g")
    # Our address by way of another interface.
    network.on(network.client, "ip", "route", "add", "10.77.0.1/32", "dev", "other0")
    assert not reaches("10.77.0.1")
    network.on(network.client, "ip", "route", "delete", "10.77.0.1/32", "dev", "other0")
    server.warewulf_conf.write_text(
        server.warewulf_conf.read_text().replace(
            "listen: networks}", "listen: networks}, dhcp: {subnets: [{network: 192.168.77.0/24}]}"
        )
    )
    server.wait_log("http listening if=other0 address=192.168.77.1")
    assert reaches("192.168.77.1")
    assert reaches("[fd78::1]", "-g")
    # The boot interface is made anew, as a bridge is when the network is restarted.
    network.on(network.server, "ip", "link", "delete", "boot0")
    network.on(network.server, "ip", "link", "add", "boot0", "type", "veth", "peer", "name", "boot0", "netns", network.client)
    network.on(network.server, "ip", "address", "add", "10.77.0.1/24", "dev", "boot0")
    network.on(network.client, "ip", "address", "add", "10.77.0.11/24", "dev", "boot0")
    for namespace in (network.server, network.client):
        network.on(namespace, "ip", "link", "set", "boot0", "up")
    network.on(network.server, "ip", "address", "add", "fd77::1/64", "dev", "boot0", "nodad")
    network.on(network.client, "ip", "address", "add", "fd77::2/64", "dev", "boot0", "nodad")
    before = len(server.log)
    for service in ("http", "dhcp", "dns"):
        again = f"{service} listening if=boot0 address=10.77.0.1"
        if again not in server.log[before:]:
            server.wait_log(again)
    assert server.log.count("WARNING interface boot0 is gone\n") == 1, "though every service was on it"
    assert reaches("10.77.0.1")
    assert reaches("[fd77::1]", "-g")


def test_http_kept_to_its_networks_names_who_has_its_port(boot_network: BootNetwork, tmp_path: Path) -> None:
    holder = boot_network.popen(boot_network.server, "python3", "-m", "http.server", "--bind", "10.77.0.1", "9873")
    while ":9873 " not in boot_network.on(boot_network.server, "ss", "-Hltn"):
        pass
    server = Server(boot_network, tmp_path, settings="bootsvc: {http: {listen: networks}}\n")
    out, _ = server.process.communicate(timeout=20)
    assert server.process.returncode == 1
    assert f"wwctl: TCP port 9873 is taken by python3 (process {holder.pid})\n" in out


def test_a_read_only_file_system_is_called_that(boot_network: BootNetwork, tmp_path: Path) -> None:
    state = tmp_path / "lib"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "ro", "tmpfs", str(state)], check=True)
    try:
        server = Server(boot_network, tmp_path)
        out, _ = server.process.communicate(timeout=20)
        assert server.process.returncode == 1
        assert re.search(r"cannot use the state database \S+/state.db: Read-only file system\n", out), out
        checked = server.on_server(*server.wwctl, "server", "--check", check=False)
        assert f"{state} cannot be written: its file system is read-only" in checked
    finally:
        subprocess.run(["umount", str(state)], check=True)


def test_a_full_disk_keeps_no_node_from_its_address(boot_network: BootNetwork, tmp_path: Path) -> None:
    state = tmp_path / "lib"
    state.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", str(state)], check=True)
    try:
        (state / "warewulf/bootsvc").mkdir(parents=True)
        with (state / "fill").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass
        server = Server(boot_network, tmp_path)
        server.wait_log("ERROR cannot use the state database")
        assert "machines without a reservation get no address until it can be written again" in server.log
        server.wait_log("INFO ready")
        given = boot_network.udhcpc()
        assert given is not None
        assert given["ip"] == "10.77.0.11"
        stranger = boot_network.machine("52:54:00:00:00:77")
        assert boot_network.udhcpc(namespace=stranger, device="eth0") is None
        (state / "fill").unlink()
        while (given := boot_network.udhcpc(namespace=stranger, device="eth0")) is None:
            pass
        assert given["ip"].startswith("10.77.0.1")
        server.wait_log("the state database .* is written again")
        server.process.terminate()
        server.process.communicate(timeout=20)
    finally:
        subprocess.run(["umount", "--lazy", str(state)], check=True)


def test_a_port_that_is_taken_is_told_with_its_holder(boot_network: BootNetwork, tmp_path: Path) -> None:
    holder = boot_network.popen(boot_network.server, "busybox", "udhcpd", "-f", str(_udhcpd_conf(tmp_path)))
    _until_bound(boot_network, 67)
    server = Server(boot_network, tmp_path)
    out, _ = server.process.communicate(timeout=20)
    assert server.process.returncode == 1
    assert f"wwctl: UDP port 67 is taken by busybox (process {holder.pid})\n(stop that program;" in out


@pytest.mark.parametrize("address", ["0.0.0.0", "192.168.77.1"])
def test_the_holder_of_the_http_port_is_told(boot_network: BootNetwork, tmp_path: Path, address: str) -> None:
    holder = boot_network.popen(boot_network.server, "python3", "-m", "http.server", "--bind", address, "9873")
    while ":9873 " not in boot_network.on(boot_network.server, "ss", "-Hltn"):
        pass
    server = Server(boot_network, tmp_path)
    out, _ = server.process.communicate(timeout=20)
    assert server.process.returncode == 1
    assert f"wwctl: TCP port 9873 is taken by python3 (process {holder.pid})\n" in out


def _udhcpd_conf(folder: Path) -> Path:
    leases, conf = folder / "udhcpd.leases", folder / "udhcpd.conf"
    leases.touch()
    conf.write_text(f"interface boot0\nstart 10.77.0.200\nend 10.77.0.201\nlease_file {leases}\npidfile {folder}/udhcpd.pid\n")
    return conf


def _until_bound(network: BootNetwork, port: int) -> None:
    while f":{port} " not in network.on(network.server, "ss", "-Hlun"):
        pass


def test_names_are_not_served_where_another_program_does(boot_network: BootNetwork, tmp_path: Path) -> None:
    command = (
        "dnsmasq",
        "-k",
        "-C",
        "/dev/null",
        "--user=root",
        "--no-resolv",
        "--listen-address=10.77.0.1",
        "--bind-interfaces",
    )
    holder = boot_network.popen(boot_network.server, *command)
    _until_bound(boot_network, 53)
    server = Server(boot_network, tmp_path)
    server.wait_log(rf"dns is off: cannot listen on port 53 of 10.77.0.1, which dnsmasq \(process {holder.pid}\) holds")
    server.wait_log("INFO ready")
    assert "10.77.0.11" in (boot_network.udhcpc() or {})["ip"]
    assert "dns" not in (boot_network.udhcpc() or {}), "nodes are not sent to a name server of somebody else"


def test_nodes_stay_when_their_file_goes_or_is_no_file(server: Server) -> None:
    server.nodes_conf.unlink()
    server.wait_log("ERROR nodes.conf is gone, the nodes stay as they were")
    os.mkfifo(server.nodes_conf)
    server.wait_log("the nodes stay as they were: .* is no ordinary file")
    server.nodes_conf.unlink()
    server.nodes_conf.symlink_to("/dev/zero")
    server.wait_log("the nodes stay as they were: .* is larger than")
    assert "no image" in server.get("/ipxe/52-54-00-00-00-01")
    assert server.short("n1") == ["10.77.0.11"]
    server.process.send_signal(signal.SIGHUP)
    server.wait_log("warewulf.conf loaded")
    server.wait_log("is larger than")
    assert server.log.count("is gone") == 1, "said once"


def test_it_keeps_only_what_it_needs(server: Server) -> None:
    """In every thread: Linux keeps capabilities per thread."""
    kept = "0000000000002405"  # CHOWN, DAC_READ_SEARCH, NET_BIND_SERVICE, NET_RAW
    server.short("n1")
    tasks = list(Path(f"/proc/{server.process.pid}/task").iterdir())
    assert len(tasks) > 1
    for task in tasks:
        status = dict(line.split(":\t", 1) for line in (task / "status").read_text().splitlines() if ":\t" in line)
        assert [status[name] for name in ("CapPrm", "CapEff", "CapBnd")] == [kept] * 3
        assert [status[name] for name in ("CapInh", "CapAmb")] == ["0" * 16] * 2
        assert status["NoNewPrivs"] == "1"


def test_systemd_is_told_how_it_is(boot_network: BootNetwork, tmp_path: Path) -> None:
    told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    told.bind(str(tmp_path / "notify"))
    told.settimeout(20)

    def hear(word: str) -> str:
        while not (text := told.recv(4096).decode()).startswith(word):
            pass
        return text

    server = Server(boot_network, tmp_path, prefix=("env", f"NOTIFY_SOCKET={tmp_path}/notify", "WATCHDOG_USEC=600000"))
    assert hear("READY=1") == "READY=1\nSTATUS=1 nodes, on boot0 (10.77.0.1)"
    for _ in range(3):
        hear("WATCHDOG=1")
    server.process.send_signal(signal.SIGHUP)
    assert "MONOTONIC_USEC=" in hear("RELOADING=1")
    hear("READY=1")
    server.process.send_signal(signal.SIGTERM)
    assert "EXTEND_TIMEOUT_USEC=33000000" in hear("STOPPING=1"), "3 s for transfers, and 30"


def test_what_systemd_lets_it_have_is_enough(boot_network: BootNetwork, tmp_path: Path) -> None:
    """The unit's bounding set lacks CAP_SETPCAP, without which nothing can be dropped from a bounding set."""
    (line,) = [line for line in render(Config(), WWCTL).splitlines() if line.startswith("CapabilityBoundingSet=")]
    bounding = ",".join(f"+{name.removeprefix('CAP_').lower()}" for name in line.partition("=")[2].split())
    server = Server(boot_network, tmp_path, prefix=("setpriv", "--no-new-privs", f"--bounding-set=-all,{bounding}"))
    server.wait_log("INFO ready")
    status = Path(f"/proc/{server.process.pid}/status").read_text()
    assert re.search(r"CapPrm:\s0+2405\nCapEff:\s0+2405\nCapBnd:\s0+3405\n", status), status
    assert "no capability could be given up" not in server.log


def test_a_stranger_is_told_to_become_root(tmp_path: Path) -> None:
    folder = tmp_path / "theirs"
    folder.mkdir(mode=0o700)
    conf = tmp_path / "warewulf.conf"
    conf.write_text(f"ipaddr: 127.0.0.1\npaths: {{localstatedir: {folder}, sysconfdir: {tmp_path}}}\n")
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:3]:
        if str(parent) != "/":
            parent.chmod(parent.stat().st_mode | 0o055)
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", str(WWCTL), "--warewulfconf", str(conf), "server"]
    run = subprocess.run(command, capture_output=True, text=True, timeout=30)
    assert run.returncode == 1
    assert "cannot use the state database" in run.stderr
    assert "use sudo" in run.stderr
    assert "aside" not in run.stderr
