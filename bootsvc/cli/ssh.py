"""`wwctl ssh`: a command on nodes, by their primary addresses."""

import shlex
import sys
from collections.abc import Sequence

import click

from bootsvc.cli import completion
from bootsvc.cli.command import Invocation, Verb
from bootsvc.names import UnknownName
from images.errors import Error

RSH = "/usr/bin/ssh -o ConnectTimeout=10"
"""A node that is off must not hold the others up for minutes."""


@click.pass_obj
def _ssh(invocation: Invocation, /, nodes: str, command: Sequence[str], dry: bool, fanout: int, sleep: float, rsh: str) -> int:
    """Run a command on nodes, several at a time; NODES is a host list: n[01-16].

    Each line of output has its node's name before it. Everything after NODES is the command, flags too. The exit status is 0
    when the command ended so on every node, else the largest of them; 255 is ssh's own for a node that it cannot reach.
    """
    from bootsvc.cli.fanout import Job, run_all
    from bootsvc.hostlist import compress

    names, missing = _addresses(invocation, nodes)
    if missing:
        raise Error(
            f"{compress(missing)} has no address to go to" if len(missing) == 1 else f"{compress(missing)} have no addresses",
            hint="give them one: `wwctl node set NODE --ipaddr`",
        )
    jobs = [Job(name, [*shlex.split(rsh), address, *command]) for name, address in names.items()]
    if dry:
        for job in jobs:
            print(f"{job.name}: {shlex.join(job.command)}")
        return 0
    statuses = run_all(jobs, _say, fanout=fanout, seconds_between=sleep)
    failed = [name for name, status in statuses.items() if status]
    if failed and len(jobs) > 1:
        print(f"wwctl: {len(failed)} of {len(jobs)} nodes failed: {compress(failed)}", file=sys.stderr)
    return max(statuses.values(), default=0)


def _addresses(invocation: Invocation, nodes: str) -> tuple[dict[str, str], list[str]]:
    """The address of each node's primary network, IPv4 before IPv6; and the nodes that have none. Raises UnknownName."""
    from bootsvc.cli.image.site import registry
    from bootsvc.hostlist import expand

    merged = {node.id: node for node in registry(invocation.config()).nodes}
    found, missing = {}, []
    for name in dict.fromkeys(expand(nodes)):
        if name not in merged:
            raise UnknownName("node", name, list(merged))
        device = merged[name].primary
        address = None if device is None else device.ipaddr or device.ipaddr6
        if address is None:
            missing.append(name)
        else:
            found[name] = str(address)
    return found, missing


def _say(name: str, line: str, is_error: bool) -> None:
    print(f"{name}: {line}", file=sys.stderr if is_error else sys.stdout, flush=True)


ssh = Verb(
    "ssh",
    callback=_ssh,
    help=_ssh.__doc__,
    context_settings={"help_option_names": ["-h", "--help"], "allow_interspersed_args": False},
    params=[
        click.Argument(["nodes"], metavar="NODES", shell_complete=completion.nodes),
        click.Argument(["command"], metavar="COMMAND...", nargs=-1, required=True, type=click.UNPROCESSED),
        click.Option(["-n", "--dryrun", "dry"], is_flag=True, help="Only print the commands."),
        click.Option(
            ["-f", "--fanout"],
            metavar="N",
            type=click.IntRange(min=1),
            default=32,
            show_default=True,
            help="How many run at a time.",
        ),
        click.Option(
            ["-s", "--sleep"],
            metavar="SECONDS",
            type=click.FloatRange(min=0),
            default=0.0,
            help="Seconds between two starts.",
        ),
        click.Option(["--rsh"], default=RSH, show_default=True, help="The program that goes to the node."),
    ],
)
