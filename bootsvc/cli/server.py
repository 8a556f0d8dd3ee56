"""`wwctl server`: the appliance in the foreground; what it would do (`--check`); its systemd unit (`--install-unit`)."""

import asyncio
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from bootsvc.cli.command import Invocation, Verb, pass_invocation

if TYPE_CHECKING:
    from bootsvc.process.report import Finding

log = logging.getLogger(__name__)
_NFT_SECONDS = 20
_SWITCH_SECONDS = 0.0005
"""So often does a thread that merges nodes give Python's lock away; an answer takes it four times, each after 5 ms else."""


@click.command(cls=Verb)
@click.option("--check", is_flag=True, help="Say what it would do here and what is in its way, and end: 0 when nothing is.")
@click.option("-j", "--json", "as_json", is_flag=True, help="With --check: as JSON.")
@click.option("--install-unit", is_flag=True, help="Write the systemd unit bootsvc.service, and end.")
@pass_invocation
def server(invocation: Invocation, check: bool, as_json: bool, install_unit: bool) -> int:
    """Serve DHCP, TFTP, HTTP and DNS to the nodes until interrupted.

    Changes of nodes.conf and warewulf.conf take effect by themselves.
    """
    if as_json and not check:
        raise click.UsageError("--json goes with --check")
    if check and install_unit:
        raise click.UsageError("--check changes nothing, and --install-unit does: give one of them")
    if check:
        return _check(invocation, as_json=as_json)
    if install_unit:
        return _install_unit(invocation)
    return _serve(invocation)


def _serve(invocation: Invocation) -> int:
    from bootsvc.logs import BatchedHandler
    from bootsvc.process import privileges
    from bootsvc.process.holders import find_holders
    from bootsvc.process.journal import is_journal
    from bootsvc.process.ports import ports_of
    from bootsvc.serving import serve

    root = logging.getLogger()
    for handler in list(root.handlers):
        root.removeHandler(handler)
    root.addHandler(BatchedHandler(sys.stderr, journal=is_journal(sys.stderr.fileno())))
    # Of no use to us, and found out anew for every line.
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    logging._srcfile = None
    if root.level > logging.INFO:
        root.setLevel(logging.INFO)
    config = invocation.config()
    # Before capabilities go: they are what it takes to look into other processes.
    holders = find_holders(ports_of(config))
    sys.setswitchinterval(_SWITCH_SECONDS)
    privileges.raise_file_limit()
    if not privileges.limit():
        log.info("no capability could be given up: the kernel keeps them for this process")
    asyncio.run(serve(config, holders=holders))
    return 0


def _check(invocation: Invocation, *, as_json: bool) -> int:
    from bootsvc.cli.table import Table
    from bootsvc.cli.table import as_json as to_json
    from bootsvc.process import preflight

    report = asyncio.run(preflight.check(invocation.config(), ruleset=_ruleset()))
    table = Table(
        ("WHAT", "STATE", "FINDING"),
        [(each.what, each.level.value, each.text if as_json else _with_hint(each)) for each in report.findings],
    )
    if as_json:
        records = [{**record, "hint": each.hint} for record, each in zip(table.records(), report.findings, strict=True)]
        print(to_json(records), end="")
    else:
        print(table.text(), end="")
    return 1 if report.failed else 0


def _with_hint(finding: "Finding") -> str:
    return f"{finding.text} ({finding.hint})" if finding.hint else finding.text


def _ruleset() -> str | None:
    """What `nft` knows of the firewall; None where it is missing or must not look."""
    nft = shutil.which("nft", path="/usr/sbin:/sbin:/usr/bin:/bin")
    if nft is None:
        return None
    try:
        run = subprocess.run(
            [nft, "-j", "list", "ruleset"], capture_output=True, text=True, timeout=_NFT_SECONDS, stdin=subprocess.DEVNULL
        )
    except (OSError, subprocess.TimeoutExpired) as exc:
        log.debug("nft: %s", exc)
        return None
    return run.stdout if run.returncode == 0 else None


def _install_unit(invocation: Invocation) -> int:
    from bootsvc.errors import access_hint
    from bootsvc.process import unit
    from images.atomic import write_whole
    from images.errors import Error

    config = invocation.config()
    try:
        for folder in unit.writable(config):
            folder.mkdir(parents=True, exist_ok=True)
        write_whole(unit.PLACE, unit.render(config, Path(sys.argv[0]).absolute()).encode())
        unit.PLACE.chmod(0o644)
    except OSError as exc:
        raise Error(f"cannot write {exc.filename or unit.PLACE}: {exc.strerror}", hint=access_hint(exc)) from exc
    print(f"{unit.PLACE} is written; `systemctl daemon-reload && systemctl enable --now {unit.PLACE.stem}` starts it")
    return 0
