"""`wwctl node`: add, set, list, delete and status."""

import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import click

from bootsvc import changes as edits
from bootsvc import hostlist
from bootsvc.cli import flags, listing
from bootsvc.cli.command import Invocation, Noun
from bootsvc.cli.status import fetch, lines
from bootsvc.cli.terminal import confirm, warn
from bootsvc.config import Config
from bootsvc.registry import Registry
from bootsvc.store import Snapshot

ALIASES = {"add": ["new", "create"], "set": ["modify"], "list": ["ls"], "delete": ["rm", "del", "remove"]}
NODES = click.Argument(["names"], nargs=-1, metavar="NODE...")


def _yes(help_text: str) -> click.Option:
    return click.Option(["-y", "--yes"], is_flag=True, help=help_text)


@click.pass_obj
def add(invocation: Invocation, /, names: tuple[str, ...], **given: Any) -> None:
    """Add nodes; NODE may stand for several: n[01-16].

    The IPv4 addresses given (--ipaddr, --ipmiaddr) are the first node's, and go up by one from node to node.
    """
    flags.require(names, "no node is named", "such as `wwctl node add n1` or `n[01-16]`", click.get_current_context())
    config, expanded, changes = invocation.config(), _expand(names), flags.changes(given)
    _check_images(changes, config)
    invocation.store().edit(lambda snapshot: edits.add_nodes(snapshot, expanded, changes, config))
    for name in expanded:
        print(f"Added node: {name}")


@click.pass_obj
def set_(invocation: Invocation, /, names: tuple[str, ...], every: bool, yes: bool, **given: Any) -> None:
    """Change nodes; what is not named stays, and UNSET as a value removes it."""
    hint = "name some, or use --all to change all nodes"
    flags.require(names or ("",) * every, "no nodes specified", hint, click.get_current_context())
    config, store, changes = invocation.config(), invocation.store(), flags.changes(given)
    _check_images(changes, config)
    snapshot = store.load()
    chosen = list(snapshot.nodes) if every else _existing(_expand(names), snapshot)
    after = edits.set_nodes(snapshot, chosen, changes, config)
    shown = _diff(chosen, snapshot, after)
    if not shown:
        print("No changes to apply.")
        return
    if yes:
        print("Applying following changes:")
    print(shown, end="")
    changed = [name for name in chosen if snapshot.nodes[name] != after.nodes[name]]
    if not yes and not confirm(f"Apply these changes to {len(changed)} node(s)"):
        print("No changes made!")
        return
    store.edit(lambda current: edits.set_nodes(current, changed, changes, config))


@click.pass_obj
def delete(invocation: Invocation, /, names: tuple[str, ...], yes: bool) -> None:
    """Delete nodes from nodes.conf."""
    flags.require(names, "no node is named", "such as `wwctl node delete n1`", click.get_current_context())
    store = invocation.store()
    chosen = _existing(_expand(names), store.load())
    if not yes and not confirm(f"Are you sure you want to delete {len(chosen)} node(s)"):
        print("No changes made!")
        return
    store.edit(lambda snapshot: snapshot.without_nodes(frozenset(chosen)))
    for name in chosen:
        print(f"Deleted node: {name}")


VIEWS: dict[str, tuple[listing.View, list[str], str]] = {
    "networks": (listing.networks, ["-n", "--net"], "One line a network device."),
    "bmcs": (listing.bmcs, ["-i", "--ipmi"], "The BMCs."),
    "everything": (listing.everything, ["-a", "--all"], "Every value, and the profile that sets it."),
    "long": (listing.long, ["-l", "--long"], "Kernel, image and overlays."),
    "yaml": (listing.yaml, ["-y", "--yaml"], "The merged nodes as YAML."),
    "json": (listing.as_json, ["-j", "--json"], "The merged nodes as JSON."),
}


@click.pass_obj
def list_(invocation: Invocation, /, names: tuple[str, ...], view: str | None) -> None:
    """List nodes, with their profiles applied."""
    snapshot = invocation.store().load()
    registry = Registry.build(snapshot, invocation.config().network)
    for problem in registry.problems:
        warn(problem)
    nodes: Sequence[Any] = registry.nodes
    if names:
        wanted = set(_known(_expand(names), snapshot))
        nodes = [node for node in registry.nodes if node.id in wanted]
    show = VIEWS[view][0] if view else listing.brief
    sys.stdout.write(show(nodes, snapshot))


@click.pass_obj
def status(invocation: Invocation, /, names: tuple[str, ...]) -> None:
    """Show how far each node has booted, as the server sees it."""
    config = invocation.config()
    for line in lines(fetch(config), _expand(names)):
        print(line)


def _expand(names: Iterable[str]) -> list[str]:
    """All names that the host lists stand for, each once."""
    return list(dict.fromkeys(name for text in names for name in hostlist.expand(text)))


def _known(names: Iterable[str], snapshot: Snapshot) -> list[str]:
    """Those that exist; a warning names each of the others."""
    known = []
    for name in names:
        if name in snapshot.nodes:
            known.append(name)
        else:
            warn(f"there is no node {name!r}", edits.closest(name, list(snapshot.nodes)))
    return known


def _existing(names: Sequence[str], snapshot: Snapshot) -> list[str]:
    """As `_known`; raises UnknownName when none of them exists."""
    if not any(name in snapshot.nodes for name in names):
        raise edits.UnknownName("node", names[0], list(snapshot.nodes))
    return _known(names, snapshot)


def _check_images(changes: Iterable[edits.Change], config: Config) -> None:
    for change in changes:
        if change.path == ("image name",) and isinstance(change.value, str):
            known = sorted(path.parent.name for path in config.paths.chroots.glob("*/rootfs") if path.is_dir())
            if change.value not in known:
                raise edits.UnknownName("image", change.value, known)


def _diff(names: Iterable[str], before: Snapshot, after: Snapshot) -> str:
    """The changes, nodes with the same ones together."""
    groups: dict[tuple[str, ...], list[str]] = {}
    for name in names:
        changed = edits.differences(before.nodes[name], after.nodes[name])
        shown = tuple(f"  {edits.label(one.path)}: {_quote(one.before)} → {_quote(one.after)}\n" for one in changed)
        if shown:
            groups.setdefault(shown, []).append(name)
    return "".join(f"{hostlist.compress(members)}:\n{''.join(shown)}" for shown, members in groups.items())


def _quote(value: Any) -> str:
    if value is None:
        return "<unset>"
    if isinstance(value, list):
        return "[" + ", ".join(map(_quote, value)) + "]"
    return f'"{value}"'


def _node() -> Noun:
    noun = Noun("node", aliases=ALIASES, help="Add, change, list and watch nodes.")
    every = click.Option(["-a", "--all", "every"], is_flag=True, help="All nodes.")
    force = click.Option(["-f", "--force"], is_flag=True, hidden=True, expose_value=False)
    sure = _yes("Do not ask.")
    views = [
        click.Option([*names, "view"], flag_value=view, default=None, help=help_text)
        for view, (_, names, help_text) in VIEWS.items()
    ]
    verbs: list[tuple[str, Callable[..., None], list[click.Parameter]]] = [
        ("add", add, flags.value_options(removal=False)),
        ("set", set_, [*flags.value_options(removal=True), every, sure, force]),
        ("list", list_, [*views]),
        ("delete", delete, [sure]),
        ("status", status, []),
    ]
    for name, callback, options in verbs:
        kind = flags.ValueVerb if name in ("add", "set") else Noun.command_class
        assert kind is not None
        noun.add_command(kind(name, callback=callback, params=[NODES, *options], help=callback.__doc__))
    return noun


node = _node()
