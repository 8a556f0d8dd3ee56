"""What every verb of the noun needs of the head node: its images, its nodes, and root's rights."""

import os

from bootsvc.config import Config
from bootsvc.registry import Registry
from bootsvc.store import Store
from images.catalog import Catalog
from images.errors import Error


def catalog(config: Config) -> Catalog:
    return Catalog(chroots=config.paths.chroots, provision=config.paths.provision)


def registry(config: Config) -> Registry:
    return Registry.build(Store(config.paths.nodes_conf).load(), config.network)


def need_root(what: str) -> None:
    """Owners, devices and namespaces are root's business; better one sentence now than half an import."""
    if os.geteuid() != 0:
        raise Error(f"only root can {what}", hint="use sudo")
