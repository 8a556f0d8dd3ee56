"""The nodes that the server knows now, out of nodes.conf: a registry that is swapped whole."""

import logging
from collections.abc import Callable
from ipaddress import IPv4Address, IPv4Network

from bootsvc.loading import load, load_aside
from bootsvc.registry import Registry
from bootsvc.store import Store
from images.errors import Error

log = logging.getLogger(__name__)

MAX_PROBLEMS = 20
"""Lines logged of what is wrong in nodes.conf."""


class ServedNodes:
    """`network` is the boot network of now, and `own` this server's address on it, which no node can have."""

    def __init__(self, store: Store, network: Callable[[], IPv4Network], own: IPv4Address) -> None:
        self._store = store
        self._network = network
        self._own = own
        self.registry = Registry()

    def load(self) -> None:
        """Read nodes.conf before anything is served; a broken one leaves no nodes, and says why."""
        try:
            self.use(load(self._store, self._network(), self.registry))
        except Error as exc:
            log.error("nodes.conf is not used: %s", exc)

    async def read(self) -> Registry:
        """What nodes.conf says now; where it is broken or gone, the registry of before, and that is said."""
        try:
            if self._store.identity() is not None or not self.registry.nodes:
                return await load_aside(self._store, self._network(), self.registry)
            log.error("nodes.conf is gone, the nodes stay as they were: there is no %s", self._store.path)
        except (Error, OSError) as exc:
            log.error("nodes.conf is not used, the nodes stay as they were: %s", exc)
        return self.registry

    def use(self, registry: Registry) -> None:
        """From now on; what is wrong in it is logged, unless it is the one of before."""
        if registry is self.registry:
            return
        self.registry = registry
        thief = registry.by_address(self._own)
        if thief is not None:
            log.warning("node %s gets no address: its %s is this server's own", thief.id, self._own)
        for problem in registry.problems[:MAX_PROBLEMS]:
            log.warning("%s", problem)
        if len(registry.problems) > MAX_PROBLEMS:
            log.warning("%d more like these: `wwctl node list` shows them all", len(registry.problems) - MAX_PROBLEMS)
        log.info("%d nodes loaded from %s", len(registry.nodes), self._store.path)
