"""A real QEMU: console from the first byte, reset, a dead QEMU, and the probe for KVM."""

import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = [pytest.mark.lab, pytest.mark.root]

Start = Callable[[str], subprocess.Popen[str]]

MACHINE = """
import asyncio
from pathlib import Path
from console import ConsoleFailed
from isolation import isolated
from machine import Machine
from network import build_network
from vm import boot

async def work() -> None:
    network = await build_network()
    async with boot(Machine(name="n1", hwaddr="52:54:00:00:00:01", memory=128), network.bridge, Path(".")) as vm:
        await vm.console.wait("SeaBIOS", 60)
        await vm.console.wait("iPXE", 60)
        await vm.reset()
        await vm.console.wait("SeaBIOS", 60)
        print("reset")
        vm.service.process.kill()
        try:
            await vm.console.wait("never", 60)
        except ConsoleFailed as exc:
            print(exc.message)

def body() -> int:
    asyncio.run(work())
    return 0

print("status", isolated(body))
"""

PROBE = """
import asyncio
from pathlib import Path
from kvm import works
from machine import Accel

print("boots", asyncio.run(works(Path({kernel!r}), Path({busybox!r}), Path("."), Accel.TCG)))
"""


def test_console_reset_and_a_dead_qemu(lab_script: Start, tmp_path: Path) -> None:
    output, _ = lab_script(MACHINE).communicate(timeout=200)
    assert output.splitlines() == ["reset", "n1: QEMU ended", "status 0"]
    assert b"SeaBIOS" in (tmp_path / "n1.console.log").read_bytes()


def test_the_probe_boots_to_userspace(lab_script: Start, tiny_root: Path, busybox: Path) -> None:
    (kernel,) = tiny_root.glob("boot/vmlinuz-*")
    output, _ = lab_script(PROBE.format(kernel=str(kernel), busybox=str(busybox))).communicate(timeout=100)
    assert output == "boots True\n"


def test_the_probe_is_no_by_default(lab_script: Start, tmp_path: Path, busybox: Path) -> None:
    """What is no kernel ends QEMU, and that is the answer."""
    (tmp_path / "no-kernel").write_bytes(b"\0" * 4096)
    output, _ = lab_script(PROBE.format(kernel="no-kernel", busybox=str(busybox))).communicate(timeout=100)
    assert output == "boots False\n"
