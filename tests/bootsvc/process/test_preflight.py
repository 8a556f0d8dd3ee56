"""`wwctl server --check`: each thing that can be in the way, named; and nothing is changed."""

import json
import subprocess
from pathlib import Path

import pytest
from appliance import CONF, NODES, WWCTL
from boot_network import BootNetwork, output_of

from netboot.firmware import FIRMWARES

pytestmark = pytest.mark.root


class Site:
    def __init__(self, network: BootNetwork, root: Path) -> None:
        self.network = network
        self.root = root
        self.conf = root / "warewulf.conf"
        self.conf.write_text(CONF.format(root=root))
        self.nodes_conf = root / "etc/warewulf/nodes.conf"
        self.nodes_conf.parent.mkdir(parents=True)
        self.nodes_conf.write_text("nodes: {}\n")
        loaders = root / "loaders"
        loaders.mkdir()
        for firmware in FIRMWARES.values():
            (loaders / firmware.loader).touch()
        self.conf.write_text(self.conf.read_text() + f"  ipxesource: {loaders}\n")

    def check(self, *flags: str) -> "subprocess.CompletedProcess[str]":
        command = [
            "ip",
            "netns",
            "exec",
            self.network.server,
            str(WWCTL),
            "--warewulfconf",
            str(self.conf),
            "server",
            "--check",
        ]
        return subprocess.run([*command, *flags], capture_output=True, text=True, timeout=60)

    def findings(self, *, fails: bool = True) -> dict[str, str]:
        """What is not ok, by what it is about; a later one is appended."""
        run = self.check("--json")
        assert run.returncode == (1 if fails else 0), run.stdout + run.stderr
        found: dict[str, str] = {}
        for each in json.loads(run.stdout):
            if each["state"] != "ok":
                found[each["what"]] = found.get(each["what"], "") + f"{each['state']}: {each['finding']} ({each['hint']})\n"
        return found

    def start(self, *command: str, port: int) -> "subprocess.Popen[str]":
        process = self.network.popen(self.network.server, *command)
        while f":{port} " not in self.network.on(self.network.server, "ss", "-Hluntp"):
            pass
        return process


@pytest.fixture
def site(boot_network: BootNetwork, tmp_path: Path) -> Site:
    return Site(boot_network, tmp_path)


def test_all_is_well(site: Site) -> None:
    before = sorted(site.root.rglob("*"))
    run = site.check()
    assert run.returncode == 0, run.stdout + run.stderr
    assert run.stdout.startswith("WHAT       STATE  FINDING\n")
    assert "TCP port 9873 on all interfaces" in run.stdout
    for text in ("boot0 with 10.77.0.1, network 10.77.0.0/24", "machines that are no node get 10.77.0.100 to 10.77.0.110"):
        assert text in run.stdout
    assert site.findings(fails=False) == {}
    assert sorted(site.root.rglob("*")) == before


def test_ports_that_others_have(site: Site) -> None:
    dns = site.start(
        *("dnsmasq", "-k", "-C", "/dev/null", "--user=root", "--no-resolv", "--listen-address=10.77.0.1", "--bind-interfaces"),
        port=53,
    )
    http = site.start("python3", "-m", "http.server", "9873", port=9873)
    found = site.findings()
    assert f"warning: UDP port 53 is taken by dnsmasq (process {dns.pid}), so names are not served" in found["dns"]
    assert f"error: TCP port 9873 is taken by python3 (process {http.pid})" in found["http"]
    assert set(found) == {"dns", "http"}


def test_a_server_on_another_address_is_not_in_the_way(site: Site) -> None:
    site.start(
        *(
            "dnsmasq",
            "-k",
            "-C",
            "/dev/null",
            "--user=root",
            "--no-resolv",
            "--listen-address=192.168.77.1",
            "--bind-interfaces",
        ),
        port=53,
    )
    assert site.findings(fails=False) == {}


def test_a_dhcp_server_on_another_interface_is_not_in_the_way(site: Site) -> None:
    leases = site.root / "leases"
    leases.touch()
    site.start(
        *("dnsmasq", "-k", "-C", "/dev/null", "--user=root", "--port=0", "--interface=other0", "--bind-interfaces"),
        *("--dhcp-range=192.168.77.200,192.168.77.210", f"--dhcp-leasefile={leases}"),
        port=67,
    )
    assert site.findings(fails=False) == {}


