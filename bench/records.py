"""Work on nodes.conf with 10 000 nodes: commands as whole processes, and how long a reload keeps the server's loop waiting."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

from context import Context
from figures import Limit, Runs, Subject
from headnode import HeadNode

from bootsvc.config import Config
from bootsvc.dns.zone import Domain, Zone
from bootsvc.loading import load_aside
from bootsvc.registry import Registry
from bootsvc.store import Store
from bootsvc.yamlfile import paused_gc
from images.errors import Error

NODES, QUICK_NODES = 10_000, 1_000
NETWORK = IPv4Network("10.0.0.0/8")
PROFILES = """\
nodeprofiles:
  default:
    runtime overlay: [hosts, ssh.authorized_keys]
    system overlay: [hostname, hosts]
    kernel:
      args: [quiet, crashkernel=no]
    ipmi:
      username: admin
    network devices:
      default:
        netmask: 255.0.0.0
        gateway: 10.0.0.254
  gpu:
    image name: rocky-9
nodes:
"""
NODE = """\
  n{index}:
    comment: node {index}
    profiles:
      - default
      - gpu
    cluster name: main
    ipmi:
      ipaddr: {bmc}
      tags:
        rack: r{rack}
    network devices:
      default:
        device: eth0
        hwaddr: {hwaddr}
        ipaddr: {ipaddr}
      ib0:
        type: infiniband
        ipaddr: {ib}
    tags:
      position: p{index}
"""


def text(nodes: int) -> str:
    """A nodes.conf of that many nodes, about 400 bytes each."""
    return PROFILES + "".join(
        NODE.format(
            index=index,
            rack=index // 40,
            hwaddr=f"52:54:00:{index >> 16:02x}:{index >> 8 & 255:02x}:{index & 255:02x}",
            ipaddr=IPv4Address("10.1.0.1") + index,
            bmc=IPv4Address("10.2.0.1") + index,
            ib=IPv4Address("10.3.0.1") + index,
        )
        for index in range(nodes)
    )


def measure(context: Context) -> Subject:
    nodes = QUICK_NODES if context.quick else NODES
    head = HeadNode.make(context.folder / "records")
    paths = Config.load(head.root / "warewulf.conf").paths
    paths.nodes_conf.parent.mkdir(parents=True, exist_ok=True)
    paths.nodes_conf.write_text(text(nodes))

    def forget() -> None:
        paths.nodes_cache.unlink(missing_ok=True)

    def listed() -> None:
        if f"n{nodes - 1} " not in head.output():
            raise Error("a node is missing in the list", hint=head.output()[-200:])

    cold = head.wwctl("node", "list", before=forget, after=listed)
    warm = head.wwctl("node", "list", after=listed)
    # Each undoes the other, so that every run changes something.
    change = head.wwctl("node", "set", f"n{nodes // 2}", "--tagadd", "changed=yes", "-y")
    undo = head.wwctl("node", "unset", f"n{nodes // 2}", "--tag", "changed", "-y")
    cold_runs, warm_runs, set_runs, unset_runs = context.in_turn([cold, warm, change, undo])
    return Subject(
        name="records",
        comparisons=(),
        limits=(
            _limit(f"wwctl node set, {nodes} nodes", set_runs, 0.5),
            _limit(f"wwctl node unset, {nodes} nodes", unset_runs, 0.5),
            _limit(f"wwctl node list, {nodes} nodes", warm_runs, 1),
            _limit(f"wwctl node list, {nodes} nodes, nothing cached", cold_runs, 6),
            *_delays(paths.nodes_conf, paths.nodes_cache),
        ),
    )


def _limit(what: str, runs: Runs, bound: float) -> Limit:
    return Limit(what=f"{what} (median)", value=runs.wall.median, bound=bound, unit="s")


def _delays(path: Path, cache: Path) -> list[Limit]:
    """The longest time for which the loop did not run while nodes.conf was loaded anew."""
    store = Store(path, cache)
    cache.unlink(missing_ok=True)
    found = []
    registry = Registry()
    for what in ("nothing cached", "cached, nothing known", "cached, all known"):
        previous = registry if what == "cached, all known" else Registry()
        registry, delay = asyncio.run(_delay(partial(load_aside, store, NETWORK, previous)))
        found.append(Limit(what=f"longest pause of the loop in a reload, {what}", value=delay * 1000, bound=50, unit="ms"))
    _, delay = asyncio.run(_delay(partial(asyncio.to_thread, _zone, registry)))
    found.append(Limit(what="longest pause of the loop while names for DNS are made", value=delay * 1000, bound=50, unit="ms"))
    return found


def _zone(registry: Registry) -> Registry:
    domain = Domain(name="cluster", whole=True, server="head", address=IPv4Address("10.0.0.1"), network=NETWORK)
    with paused_gc():
        Zone(registry.nodes, domain)
    return registry


async def _delay(load: Callable[[], Awaitable[Registry]]) -> tuple[Registry, float]:
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            start = time.perf_counter()
            await asyncio.sleep(0.001)
            longest = max(longest, time.perf_counter() - start - 0.001)

    async with asyncio.TaskGroup() as tasks:
        ticking = tasks.create_task(tick())
        await asyncio.sleep(0)
        registry = await load()
        ticking.cancel()
    return registry, longest
