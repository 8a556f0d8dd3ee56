"""Which interfaces are served, and what on each: the boot network and the configured subnets, by our addresses. Pure."""

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address

from bootsvc.config import Config
from bootsvc.dhcp.networks import Served
from bootsvc.dhcp.settings import Subnet
from bootsvc.dhcp.site import Site
from bootsvc.net.links import Link
from netboot.urls import Urls


def by_interface(config: Config, boot: Link, links: Sequence[Link]) -> Mapping[int, Sequence[Link]]:
    """The addresses of ours on which to serve, by interface: the boot network's, and one on each configured subnet."""
    chosen = [boot]
    for subnet in config.dhcp.subnets:
        link = next((one for one in links if one.address in subnet.network), None)
        if link is not None and link not in chosen:
            chosen.append(link)
    wanted: dict[int, list[Link]] = {}
    for link in chosen:
        wanted.setdefault(link.index, []).append(link)
    return wanted


def served(config: Config, wires: Sequence[Sequence[Link]], own: frozenset[IPv4Address]) -> Mapping[int, Served]:
    """The sites of each interface, by its index; `wires` are the addresses of ours on each, `own` all that we have."""
    links = [link for wire in wires for link in wire]
    subnets = {link.address: _subnet_of(link, config) for link in links}
    boot_links = [link for link in links if subnets[link.address] is None]
    boot_network = config.network or (boot_links or links)[0].network if links else None
    attached = [subnet.network for subnet in subnets.values() if subnet is not None]
    found = {}
    for wire in wires:
        sites = [
            Site(
                server=link.address,
                network=boot_network or link.network,
                urls=Urls(address=link.address, port=config.http.port),
                dhcp=config.dhcp,
                loaders=config.tftp.loaders,
                own=own,
                reachable=(boot_network or link.network, *(subnet.network for subnet in config.dhcp.subnets)),
            )
            for link in wire
        ]
        direct = [site.on(subnets[site.server]) for site in sites]
        found[wire[0].index] = Served.through(direct, sites[0], attached)
    return found


def _subnet_of(link: Link, config: Config) -> Subnet | None:
    """None: the link carries the boot network."""
    return next((subnet for subnet in config.dhcp.subnets if link.address in subnet.network), None)
