"""DHCP exchanges (DISCOVER, OFFER, REQUEST, ACK) that perfdhcp asks for: the rate held at less than 1 % loss, and CPU time."""

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from context import Context
from dhcp_servers import BASE_MAC, CLIENT, SERVER, Dnsmasq, Kea, Network, Ours, Server
from figures import Comparison, Kind, Limit, Runs, Sample, Subject, Target

from images.errors import Error

MOST_LOST = 0.01
CLIENTS = 30_000
NODES, FEW = 10_000, 10
SLOWEST, FASTEST = 250, 16_000
"""Exchanges a second that are asked for: twice as many until a server does not hold them, then between the last two."""
NEAR_ENOUGH = 16
"""The search ends when the two are nearer than this part of the lower one."""
COMMON_RATE = 1000
"""At which CPU times are compared."""
_FIGURE = re.compile(r"(sent packets|received packets|drops): (\d+)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """One run of perfdhcp."""

    asked: int
    exchanges: int
    lost: float
    """Share of the packets that got no answer."""
    cpu: float
    """Seconds of the server's CPU time."""

    @property
    def good(self) -> bool:
        return self.lost < MOST_LOST


def measure(context: Context) -> Subject:
    for program in ("perfdhcp", "kea-dhcp4", "dnsmasq"):
        if shutil.which(program) is None:
            raise Error(f"{program} is missing", hint="make bench installs what it needs")
    folder, seconds = context.folder / "dhcp", 1 if context.quick else 3
    with Network().up() as network:
        dynamic = [made(network, folder / made.__name__, 0) for made in (Ours, Kea, Dnsmasq)]
        reserved = [made(network, folder / made.__name__, NODES) for made in (Ours, Kea)]
        ours, kea, dnsmasq = _rounds(context, dynamic, CLIENTS, seconds)
        ours_reserved, kea_reserved = _rounds(context, reserved, NODES, seconds)
        few, many = _lookups(context, network, folder / "lookup", seconds)
    return Subject(
        name="dhcp",
        comparisons=(
            _comparison("1 000 leases from a range, at the highest rate held (Kea, 2 threads, memfile)", ours, kea, 1.0),
            _comparison("the same (dnsmasq)", ours, dnsmasq, 10.0),
            _comparison("1 000 exchanges of 10 000 reserved nodes (Kea, likewise)", ours_reserved, kea_reserved, 1.5),
        ),
        limits=(
            Limit(what="seconds for 5 000 leases at the highest rate held", value=5 * ours.wall.median, bound=1.0, unit="s"),
            Limit(what="CPU time of an exchange, 10 000 nodes against 10", value=many.cpu.median / few.cpu.median, bound=1.2),
        ),
        remarks=(
            "OURS s and PEER s are 1000 / (exchanges a second at less than 1 % loss); CPU s is of 1 000 exchanges, "
            f"at {COMMON_RATE} a second or what the server holds.",
        ),
    )


def _comparison(work: str, ours: Runs, peer: Runs, bound: float) -> Comparison:
    return Comparison(work=work, ours=ours, peer=peer, target=Target(kind=Kind.FASTER, bound=bound))


def _rounds(context: Context, servers: Sequence[Server], clients: int, seconds: int) -> list[Runs]:
    """Each server in turn, in every round; a sample is 1 000 exchanges."""
    samples: list[list[Sample]] = [[] for _ in servers]
    for _ in range(context.rounds):
        for server, found in zip(servers, samples, strict=True):
            best, cpu = _highest(server, clients, seconds)
            if best is None:
                raise Error(
                    f"{server.name}, {server.nodes} nodes: none held, not even {SLOWEST} exchanges a second",
                    hint="the machine has too much else to do, or the server does not answer; measure again when it is quiet",
                )
            context.say(f"{server.name}, {server.nodes} nodes: {best}/s, {cpu * 1e6:.0f} us of CPU time an exchange")
            found.append(Sample(wall=1000 / best, cpu=cpu * 1000))
    return [Runs(command=one.name, samples=tuple(found)) for one, found in zip(servers, samples, strict=True)]


def _highest(server: Server, clients: int, seconds: int) -> tuple[int | None, float]:
    """The highest rate that is held (None: none is), and the CPU seconds of one exchange at COMMON_RATE or the next below."""
    best: int | None = None
    worst, cpu, rate = 2 * FASTEST, 0.0, SLOWEST
    with server.running() as pid:
        while rate <= FASTEST and (best is None or worst - best > best // NEAR_ENOUGH):
            held = ask(server.network, pid, rate, clients, seconds)
            if not held.good:
                # Once more: a hiccup of the machine is not the server's.
                held = ask(server.network, pid, rate, clients, seconds)
            if held.good:
                best = rate
                if rate <= COMMON_RATE:
                    cpu = held.cpu / held.exchanges
            elif best is None:
                break
            else:
                worst = rate
            rate = 2 * rate if worst > FASTEST else (best + worst) // 2
    return best, cpu


def _lookups(context: Context, network: Network, folder: Path, seconds: int) -> list[Runs]:
    """The same ten machines, among ten nodes and among ten thousand."""
    servers = [Ours(network, folder, FEW), Ours(network, folder, NODES)]
    samples: list[list[Sample]] = [[], []]
    for _ in range(context.rounds):
        for server, found in zip(servers, samples, strict=True):
            with server.running() as pid:
                held = ask(network, pid, COMMON_RATE, FEW, seconds)
            found.append(Sample(wall=1000 / COMMON_RATE, cpu=1000 * held.cpu / held.exchanges))
    return [Runs(command=f"{one.nodes} nodes", samples=tuple(found)) for one, found in zip(servers, samples, strict=True)]


def ask(network: Network, pid: int, rate: int, clients: int, seconds: int) -> Held:
    """One run of perfdhcp, as a relay agent with `clients` machines behind it."""
    command = [
        "perfdhcp",
        *("-4", "-r", str(rate), "-R", str(clients), "-p", str(seconds), "-W", "500000", "-l", CLIENT),
        *("-b", f"mac={BASE_MAC.to_bytes(6, 'big').hex(':')}", SERVER),
    ]
    before = cpu_seconds(pid)
    run = subprocess.run(
        network.inside(network.client, *command), capture_output=True, text=True, check=False, timeout=seconds + 60
    )
    # Status 3: some packets were lost, which is a result.
    if run.returncode not in (0, 3):
        raise Error(f"perfdhcp ended with status {run.returncode}", hint=(run.stderr + run.stdout)[-500:])
    figures = [int(value) for _, value in _FIGURE.findall(run.stdout)]
    if len(figures) < 6:
        raise Error("perfdhcp's report has another shape", hint=run.stdout[-500:])
    discovers, offers, _, requests, acks, _ = figures[:6]
    lost = max(1 - offers / max(discovers, 1), 1 - acks / max(requests, 1), 1 - discovers / (rate * seconds) - 0.02)
    return Held(asked=rate, exchanges=max(acks, 1), lost=lost, cpu=cpu_seconds(pid) - before)


def cpu_seconds(pid: int) -> float:
    """Of all threads of a process, from the scheduler's own nanoseconds."""
    total = 0
    for path in Path(f"/proc/{pid}/task").glob("*/schedstat"):
        total += int(path.read_text().split()[0])
    return total / 1e9
