"""The DHCP servers that are measured, each in the same network namespace by turns, with the same range or reservations."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address
from pathlib import Path

from images.errors import Error

SERVER, CLIENT = "10.66.0.1", "10.66.0.2"
FIRST, LAST = IPv4Address("10.66.1.0"), IPv4Address("10.66.200.255")
RESERVED = IPv4Address("10.66.208.0")
BASE_MAC = 0x000C01000000
START_SECONDS = 60


def hwaddr(number: int) -> str:
    """The hardware address of perfdhcp's client of that number."""
    return (BASE_MAC + number).to_bytes(6, "big").hex(":")


class Network:
    """Two namespaces, joined by a wire."""

    def __init__(self) -> None:
        self.server, self.client = (f"bench-{os.getpid()}-{end}" for end in "sc")

    @contextmanager
    def up(self) -> Iterator["Network"]:
        try:
            for namespace in (self.server, self.client):
                _run("ip", "netns", "add", namespace)
            _run("ip", "-n", self.server, "link", "add", "srv0", "type", "veth", "peer", "name", "cli0", "netns", self.client)
            for namespace, device, address in ((self.server, "srv0", SERVER), (self.client, "cli0", CLIENT)):
                _run("ip", "-n", namespace, "address", "add", f"{address}/16", "dev", device)
                for name in ("lo", device):
                    _run("ip", "-n", namespace, "link", "set", name, "up")
            yield self
        finally:
            for namespace in (self.server, self.client):
                subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)

    def inside(self, namespace: str, *command: str) -> list[str]:
        return ["ip", "netns", "exec", namespace, *command]


class Server:
    """One server program; `nodes` machines have reservations, the others get an address of the range."""

    name = ""

    def __init__(self, network: Network, folder: Path, nodes: int) -> None:
        self.network, self.folder, self.nodes = network, folder, nodes

    def command(self) -> Sequence[str]:
        """Writes its configuration, and says how it is started in the foreground."""
        raise NotImplementedError

    @contextmanager
    def running(self) -> Iterator[int]:
        """The process id of the started server; its leases begin empty."""
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        command = self.network.inside(self.network.server, *self.command())
        with (self.folder / "log").open("wb") as log:
            # `ip netns exec` becomes the server itself.
            process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=self.environment())
        try:
            self._wait(process)
            yield process.pid
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def environment(self) -> dict[str, str]:
        return dict(os.environ)

    def _wait(self, process: "subprocess.Popen[bytes]") -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and process.poll() is None:
            found = _run(*self.network.inside(self.network.server, "ss", "-Huln", "sport = :67"))
            if found.strip() and self.is_ready():
                return
            time.sleep(0.1)
        raise Error(f"{self.name} did not start", hint=(self.folder / "log").read_text(errors="replace")[-2000:])

    def is_ready(self) -> bool:
        return True


class Ours(Server):
    name = "bootsvc"

    def command(self) -> Sequence[str]:
        etc = self.folder / "etc" / "warewulf"
        etc.mkdir(parents=True)
        (etc / "nodes.conf").write_text("nodes:\n" + "".join(self._node(number) for number in range(self.nodes)))
        conf = self.folder / "warewulf.conf"
        conf.write_text(
            f"ipaddr: {SERVER}/16\ndhcp:\n  range start: {FIRST}\n  range end: {LAST}\ntftp:\n  enabled: false\npaths:\n"
            f"  sysconfdir: {self.folder}/etc\n  localstatedir: {self.folder}/lib\n  cachedir: {self.folder}/cache\n"
        )
        return [str(Path(sys.executable).with_name("wwctl")), "--warewulfconf", str(conf), "server"]

    def _node(self, number: int) -> str:
        device = f"hwaddr: '{hwaddr(number)}', ipaddr: {RESERVED + number}"
        return f"  n{number}:\n    network devices:\n      default: {{{device}}}\n"

    def is_ready(self) -> bool:
        return "ready" in (self.folder / "log").read_text(errors="replace")


class Kea(Server):
    name = "Kea memfile, 2 threads"

    def command(self) -> Sequence[str]:
        subnet = {
            "subnet": "10.66.0.0/16",
            "pools": [{"pool": f"{FIRST} - {LAST}"}],
            "reservations": [
                {"hw-address": hwaddr(number), "ip-address": str(RESERVED + number), "hostname": f"n{number}"}
                for number in range(self.nodes)
            ],
        }
        settings = {
            "interfaces-config": {"interfaces": ["srv0"], "dhcp-socket-type": "udp"},
            "lease-database": {
                "type": "memfile",
                "persist": True,
                "name": str(self.folder / "leases.csv"),
                "lfc-interval": 0,
            },
            "multi-threading": {"enable-multi-threading": True, "thread-pool-size": 2, "packet-queue-size": 64},
            "valid-lifetime": 3600,
            "reservations-global": False,
            "reservations-in-subnet": True,
            "reservations-out-of-pool": True,
            "subnet4": [subnet],
            "loggers": [{"name": "kea-dhcp4", "severity": "WARN", "output_options": [{"output": "stdout"}]}],
        }
        path = self.folder / "kea.json"
        path.write_text(json.dumps({"Dhcp4": settings}))
        return ["kea-dhcp4", "-c", str(path)]

    def environment(self) -> dict[str, str]:
        places = ("KEA_PIDFILE_DIR", "KEA_LOCKFILE_DIR", "KEA_DHCP_DATA_DIR")
        return {**os.environ, **dict.fromkeys(places, str(self.folder))}


class Dnsmasq(Server):
    name = "dnsmasq"

    def command(self) -> Sequence[str]:
        hosts = self.folder / "hosts"
        hosts.write_text("".join(f"{hwaddr(number)},{RESERVED + number},n{number}\n" for number in range(self.nodes)))
        return [
            "dnsmasq",
            *("--keep-in-foreground", "--conf-file=/dev/null", "--port=0", "--interface=srv0", "--bind-interfaces"),
            *("--no-ping", "--dhcp-authoritative", "--dhcp-lease-max=60000", "--quiet-dhcp", "--user=root"),
            *(f"--dhcp-range={FIRST},{LAST},255.255.0.0,1h", f"--dhcp-hostsfile={hosts}"),
            *(f"--dhcp-leasefile={self.folder}/leases", f"--pid-file={self.folder}/pid"),
        ]


def _run(*command: str) -> str:
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    if run.returncode != 0:
        raise Error(f"{' '.join(command)} failed", hint=run.stderr.strip())
    return run.stdout
