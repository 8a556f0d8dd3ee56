"""`wwctl server --check`: what the server would do here, and what is in its way."""

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import IPv4Network
from pathlib import Path

from bootsvc.config import Config
from bootsvc.database import look_at
from bootsvc.dhcp.settings import Mode
from bootsvc.errors import BadState, NoInterface
from bootsvc.http.settings import Listen
from bootsvc.http.tls import load_certificate
from bootsvc.loaders import find_loader
from bootsvc.net.links import Link, choose_link, list_links
from bootsvc.process.firewall import Arrival, Ruleset, Verdict
from bootsvc.process.holders import Holder, find_holders
from bootsvc.process.ports import find_obstacle, has_route, ports_of
from bootsvc.process.rivals import find_rivals
from bootsvc.registry import Registry
from bootsvc.store import Store
from images.catalog import Catalog
from images.errors import Error
from netboot.firmware import FIRMWARES, SHIMS, loader

OURSELVES = "wwctl server"
"""How a server of ours is named among those that have a port."""
MAX_SHOWN = 10
"""Problems of nodes.conf that are listed."""
_LOADER_HINT = "the package `ipxe` has those of most machines; put others there, or name them in `tftp: ipxe:`"
_SHIM_HINT = "install the packages `shim-signed` and `grub-efi-amd64-signed` (arm64: `grub-efi-arm64-signed`)"


class Level(Enum):
    OK = "ok"
    WARNING = "warning"
    ERROR = "error"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One line of the report; `what` is the part of the server that it is about."""

    what: str
    level: Level
    text: str
    hint: str = ""


@dataclass(slots=True)
class Report:
    """All findings, in the order in which a person wants to know them."""

    findings: list[Finding] = field(default_factory=list)

    @property
    def failed(self) -> bool:
        return any(finding.level is Level.ERROR for finding in self.findings)

    def ok(self, what: str, text: str) -> None:
        self.findings.append(Finding(what=what, level=Level.OK, text=text))

    def warn(self, what: str, text: str, hint: str = "") -> None:
        self.findings.append(Finding(what=what, level=Level.WARNING, text=text, hint=hint))

    def error(self, what: str, text: str, hint: str = "") -> None:
        self.findings.append(Finding(what=what, level=Level.ERROR, text=text, hint=hint))

    def add(self, what: str, exc: Error) -> None:
        self.error(what, exc.message, exc.hint or "")


async def check(config: Config, *, ruleset: str | None) -> Report:
    """Look at everything; changes nothing, but sends one DHCPDISCOVER. `ruleset` is nft's JSON, or None."""
    report = Report()
    for warning in config.warnings:
        report.warn("settings", warning)
    report.ok("settings", f"{config.source}")
    link = await _check_link(report, config)
    _check_ports(report, config, link)
    _check_state(report, config)
    _check_certificate(report, config)
    if link is not None:
        attached = await _check_subnets(report, config)
        _check_subnet_ports(report, config, link, attached)
        for each in [link, *attached]:
            _check_firewall(report, config, each, ruleset)
            await _check_rivals(report, config, each)
    if config.tftp.enabled:
        _check_loaders(report, config)
    registry = _check_nodes(report, config, link)
    _check_images(report, config, registry)
    return report


async def _check_link(report: Report, config: Config) -> Link | None:
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


async def _check_subnets(report: Report, config: Config) -> list[Link]:
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


def _check_ports(report: Report, config: Config, link: Link | None) -> None:
    holders = find_holders(ports_of(config))
    for (protocol, port), service in ports_of(config).items():
        taken = find_obstacle(config, (protocol, port), service, holders, link)
        if taken is None:
            report.ok(service, _describe(service, protocol, port, config, link))
        else:
            _report_holder(report, service, taken)


def _check_subnet_ports(report: Report, config: Config, boot: Link, attached: Sequence[Link]) -> None:
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


