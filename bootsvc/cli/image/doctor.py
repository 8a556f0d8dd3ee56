"""`wwctl image check`, and the warnings that an import ends with."""

import platform

import click
import msgspec

from bootsvc.cli import completion
from bootsvc.cli.command import Invocation, Noun, pass_invocation
from bootsvc.cli.image.formats import dump, format_options
from bootsvc.cli.image.site import catalog as open_catalog
from bootsvc.cli.image.site import need_root
from bootsvc.cli.image.vocabulary import Vocabulary
from bootsvc.cli.terminal import colour, warn
from images.doctor.subject import Host, Severity
from images.doctor.table import Named, examine, subject_of, worst
from images.errors import Error
from images.manifest import Platform
from images.ownership import read_host

KEYS_OVERLAY = "ssh.authorized_keys"
COLOURS = {Severity.ERROR: "red", Severity.WARNING: "yellow", Severity.NOTE: "grey"}
MOST_WARNINGS = 3
"""Lines after an import; the rest is one command away."""


class FindingRow(msgspec.Struct, frozen=True, kw_only=True):
    image: str
    check: str
    severity: str
    message: str
    fix: str


def add_check(group: Noun, words: Vocabulary) -> None:
    @group.command("check", help=f"Say whether {words.noun}s can boot as stateless nodes, and what would go wrong.")
    @click.argument("names", nargs=-1, required=True, shell_complete=completion.images)
    @format_options
    @pass_invocation
    def check(invocation: Invocation, names: tuple[str, ...], form: str | None) -> int:
        for name in names:
            open_catalog(invocation.config()).get(name)
        need_root(f"read all of {words.noun} {names[0]!r}")
        found = {name: findings(invocation, words, name) for name in dict.fromkeys(names)}
        if form:
            print(dump([_row(name, named) for name, all_ in found.items() for named in all_], form), end="")
        else:
            for name, all_ in found.items():
                _tell(words, name, all_)
        return int(any(named.finding.severity is Severity.ERROR for all_ in found.values() for named in all_))


def findings(invocation: Invocation, words: Vocabulary, name: str) -> list[Named]:
    """What the doctor finds in an image. Raises ImageNotFound."""
    catalog = open_catalog(invocation.config())
    return examine(subject_of(catalog, name, _host(invocation, name), command=f"wwctl {words.noun}"))


def warn_after_import(invocation: Invocation, words: Vocabulary, name: str) -> None:
    """The worst findings, each a line on standard error; that a tree cannot be read through is one, for it was imported."""
    try:
        serious = list(worst(findings(invocation, words, name)))
    except Error as exc:
        warn(f"{name}: {exc.message}", exc.hint)
        return
    more = f"{len(serious) - MOST_WARNINGS} more, and " if len(serious) > MOST_WARNINGS else ""
    hint = f"`wwctl {words.noun} check {name}` shows {more}what to do"
    told = serious[:MOST_WARNINGS]
    for named in told:
        warn(f"{name}: {named.finding.message}", hint if named is told[-1] else None)


def _host(invocation: Invocation, name: str) -> Host:
    config = invocation.config()
    architecture = Platform.parse(platform.machine()).architecture
    try:
        accounts, first_person = read_host(config.paths.sysconfdir)
    except Error:
        return Host(architecture=architecture, root_keys=_root_keys(invocation, name))
    return Host(architecture=architecture, accounts=accounts, first_person=first_person, root_keys=_root_keys(invocation, name))


def _root_keys(invocation: Invocation, name: str) -> bool:
    """Whether an overlay brings root's keys to every node of the image; while it has none, to a new node."""
    from bootsvc.registry import Registry

    snapshot = invocation.store().load()
    nodes = Registry.build(snapshot, invocation.config().network).nodes_of_image(name)
    if nodes:
        return all(KEYS_OVERLAY in (*node.runtime_overlay, *node.system_overlay) for node in nodes)
    default = snapshot.profiles.get("default", {})
    return any(KEYS_OVERLAY in (default.get(key) or ()) for key in ("runtime overlay", "system overlay"))


def _tell(words: Vocabulary, name: str, found: list[Named]) -> None:
    for named in found:
        severity = named.finding.severity
        print(f"{colour(severity, COLOURS[severity])}: {named.finding.message} [{named.check}]")
        print(f"    {named.finding.fix}")
    counts = {severity: sum(named.finding.severity is severity for named in found) for severity in Severity}
    verdict = "cannot boot as a stateless node" if counts[Severity.ERROR] else "can boot as a stateless node"
    shown = ", ".join(f"{count} {severity}{'s' if count != 1 else ''}" for severity, count in counts.items() if count)
    print(f"{words.noun.capitalize()} {name} {verdict}{f': {shown}' if shown else ''}", flush=True)


def _row(name: str, named: Named) -> FindingRow:
    finding = named.finding
    return FindingRow(image=name, check=named.check, severity=finding.severity.value, message=finding.message, fix=finding.fix)