def test_http_needs_its_port_on_all_addresses(site: Site) -> None:
    holder = site.start("python3", "-m", "http.server", "--bind", "192.168.77.1", "9873", port=9873)
    assert f"error: TCP port 9873 is taken by python3 (process {holder.pid})" in site.findings()["http"]


def test_http_on_the_networks_only_leaves_other_addresses_to_others(site: Site) -> None:
    site.conf.write_text(site.conf.read_text() + "bootsvc: {http: {listen: networks}}\n")
    other = site.start("python3", "-m", "http.server", "--bind", "192.168.77.1", "9873", port=9873)
    run = site.check()
    assert run.returncode == 0, run.stdout
    assert "TCP port 9873 on boot0, the subnets and loopback only" in run.stdout
    other.kill()
    other.communicate()
    holder = site.start("python3", "-m", "http.server", "--bind", "10.77.0.1", "9873", port=9873)
    assert f"error: TCP port 9873 is taken by python3 (process {holder.pid})" in site.findings()["http"]


def test_tls_needs_its_certificate_and_its_port(site: Site) -> None:
    site.conf.write_text(site.conf.read_text() + "warewulf: {tls: true}\n")
    holder = site.start("python3", "-m", "http.server", "9874", port=9874)
    found = site.findings()["http"]
    assert f"error: TCP port 9874 is taken by python3 (process {holder.pid})" in found
    assert f"there is no {site.root}/etc/warewulf/tls/warewulf.crt" in found


def test_two_services_of_ours_on_one_port(site: Site) -> None:
    """Nothing is served, rather than half of it."""
    site.conf.write_text(site.conf.read_text() + "warewulf:\n  port: 53\n")
    line = len(site.conf.read_text().splitlines())
    said = (
        f"TCP port 53 is wanted by dns (`bootsvc: dns: enabled`, by default) and by http (`warewulf: port`, {site.conf}:{line})"
    )
    assert site.findings() == {"settings": f"error: {said} (set `bootsvc: dns: enabled: false`, or change `warewulf: port`)\n"}
    server = site.network.popen(site.network.server, str(WWCTL), "--warewulfconf", str(site.conf), "server")
    out, _ = server.communicate(timeout=20)
    assert (server.returncode, said in out) == (1, True), out


def test_the_state_while_a_server_runs_and_when_it_is_damaged(site: Site) -> None:
    server = site.network.popen(site.network.server, str(WWCTL), "--warewulfconf", str(site.conf), "server")
    while "INFO ready" not in output_of(server).readline():
        pass
    assert site.findings(fails=False) == {}, "while it runs"
    server.terminate()
    server.communicate(timeout=20)
    before = sorted(site.root.rglob("*"))
    (site.root / "lib/warewulf/bootsvc/state.db").write_bytes(b"no database " * 100)
    assert "state.db: file is not a database" in site.findings()["state"]
    assert sorted(site.root.rglob("*")) == before


def test_no_interface(site: Site) -> None:
    site.conf.write_text(site.conf.read_text().replace("10.77.0.1", "10.66.0.1"))
    found = site.findings()
    assert "error: no network interface carries 10.66.0.1" in found["interface"]
    assert "this machine has 10.77.0.1 on boot0, 192.168.77.1 on other0" in found["interface"]


def test_a_netmask_that_is_not_the_interfaces(site: Site) -> None:
    site.conf.write_text(site.conf.read_text().replace("10.77.0.1/24", "10.77.0.1/16"))
    assert "boot0 has 10.77.0.0/24, but the settings say 10.77.0.0/16" in site.findings(fails=False)["interface"]


