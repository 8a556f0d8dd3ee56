"""May the lab use KVM? Only when a kernel really gets to userspace with it: a /dev/kvm that never boots anything exists."""

import json
import os
import stat
from pathlib import Path

from console import ConsoleFailed
from direct import direct_boot
from machine import Accel
from places import CACHE

from images.cpio import Entry, archive

DEVICE = Path("/dev/kvm")
PROBE_SECONDS = 20.0
ALIVE = "kvm-probe: userspace"
INIT = f"#!/bin/busybox sh\n/bin/busybox echo '{ALIVE}'\n/bin/busybox poweroff -f\n".encode()


async def choose(kernel: Path, busybox: Path, folder: Path) -> Accel:
    """KVM when a probe boot of `kernel` shows that it works, else TCG; asked once for each boot of this host.

    `busybox` is a static one; the probe's initramfs and log go to `folder`.
    """
    if not os.access(DEVICE, os.R_OK | os.W_OK):
        return Accel.TCG
    verdict = CACHE / "kvm-verdict.json"
    key = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    if verdict.exists():
        known = json.loads(verdict.read_text())
        if known.get("boot") == key:
            return Accel(known["accel"])
    accel = Accel.KVM if await works(kernel, busybox, folder) else Accel.TCG
    CACHE.mkdir(exist_ok=True)
    verdict.write_text(json.dumps({"boot": key, "accel": accel.value}) + "\n")
    return accel


async def works(kernel: Path, busybox: Path, folder: Path, accel: Accel = Accel.KVM) -> bool:
    """Boot the kernel with a one-file init; true when its init spoke within twenty seconds."""
    initramfs = folder / "kvm-probe.cpio"
    initramfs.write_bytes(_initramfs(busybox.read_bytes()))
    arguments = "console=ttyS0 panic=-1"
    async with direct_boot("kvm-probe", kernel, initramfs, arguments, memory=256, accel=accel, folder=folder) as serial:
        try:
            await serial.wait(ALIVE, PROBE_SECONDS)
        except ConsoleFailed:
            return False
    return True


def _initramfs(busybox: bytes) -> bytes:
    files = [(b"bin/busybox", busybox), (b"init", INIT)]
    directories = [(Entry(path=name, mode=stat.S_IFDIR | 0o755), b"") for name in (b"bin", b"dev")]
    # The kernel opens /dev/console for init; without the node init would have no output.
    node = Entry(path=b"dev/console", mode=stat.S_IFCHR | 0o600, rdev_major=5, rdev_minor=1)
    entries = [(Entry(path=name, mode=stat.S_IFREG | 0o755, size=len(data)), data) for name, data in files]
    return archive([*directories, (node, b""), *entries])
