"""The noun `configure` and its flags; what the verbs do is imported when one is used."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootsvc.cli.command import HintedUsageError, Invocation, Noun, Verb
from netboot.head_conf import KEY_TYPES

if TYPE_CHECKING:
    from bootsvc.cli.configure.head import Head

ALL = ("tls", "warewulfd", "tftp", "dhcp", "nfs", "ssh", "hostfile")
"""The order of --all, as in Warewulf."""


def _options() -> list[click.Parameter]:
    """What every verb takes; each needs options of its own."""
    return [
        click.Option(["-n", "--dryrun", "dry"], is_flag=True, help="Only say what would be written."),
        click.Option(
            ["--root"],
            metavar="DIR",
            default="/",
            type=click.Path(),
            help="Write below DIR, and touch no service.",
        ),
    ]


def _head(invocation: Invocation, root: str, *, dry: bool) -> "Head":
    from bootsvc.cli.configure.head import Head
    from bootsvc.cli.image.site import need_root

    if not dry and root == "/":
        need_root("configure this server")
    return Head(config=invocation.config(), root=Path(root).absolute(), dry=dry)


def _run(target: str, head: "Head", /, **options: Any) -> None:
    from bootsvc.cli.configure import targets

    if target == "ssh":
        options = {"key_types": options.get("key_types") or head.config.head.made_key_types}
    getattr(targets, target)(head, **options)


def _verb(target: str, help_text: str, own: Sequence[click.Parameter] = (), read: Callable[..., dict[str, Any]] = dict) -> Verb:
    @click.pass_obj
    def callback(invocation: Invocation, /, dry: bool, root: str, **given: Any) -> None:
        _run(target, _head(invocation, root, dry=dry), **read(**given))

    return Verb(target, callback=callback, params=[*own, *_options()], help=help_text)


def _read_ssh(keytypes: str | None) -> dict[str, Any]:
    kinds = tuple(kind.strip() for kind in (keytypes or "").split(",") if kind.strip())
    for kind in kinds:
        if kind not in KEY_TYPES:
            hint = f"one of {', '.join(KEY_TYPES)}"
            raise HintedUsageError(f"--keytypes: {kind!r} is no type of key", hint, click.get_current_context())
    return {"key_types": kinds}


def _read_tls(source: str | None, target: str | None, force: bool) -> dict[str, Any]:
    if source and target:
        raise HintedUsageError("--import and --export exclude each other", None, click.get_current_context())
    return {"source": Path(source) if source else None, "target": Path(target) if target else None, "again": force}


def _read_tftp(show: bool) -> dict[str, Any]:
    """Warewulf has the flag, and no effect of it either."""
    return {}


@click.pass_context
def _configure(ctx: click.Context, /, every: bool, dry: bool, root: str) -> None:
    if ctx.invoked_subcommand is not None:
        if every or dry or root != "/":
            flag = "--all" if every else "--dryrun" if dry else "--root"
            raise HintedUsageError(
                f"{flag} stands before {ctx.invoked_subcommand}", f"give {flag} after the verb, or --all alone", ctx
            )
        return
    if not every:
        print(ctx.get_help())
        return
    invocation = ctx.ensure_object(Invocation)
    head = _head(invocation, root, dry=dry)
    for target in ALL:
        print(f"# {target}")
        if target == "tls" and not head.config.head.warewulf.tls:
            print("TLS is off in warewulf.conf (warewulf: tls: false); nothing to do")
        else:
            _run(target, head)


configure = Noun(
    "configure",
    callback=_configure,
    invoke_without_command=True,
    aliases={"tls": ["keys", "key", "cert", "crt"]},
    params=[click.Option(["-a", "--all", "every"], is_flag=True, help="All of it, in order."), *_options()],
    help="Configure this server: its hosts file, NFS exports, ssh keys and TLS.",
)
_VERBS = [
    _verb("hostfile", "Write the nodes into /etc/hosts. Lines before the mark are kept, and so are those after its end."),
    _verb("nfs", "Write the `nfs: export paths:` of warewulf.conf into /etc/exports, and start the NFS server."),
    _verb(
        "ssh",
        "Make the host keys of all nodes, root's own key, and what gives users a key at login. Keys that are there stay.",
        [
            click.Option(
                ["-t", "--keytypes"], metavar="LIST", help=f"Types of keys: {', '.join(KEY_TYPES)} (default: warewulf.conf's)."
            )
        ],
        _read_ssh,
    ),
    _verb(
        "tls",
        "Make a certificate authority and a certificate for the server, or take over or hand out a pair.",
        [
            click.Option(
                ["--import", "source"], metavar="DIR", help="Take warewulf.key and warewulf.crt (and ca.crt) from DIR."
            ),
            click.Option(["--export", "target"], metavar="DIR", help="Copy warewulf.key and warewulf.crt to DIR."),
            click.Option(["-f", "--force"], is_flag=True, help="Make new ones in place of those that are there."),
        ],
        _read_tls,
    ),
    _verb("dhcp", "Nothing to do: `wwctl server` serves DHCP itself."),
    _verb(
        "tftp",
        "Nothing to do: `wwctl server` serves TFTP itself.",
        [click.Option(["-s", "--show"], is_flag=True, hidden=True)],
        _read_tftp,
    ),
    _verb("warewulfd", "Nothing to do: `wwctl server` takes its place."),
]
for _made in _VERBS:
    configure.add_command(_made)
