"""What is made of the parser: manual pages that groff takes, a reference that is up to date, and files to begin with."""

import dataclasses
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from head_node import HeadNode

from bootsvc.cli.manual import manual
from bootsvc.cli.markdown import NOTE, reference
from bootsvc.cli.pages import Page, Paragraph, pages
from bootsvc.config import Config
from bootsvc.store import Store

ROOT = Path(__file__).parents[3]
REFERENCE = ROOT / "docs" / "reference"


@pytest.fixture(scope="module")
def every() -> list[Page]:
    return pages()


def test_the_reference_is_up_to_date(every: list[Page]) -> None:
    hint = "the commands have changed: run `.venv/bin/wwctl genconfig reference docs/reference`, and commit what it writes"
    written = {path.name: path.read_text() for path in REFERENCE.glob("*.md")}
    made = reference(every)
    assert sorted(written) == sorted(made), hint
    stale = [name for name, text in made.items() if written[name] != text]
    assert stale == [], hint


def test_every_page_says_something(every: list[Page]) -> None:
    assert [page.title for page in every if not page.summary or len(page.summary) > 200] == []
    assert len(every) > 60
    titles = {page.title for page in every}
    assert {"wwctl", "wwctl node add", "wwctl image import", "wwctl configure tls", "wwctl ssh", "wwctl clean"} <= titles
    assert not any("genconfig" in title for title in titles)


def test_aliases_are_told(every: list[Page]) -> None:
    aliases = {page.title: list(page.aliases) for page in every}
    assert aliases["wwctl node"] == ["nodes"]
    assert aliases["wwctl node delete"] == ["rm", "del", "remove"]
    assert aliases["wwctl image"] == ["vnfs"]


def test_groff_has_nothing_to_say(every: list[Page], tmp_path: Path, require_tool: Callable[..., Path]) -> None:
    files = manual(every, "1.0")
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    groff = require_tool("groff", package="groff-base")
    done = subprocess.run(
        [groff, "-Kutf8", "-Tutf8", "-P-cbou", "-man", "-ww", *sorted(tmp_path.iterdir())],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stderr == ""
    assert "wwctl node set [OPTIONS] NODE..." in done.stdout
    assert "--kernelargs" in done.stdout


def test_roff_has_no_request_that_was_text() -> None:
    page = Page(
        path=("x",),
        usage="wwctl x",
        paragraphs=[Paragraph(text=".so /etc/passwd")],
        aliases=(),
        options=[("'a", ".b \\n -c")],
        commands=(),
    )
    [text] = manual([page], "1").values()
    assert "\n\\&.so /etc/passwd\n" in text
    assert "\n\\&.b \\en \\-c\n" in text


def test_man_and_reference_as_commands(tmp_path: Path, every: list[Page]) -> None:
    site = HeadNode(tmp_path)
    assert site.wwctl("genconfig", "man", str(tmp_path / "man")).stdout == f"Wrote {len(every)} files to {tmp_path}/man\n"
    assert (tmp_path / "man/wwctl-node-add.1").read_text().startswith('.TH "WWCTL\\-NODE\\-ADD" 1')
    (tmp_path / "ref").mkdir()
    (tmp_path / "ref/wwctl-gone.md").write_text(NOTE)
    (tmp_path / "ref/mine.md").write_text("mine")
    site.wwctl("cnf", "reference", str(tmp_path / "ref"))
    names = {path.name for path in (tmp_path / "ref").iterdir()}
    assert names == {*reference(every), "mine.md"}


def test_completions(tmp_path: Path) -> None:
    site = HeadNode(tmp_path)
    site.wwctl("genconfig", "completions", str(tmp_path / "c"))
    made = {path.name: path.read_text() for path in (tmp_path / "c").iterdir()}
    assert sorted(made) == ["_wwctl", "wwctl", "wwctl.fish"]
    assert made["wwctl"] == site.wwctl("completion", "bash").stdout


def test_what_warewulfconf_print_says_is_the_same_configuration(tmp_path: Path) -> None:
    site = HeadNode(tmp_path)
    site.conf.write_text(
        f"""\
fqdn: head.cluster
ipaddr: 10.0.0.1/16
ipaddr6: fd00::1/64
warewulf: {{port: 9999, tls: true, update interval: 5, host overlay: false}}
dhcp: {{enabled: false, range start: 10.0.1.1, range end: 10.0.1.9}}
tftp: {{ipxe: {{"00:07": x.efi}}}}
nfs: {{enabled: false, export paths: [{{path: /home}}], systemd name: nfs-server}}
ssh: {{key types: [rsa]}}
image mounts: [{{source: /etc/a, dest: /etc/b, readonly: true}}]
paths: {{sysconfdir: {tmp_path}/etc, wwchrootdir: /srv/images}}
bootsvc: {{dhcp: {{lease seconds: 600, router: 10.0.0.2, dns: [10.0.0.3]}}, router advertisements: false}}
"""
    )
    printed = site.wwctl("genconfig", "warewulfconf", "print").stdout
    (tmp_path / "printed.conf").write_text(printed)
    before, after = Config.load(site.conf), Config.load(tmp_path / "printed.conf")
    # Where it stands in which file differs.
    assert dataclasses.replace(after, source=before.source) == before


def test_defaults_are_a_nodes_conf(tmp_path: Path) -> None:
    site = HeadNode(tmp_path)
    (tmp_path / "nodes.conf").write_text(site.wwctl("genconfig", "defaults").stdout)
    snapshot = Store(tmp_path / "nodes.conf").load()
    assert snapshot.profiles["default"]["runtime overlay"] == ["hosts", "ssh.authorized_keys"]
    assert snapshot.nodes == {}
