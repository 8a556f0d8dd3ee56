"""A machine without a network that gets kernel and initramfs from QEMU itself, as any boot loader would hand them over."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from console import Console
from machine import Accel, console
from process import Service


@asynccontextmanager
async def direct_boot(
    name: str, kernel: Path, initramfs: Path, arguments: str, *, memory: int, accel: Accel, folder: Path
) -> AsyncIterator[Console]:
    """Boot with `memory` MiB; what it writes goes to `folder`, named after it. A reset ends it, and so does the block."""
    near, far = socket.socketpair()
    with far:
        command = [
            *("qemu-system-x86_64", *accel.arguments, "-machine", "pc", "-m", str(memory), "-smp", "1"),
            *("-nodefaults", "-display", "none", "-no-reboot"),
            *("-kernel", str(kernel), "-initrd", str(initramfs), "-append", arguments),
            *console(far.fileno(), folder / f"{name}.console.log"),
        ]
        log = folder / f"{name}.qemu.log"
        service = await Service.start(f"QEMU of {name}", command, log=log, pass_fds=[far.fileno()])
    try:
        _, serial = await asyncio.get_running_loop().create_unix_connection(lambda: Console(name), sock=near)
        try:
            yield serial
        finally:
            serial.close()
    finally:
        if service.process.returncode is None:
            # There is no disk that it could leave half written.
            service.process.kill()
        await service.process.wait()
