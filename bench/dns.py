"""DNS answers for node names: ours and dnsmasq's for the same names, asked by dnsperf across a veth; 10 nodes and 10 000."""

import contextlib
import re
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

from context import Context
from figures import Comparison, Kind, Sample, Subject, Target
from places import WWCTL

from images.errors import Error

FEW, MANY = 10, 10_000
QUERIES, QUICK_QUERIES = 200_000, 40_000
OUTSTANDING, CLIENTS = 200, 8
MAX_LOST = 0.01
"""Of the queries; dnsperf waits five seconds for each lost one, which would be taken for slowness of the server."""
SERVERS: Mapping[int, IPv4Address] = {FEW: IPv4Address("10.77.0.1"), MANY: IPv4Address("10.77.0.2")}
PEERS: Mapping[int, IPv4Address] = {FEW: IPv4Address("10.77.0.3"), MANY: IPv4Address("10.77.0.4")}
CLIENT = IPv4Address("10.77.0.9")
FIRST = IPv4Address("10.77.1.0")
CONF = """\
ipaddr: {address}/16
warewulf: {{port: {port}}}
dhcp: {{enabled: false}}
tftp: {{enabled: false}}
bootsvc: {{dns: {{domain: cluster}}}}
paths: {{sysconfdir: {root}/etc, localstatedir: {root}/lib, cachedir: {root}/cache}}
"""
NODE = """\
  n{index}:
    network devices:
      default: {{device: eth0, ipaddr: {address}}}
"""


class Wire:
    """A namespace for the servers and one for who asks, joined by a veth."""

    def __init__(self) -> None:
        self.server, self.client = "bench-dns-s", "bench-dns-c"

    def __enter__(self) -> "Wire":
        self._delete()
        for namespace in (self.server, self.client):
            _run("ip", "netns", "add", namespace)
            _run("ip", "-n", namespace, "link", "set", "lo", "up")
        peer = ["peer", "name", "boot0", "netns", self.client]
        _run("ip", "-n", self.server, "link", "add", "boot0", "type", "veth", *peer)
        own = [(self.server, address) for address in (*SERVERS.values(), *PEERS.values())]
        for namespace, address in [*own, (self.client, CLIENT)]:
            _run("ip", "-n", namespace, "address", "add", f"{address}/16", "dev", "boot0")
            _run("ip", "-n", namespace, "link", "set", "boot0", "up")
        return self

    def __exit__(self, *_failure: object) -> None:
        self._delete()

    def _delete(self) -> None:
        for namespace in (self.server, self.client):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)


@dataclass(frozen=True, slots=True, kw_only=True)
class Asking:
    """One run of dnsperf; the time is that of its queries, the CPU that of the server."""

    wire: Wire
    address: IPv4Address
    names: Path
    rounds: int
    pid: int
    description: str

    def prepare(self) -> None:
        """Every name once: what is made at the first question is there."""
        self._ask(1)

    def run(self) -> Sample:
        before = _cpu(self.pid)
        wall = self._ask(self.rounds)
        return Sample(wall=wall, cpu=_cpu(self.pid) - before)

    def verify(self) -> None:
        pass

    def _ask(self, rounds: int) -> float:
        command = ["dnsperf", "-s", str(self.address), "-d", str(self.names), "-n", str(rounds)]
        output = _run("ip", "netns", "exec", self.wire.client, *command, "-c", str(CLIENTS), "-q", str(OUTSTANDING))
        completed, sent = _figure(output, "Queries completed"), _figure(output, "Queries sent")
        if completed < sent * (1 - MAX_LOST) or f"NOERROR {int(completed)} (100.00%)" not in output:
            raise Error(f"{self.description} did not answer all", hint=output[-1000:])
        return _figure(output, "Run time (s)")


