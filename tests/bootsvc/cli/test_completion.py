"""What a shell is offered while somebody types: names that exist now, by each of the three shells' own protocols."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from click.shell_completion import BashComplete
from head_node import WWCTL, HeadNode

from bootsvc.cli.completion import SHELLS, VARIABLE
from bootsvc.cli.main import command

NODES = """\
nodeprofiles:
  default: {image name: rocky-9}
nodes:
  n1: {image name: debian-12}
  n2: {profiles: [default]}
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> HeadNode:
    site = HeadNode(tmp_path)
    for image, kernel in (("debian-12", "6.1.0-9-amd64"), ("rocky-9", "5.14.0-1.el9")):
        boot = site.chroots / image / "rootfs/boot"
        boot.mkdir(parents=True)
        (boot / f"vmlinuz-{kernel}").write_bytes(b"kernel")
    for no_image in ("no name", ".staging-new-x1"):
        (site.chroots / no_image / "rootfs").mkdir(parents=True)
    (tmp_path / "lib/warewulf/overlays/mine/rootfs").mkdir(parents=True)
    (tmp_path / "etc/warewulf").mkdir(parents=True)
    (tmp_path / "etc/warewulf/nodes.conf").write_text(NODES)
    monkeypatch.setenv("WAREWULFCONF", str(site.conf))
    return site


@pytest.fixture
def offered(site: HeadNode) -> Callable[[str], list[str]]:
    """The words that are offered for the last one of a line."""

    def complete(line: str) -> list[str]:
        *words, last = line.split(" ")
        shell = BashComplete(command(), {}, "wwctl", VARIABLE)
        return [item.value for item in shell.get_completions(words, last)]

    return complete


@pytest.mark.parametrize(
    ("line", "names"),
    [
        ("image build ", ["debian-12", "rocky-9"]),
        ("container delete debian-12 r", ["rocky-9"]),
        ("image copy d", ["debian-12"]),
        ("image rename debian-12 ", []),
        ("image exec ", ["debian-12", "rocky-9"]),
        ("image exec rocky-9 ", []),
        ("image shell rocky-9 ", []),
        ("image shell -n ", ["n1", "n2"]),
        ("image syncuser r", ["rocky-9"]),
        ("image history d", ["debian-12"]),
        ("ssh n", ["n1", "n2"]),
        ("node set n1 --image ", ["debian-12", "rocky-9"]),
        ("node set n1 --kernelversion ", ["6.1.0-9"]),
        ("node set n2 --kernelversion ", ["5.14.0-1"]),
        ("node add n3 --image debian-12 --kernelversion ", ["6.1.0-9"]),
        ("node add n3 --kernelversion ", ["5.14.0-1", "6.1.0-9"]),
        ("profile set default --kernelversion ", ["5.14.0-1"]),
        ("node set n1 --system-overlays wwinit,mi", ["wwinit,mine"]),
        ("configure ", ["dhcp", "hostfile", "nfs", "ssh", "tftp", "tls", "warewulfd"]),
    ],
)
def test_live_names(line: str, names: list[str], offered: Callable[[str], list[str]]) -> None:
    assert offered(line) == names


def test_a_broken_configuration_offers_nothing(site: HeadNode, offered: Callable[[str], list[str]]) -> None:
    (site.root / "etc/warewulf/nodes.conf").write_text("nodes: [\n")
    assert offered("node set n1 --kernelversion ") == []
    assert offered("ssh n") == []
    assert offered("node set n[1 --kernelversion ") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_every_shell_reads_its_script(shell: str, site: HeadNode, tmp_path: Path, require_tool: Callable[..., Path]) -> None:
    script = tmp_path / "script"
    script.write_text(site.wwctl("completion", shell).stdout)
    flag = "--no-execute" if shell == "fish" else "-n"
    done = subprocess.run([require_tool(shell), flag, script], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_bash_completes_a_name(site: HeadNode, tmp_path: Path, require_tool: Callable[..., Path]) -> None:
    """The whole way: the script, the shell's function, the command."""
    (tmp_path / "script").write_text(site.wwctl("completion", "bash").stdout)
    asks = (
        'source "$0"; COMP_WORDS=(wwctl image build d); COMP_CWORD=3; complete -p wwctl >/dev/null; '
        '_wwctl_completion wwctl d build; echo "${COMPREPLY[@]}"'
    )
    environment = site.environment | {"PATH": f"{WWCTL.parent}:{os.environ['PATH']}"}
    command = [str(require_tool("bash")), "--norc", "-c", asks, str(tmp_path / "script")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("debian-12\n", "")


def test_fish_and_zsh_protocols(site: HeadNode) -> None:
    fish = site.wwctl(_WWCTL_COMPLETE="fish_complete", COMP_WORDS="wwctl image build ", COMP_CWORD="d")
    assert "debian-12" in fish.stdout
    assert "rocky-9" not in fish.stdout
    zsh = site.wwctl(_WWCTL_COMPLETE="zsh_complete", COMP_WORDS="wwctl image build d", COMP_CWORD="3")
    assert zsh.stdout.splitlines()[:2] == ["plain", "debian-12"]
