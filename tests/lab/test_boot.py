"""A real boot of the tiny image through PXE, from our own servers: `lab.py run bios-pxe`."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.root]

CHECKOUT = Path(__file__).parent.parent.parent
LAB = [sys.executable, str(CHECKOUT / "vm-lab" / "lab.py")]


def test_bios_pxe(tiny_root: Path) -> None:
    done = subprocess.run([*LAB, "run", "bios-pxe"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=300)
    assert done.returncode == 0, done.stdout
    assert "wwctl node status says UP" in done.stdout
    assert re.search(r"\d{3} entries of the image arrived as they are", done.stdout)


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