def measure(context: Context) -> Subject:
    queries = QUICK_QUERIES if context.quick else QUERIES
    with contextlib.ExitStack() as stack:
        wire = stack.enter_context(Wire())
        cases = []
        for nodes in (FEW, MANY):
            folder = context.folder / f"dns-{nodes}"
            names, hosts = _write_site(folder, nodes)
            ours = stack.enter_context(_ours(wire, folder, SERVERS[nodes]))
            peer = stack.enter_context(_dnsmasq(wire, hosts, PEERS[nodes], folder))
            for who, pid, address in (("wwctl server", ours, SERVERS[nodes]), ("dnsmasq", peer, PEERS[nodes])):
                shown = f"{who}, {queries} answers, {nodes} nodes"
                rounds = queries // nodes
                cases.append(Asking(wire=wire, address=address, names=names, rounds=rounds, pid=pid, description=shown))
        few, few_peer, many, many_peer = context.in_turn(cases)
    rate = f"{queries / few.wall.median:.0f} answers a second with {FEW} nodes, {queries / many.wall.median:.0f} with {MANY}"
    return Subject(
        name="dns",
        comparisons=(
            Comparison(work=f"{queries} names, {FEW} nodes", ours=few, peer=few_peer, target=Target(kind=Kind.FASTER, bound=1)),
            Comparison(
                work=f"{queries} names, {MANY} nodes", ours=many, peer=many_peer, target=Target(kind=Kind.FASTER, bound=1)
            ),
            Comparison(work=f"{MANY} nodes against {FEW}", ours=many, peer=few, target=Target(kind=Kind.SHARE, bound=1.2)),
        ),
        remarks=(rate,),
    )


def _write_site(folder: Path, nodes: int) -> tuple[Path, Path]:
    """nodes.conf; the names to ask for, and the hosts file that says the same."""
    conf = folder / "etc/warewulf/nodes.conf"
    conf.parent.mkdir(parents=True)
    addresses = {f"n{index}": FIRST + index for index in range(nodes)}
    conf.write_text("nodes:\n" + "".join(NODE.format(index=name[1:], address=each) for name, each in addresses.items()))
    hosts = folder / "hosts"
    hosts.write_text("".join(f"{each} {name}.cluster {name} {name}-default {name}-eth0\n" for name, each in addresses.items()))
    names = folder / "names"
    names.write_text("".join(f"{name}.cluster A\n" for name in addresses))
    return names, hosts


@contextlib.contextmanager
def _ours(wire: Wire, folder: Path, address: IPv4Address) -> Iterator[int]:
    conf = folder / "warewulf.conf"
    conf.write_text(CONF.format(address=address, root=folder, port=9000 + int(address) % 256))
    with _running(wire, [str(WWCTL), "--warewulfconf", str(conf), "server"], folder / "server.log") as pid:
        _wait(lambda: "INFO ready" in (folder / "server.log").read_text(), folder / "server.log")
        yield pid


@contextlib.contextmanager
def _dnsmasq(wire: Wire, hosts: Path, address: IPv4Address, folder: Path) -> Iterator[int]:
    command = ["dnsmasq", "-k", "-C", "/dev/null", "--user=root", "--no-resolv", "--no-hosts", f"--addn-hosts={hosts}"]
    command += [f"--listen-address={address}", "--bind-interfaces", "--local=/cluster/", "--local-ttl=60"]
    with _running(wire, command, folder / "dnsmasq.log") as pid:
        ask = ["ip", "netns", "exec", wire.client, "dig", "+short", "+tries=1", "+timeout=1", f"@{address}", "n0.cluster"]
        _wait(lambda: str(FIRST) in subprocess.run(ask, capture_output=True, text=True).stdout, folder / "dnsmasq.log")
        yield pid


@contextlib.contextmanager
def _running(wire: Wire, command: list[str], log: Path) -> Iterator[int]:
    with log.open("w") as file:
        process = subprocess.Popen(["ip", "netns", "exec", wire.server, *command], stdout=file, stderr=file)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait(20)


def _wait(done: Callable[[], bool], log: Path, seconds: float = 30) -> None:
    end = time.monotonic() + seconds
    while not done():
        if time.monotonic() > end:
            raise Error("a server did not start", hint=log.read_text()[-500:])
        time.sleep(0.1)


def _figure(output: str, name: str) -> float:
    found = re.search(rf"{re.escape(name)}:\s+([\d.]+)", output)
    if found is None:
        raise Error(f"dnsperf does not say {name!r}", hint=output[-500:])
    return float(found[1])


def _cpu(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def _run(*command: str) -> str:
    run = subprocess.run(command, capture_output=True, text=True, timeout=300)
    if run.returncode != 0:
        raise Error(f"`{' '.join(command)}` failed", hint=(run.stderr + run.stdout)[-500:])
    return run.stdout
