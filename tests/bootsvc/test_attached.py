"""What runs on this machine's addresses in the subnets, and what nodes are told of them."""

import gzip
from pathlib import Path

import pytest
from appliance import Server
from boot_network import BootNetwork

from images import cpio
from images.catalog import Catalog
from images.rebuild import BuildContext, rebuild
from netboot.init_files import own_files

SUBNET = "{network: 192.168.77.0/24, range start: 192.168.77.100, range end: 192.168.77.110}"
NODES = """\
nodeprofiles:
  default:
    image name: img
    system overlay: [hosts, resolv, wwclient]
nodes:
"""
NODE = """\
  n{number}:
    profiles: [default]
    network devices: {{default: {{hwaddr: "52:54:00:00:00:0{number}", ipaddr: {address}, netmask: 255.255.255.0}}}}
"""
ADDRESSES = {1: "10.77.0.11", 2: "192.168.77.12"}


@pytest.mark.root
def test_a_nodes_overlays_name_the_address_on_its_own_network(boot_network: BootNetwork, tmp_path: Path) -> None:
    state = tmp_path / "lib/warewulf"
    kernel = state / "chroots/img/rootfs/boot/vmlinuz-6.1.0-1-amd64"
    kernel.parent.mkdir(parents=True)
    kernel.write_bytes(b"a kernel")
    catalog = Catalog(chroots=state / "chroots", provision=state / "provision")
    rebuild(catalog, "img", BuildContext(own=own_files(), built_by="test", now=0.0))
    nodes = NODES + "".join(NODE.format(number=number, address=address) for number, address in ADDRESSES.items())
    server = Server(boot_network, tmp_path, settings=f"bootsvc: {{dhcp: {{subnets: [{SUBNET}]}}}}\n", nodes=nodes)
    server.wait_log("INFO ready")
    for device, address in (("boot0", "10.77.0.11/24"), ("other0", "192.168.77.12/24")):
        boot_network.on(boot_network.client, "ip", "address", "add", address, "dev", device)

    def told(number: int, asked: str) -> tuple[bool, bool, bool]:
        """Whether hosts, resolv.conf and wwclient name the address that was asked, and no other of ours."""
        got, url = tmp_path / "got", f"http://{asked}:9873/system/52-54-00-00-00-0{number}?compress=gz"
        server.on_client("curl", "-sSf", "-o", str(got), url)
        files = {entry.path.decode(): bytes(text).decode() for entry, text in cpio.parse(gzip.decompress(got.read_bytes()))}
        (client,) = [text for path, text in files.items() if path.endswith("warewulf/wwclient")]
        server_line = next(line for line in files["etc/hosts"].splitlines() if line.endswith(" warewulf"))
        return (
            server_line.startswith(f"{asked} "),
            f"nameserver {asked}\n" in files["etc/resolv.conf"] and files["etc/resolv.conf"].count("nameserver") == 1,
            f"server=${{WW_IPADDR:-{asked}}}" in client,
        )

    assert told(1, "10.77.0.1") == (True, True, True)
    assert told(2, "192.168.77.1") == (True, True, True)
    built = server.on_server(*server.wwctl, "overlay", "build")
    # The runtime overlays were not asked for.
    assert "2 overlay image(s) built, 2 current" in built, "a command sees the head node as the server does"
