"""What a node's overlays are rendered from: the folders they lie in, and what their templates know of the head node."""

import socket
import stat
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network
from pathlib import Path

from bootsvc.config import Config
from netboot.engine import Server
from netboot.errors import OverlayNotFound
from netboot.overlay import Overlay, load, shipped
from netboot.urls import Urls

OWN_INIT = "wwinit"
"""Warewulf's overlay of that name brings its init; ours is part of every image, so the name needs no files."""


def folders(config: Config) -> Sequence[Path]:
    """The site's, then ours."""
    return config.paths.overlays, shipped()


def load_all(names: Sequence[str], places: Sequence[Path], missing: Callable[[OverlayNotFound], None]) -> list[Overlay]:
    """The overlays of these names; one that does not exist is told to `missing`, for a node boots without it too."""
    loaded = []
    for name in names:
        if name == OWN_INIT and not any((folder / name).is_dir() for folder in places):
            continue
        try:
            loaded.append(load(name, places))
        except OverlayNotFound as exc:
            missing(exc)
    return loaded


def describe_server(config: Config, urls: Urls, network: IPv4Network) -> Server:
    """The head node as overlays see it, now; `network` is the one that it serves, unless the configuration says."""
    name, _, domain = (config.fqdn or socket.gethostname()).partition(".")
    return Server(
        name=name,
        address=urls.address,
        network=config.network or network,
        domain=domain,
        urls=urls,
        dns=config.dhcp.dns,
        authorized_keys=authorized_keys(Path("/root"), config.paths.nodes_conf.parent / "authorized_keys"),
    )


def authorized_keys(home: Path, site: Path) -> tuple[str, ...]:
    """The lines that let root of the head node into its nodes: root's own keys and authorized_keys, and the site's file."""
    sources = [*sorted((home / ".ssh").glob("id_*.pub")), home / ".ssh" / "authorized_keys", site]
    lines: dict[str, None] = {}
    for source in sources:
        if source.is_file() and stat.S_ISREG(source.stat().st_mode):
            lines.update(dict.fromkeys(line.strip() for line in source.read_text(errors="replace").splitlines()))
    return tuple(line for line in lines if line and not line.startswith("#"))
