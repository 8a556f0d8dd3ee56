"""`wwctl node status`: what the server says of each node's boot, in Warewulf's fixed columns."""

import time
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address
from urllib.error import HTTPError, URLError
from urllib.request import ProxyHandler, build_opener

import msgspec

from bootsvc.cli.terminal import colour, warn
from bootsvc.config import Config
from images.errors import Error
from netboot.urls import ROUTE_STATUS, Urls

TIMEOUT = 30
"""Seconds, as Warewulf."""
UPDATE_INTERVAL = 60
"""Seconds between two signs of life of a node that is up (Warewulf's default `update interval`)."""
_FORMAT = "%-20s %-20s %-25s %-10s"
_STAGES = {"system": "SYSTEM OVERLAY", "runtime": "RUNTIME OVERLAY"}


class NodeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One node in the answer of `/status`; `last_seen` in seconds of the epoch, 0 for never."""

    stage: str = ""
    sent: str = ""
    ipaddr: str = ""
    last_seen: int = msgspec.field(name="last seen", default=0)


class _Answer(msgspec.Struct, frozen=True):
    nodes: dict[str, NodeStatus]


def fetch(config: Config) -> Mapping[str, NodeStatus]:
    """Ask the server on this machine; raises Error when there is none."""
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
    except msgspec.DecodeError as exc:
        raise Error(f"{url} does not answer as bootsvc does: {exc}", hint="another program may hold that port") from exc


def lines(nodes: Mapping[str, NodeStatus], names: Sequence[str], now: float | None = None) -> Iterator[str]:
    """Header and one line a node, sorted by name; only those in `names` when some are given."""
    now = time.time() if now is None else now
    for missing in (name for name in names if name not in nodes):
        warn(f"the server knows no node {missing!r}")
    yield (_FORMAT % ("NODENAME", "STAGE", "SENT", "LASTSEEN (s)")).rstrip()
    yield "=" * 80
    for name in sorted(name for name in nodes if not names or name in names):
        yield _line(name, nodes[name], now)


def _line(name: str, node: NodeStatus, now: float) -> str:
    if not node.last_seen:
        return colour((_FORMAT % (name, "--", "--", "--")).rstrip(), "grey")
    age = max(0, int(now) - node.last_seen)
    stage = _STAGES.get(node.stage, node.stage.upper())
    late = "red" if age > 2 * UPDATE_INTERVAL else "yellow" if age > UPDATE_INTERVAL + 5 else None
    # A node that is up and sends no signs of life is not late.
    return colour((_FORMAT % (name, stage or "--", node.sent or "--", age)).rstrip(), None if stage == "UP" else late)
