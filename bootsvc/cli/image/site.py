"""What every verb of the noun needs of the head node: its images, its nodes, and root's rights."""

import os
from typing import TYPE_CHECKING

from images.catalog import Catalog
from images.errors import Error
from images.leftovers import clear

if TYPE_CHECKING:
    # Most verbs do not ask for the nodes, and a build is over sooner than these are imported.
    from bootsvc.config import Config
    from bootsvc.registry import Registry


def catalog(config: "Config") -> Catalog:
    """The images; what a command that was killed left among them is cleared away first."""
    found = Catalog(chroots=config.paths.chroots, provision=config.paths.provision)
    if os.geteuid() == 0:
        clear(found)
    return found


def registry(config: "Config") -> "Registry":
    from bootsvc.registry import Registry
    from bootsvc.store import Store

    return Registry.build(Store(config.paths.nodes_conf, config.paths.nodes_cache).load(), config.network)


def need_root(what: str) -> None:
    """Owners, devices and namespaces are root's business; better one sentence now than half an import."""
    if os.geteuid() != 0:
        raise Error(f"only root can {what}", hint="use sudo")


def builder() -> str:
    """Who is at the terminal, for the history of an image."""
    return os.environ.get("SUDO_USER") or os.environ.get("USER") or "root"
