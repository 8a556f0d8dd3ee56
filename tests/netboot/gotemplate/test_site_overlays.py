"""Overlays as Warewulf's documentation teaches to write them: what each makes for three nodes, in golden files."""

from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from netboot.engine import RenderContext, Server
from netboot.head_conf import head_conf
from netboot.node import Node, to_node
from netboot.overlay import Item, load
from netboot.overlay_render import render_items
from netboot.urls import Urls

SITE = Path(__file__).parents[2] / "golden" / "site_overlays"
ADDRESS = IPv4Address("10.0.0.100")
NOW = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
CONF = {
    "ipaddr6": "fd00::100/64",
    "warewulf": {"port": "9874", "secure": "false", "grubboot": "yes"},
    "dhcp": {"range start": "10.0.0.200", "range end": "10.0.0.250"},
    "nfs": {"export paths": [{"path": "/home", "export options": "rw,sync"}, {"path": "/opt"}]},
}


def entry(number: int, **more: object) -> Mapping[str, object]:
    device = {
        "device": "eth0",
        "hwaddr": f"52:54:00:00:00:0{number}",
        "ipaddr": f"10.0.0.{number}",
        "netmask": "255.255.255.0",
    }
    return {"image name": "rocky", "network devices": {"default": device}, **more}


NODES = {
    "n1": to_node("n1", entry(1, **{"cluster name": "alpha", "tags": {"slurm": "batch", "ntp_server": "10.0.0.100"}})),
    "n2": to_node(
        "n2",
        {
            "cluster name": "alpha",
            "image name": "rocky",
            "comment": "the fat one",
            "ipxe template": "default",
            "init": "/sbin/init",
            "root": "tmpfs",
            "asset key": "secret",
            "profiles": ["default", "fat"],
            "runtime overlay": ["hosts"],
            "system overlay": ["wwinit", "ifcfg"],
            "primary network": "default",
            "kernel": {"version": "6.1.0", "args": ["quiet", "net.ifnames=1"]},
            "ipmi": {
                "username": "admin",
                "ipaddr": "10.1.0.2",
                "netmask": "255.255.0.0",
                "write": "true",
                "tags": {"vlan": "7"},
            },
            "network devices": {
                "default": {
                    "device": "eno1",
                    "hwaddr": "52:54:00:00:00:02",
                    "ipaddr": "10.0.0.2",
                    "netmask": "255.255.255.0",
                    "gateway": "10.0.0.254",
                    "ipaddr6": "fd00::2",
                    "prefixlen6": "64",
                    "gateway6": "fd00::1",
                    "mtu": "9000",
                    "tags": {"DNS1": "10.0.0.53", "DNS2": "10.0.0.54", "DNSSEARCH": "cluster,example.org"},
                },
                "ib": {
                    "device": "ib0",
                    "type": "InfiniBand",
                    "onboot": "false",
                    "ipaddr": "10.2.0.2",
                    "netmask": "255.255.0.0",
                },
            },
            "tags": {
                "slurm": "batch,fat",
                "cpus": "64",
                "ntp_servers": "10.0.0.100, 10.0.0.101",
                "localtime": "UTC",
                "rack": "r7",
            },
            "disks": {
                "/dev/vda": {
                    "wipe_table": True,
                    "partitions": {
                        "scratch": {"number": "2", "should_exist": True},
                        "swap": {"number": "1", "size_mib": "1024", "should_exist": True},
                    },
                }
            },
            "filesystems": {
                "/dev/disk/by-partlabel/scratch": {
                    "format": "xfs",
                    "path": "/scratch/my-data",
                    "mount_options": ["noatime", "nodev"],
                },
                "/dev/disk/by-partlabel/swap": {"format": "swap", "path": "swap"},
            },
            "resources": {
                "fstab": [
                    {"spec": "warewulf:/home", "file": "/home", "vfstype": "nfs"},
                    {"spec": "tmpfs", "file": "/tmp", "vfstype": "tmpfs", "mntops": "size=1g", "passno": 2},
                ]
            },
        },
    ),
    "bare": to_node("bare", {"network devices": {"default": {"device": "eno1"}}}),
}


@pytest.fixture
def server(tmp_path: Path) -> Server:
    """A head node with a few files to include, and the image rocky."""
    files = {
        "etc/hosts": "127.0.0.1 localhost\n# Do not edit after this line\n10.9.9.9 old\n",
        "etc/passwd": "root:x:0:0:head:/root:/bin/bash\nalice:x:1000:1000::/home/alice:/bin/bash\n",
        "etc/warewulf/authorized_keys": "ssh-ed25519 AAAA root@head\n",
        "etc/warewulf/keys/n1.pub": "ssh-ed25519 BBBB root@n1\n\n",
        "chroots/rocky/rootfs/usr/etc/passwd": "root:x:0:0:image:/root:/bin/sh\nbin:x:1:1::/bin:/sbin/nologin\n",
    }
    for name, content in files.items():
        place = tmp_path / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)
    (tmp_path / "chroots/rocky/rootfs/etc").symlink_to("/usr/etc")
    (tmp_path / "etc/localtime").symlink_to("../nowhere/zoneinfo/Europe/Berlin")
    return Server(
        name="head",
        address=ADDRESS,
        network=IPv4Network("10.0.0.0/24"),
        domain="cluster",
        urls=Urls(address=ADDRESS, port=9873),
        sysconfdir=tmp_path / "etc",
        chroots=tmp_path / "chroots",
        conf=head_conf(CONF, {"sysconfdir": str(tmp_path / "etc")}),
    )


def rendered(name: str, node: Node, server: Server) -> Mapping[bytes, Item]:
    context = RenderContext(node=node, nodes=list(NODES.values()), server=server, kernel_version="5.14.0", now=NOW)
    return render_items([load(name, [SITE])], context).items


def told(items: Mapping[bytes, Item], folder: Path) -> str:
    """Files and links as one text, the same wherever the test's files are."""
    text = ""
    for path, item in sorted(items.items()):
        if item.mode & 0o170000 == 0o120000:
            text += f"==> {path.decode()} -> {item.content.decode()}\n"
        elif item.mode & 0o170000 == 0o100000:
            text += f"==> {path.decode()}\n{item.content.decode()}\n"
    return text.replace(str(folder), "TMP")


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("name", sorted(path.name for path in SITE.iterdir()))
def test_golden(name: str, node: str, server: Server, tmp_path: Path, golden: Callable[[Path, str], None]) -> None:
    golden(SITE / name / f"{node}.txt", told(rendered(name, NODES[node], server), tmp_path))
