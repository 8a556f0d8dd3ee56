"""`wwctl node status`: what the server says of each node's boot, in Warewulf's fixed columns."""

import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address

import click
import msgspec

from bootsvc.cli.command import Invocation
from bootsvc.cli.listing import form_options, write
from bootsvc.cli.names import NODE
from bootsvc.cli.terminal import colour, warn
from bootsvc.config import Config
from bootsvc.names import closest
from images.errors import Error
from netboot.urls import ROUTE_STATUS, Urls

TIMEOUT = 30
"""Seconds, as Warewulf."""
UPDATE_INTERVAL = 60
"""Seconds between two signs of life of a node that is up (Warewulf's default `update interval`)."""
_FORMAT = "%-20s %-20s %-25s %-10s"
CLEAR = "\033[H\033[2J"
_STAGES = {"system": "SYSTEM OVERLAY", "runtime": "RUNTIME OVERLAY"}


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One node in the answer of `/status`; `last_seen` in seconds of the epoch, 0 for never."""

    stage: str = ""
    sent: str = ""
    why: str = ""
    """A sentence, where `sent` is a word such as NOT_FOUND."""
    ipaddr: str = ""
    last_seen: int = msgspec.field(name="last seen", default=0)


class _Answer(msgspec.Struct, frozen=True):
    nodes: dict[str, NodeStatus]


def fetch(config: Config) -> Mapping[str, NodeStatus]:
    """Ask the server on this machine; raises Error when there is none."""
    # Only this verb needs it, and it is a tenth of the time of the others.
    from http.client import HTTPException
    from urllib.error import HTTPError, URLError
    from urllib.request import ProxyHandler, build_opener

    urls = Urls(address=config.ipaddr or IPv4Address("127.0.0.1"), port=config.http.port)
    url = urls.base + ROUTE_STATUS
    try:
        # Never through a proxy: the address is this machine's own.
        with build_opener(ProxyHandler({})).open(url, timeout=TIMEOUT) as response:
            return msgspec.json.decode(response.read(), type=_Answer, strict=False).nodes
    except HTTPError as exc:
        raise Error(f"{url} answers {exc.code} {exc.reason}", hint="is that port bootsvc's? `wwctl server` serves it") from exc
    except (URLError, OSError) as exc:
        reason = getattr(exc, "reason", exc)
        detail = getattr(reason, "strerror", None) or str(reason)
        raise Error(
            f"no server answers at {urls.base}: {detail}",
            hint="start it with `wwctl server`; ipaddr and port come from warewulf.conf",
        ) from exc
    except (HTTPException, msgspec.DecodeError) as exc:
        reason = str(exc).strip() or type(exc).__name__
        raise Error(f"{url} does not answer as bootsvc does: {reason}", hint="another program may hold that port") from exc


@dataclass(frozen=True, slots=True, kw_only=True)
class Selection:
    """Which nodes `status` shows, and in which order; `within` in seconds."""

    names: Sequence[str] = ()
    within: int | None = None
    unknown: bool = False
    by_time: bool = False
    reverse: bool = False

    def check(self, nodes: Mapping[str, NodeStatus]) -> None:
        """Warn of each name that the server does not know; raises Error when it knows none of those given."""
        missing = [name for name in self.names if name not in nodes]
        if missing and len(missing) == len(self.names):
            hint = (
                closest(missing[0], list(nodes)) or "`wwctl node list` shows the nodes; the server may not have read them yet"
            )
            raise Error(f"the server knows no node {missing[0]!r}", hint=hint)
        for name in missing:
            warn(f"the server knows no node {name!r}", closest(name, list(nodes)))

    def of(self, nodes: Mapping[str, NodeStatus], now: float) -> list[str]:
        """The nodes' names; those never seen are the oldest."""
        wanted = frozenset(self.names)
        chosen = [
            name
            for name, node in nodes.items()
            if (not wanted or name in wanted)
            and (self.within is None or (node.last_seen and now - node.last_seen <= self.within))
            and not (self.unknown and node.last_seen)
        ]
        newest_first = (lambda name: (-nodes[name].last_seen, name)) if self.by_time else (lambda name: (0, name))
        return sorted(chosen, key=newest_first, reverse=self.reverse)


@click.pass_obj
def status(
    invocation: Invocation,
    /,
    names: tuple[str, ...],
    watch: bool,
    update: int,
    within: int | None,
    last: bool,
    reverse: bool,
    unknown: bool,
    form: str | None,
) -> None:
    """Show how far each node has booted, as the server sees it."""
    config = invocation.config()
    selection = Selection(names=NODE.expand(names), within=within, unknown=unknown, by_time=last, reverse=reverse)
    nodes = fetch(config)
    selection.check(nodes)
    while True:
        if form:
            chosen = selection.of(nodes, time.time())
            write([{"node name": name, **msgspec.to_builtins(nodes[name])} for name in chosen], form)
        else:
            text = "".join(f"{line}\n" for line in lines(nodes, selection))
            print((CLEAR if watch and sys.stdout.isatty() else "") + text, end="", flush=True)
            # Beside the table, whose columns programs read.
            print("".join(f"{line}\n" for line in reasons(nodes, selection)), end="", file=sys.stderr)
        if not watch:
            return
        time.sleep(update / 1000)
        nodes = fetch(config)


def options() -> list[click.Parameter]:
    return [
        click.Option(["-w", "--watch"], is_flag=True, help="Show it again and again, until Ctrl-C."),
        click.Option(
            ["-U", "--update"],
            type=click.IntRange(min=1),
            default=500,
            show_default=True,
            metavar="MS",
            help="How often with --watch, in milliseconds.",
        ),
        click.Option(
            ["-t", "--time", "within"],
            type=click.IntRange(min=0),
            metavar="SECONDS",
            help="Only nodes seen within that many seconds.",
        ),
        click.Option(["-l", "--last"], is_flag=True, help="The one seen last comes first."),
        click.Option(["-r", "--reverse"], is_flag=True, help="The other way round."),
        click.Option(["-u", "--unknown"], is_flag=True, help="Only nodes that were never seen."),
        *form_options(),
    ]


def lines(nodes: Mapping[str, NodeStatus], selection: Selection, now: float | None = None) -> Iterator[str]:
    """Header and one line a node."""
    now = time.time() if now is None else now
    yield (_FORMAT % ("NODENAME", "STAGE", "SENT", "LASTSEEN (s)")).rstrip()
    yield "=" * 80
    for name in selection.of(nodes, now):
        yield _line(name, nodes[name], now)


def reasons(nodes: Mapping[str, NodeStatus], selection: Selection) -> Iterator[str]:
    """Why nodes do not get on, one line each."""
    for name in selection.of(nodes, time.time()):
        if nodes[name].why:
            yield f"{name}: {nodes[name].why}"


def _line(name: str, node: NodeStatus, now: float) -> str:
    if not node.last_seen:
        return colour((_FORMAT % (name, "--", "--", "--")).rstrip(), "grey")
    age = max(0, int(now) - node.last_seen)
    stage = _STAGES.get(node.stage, node.stage.upper())
    late = "red" if age > 2 * UPDATE_INTERVAL else "yellow" if age > UPDATE_INTERVAL + 5 else None
    # A node that is up and sends no signs of life is not late.
    return colour((_FORMAT % (name, stage or "--", node.sent or "--", age)).rstrip(), None if stage == "UP" else late)