def _check_state(report: Report, config: Config) -> None:
    if os.geteuid() != 0:
        report.error("privileges", "only root can have ports below 1024, and the state", "use sudo")
    folder = config.paths.state.parent
    existing = next(each for each in (folder, *folder.parents) if each.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        reason = ": its file system is read-only" if os.statvfs(existing).f_flag & os.ST_RDONLY else ""
        report.error("state", f"{existing} cannot be written{reason}", "leases are kept there")
        return
    try:
        look_at(config.paths.state)
    except BadState as exc:
        report.add("state", exc)
    else:
        report.ok("state", f"{config.paths.state}")


def _check_certificate(report: Report, config: Config) -> None:
    if config.http.tls is None:
        return
    try:
        load_certificate(config.http.tls)
    except Error as exc:
        report.add("http", exc)
    else:
        report.ok("http", f"certificate {config.http.tls.certificate}")


def _check_firewall(report: Report, config: Config, link: Link, ruleset: str | None) -> None:
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


async def _check_rivals(report: Report, config: Config, link: Link) -> None:
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


def _check_loaders(report: Report, config: Config) -> None:
    folder = config.paths.ipxesource
    wanted: dict[str, list[str]] = {}
    for arch, firmware in FIRMWARES.items():
        name = loader(arch, config.tftp.loaders)
        if name is not None:
            wanted.setdefault(name, []).append(firmware.name)
    signed = [name for name in wanted if find_loader(name, [Path("/")]) is not None]
    present = [name for name in wanted if name in signed or (folder / name).is_file()]
    for name in wanted:
        if name not in present:
            kinds = ", ".join(dict.fromkeys(wanted[name]))
            missing = report.warn if present else report.error
            hint = _SHIM_HINT if name in SHIMS.values() else _LOADER_HINT
            missing("loaders", f"{folder / name} is missing: {kinds} machines cannot boot", hint)
    if present:
        report.ok("loaders", f"{', '.join(present)}: there")


def _check_nodes(report: Report, config: Config, link: Link | None) -> Registry:
    path = config.paths.nodes_conf
    try:
        registry = Registry.build(Store(path).load(), config.network or (link.network if link else None))
    except Error as exc:
        report.add("nodes", exc)
        return Registry()
    thief = None if link is None else registry.by_address(link.address)
    if link is not None and thief is not None:
        report.warn("nodes", f"node {thief.id} gets no address: its {link.address} is this server's own", "give it another")
    for problem in registry.problems[:MAX_SHOWN]:
        report.warn("nodes", problem)
    if len(registry.problems) > MAX_SHOWN:
        report.warn("nodes", f"{len(registry.problems) - MAX_SHOWN} more like these", "`wwctl node list` shows them all")
    report.ok("nodes", f"{len(registry.nodes)} in {path}" if path.exists() else f"none: there is no {path}")
    return registry


def _check_images(report: Report, config: Config, registry: Registry) -> None:
    catalog = Catalog(chroots=config.paths.chroots, provision=config.paths.provision)
    used: dict[str, list[str]] = {}
    for node in registry.nodes:
        used.setdefault(node.image_name, []).append(node.id)
    without = used.pop("", [])
    if without:
        report.warn("images", f"{_some(without)} without an image", "`wwctl node set NODE --image NAME`")
    for image, nodes in sorted(used.items()):
        for finding in _image_problems(catalog, image):
            report.error("images", f"{finding[0]}, which {_some(nodes)} would boot", finding[1])
            break
        else:
            report.ok("images", f"{image} for {_some(nodes)}")


def _image_problems(catalog: Catalog, image: str) -> Iterator[tuple[str, str]]:
    if not catalog.exists(image):
        yield f"there is no image {image}", f"import it, or correct the nodes; there are {_list(catalog.names())}"
        return
    try:
        generation = catalog.current(image)
    except (OSError, Error) as exc:
        yield f"image {image} cannot be read: {exc}", f"`wwctl image build {image}`"
        return
    if generation is None:
        yield f"image {image} is not built", f"`wwctl image build {image}`"
        return
    missing = generation.missing()
    if missing:
        yield f"image {image} lacks {len(missing)} of its segments", f"`wwctl image build --force {image}`"
        return
    for path, _ in generation.image_files():
        if not _readable(path):
            yield f"{path} of image {image} cannot be read", "only root can; or its file system is damaged"
            return
    if not generation.manifest.kernels:
        yield f"image {image} has no kernel", "install one in it, and build it again"


def _readable(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return bool(file.read(1))
    except OSError:
        return False


def _some(nodes: Sequence[str]) -> str:
    if len(nodes) == 1:
        return f"node {nodes[0]}"
    shown = ", ".join(nodes[:3])
    return f"{len(nodes)} nodes ({shown}{', …' if len(nodes) > 3 else ''})"


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) or "none"
