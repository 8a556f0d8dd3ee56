"""How a scenario of a head node is run: install, boot, do there what an administrator does, and see what happens."""

import asyncio
import re
from pathlib import Path

import installed
import roots
from console import Console
from direct import direct_boot
from kvm import choose
from scenario import Installation, Proof
from session import Lab

from images.errors import Error

ARGUMENTS = "console=ttyS0 no_timer_check quiet systemd.show_status=no systemd.hostname=head rdinit=/lib/systemd/systemd"
READY = "lab: ready"
COMMAND_SECONDS = 300


async def run_installation(lab: Lab, installation: Installation, root: Path, kernel: Path) -> None:
    """`root` is the initramfs that ours is added to. Every proof must hold, in its order."""
    folder, scratch = lab.head.run.path, lab.head.run.scratch
    with lab.steps.step("Install this checkout on it"):
        ours = await asyncio.to_thread(installed.our_segment, scratch)
        initramfs = scratch / "initramfs"
        initramfs.write_bytes(root.read_bytes() + ours.read_bytes())
    accel = await choose(kernel, roots.static_busybox(), folder)
    memory = installation.memory
    async with direct_boot("head", kernel, initramfs, ARGUMENTS, memory=memory, accel=accel, folder=folder) as console:
        with lab.steps.step(f"Boot it: {memory} MiB, {accel.value}"):
            await console.wait(READY, installation.seconds)
        with lab.steps.step("Do there what an administrator does"):
            for proof in installation.proofs:
                await _check(lab, console, proof)


async def _check(lab: Lab, console: Console, proof: Proof) -> None:
    loop = asyncio.get_running_loop()
    begin = loop.time()
    answer = (await console.command(proof.command, COMMAND_SECONDS)).text.strip()
    if re.search(proof.shows, answer, re.MULTILINE) is None:
        raise Error(f"{proof.proves}: {proof.command!r} does not show {proof.shows!r}", hint=answer)
    lab.steps.held(f"{proof.proves} ({loop.time() - begin:.1f} s)")
