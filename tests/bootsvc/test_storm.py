"""A cluster that is switched on at once: every machine boots, also when the server is killed meanwhile.

`BOOTSVC_PROOF=full` takes 1 000 machines and an image of 20 MB; `BOOTSVC_SEED=N` repeats a run's choices.
"""

import hashlib
import json
import os
import random
import re
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest
from appliance import WIDE, LogReader, Server, widen
from boot_network import BootNetwork

from bootsvc.registry import Registry
from bootsvc.store import Store
from images.catalog import Catalog
from images.generation import Generation
from images.rebuild import BuildContext, rebuild
from netboot.init_files import own_files

pytestmark = pytest.mark.root

TROUBLE = r"Traceback|^\S+ \S+ (ERROR|CRITICAL) "
FULL = os.environ.get("BOOTSVC_PROOF") == "full"
SEED = int(os.environ.get("BOOTSVC_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
MACHINES, IMAGE_BYTES, SECONDS = (1000, 20_000_000, 600) if FULL else (60, 2_000_000, 100)
# As firmware waits (PXE 2.1 §2.2.1 for DHCP), and the same in fewer seconds.
DHCP_WAITS, TFTP_WAITS = ((4.0, 8.0, 16.0, 32.0), (1.0, 2.0, 4.0, 8.0)) if FULL else ((1.0, 2.0, 2.0), (0.5, 1.0, 1.0))
SERVER, LOADERS = "10.77.0.1", Path("/usr/lib/ipxe")
RANGE = ("10.77.100.0", "10.77.107.255")
STORM = Path(__file__).parent.parent / "netns" / "storm.py"
FILTER = """\
add table netdev storm
add chain netdev storm ingress { type filter hook ingress device boot0 priority 0; }
add rule netdev storm ingress meta pkttype set host
add table ip storm
add chain ip storm input { type filter hook input priority 0; }
add rule ip storm input udp dport 68 drop
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """One of the machines; without an address it has none of the nodes, and becomes a discoverable one."""

    hwaddr: str
    address: str | None
    node: str | None


def machines() -> list[Plan]:
    """Half of them are nodes with an address, the others are unknown."""
    found = []
    for number in range(MACHINES):
        hwaddr = f"52:54:00:5a:{number >> 8:02x}:{number & 255:02x}"
        known = number % 2 == 0
        address = str(IPv4Address("10.77.10.0") + number) if known else None
        found.append(Plan(hwaddr=hwaddr, address=address, node=f"n{number:04}" if known else None))
    return found


def nodes_conf(plans: list[Plan]) -> str:
    lines = ["nodes:"]
    for number, plan in enumerate(plans):
        lines += [f"  n{number:04}:", "    image name: img", "    system overlay: [hostname]"]
        if plan.address is None:
            lines += ["    discoverable: true"]
        else:
            device = f"{{hwaddr: {plan.hwaddr!r}, ipaddr: {plan.address}, netmask: 255.255.0.0}}"
            lines += ["    network devices:", f"      default: {device}"]
    return "\n".join([*lines, ""])


class Site:
    """A head node in a namespace, with an image; its log is read all the time, so that it never waits for us."""

    def __init__(self, network: BootNetwork, root: Path) -> None:
        self._network, self._root = network, root
        widen(network)
        self._let_machines_speak()
        self.generation = self._build()
        self.server = Server(network, root, conf=WIDE, nodes=nodes_conf(machines()))
        self.logs = [LogReader(self.server.process)]

    @property
    def log(self) -> list[str]:
        return [line for log in self.logs for line in log.lines]

    def _let_machines_speak(self) -> None:
        """The client's kernel takes frames to any hardware address, and leaves ARP to the machines themselves."""
        client, on = self._network.client, self._network.on
        links = json.loads(on(self._network.server, "ip", "-json", "link", "show", "dev", "boot0"))
        on(client, "ip", "route", "add", "10.77.0.0/16", "dev", "boot0")
        on(client, "ip", "neighbour", "add", SERVER, "lladdr", links[0]["address"], "dev", "boot0", "nud", "permanent")
        on(client, "sysctl", "-q", "net.ipv4.conf.boot0.arp_ignore=8")
        on(client, "nft", FILTER)

    def _build(self) -> Generation:
        catalog = Catalog(chroots=self._root / "lib/warewulf/chroots", provision=self._root / "lib/warewulf/provision")
        rootfs = catalog.chroots / "img/rootfs"
        rng = random.Random(SEED)
        for folder in ("boot", "etc", "usr/lib"):
            (rootfs / folder).mkdir(parents=True)
        (rootfs / "boot/vmlinuz-6.1.0-1-amd64").write_bytes(rng.randbytes(IMAGE_BYTES // 10))
        for number in range(10):
            (rootfs / f"usr/lib/{number}").write_bytes(rng.randbytes(IMAGE_BYTES // 10))
        return rebuild(catalog, "img", BuildContext(own=own_files(), built_by="test", now=0.0)).generation

    def digests(self) -> dict[str, str]:
        """What kernel and image must hash to."""
        image = b"".join(path.read_bytes() for path, _ in self.generation.image_files())
        (kernel,) = self.generation.manifest.kernels
        return {
            "image": hashlib.sha256(image + bytes(-len(image) % 4)).hexdigest(),
            "kernel": kernel.digest.removeprefix("sha256:"),
        }

    def crash(self) -> None:
        """Nothing is flushed; then it is started again."""
        self.server.process.kill()
        self.server.process.wait(10)
        self.server.process = self.server.start()
        self.logs.append(LogReader(self.server.process))

    def leases(self) -> list[tuple[str, str]]:
        with sqlite3.connect(self._root / "lib/warewulf/bootsvc/state.db") as state:
            return state.execute("SELECT address, hwaddr FROM leases WHERE state = 'bound'").fetchall()

    def storm(self, folder: Path, tell: dict[str, int]) -> "subprocess.Popen[str]":
        settings = {
            "seed": SEED,
            "seconds": SECONDS,
            "interface": "boot0",
            "server": SERVER,
            "range": RANGE,
            "dhcp_waits": DHCP_WAITS,
            "tftp_waits": TFTP_WAITS,
            "loaders": str(LOADERS),
            "digests": self.digests(),
            "machines": [{"hwaddr": plan.hwaddr, "address": plan.address, "node": plan.node} for plan in machines()],
            "tell": tell,
        }
        path = folder / "storm.json"
        path.write_text(json.dumps(settings))
        process: subprocess.Popen[str] = self._network.popen(self._network.client, sys.executable, str(STORM), str(path))
        return process


@pytest.fixture
def site(boot_network: BootNetwork, tmp_path: Path, require_tool: Callable[..., Path]) -> Site:
    require_tool("nft", package="nftables")
    made = Site(boot_network, tmp_path)
    assert made.logs[0].ready.wait(60), made.log
    return made


# In the middle of DHCP, of the loaders and of the images.
CRASHES = {"leased": MACHINES // 2, "loaded": MACHINES // 2, "bytes": MACHINES * IMAGE_BYTES // 2}
RUNS = {"never killed": {}, "killed three times": CRASHES} if FULL else {"killed twice": {**CRASHES, "loaded": 0}}


@pytest.mark.parametrize("tell", RUNS.values(), ids=RUNS.keys())
def test_every_machine_boots(site: Site, tmp_path: Path, tell: dict[str, int]) -> None:
    process = site.storm(tmp_path, tell)
    assert process.stdout is not None
    lines, crashes = [], 0
    for line in process.stdout:
        if line.startswith("reached "):
            site.crash()
            crashes += 1
        else:
            lines.append(line)
    assert process.wait(10) == 0, "".join(lines)[-3000:]
    report = json.loads(lines[-1])
    told = {key: value for key, value in report.items() if key not in ("addresses", "nodes")}
    print(f"\nBOOTSVC_SEED={SEED} {json.dumps(told)}")
    assert crashes == len([count for count in tell.values() if count])
    assert report["faults"] == []
    assert report["unfinished"] == [], told
    assert report["finished"] == MACHINES
    assert sorted(len(owners) for owners in report["addresses"].values()) == [1] * MACHINES
    check_records(site, report)
    assert not [line for line in site.log if re.search(TROUBLE, line)]


def check_records(site: Site, report: dict[str, Any]) -> None:
    """What the server keeps says the same as the machines do."""
    for address, hwaddr in site.leases():
        assert report["addresses"][address] == [hwaddr]
    registry = Registry.build(Store(site.server.nodes_conf).load())
    assert sorted(report["nodes"].values()) == [f"n{number:04}" for number in range(MACHINES)]
    for hwaddr, name in report["nodes"].items():
        node = registry.by_hwaddr(hwaddr)
        assert node is not None
        assert node.id == name
