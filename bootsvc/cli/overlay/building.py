"""`wwctl overlay build` and `check`."""

from collections.abc import Sequence
from pathlib import Path

import click

from bootsvc import hostlist
from bootsvc.cli import completion
from bootsvc.cli.command import HintedUsageError, Invocation, Verb
from bootsvc.cli.listing import form_options, write
from bootsvc.cli.names import NODE
from bootsvc.cli.overlay.site import Site, complete_name, need_root
from bootsvc.cli.terminal import complain, warn
from bootsvc.names import UnknownName
from bootsvc.overlay_batch import Batch
from bootsvc.overlay_build import Builder
from bootsvc.overlays import load_all
from images.atomic import write_whole
from images.errors import Error
from netboot.errors import OverlayError, OverlayNotFound
from netboot.node import Node
from netboot.overlay_archive import archive
from netboot.overlay_render import OWN_INIT


@click.pass_obj
def _build(
    invocation: Invocation,
    /,
    names: tuple[str, ...],
    hosts: tuple[str, ...],
    overlays: tuple[str, ...],
    output: str | None,
    workers: int,
) -> int:
    """Build the overlays of nodes (none named: of all), those that something changed for.

    The server does this too when a node asks for them. With --output FILE one node's overlays, or those of --overlay,
    become one cpio archive there.
    """
    site = Site(invocation)
    wanted = [name for listed in overlays for name in listed.split(",") if name]
    for name in wanted:
        site.overlays.find(name)
    nodes = _nodes(site, [*names, *hosts])
    need_root("build overlays")
    batch = Batch(
        Builder(site.config.paths.provision / "overlays", site.library, _Missing()),
        site.renderer, site.generation, site.kernel_version,
    )  # fmt: skip
    if output is not None:
        if len(nodes) != 1:
            raise HintedUsageError("--output is for one node", "name it", click.get_current_context())
        _write_archive(site, batch, nodes[0], wanted, Path(output))
        return 0
    chosen = [node for node in nodes if not wanted or set(wanted) & {*node.system_overlay, *node.runtime_overlay}]
    _warn_of_none(chosen)
    return _run(batch, chosen, workers)


def _run(batch: Batch, nodes: Sequence[Node], workers: int) -> int:
    failed: dict[str, None] = {}
    built = current = 0
    for outcome in batch.run(nodes, workers):
        if outcome.error is not None:
            complain(outcome.error.message, outcome.error.hint)
            failed[outcome.node] = None
        elif outcome.fresh:
            built += 1
            print(f"Created image for {outcome.node} {outcome.stage.value} overlay: {outcome.path}")
        else:
            current += 1
    batch.finish()
    print(f"{built} overlay image(s) built, {current} current")
    if failed:
        complain(f"{len(failed)} of {len(nodes)} nodes failed: {hostlist.compress(list(failed))}")
    return 1 if failed else 0


class _Missing:
    """Says once of each overlay that it does not exist."""

    def __init__(self) -> None:
        self._said: set[str] = set()

    def __call__(self, missing: OverlayNotFound) -> None:
        if missing.name not in self._said:
            warn(missing.message, missing.hint)
        self._said.add(missing.name)


def _nodes(site: Site, words: Sequence[str]) -> Sequence[Node]:
    """The nodes that are meant, or all. Raises HostlistError or UnknownName."""
    for problem in site.registry.problems:
        warn(problem)
    nodes = []
    for name in NODE.expand(words):
        node = site.registry.by_name(name)
        if node is None:
            raise UnknownName("node", name, list(site.snapshot.nodes))
        nodes.append(node)
    return nodes if words else site.registry.nodes


def _warn_of_none(nodes: Sequence[Node]) -> None:
    for stage, without in (
        ("system", [node.id for node in nodes if not node.system_overlay]),
        ("runtime", [node.id for node in nodes if not node.runtime_overlay]),
    ):
        if without:
            warn(f"no {stage} overlays are defined for {hostlist.compress(without)}")


def _write_archive(site: Site, batch: Batch, node: Node, wanted: Sequence[str], output: Path) -> None:
    names = wanted or [*node.system_overlay, *node.runtime_overlay]
    placed = site.renderer.render(load_all(names, site.library, _Missing()), site.context(node))
    # Through links, and never in place of a device such as /dev/stdout.
    target = output.resolve()
    if not target.parent.is_dir():
        raise Error(f"there is no folder {target.parent}", hint="make it first")
    if target.exists() and not target.is_file():
        raise Error(f"{output} is no file", hint="--output names the file to write")
    write_whole(target, archive(placed, batch.view(site.generation(node)), "system"))
    print(f"Created image for {node.id}: {output}")


@click.pass_obj
def _check(invocation: Invocation, /, names: tuple[str, ...], form: str | None) -> int:
    """Render overlays (none named: all that nodes have) for every node that has them, and say what is wrong with which file.

    Nothing is written. An overlay that no node has is rendered for the first node.
    """
    site = Site(invocation)
    for problem in site.registry.problems:
        warn(problem)
    known = site.chosen(names)
    found: dict[str, list[str]] = {}
    for name in known:
        users = [node for node in site.registry.nodes if name in (*node.system_overlay, *node.runtime_overlay)]
        for node in users or site.registry.nodes[:1]:
            try:
                site.renderer.render([site.load(name)], site.context(node))
            except OverlayError as exc:
                # The sentence ends with the node's name, which all of them have in common but for that.
                found.setdefault(exc.message.removesuffix(f" (node {node.id})"), []).append(node.id)
    if not names:
        for name, having in _missing_overlays(site).items():
            found[f"there is no overlay {name!r}"] = having
    if form is not None:
        write([{"problem": problem, "nodes": hostlist.compress(nodes)} for problem, nodes in found.items()], form)
    else:
        for problem, nodes in found.items():
            print(f"{problem} (node {hostlist.compress(nodes)})")
        print(f"{len(known)} overlay(s) checked, {len(found)} problem(s)")
    return 1 if found else 0


def _missing_overlays(site: Site) -> dict[str, list[str]]:
    """The overlays that do not exist, and the nodes that should have them; our init needs no overlay."""
    wanted: dict[str, list[str]] = {}
    for node in site.registry.nodes:
        for name in dict.fromkeys((*node.system_overlay, *node.runtime_overlay)):
            wanted.setdefault(name, []).append(node.id)
    return {name: nodes for name, nodes in sorted(wanted.items()) if name != OWN_INIT and not _exists(site, name)}


def _exists(site: Site, name: str) -> bool:
    try:
        site.overlays.find(name)
    except OverlayNotFound:
        return False
    return True


build = Verb(
    "build",
    callback=_build,
    help=_build.__doc__,
    params=[
        click.Argument(["names"], nargs=-1, metavar="NODE...", shell_complete=completion.nodes),
        click.Option(["-H", "--hosts"], multiple=True, metavar="HOSTLIST", help="The same as NODE."),
        click.Option(
            ["-O", "--overlay", "overlays"], multiple=True, metavar="NAMES", shell_complete=complete_name,
            help="Only for nodes that have one of these; with --output: these.",
        ),
        click.Option(["-o", "--output"], metavar="FILE", help="Write one archive there instead."),
        click.Option(["-w", "--workers"], type=int, default=0, help="Processes at once; 0: one a CPU."),
    ],
)  # fmt: skip
check = Verb(
    "check",
    callback=_check,
    help=_check.__doc__,
    params=[click.Argument(["names"], nargs=-1, metavar="OVERLAY...", shell_complete=complete_name), *form_options()],
)
