"""The demo, which is also the lab's first scenario: from a container image to two booted nodes, BIOS and UEFI.

Run it by path with the project's own Python, as root (`make demo`). It exits 0 only if everything that it prints held.
"""

import asyncio
import sys
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

import roots
from debian_image import ABSENT, PRESENT, REFERENCE, push_debian
from kvm import choose
from machine import Firmware, Machine
from process import Service
from session import Lab, run_isolated, status_of
from steps import Steps
from trial import add_node, on_node
from vm import Vm

from images.errors import Error

IMAGE = "debian-12"
MARKER = "/etc/bootsvc-demo-marker"
MARKER_TEXT = "written by wwctl container exec"
SEPARATOR = "--- next ---"
VOLATILE = "/root/written-on-the-node"
MEMORY = 1280
UP_SECONDS = 240.0
SHUTDOWN_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A node of the demo's cluster."""

    name: str
    hwaddr: str
    address: IPv4Interface
    firmware: Firmware


MEMBERS = (
    Member(name="n1", hwaddr="52:54:00:b0:07:01", address=IPv4Interface("10.77.0.11/24"), firmware=Firmware.BIOS),
    Member(name="n2", hwaddr="52:54:00:b0:07:02", address=IPv4Interface("10.77.0.12/24"), firmware=Firmware.UEFI),
)


def main() -> int:
    steps = Steps()
    try:
        with steps.step(f"Make a Debian 12 root with mmdebstrap: {', '.join(roots.DEBIAN_PACKAGES)}"):
            root = roots.debian_root()
            roots.static_busybox()
            kernel = roots.debian_kernel(root)
            steps.note(f"{root} ({root.stat().st_size >> 20} MiB), kept for the next run")
        return run_isolated("demo", lambda lab: demo(lab, root, kernel), steps)
    except Error as exc:
        steps.failed(exc.message, exc.hint)
        return 1
    except KeyboardInterrupt:
        return 130


async def demo(lab: Lab, root: Path, kernel: Path) -> None:
    """The whole of it, after the root file system is made."""
    await push_image(lab, root)
    await import_image(lab)
    with lab.steps.step("Add two nodes"):
        for member in MEMBERS:
            await add_node(lab, member.name, member.hwaddr, member.address, IMAGE)
        await lab.wwctl("node", "list", "-a", "n1")
    with lab.steps.step("Start the server: DHCP, TFTP and HTTP"):
        lab.steps.command("wwctl server")
        server = await lab.service(lab.head.serve())
    first, second = await boot_both(lab, server, kernel)
    for member, vm in zip(MEMBERS, (first, second), strict=True):
        with lab.steps.step(f"Prove over ssh what {member.name} runs"):
            await prove(lab, member, vm)
    with lab.steps.step("Press n2's power button"):
        await second.powerdown(SHUTDOWN_SECONDS)
        lab.steps.held("n2 shut itself down")
    await prove_stateless(lab, MEMBERS[0], first, server)


async def push_image(lab: Lab, root: Path) -> None:
    with lab.steps.step("Pack it as an OCI image and push it to docker-registry on loopback"):
        await lab.service(lab.head.serve_registry())
        for layer in await push_debian(root, lab.head.run.scratch):
            lab.steps.note(f"layer {layer.digest[:19]}…  {layer.size:>11,} bytes  {layer.media_type.rpartition('.')[2]}")
        lab.steps.note(f"the second adds files, the third takes away {', '.join(ABSENT)}")


async def import_image(lab: Lab) -> None:
    with lab.steps.step("Import it"):
        await lab.wwctl("container", "import", REFERENCE, IMAGE)
    with lab.steps.step("Change it"):
        script = f"echo '{MARKER_TEXT}' > {MARKER}"
        await lab.wwctl("container", "exec", IMAGE, "--", "/bin/sh", "-c", script)
        await lab.wwctl("container", "list")


