"""What a node's overlays are rendered from: the folders they lie in, and what their templates know of the head node."""

import asyncio
import socket
import stat
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import NamedTuple

from bootsvc.config import Config
from bootsvc.errors import NoInterface
from netboot.engine import Export, Server
from netboot.errors import OverlayNotFound
from netboot.overlay import Overlay, shipped
from netboot.overlay_library import Library
from netboot.overlay_render import OWN_INIT
from netboot.seen_server import Place
from netboot.urls import Urls


def folders(config: Config) -> Sequence[Path]:
    """The site's, then ours."""
    return config.paths.overlays, shipped()


def load_all(names: Sequence[str], library: Library, missing: Callable[[OverlayNotFound], None]) -> list[Overlay]:
    """The overlays of these names; one that does not exist is told to `missing`, for a node boots without it too.

    Raises OverlayError for one that cannot be read.
    """
    loaded = []
    for name in names:
        try:
            loaded.append(library.load(name))
        except OverlayNotFound as exc:
            # Our init is part of every image, so the name needs no files.
            if name != OWN_INIT:
                missing(exc)
    return loaded


def host_name(config: Config) -> tuple[str, str]:
    """This machine's name, and its domain (empty when nobody says it)."""
    name, _, domain = (config.fqdn or socket.gethostname()).partition(".")
    return name, domain


def describe_server(config: Config, urls: Urls, network: IPv4Network) -> Server:
    """The head node as overlays see it, now; `network` is the one that it serves, unless the configuration says."""
    name, domain = host_name(config)
    return Server(
        name=name,
        address=urls.address,
        network=config.network or network,
        domain=domain,
        urls=urls,
        dns=config.dhcp.dns,
        sysconfdir=config.paths.sysconfdir,
        chroots=config.paths.chroots,
        conf=config.head,
        authorized_keys=authorized_keys(Path("/root"), config.paths.nodes_conf.parent / "authorized_keys"),
        update_interval=config.head.warewulf.update_interval,
        exports=exports(config, config.network or network),
        key_type=config.head.made_key_types[0],
    )


class HeadNode(NamedTuple):
    """The head node as overlays see it: on the boot network, and on others."""

    server: Server
    places: tuple[Place, ...] = ()


def places_of(config: Config, addresses: Iterable[IPv4Address]) -> tuple[Place, ...]:
    """The configured subnets on which this machine has one of these addresses."""
    own = sorted(addresses)
    return tuple(
        Place(network=subnet.network, address=address, dns=subnet.dns or config.dhcp.dns)
        for subnet in config.dhcp.subnets
        for address in [address for address in own if address in subnet.network][:1]
    )


def find_head(config: Config) -> HeadNode:
    """The head node as nodes see it, for a command; where DNS is to be served, it says so.

    Raises NoInterface when warewulf.conf does not say where the boot network is.
    """
    address, network, own = config.ipaddr, config.network, frozenset[IPv4Address]()
    if address is None or network is None or config.dhcp.subnets:
        # Only here: it asks the kernel for its interfaces.
        from bootsvc.attached import find_attached

        try:
            boot, own = asyncio.run(find_attached(config))
        except NoInterface:
            # Overlays may be built before the interface is there.
            if address is None or network is None:
                raise
        else:
            address, network = boot.address, network or boot.network
    if config.dns.enabled:
        config = replace(config, dhcp=config.dhcp.with_dns(address, {address, *own}))
    server = describe_server(config, Urls(address=address, port=config.http.port), network)
    return HeadNode(server, places_of(config, own))


def find_server(config: Config) -> Server:
    """That of `find_head`."""
    return find_head(config).server


def exports(config: Config, network: IPv4Network) -> tuple[Export, ...]:
    """What the boot network may mount from here, by IPv4 and IPv6."""
    clients = [f"{network.network_address}/{network.netmask}"]
    if config.head.ipaddr6 is not None:
        clients.append(str(config.head.ipaddr6.network))
    folders = config.head.nfs.exports if config.head.nfs.enabled else ()
    return tuple(Export(path=one.path, options=one.options, clients=tuple(clients)) for one in folders)


def authorized_keys(home: Path, site: Path) -> tuple[str, ...]:
    """The lines that let root of the head node into its nodes: root's own keys and authorized_keys, and the site's file."""
    sources = [*sorted((home / ".ssh").glob("id_*.pub")), home / ".ssh" / "authorized_keys", site]
    lines: dict[str, None] = {}
    for source in sources:
        if source.is_file() and stat.S_ISREG(source.stat().st_mode):
            lines.update(dict.fromkeys(line.strip() for line in source.read_text(errors="replace").splitlines()))
    return tuple(line for line in lines if line and not line.startswith("#"))
