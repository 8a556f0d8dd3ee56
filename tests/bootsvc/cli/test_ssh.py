"""`wwctl ssh` with a program of our own for ssh(1): prefixes, fan-out, and how it ends."""

import os
import signal
import subprocess
from pathlib import Path

import pytest
from head_node import WWCTL, HeadNode

NODES = """\
nodes:
  n1: {network devices: {default: {ipaddr: 10.0.0.11}}}
  n2: {network devices: {default: {ipaddr: 10.0.0.12}}}
  n3: {network devices: {default: {ipaddr6: "fd00::13"}}}
  bare: {}
"""


@pytest.fixture
def site(tmp_path: Path) -> HeadNode:
    site = HeadNode(tmp_path)
    (tmp_path / "etc/warewulf").mkdir(parents=True)
    (tmp_path / "etc/warewulf/nodes.conf").write_text(NODES)
    return site


def rsh(site: HeadNode, script: str) -> str:
    """A program that is given an address and a command."""
    path = site.root / "rsh"
    path.write_text(f"#!/bin/sh\nhost=$1; shift\n{script}\n")
    path.chmod(0o755)
    return str(path)


def test_lines_have_their_nodes_name(site: HeadNode) -> None:
    program = rsh(site, 'echo "$host: $*"; echo oops >&2')
    done = site.wwctl("ssh", "--rsh", program, "n[1-3]", "ls", "-l", "--color", "n[1-2]")
    assert done.returncode == 0
    assert sorted(done.stdout.splitlines()) == [
        "n1: 10.0.0.11: ls -l --color n[1-2]",
        "n2: 10.0.0.12: ls -l --color n[1-2]",
        "n3: fd00::13: ls -l --color n[1-2]",
    ]
    assert sorted(done.stderr.splitlines()) == ["n1: oops", "n2: oops", "n3: oops"]


def test_the_commands_words_are_its_own(site: HeadNode) -> None:
    done = site.wwctl("ssh", "--rsh", rsh(site, 'echo "$*"'), "n1", "do", "--debug=true", "--verbose=false")
    assert done.stdout == "n1: do --debug=true --verbose=false\n"


@pytest.mark.parametrize(
    ("script", "status", "error"),
    [
        ("exit 0", 0, ""),
        ("[ $host = 10.0.0.11 ] || exit 3", 3, "wwctl: 1 of 2 nodes failed: n2\n"),
        ("[ $host = 10.0.0.11 ] && exit 255; exit 7", 255, "wwctl: 2 of 2 nodes failed: n[1-2]\n"),
        ("kill -9 $$", 137, "wwctl: 2 of 2 nodes failed: n[1-2]\n"),
    ],
)
def test_exit_status(script: str, status: int, error: str, site: HeadNode) -> None:
    done = site.wwctl("ssh", "--rsh", rsh(site, script), "n1,n2", "true")
    assert (done.returncode, done.stderr) == (status, error)


def test_a_program_that_is_not_there(site: HeadNode) -> None:
    done = site.wwctl("ssh", "--rsh", "/nonsense", "n1", "true")
    assert (done.returncode, done.stderr) == (255, "n1: /nonsense: No such file or directory\n")


def test_dryrun(site: HeadNode) -> None:
    done = site.wwctl("ssh", "-n", "n[1-2]", "echo", "a b")
    ssh = "/usr/bin/ssh -o ConnectTimeout=10"
    assert done.stdout == f"n1: {ssh} 10.0.0.11 echo 'a b'\nn2: {ssh} 10.0.0.12 echo 'a b'\n"


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["n4", "true"], 1, "wwctl: there is no node 'n4'\n"),
        (["n[1-2],bare", "true"], 1, "wwctl: bare has no address to go to\n"),
        (["n[1", "true"], 1, "wwctl: host list 'n[1', column 2"),
        (["n1"], 2, "wwctl: missing argument"),
    ],
)
def test_bad_input_goes_nowhere(arguments: list[str], status: int, message: str, site: HeadNode) -> None:
    done = site.wwctl("ssh", "--rsh", rsh(site, f"touch {site.root}/ran"), *arguments)
    assert done.returncode == status
    assert done.stderr.startswith(message)
    assert not (site.root / "ran").exists()


def test_fanout_is_a_limit(site: HeadNode) -> None:
    """Each counts who runs beside it."""
    script = f"mkdir {site.root}/run.$$; ls -d {site.root}/run.* | wc -l; sleep 0.05; rmdir {site.root}/run.$$"
    done = site.wwctl("ssh", "--rsh", rsh(site, script), "-f", "1", "n[1-3]", "true")
    assert sorted(done.stdout.splitlines()) == ["n1: 1", "n2: 1", "n3: 1"]


def test_an_interrupt_ends_them_all(site: HeadNode) -> None:
    program = rsh(site, "echo $$; exec sleep 600")
    process = subprocess.Popen(
        [WWCTL, "ssh", "--rsh", program, "-f", "2", "n[1-3]", "true"],
        env=site.environment,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    pids = [int(process.stdout.readline().split()[1]) for _ in range(2)]
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=60) == 130
    for pid in pids:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    process.communicate()


def test_one_node_gets_standard_input(site: HeadNode) -> None:
    program = rsh(site, "cat")
    done = subprocess.run(
        [WWCTL, "ssh", "--rsh", program, "n1", "cat"],
        env=site.environment,
        input="hello\n",
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "n1: hello\n"
