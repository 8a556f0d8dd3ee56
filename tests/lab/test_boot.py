"""Real boots of the tiny image through PXE, from our own servers: `lab.py run NAME`."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.root]

CHECKOUT = Path(__file__).parent.parent.parent
LAB = [sys.executable, str(CHECKOUT / "vm-lab" / "lab.py")]


def run(name: str) -> str:
    done = subprocess.run([*LAB, "run", name], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600)
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_bios_pxe(tiny_root: Path) -> None:
    text = run("bios-pxe")
    assert "wwctl node status says UP" in text
    assert re.search(r"\d{3} entries of the image arrived as they are", text)


@pytest.mark.parametrize("compression", ["zstd", "gzip"])
def test_the_kernel_unpacks_an_odd_tree_without_a_difference(tiny_root: Path, compression: str) -> None:
    text = run(f"kernel-{compression}")
    assert re.search(rf"the manifest says \d+ segments of {compression}", text)
    compared = "mode, uid, gid, mtime, size, links, same_as, rdev, target, digest, xattrs"
    assert re.search(rf"3\d{{3}} entries of the image arrived as they are: {compared}", text)


@pytest.mark.parametrize("name", ["discovery", "uefi-http", "uefi-secure-boot", "uefi-secure-unsigned"])
def test_firmware(tiny_root: Path, name: str) -> None:
    """What no other test of `make test` goes through; `make lab` runs them all."""
    text = run(name)
    assert "the server's log shows" in text


def test_an_interrupted_run_ends_cleanly_and_says_where_its_logs_are(tiny_root: Path) -> None:
    process = subprocess.Popen([*LAB, "run", "bios-pxe"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    assert process.stdout is not None
    with process:
        seen = ""
        while "console of n1" not in seen:
            line = process.stdout.readline()
            assert line, seen
            seen += line
        process.send_signal(signal.SIGTERM)
        seen += process.stdout.read()
        assert process.wait(timeout=60) == 130, seen
    match = re.search(r"are in (.*)", seen)
    assert match, seen
    run = Path(match[1].strip())
    assert (run / "bridge.pcap").stat().st_size > 0
    assert (run / "server.log").exists()
    assert (run / "n1.console.log").exists()
    assert not (run / "scratch").exists()
