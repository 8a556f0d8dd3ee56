"""Overlays of 100 to 10 000 nodes as whole commands: the first build, one that has nothing to do, and what a node costs."""

import shutil
from pathlib import Path

import records
from context import Context
from figures import Limit, Runs, Subject
from headnode import HeadNode
from measure import Command, in_turn

from bootsvc.config import Config
from images.errors import Error

FEW, SEVERAL, MANY = 100, 1_000, 10_000
QUICK = (50, 200, 1_000)
DEFAULT_SET = "[hostname, hosts, resolv, systemd.networkd, NetworkManager, ifupdown, wwclient]"


def measure(context: Context) -> Subject:
    few, several, many = QUICK if context.quick else (FEW, SEVERAL, MANY)
    first, again = {}, {}
    for nodes in (few, several, many):
        head, built = _head(context.folder / f"overlays-{nodes}", nodes)
        # One of the largest takes as long as all the others.
        rounds, warmups = (1, 0) if nodes == many else (context.rounds, context.warmups)
        first[nodes], again[nodes] = in_turn(_commands(head, built, nodes), rounds=rounds, warmups=warmups, say=context.say)
    return Subject(
        name="overlays",
        comparisons=(),
        limits=(
            _limit(f"first build, {several} nodes, processor time on two cores", first[several], 60),
            _limit(f"nothing changed, {several} nodes, processor time on two cores", again[several], 3),
            _flat(f"what a node costs, {many} nodes against {few}: first build", first, few, many, several),
            _flat(f"what a node costs, {many} nodes against {few}: nothing changed", again, few, many, several),
        ),
    )


def _head(folder: Path, nodes: int) -> tuple[HeadNode, Path]:
    head = HeadNode.make(folder)
    paths = Config.load(head.root / "warewulf.conf").paths
    paths.nodes_conf.parent.mkdir(parents=True, exist_ok=True)
    text = records.text(nodes).replace("system overlay: [hostname, hosts]", f"system overlay: {DEFAULT_SET}")
    # What a device's configuration needs, and a list of nodes does not.
    text = text.replace("type: infiniband", "type: infiniband\n        device: ib0\n        netmask: 255.0.0.0")
    paths.nodes_conf.write_text(text)
    return head, paths.provision / "overlays"


def _commands(head: HeadNode, built: Path, nodes: int) -> list[Command]:
    def forget() -> None:
        shutil.rmtree(built, ignore_errors=True)

    def said(words: str) -> None:
        if words not in head.output():
            raise Error(f"not {words!r}", hint=head.output()[-200:])

    return [
        head.wwctl("overlay", "build", before=forget, after=lambda: said(f"{2 * nodes} overlay image(s) built, 0 current")),
        head.wwctl("overlay", "build", after=lambda: said(f"0 overlay image(s) built, {2 * nodes} current")),
    ]


def _limit(what: str, runs: Runs, bound: float) -> Limit:
    return Limit(what=f"{what} (median)", value=_cpu(runs) / 2, bound=bound, unit="s")


def _flat(what: str, runs: dict[int, Runs], few: int, many: int, several: int) -> Limit:
    """Without what a command costs that has one node: that is in the smallest run a tenth."""
    slope = (_cpu(runs[several]) - _cpu(runs[few])) / (several - few)
    return Limit(what=f"{what} (median)", value=(_cpu(runs[many]) - _cpu(runs[several])) / (many - several) / slope, bound=1.2)


def _cpu(runs: Runs) -> float:
    return runs.cpu.median