def test_each_subnet_is_looked_at(site: Site) -> None:
    subnets = "bootsvc: {dhcp: {subnets: [{network: 192.168.77.0/24}, {network: 10.79.0.0/24}]}}"
    site.conf.write_text(f"{site.conf.read_text()}{subnets}\n")
    (found,) = site.findings(fails=False).values()
    assert found == (
        "warning: no address of this machine is in 10.79.0.0/24, and there is no route to it: "
        "no relay there can be answered (add a route, or give an interface an address there)\n"
    )
    site.network.on(site.network.server, "ip", "route", "add", "10.79.0.0/24", "via", "10.77.0.99")
    rules = (
        "add table inet f; add chain inet f in { type filter hook input priority 0; }; add rule inet f in iifname other0 drop"
    )
    site.network.on(site.network.server, "nft", rules)
    run = site.check()
    assert "other0 with 192.168.77.1, network 192.168.77.0/24" in run.stdout
    assert "10.79.0.0/24 behind a relay: no address of this machine is in it" in run.stdout
    assert "no other server answers on other0" in run.stdout
    assert "what comes to UDP port 67 on other0 is dropped by chain inet f in" in run.stdout


def test_who_is_in_the_way_on_a_subnet_is_named(site: Site) -> None:
    """As the name server of a bridge for virtual machines."""
    subnets = "bootsvc: {dhcp: {subnets: [{network: 192.168.77.0/24}]}}"
    site.conf.write_text(f"{site.conf.read_text()}{subnets}\n")
    leases = site.root / "leases"
    leases.touch()
    other = site.start(
        *("dnsmasq", "-k", "-C", "/dev/null", "--user=root", "--interface=other0", "--bind-interfaces", "--no-resolv"),
        *("--dhcp-range=192.168.77.200,192.168.77.210", f"--dhcp-leasefile={leases}", "--except-interface=lo"),
        port=67,
    )
    found = site.findings(fails=False)
    for service, ports in (("dhcp", ["UDP port 67"]), ("dns", ["UDP port 53", "TCP port 53"])):
        for port in ports:
            taken = f"warning: {port} on other0 is taken by dnsmasq (process {other.pid})"
            assert f"{taken}, so {service} does not serve 192.168.77.0/24" in found[service]
    assert set(found) == {"dhcp", "dns"}


def test_another_dhcp_server_is_found(site: Site) -> None:
    leases = site.root / "leases"
    leases.touch()
    site.network.on(site.network.client, "ip", "address", "add", "10.77.0.66/24", "dev", "boot0")
    site.network.popen(
        *(site.network.client, "dnsmasq", "-k", "-C", "/dev/null", "--user=root", "--port=0", "--interface=boot0"),
        *("--dhcp-range=10.77.0.200,10.77.0.210", f"--dhcp-leasefile={leases}", "--no-ping"),
    )
    while ":67 " not in site.network.on(site.network.client, "ss", "-Hlun"):
        pass
    assert "error: another DHCP server answers on boot0: 10.77.0.66" in site.findings()["dhcp"]


def test_a_firewall_that_drops(site: Site) -> None:
    base = "{ type filter hook input priority 0; policy drop; }"
    rules = f"add table inet f; add chain inet f in {base}; add rule inet f in tcp dport 9873 accept"
    site.network.on(site.network.server, "nft", rules)
    found = site.findings()["firewall"]
    assert found.count("error: ") == 4
    assert "what comes to UDP port 67 on boot0 is dropped by chain inet f in (let dhcp in from boot0)" in found


def test_images_loaders_and_nodes(site: Site) -> None:
    site.nodes_conf.write_text(NODES + "  n2: {}\n  n3: {colour: red}\n")
    site.conf.write_text(site.conf.read_text().replace("/loaders", "/none"))
    found = site.findings()
    assert "error: there is no image none, which node n1 would boot" in found["images"]
    assert "warning: 2 nodes (n2, n3) without an image" in found["images"]
    assert "unknown key 'colour'" in found["nodes"]
    assert f"{site.root}/none/undionly.kpxe is missing: BIOS machines cannot boot" in found["loaders"]
    site.nodes_conf.write_text(NODES.replace("10.77.0.11", "10.77.0.1"))
    assert "warning: node n1 gets no address: its 10.77.0.1 is this server's own" in site.findings()["nodes"]
    site.nodes_conf.write_text("nodes: [broken\n")
    assert "nodes.conf" in site.findings()["nodes"]


def test_an_image_that_is_not_built(site: Site) -> None:
    rootfs = site.root / "lib/warewulf/chroots/none/rootfs/etc"
    rootfs.mkdir(parents=True)
    site.nodes_conf.write_text(NODES)
    assert "error: image none is not built, which node n1 would boot (`wwctl image build none`)" in site.findings()["images"]