async def boot_both(lab: Lab, server: Service, kernel: Path) -> tuple[Vm, Vm]:
    """Boot the BIOS node and the UEFI node side by side, until both are up."""
    accel = await choose(kernel, roots.static_busybox(), lab.head.run.path)
    with lab.steps.step(f"Boot n1 (BIOS) and n2 (UEFI) over the network, {accel.value}, until both are up"):
        machines = [
            Machine(name=member.name, hwaddr=member.hwaddr, firmware=member.firmware, memory=MEMORY, accel=accel)
            for member in MEMBERS
        ]
        first, second = [await lab.boot(machine) for machine in machines]
        async with asyncio.TaskGroup() as waits:
            for vm in (first, second):
                waits.create_task(_up(lab, vm, server))
        table = await lab.wwctl("node", "status")
        for member in MEMBERS:
            _demand(status_of(table, member.name) == "UP", f"wwctl node status calls {member.name} UP")
    return first, second


async def _up(lab: Lab, vm: Vm, server: Service) -> None:
    begin = asyncio.get_running_loop().time()
    await vm.console.wait("bootsvc init: starting", UP_SECONDS)
    init = asyncio.get_running_loop().time() - begin
    await lab.stage(vm, server, "UP", UP_SECONDS)
    up = asyncio.get_running_loop().time() - begin
    lab.steps.note(f"{vm.machine.name}: root file system in RAM after {init:.1f} s, up after {up:.1f} s")


async def prove(lab: Lab, member: Member, vm: Vm) -> None:
    """The imported image with its marker, systemd without a failed unit, from RAM, under its own name."""
    tests = " && ".join([*(f"test -e {path}" for path in PRESENT), *(f"test ! -e {path}" for path in ABSENT)])
    facts = (
        ("hostname", member.name, "its host name is {}"),
        (f"cat {MARKER}", MARKER_TEXT, "the marker is there: {}"),
        (f"{tests} && echo so", "so", "what the third layer took away is gone, what was added is there"),
        (". /etc/os-release; echo $PRETTY_NAME", "Debian GNU/Linux 12 (bookworm)", "it runs {}"),
        ("cat /proc/1/comm", "systemd", "PID 1 is {}"),
        ("systemctl is-system-running --wait", "running", "the system is {}"),
        ("systemctl --failed --no-legend --plain", "", "no unit has failed"),
        ("findmnt --noheadings --output FSTYPE /", "rootfs", "its root is {}: RAM"),
        ("ls /sys/block | grep -v ^loop", "", "it has no disk"),
    )
    # One login for all of them: each costs the emulated node a second.
    script = f"; echo '{SEPARATOR}'; ".join(f"( {command} )" for command, _, _ in facts)
    answers = (await on_node(lab, vm, member.address.ip, script)).split(SEPARATOR)
    for (command, expected, words), answer in zip(facts, map(str.strip, answers), strict=True):
        _demand(answer == expected, f"{member.name}: {command!r} says {answer!r}, and {expected!r} was expected")
        lab.steps.held(words.format(answer))


async def prove_stateless(lab: Lab, member: Member, vm: Vm, server: Service) -> None:
    """A file that the node writes is gone after a reset."""
    boot_id = "cat /proc/sys/kernel/random/boot_id"
    with lab.steps.step(f"Write a file on {member.name} and reset it"):
        await on_node(lab, vm, member.address.ip, f"echo mine > {VOLATILE} && sync && cat {VOLATILE}")
        before = await on_node(lab, vm, member.address.ip, boot_id)
        await vm.reset()
        await _up(lab, vm, server)
        after = await on_node(lab, vm, member.address.ip, boot_id)
        _demand(before != after, f"{member.name} still has boot id {before} after its reset")
        lab.steps.held(f"{member.name} booted again: boot id {before[:8]}…, now {after[:8]}…")
        found = await on_node(lab, vm, member.address.ip, f"test ! -e {VOLATILE} && cat {MARKER}")
        _demand(found == MARKER_TEXT, f"{member.name} says {found!r} of its marker")
        lab.steps.held(f"{VOLATILE} is gone, and the marker of the image is there")


def _demand(fact: bool, sentence: str) -> None:
    if not fact:
        raise Error(f"this does not hold: {sentence}")


if __name__ == "__main__":
    sys.exit(main())
