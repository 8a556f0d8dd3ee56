"""`wwctl upgrade`: configuration of older Warewulfs in the words of 4.7."""

import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import click

from bootsvc.cli.command import HintedUsageError, Invocation, Noun, Verb
from bootsvc.config import DEFAULT_SOURCE
from bootsvc.store import Store, replace_file
from bootsvc.upgrade import Data, NodesOptions, nfs_mounts, rewrite, upgrade_config, upgrade_nodes
from bootsvc.yamlfile import compose, core_scalar, read_text, value
from images.errors import Error


@click.pass_obj
def _config(invocation: Invocation, /, input: str | None, output: str | None) -> None:
    """Upgrade warewulf.conf."""
    source = Path(input) if input else invocation.named_conf() or DEFAULT_SOURCE
    _upgrade(source, output, upgrade_config, nodes=False)


@click.pass_obj
def _nodes(
    invocation: Invocation,
    /,
    input: str | None,
    output: str | None,
    add_defaults: bool | None,
    replace_overlays: bool | None,
    with_warewulfconf: str | None,
) -> None:
    """Upgrade nodes.conf.

    --add-defaults gives the profile default what it lacks; --replace-overlays names instead of wwinit and generic the
    overlays that they were split into. Both must be said, as true or false. --with-warewulfconf names the old
    warewulf.conf, whose nfs mounts become fstab entries.
    """
    if add_defaults is None or replace_overlays is None:
        missing = "--add-defaults" if add_defaults is None else "--replace-overlays"
        raise HintedUsageError(f"{missing} is not said", f"{missing}=true or {missing}=false", click.get_current_context())
    mounts = nfs_mounts(_values(Path(with_warewulfconf))) if with_warewulfconf else ()
    options = NodesOptions(add_defaults=add_defaults, replace_overlays=replace_overlays, mounts=mounts)
    source = Path(input) if input else invocation.config().paths.nodes_conf
    _upgrade(source, output, lambda data: upgrade_nodes(data, options), nodes=True)


def _upgrade(source: Path, output: str | None, change: Callable[[Data], Data], *, nodes: bool) -> None:
    with Store(source).locked() if nodes and output is None else nullcontext():
        _upgrade_alone(source, output, change, nodes=nodes)


def _upgrade_alone(source: Path, output: str | None, change: Callable[[Data], Data], *, nodes: bool) -> None:
    text = _text(source)
    try:
        new = rewrite(text, source, change, nodes=nodes)
    except ValueError as exc:
        raise Error(f"{source} cannot be upgraded: {exc}", hint="correct the value first") from exc
    if output == "-":
        sys.stdout.write(new)
        return
    target = Path(output) if output else source
    if new == text and target.resolve() == source.resolve():
        print(f"{source} needs no upgrade.")
        return
    try:
        if target.exists():
            kept = target.with_name(f"{target.name}-old")
            replace_file(kept, target.read_bytes(), like=target)
            print(f"Kept the old file as {kept}")
        replace_file(target.resolve(), new.encode(), like=source)
    except OSError as exc:
        raise Error(f"cannot write {target}: {exc.strerror}", hint="the file is as it was before") from exc
    print(f"Wrote {target}")


def _text(path: Path) -> str:
    try:
        return read_text(path)
    except OSError as exc:
        raise Error(f"cannot read {path}: {exc.strerror}", hint="-i names the file to upgrade") from exc


def _values(path: Path) -> Data:
    document = compose(_text(path), path)
    return value(document, path, typing=core_scalar) if document else {}


_FILES: list[click.Parameter] = [
    click.Option(["-i", "--input"], metavar="FILE", help="The old file (default: the one in use)."),
    click.Option(
        ["-o", "--output"], metavar="FILE", help="The new one, - for standard output; what it replaces is kept as FILE-old."
    ),
]
_CHOICES: list[click.Parameter] = [
    click.Option([f"--{name}"], type=bool, metavar="true|false", help=text)
    for name, text in (
        ("add-defaults", "Give the profile default what it lacks."),
        ("replace-overlays", "Name the overlays that wwinit and generic were split into."),
    )
]

upgrade = Noun("upgrade", help="Bring configuration of older Warewulfs up to 4.7.")
upgrade.add_command(Verb("config", callback=_config, params=list(_FILES), help=_config.__doc__))
upgrade.add_command(
    Verb(
        "nodes",
        callback=_nodes,
        params=[*_FILES, *_CHOICES, click.Option(["--with-warewulfconf"], metavar="FILE", help="Take its nfs mounts.")],
        help=_nodes.__doc__,
    )
)
