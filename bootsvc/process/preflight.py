"""`wwctl server --check`: what the server would do here, and what is in its way."""

import os

from bootsvc.config import Config
from bootsvc.database import look_at
from bootsvc.errors import BadState
from bootsvc.http.tls import load_certificate
from bootsvc.process.boot_checks import check_images, check_loaders, check_nodes
from bootsvc.process.network_checks import (
    check_firewall,
    check_link,
    check_ports,
    check_rivals,
    check_subnet_ports,
    check_subnets,
)
from bootsvc.process.ports import find_clashes
from bootsvc.process.report import Report
from images.errors import Error


async def check(config: Config, *, ruleset: str | None) -> Report:
    """Look at everything; changes nothing, but sends one DHCPDISCOVER. `ruleset` is nft's JSON, or None."""
    report = Report()
    for warning in config.warnings:
        report.warn("settings", warning)
    clashes = find_clashes(config)
    for clash in clashes:
        report.add("settings", clash)
    if not clashes:
        report.ok("settings", f"{config.source}")
    link = await check_link(report, config)
    check_ports(report, config, link)
    _check_state(report, config)
    _check_certificate(report, config)
    if link is not None:
        attached = await check_subnets(report, config)
        check_subnet_ports(report, config, link, attached)
        for each in [link, *attached]:
            check_firewall(report, config, each, ruleset)
            await check_rivals(report, config, each)
    if config.tftp.enabled:
        check_loaders(report, config)
    registry = check_nodes(report, config, link)
    check_images(report, config, registry)
    return report


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
