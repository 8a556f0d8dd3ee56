"""A running virtual machine: its QEMU process, serial console and QMP monitor."""

import asyncio
import contextlib
import shutil
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from console import Console, ConsoleFailed
from machine import Machine, Wiring, command
from network import add_tap
from process import Service
from qemu.qmp import QMPClient, QMPError

QMP_SECONDS = 10.0


class Vm:
    """One QEMU. `console` ends every wait when the guest or QEMU dies."""

    def __init__(self, machine: Machine, service: Service, console: Console, monitor: QMPClient, console_log: Path) -> None:
        self.machine = machine
        self.console_log = console_log
        self.service = service
        self.console = console
        self._monitor = monitor

    async def reset(self) -> None:
        """Press the reset button."""
        self.console.restart()
        await self.qmp("system_reset")

    async def powerdown(self, seconds: float) -> None:
        """Press the power button, and wait until the guest has shut down and QEMU ended."""
        await self.qmp("system_powerdown")
        try:
            async with asyncio.timeout(seconds):
                await self.service.process.wait()
        except TimeoutError as exc:
            raise ConsoleFailed(
                f"{self.machine.name} did not shut down in {seconds:g} seconds after its power button was pressed",
                hint=f"the console's last lines:\n{self.console.tail()}",
            ) from exc

    async def qmp(self, name: str) -> object:
        """Execute a QMP command without arguments."""
        async with asyncio.timeout(QMP_SECONDS):
            return await self._monitor.execute(name)

    async def quit(self) -> None:
        """End QEMU, by QMP or else by signal."""
        if self.service.process.returncode is None:
            # QEMU may be gone before it answers; what is left of it ends below.
            with contextlib.suppress(QMPError, EOFError, ConnectionError, TimeoutError):
                await self.qmp("quit")
        await self.service.stop()


@asynccontextmanager
async def boot(machine: Machine, bridge: str, folder: Path) -> AsyncIterator[Vm]:
    """Start the machine on the bridge; files that it writes go to `folder`, named after it. It ends with the block."""
    variables = folder / f"{machine.name}.vars.fd"
    if not machine.firmware.is_bios:
        shutil.copyfile(machine.firmware.variables, variables)
    serial, serial_far = socket.socketpair()
    control, control_far = socket.socketpair()
    with serial_far, control_far:
        wiring = Wiring(
            tap=await add_tap(bridge, f"tap-{machine.name}"),
            variables=variables,
            console_log=folder / f"{machine.name}.console.log",
            console_fd=serial_far.fileno(),
            qmp_fd=control_far.fileno(),
        )
        log = folder / f"{machine.name}.qemu.log"
        fds = (serial_far.fileno(), control_far.fileno())
        service = await Service.start(f"QEMU of {machine.name}", command(machine, wiring), log=log, pass_fds=fds)
    _, console = await asyncio.get_running_loop().create_unix_connection(lambda: Console(machine.name), sock=serial)
    monitor = QMPClient(machine.name)
    vm = Vm(machine, service, console, monitor, wiring.console_log)
    try:
        async with asyncio.timeout(QMP_SECONDS):
            await monitor.connect(control)
        yield vm
    finally:
        await vm.quit()
        console.close()
        with contextlib.suppress(EOFError, ConnectionError):  # how the monitor tells that QEMU has ended
            await monitor.disconnect()
