"""Looks for what is in the server's way on its networks: interfaces, ports, the firewall, other DHCP servers."""

from collections.abc import Sequence
from ipaddress import IPv4Network

from bootsvc.config import Config
from bootsvc.dhcp.settings import Mode
from bootsvc.errors import NoInterface
from bootsvc.http.settings import Listen
from bootsvc.net.links import Link, choose_link, list_links
from bootsvc.process.firewall import Arrival, Ruleset, Verdict
from bootsvc.process.holders import Holder, find_holders
from bootsvc.process.ports import find_obstacle, has_route, ports_of
from bootsvc.process.report import Report
from bootsvc.process.rivals import find_rivals

OURSELVES = "wwctl server"
"""How a server of ours is named among those that have a port."""


async def check_link(report: Report, config: Config) -> Link | None:
    """The interface of the boot network; None when there is none."""
    links = await list_links()
    try:
        link = choose_link(links, config.ipaddr, config.network)
    except NoInterface as exc:
        have = ", ".join(f"{link.address} on {link.name}" for link in links if link.name != "lo") or "none"
        report.error("interface", exc.message, f"{exc.hint}; this machine has {have}")
        return None
    _report_link(report, link, config.network or link.network, "network:")
    return link


def _report_link(report: Report, link: Link, network: IPv4Network, key: str) -> None:
    report.ok("interface", f"{link.name} with {link.address}, network {network}")
    if network.prefixlen != link.network.prefixlen:
        report.warn(
            "interface",
            f"{link.name} has {link.network}, but the settings say {network}",
            f"nodes are told the netmask of the settings; correct `{key}` or the interface",
        )


async def check_subnets(report: Report, config: Config) -> list[Link]:
    """Our addresses on those that this machine is attached to; the others are behind relays, to which there must be a way."""
    links = await list_links()
    attached = []
    for subnet in config.dhcp.subnets:
        link = next((one for one in links if one.address in subnet.network), None)
        if link is not None:
            attached.append(link)
            _report_link(report, link, subnet.network, "bootsvc: dhcp: subnets:")
        elif has_route(subnet.network):
            report.ok("interface", f"{subnet.network} behind a relay: no address of this machine is in it")
        else:
            report.warn(
                "interface",
                f"no address of this machine is in {subnet.network}, and there is no route to it: "
                "no relay there can be answered",
                "add a route, or give an interface an address there",
            )
    return attached


def check_ports(report: Report, config: Config, link: Link | None) -> None:
    """Who else has a port that the server needs."""
    holders = find_holders(ports_of(config))
    for (protocol, port), service in ports_of(config).items():
        taken = find_obstacle(config, (protocol, port), service, holders, link)
        if taken is None:
            report.ok(service, _describe(service, protocol, port, config, link))
        else:
            _report_holder(report, service, taken)


def check_subnet_ports(report: Report, config: Config, boot: Link, attached: Sequence[Link]) -> None:
    """Who is in the way there alone: the rest is served all the same, and that network is tried again."""
    ports = ports_of(config)
    holders = find_holders(ports) if attached else []
    free = {port: service for port, service in ports.items() if find_obstacle(config, port, service, holders, boot) is None}
    for link in attached:
        for (protocol, port), service in free.items():
            taken = find_obstacle(config, (protocol, port), service, holders, link)
            if taken is None:
                continue
            where = f"{protocol.upper()} port {port} on {link.name}"
            report.warn(
                service,
                f"{where} is taken by {taken}, so {service} does not serve {link.network}",
                "stop that program there, or take the network out of `bootsvc: dhcp: subnets:`",
            )


def _describe(service: str, protocol: str, port: int, config: Config, link: Link | None) -> str:
    text = f"{protocol.upper()} port {port}"
    if service == "http" and config.http.listen is Listen.ALL:
        return f"{text} on all interfaces"
    text += f" on {link.name}" if link else ""
    if service == "http":
        return f"{text}, the subnets and loopback only"
    if service == "dhcp":
        start, end = config.dhcp.range_start, config.dhcp.range_end
        text += f", machines that are no node get {start} to {end}" if start else ", for nodes only: no range is configured"
    return text


def _report_holder(report: Report, service: str, holder: Holder) -> None:
    text = f"{holder.protocol.upper()} port {holder.port} is taken by {holder}"
    if holder.name.startswith(OURSELVES):
        report.ok(service, f"{text}: the server runs already")
    elif service == "dns":
        report.warn(service, f"{text}, so names are not served", "stop it, or set `bootsvc: dns: enabled: false`")
    else:
        report.error(service, text, "stop that program, or move it to another address")


def check_firewall(report: Report, config: Config, link: Link, ruleset: str | None) -> None:
    """Whether packets to our ports get through; `ruleset` is nft's JSON."""
    if ruleset is None:
        report.ok("firewall", "its rules are unknown: there is no nft, or it may not look")
        return
    try:
        rules = Ruleset.parse(ruleset)
    except ValueError as exc:
        report.warn("firewall", str(exc))
        return
    passing = []
    for (protocol, port), service in ports_of(config).items():
        verdict, chain = rules.judge(Arrival(interface=link.name, protocol=protocol, port=port))
        text = f"what comes to {protocol.upper()} port {port} on {link.name} {verdict.value} by chain {chain}"
        hint = f"let {service} in from {link.name}"
        if verdict is Verdict.DROP:
            report.error("firewall", text, hint)
        elif verdict is Verdict.PERHAPS:
            report.warn("firewall", text, hint)
        else:
            passing.append(f"{protocol}/{port}")
    if passing:
        report.ok("firewall", f"lets {', '.join(passing)} in")


async def check_rivals(report: Report, config: Config, link: Link) -> None:
    """Which other DHCP servers answer a DHCPDISCOVER on the link (RFC 2131 §4.4.1)."""
    if not config.dhcp.enabled:
        return
    try:
        rivals = await find_rivals(link)
    except OSError as exc:
        report.warn("dhcp", f"whether another DHCP server answers on {link.name} is not known: {exc.strerror}")
        return
    if config.dhcp.mode is Mode.PROXY:
        if rivals:
            report.ok("dhcp", f"addresses come from {', '.join(map(str, rivals))}, boot files from here")
        else:
            report.warn("dhcp", f"no server gives addresses on {link.name}", "start it, or leave out `mode: proxy`")
        return
    for rival in rivals:
        report.error("dhcp", f"another DHCP server answers on {link.name}: {rival}", "stop it, or have it ignore this network")
    if not rivals:
        report.ok("dhcp", f"no other server answers on {link.name}")
