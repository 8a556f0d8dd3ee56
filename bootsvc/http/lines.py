"""The log's lines about what one machine asked for over HTTP: the keys of the other servers' lines, in their order."""

import logging
import time

from bootsvc.http.peers import Peer
from bootsvc.net.udp import Budget
from netboot.node import Node

log = logging.getLogger(__name__)


class Lines:
    """Within a budget: a loop of somebody's must not fill the disk."""

    def __init__(self, *, rate: float = 100, burst: int = 5000) -> None:
        self._budget = Budget(rate=rate, burst=burst)

    def say(
        self, what: str, peer: Peer, node: Node | None, told: str = "", *, why: str = "", level: int = logging.INFO
    ) -> None:
        """`told`: further keys, before those of the peer; `why`: a sentence."""
        if self._budget.take(time.monotonic()):
            log.log(
                level,
                "http %s hwaddr=%s node=%s%s client=%s if=%s%s",
                *(what, peer.hwaddr or "-", "-" if node is None else node.id, told and f" {told}"),
                *(peer.remote, peer.interface, why and f": {why}"),
            )
