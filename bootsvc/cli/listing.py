"""`wwctl node list` and `profile list`, with all their views."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence

import click

from bootsvc.changes import label
from bootsvc.cli.command import Invocation
from bootsvc.cli.names import NODE, PROFILE
from bootsvc.cli.table import EMPTY, Table, as_json, as_yaml
from bootsvc.cli.terminal import warn
from bootsvc.registry import Registry
from bootsvc.store import Snapshot
from bootsvc.yamlfile import paused_gc
from netboot.merge import Merger, leaves, sources
from netboot.node import NetDev, Node

NodeView = Callable[[Sequence[Node], Snapshot], Table]


def brief(nodes: Sequence[Node], _snapshot: Snapshot) -> Table:
    rows = [(node.id, ",".join(node.profiles), ", ".join(sorted(node.network_devices))) for node in nodes]
    return Table(("NODE NAME", "PROFILES", "NETWORK"), rows)


def long(nodes: Sequence[Node], _snapshot: Snapshot) -> Table:
    rows = [(node.id, node.kernel.version, node.image_name, _overlays(node)) for node in nodes]
    return Table(("NODE NAME", "KERNEL VERSION", "IMAGE", "OVERLAYS (S/R)"), rows)


def _overlays(node: Node) -> str:
    if not node.system_overlay and not node.runtime_overlay:
        return ""
    return f"{','.join(node.system_overlay)}/{','.join(node.runtime_overlay)}"


def networks(nodes: Sequence[Node], _snapshot: Snapshot) -> Table:
    rows = [
        (node.id, name, device.hwaddr, str(device.ipaddr or ""), str(device.gateway or ""), device.device)
        for node in nodes
        for name, device in sorted(node.network_devices.items()) or [("", NetDev())]
    ]
    return Table(("NODE", "NETWORK", "HWADDR", "IPADDR", "GATEWAY", "DEVICE"), rows)


def bmcs(nodes: Sequence[Node], _snapshot: Snapshot) -> Table:
    rows = [(node.id, str(node.ipmi.ipaddr or ""), node.ipmi.port, node.ipmi.username, node.ipmi.interface) for node in nodes]
    return Table(("NODE", "IPMI IPADDR", "IPMI PORT", "IPMI USERNAME", "IPMI INTERFACE"), rows)


def everything(nodes: Sequence[Node], snapshot: Snapshot) -> Table:
    """Each value with the profile that it comes from."""
    rows: list[tuple[str, str, str, str]] = []
    merger = Merger(snapshot.profiles)
    for node in nodes:
        entry = snapshot.nodes[node.id]
        origins = sources(node.id, entry, snapshot.profiles)
        for path, value in leaves(merger.merge(node.id, entry).entry):
            rows.append((node.id, label(path), origins.get(path) or EMPTY, _shown(value)))
    return Table(("NODE", "FIELD", "PROFILE", "VALUE"), rows)


def profile_brief(names: Sequence[str], snapshot: Snapshot) -> Table:
    rows = [(name, str(snapshot.profiles[name].get("comment") or "")) for name in names]
    return Table(("PROFILE NAME", "COMMENT/DESCRIPTION"), rows)


def profile_everything(names: Sequence[str], snapshot: Snapshot) -> Table:
    rows = [(name, label(path), _shown(value)) for name in names for path, value in leaves(snapshot.profiles[name])]
    return Table(("PROFILE", "FIELD", "VALUE"), rows)


def _shown(value: object) -> str:
    """Text as it is, a list with commas, and what resources hold as JSON."""
    if isinstance(value, list) and all(isinstance(member, str) for member in value):
        return ",".join(value)
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


VIEWS: Mapping[str, tuple[NodeView, list[str], str]] = {
    "networks": (networks, ["-n", "--net"], "One line a network device."),
    "bmcs": (bmcs, ["-i", "--ipmi"], "The BMCs."),
    "everything": (everything, ["-a", "--all"], "Every value, and the profile that sets it."),
    "long": (long, ["-l", "--long"], "Kernel, image and overlays."),
}


@click.pass_obj
@paused_gc()
def list_nodes(invocation: Invocation, /, names: tuple[str, ...], view: str | None, form: str | None) -> None:
    """List nodes, with their profiles applied.

    --json and --yaml alone give the merged nodes; with a view they give its rows.
    """
    snapshot = invocation.store().load()
    chosen = NODE.existing(NODE.expand(names), snapshot)
    wanted = snapshot
    if chosen:
        wanted = Snapshot(nodes={name: snapshot.nodes[name] for name in chosen}, profiles=snapshot.profiles)
    registry = Registry.build(wanted, invocation.config().network)
    for problem in registry.problems:
        warn(problem)
    nodes = sorted(registry.nodes, key=lambda node: node.id)
    if form and view is None:
        merger = Merger(snapshot.profiles)
        write({node.id: merger.merge(node.id, snapshot.nodes[node.id]).entry for node in nodes}, form)
    else:
        show(VIEWS[view][0](nodes, snapshot) if view else brief(nodes, snapshot), form)


@click.pass_obj
def list_profiles(invocation: Invocation, /, names: tuple[str, ...], view: str | None, form: str | None) -> None:
    """List profiles.

    --json and --yaml alone give the profiles as nodes.conf says them; with --all they give its rows.
    """
    snapshot = invocation.store().load()
    chosen = PROFILE.existing(PROFILE.expand(names), snapshot) if names else sorted(snapshot.profiles)
    if form and view is None:
        write({name: snapshot.profiles[name] for name in chosen}, form)
    else:
        show(profile_everything(chosen, snapshot) if view else profile_brief(chosen, snapshot), form)


def show(table: Table, form: str | None) -> None:
    """Print a table as text, or its rows as `form` says."""
    if form is None:
        sys.stdout.write(table.text())
    else:
        write(table.records(), form)


def write(value: object, form: str) -> None:
    sys.stdout.write(as_json(value) if form == "json" else as_yaml(value))


def form_options() -> Iterator[click.Option]:
    """--json and --yaml, which every command with a table has."""
    for form, short, what in (("yaml", "-y", "YAML"), ("json", "-j", "JSON")):
        yield click.Option([short, f"--{form}", "form"], flag_value=form, default=None, help=f"As {what}.")


def node_options() -> list[click.Parameter]:
    views = [
        click.Option([*names, "view"], flag_value=view, default=None, help=help_text)
        for view, (_, names, help_text) in VIEWS.items()
    ]
    return [*views, *form_options()]


def profile_options() -> list[click.Parameter]:
    every = click.Option(["-a", "--all", "view"], flag_value="everything", default=None, help="Every value.")
    return [every, *form_options()]
