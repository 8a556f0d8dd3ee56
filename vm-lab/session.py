"""One run from its namespaces to its clean-up: what `lab.py` and `demo.py` share."""

import asyncio
import shlex
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from head import Head, prepare_head
from isolation import isolated
from machine import Machine
from network import build_network, capture
from places import Run, new_run
from process import CommandFailed, Service, running
from steps import Steps
from vm import Vm, boot

from images.errors import Error

STAGE_POLL = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Lab:
    """What a scenario works with: the head node, its running services, and the machines that it boots."""

    head: Head
    steps: Steps
    stack: AsyncExitStack

    async def wwctl(self, *arguments: str) -> str:
        """Run `wwctl`, show it with its output, and demand success."""
        self.steps.command(shlex.join(["wwctl", *arguments]))
        output = await self.head.wwctl(*arguments)
        self.steps.output(output.text)
        if output.status != 0:
            raise CommandFailed(f"wwctl {arguments[0]} {arguments[1]} ended with status {output.status}")
        return output.text

    async def service(self, service: Awaitable[Service]) -> Service:
        """A service for the rest of the run."""
        return await self.stack.enter_async_context(running(await service))

    async def boot(self, machine: Machine, bridge: str | None = None) -> Vm:
        """Power a machine on, on the head node's bridge unless another is named, for the rest of the run."""
        bridge = bridge or self.head.network.bridge
        vm = await self.stack.enter_async_context(boot(machine, bridge, self.head.run.path))
        self.steps.note(f"console of {machine.name}: {vm.console_log}")
        return vm

    async def stage(self, vm: Vm, server: Service, stage: str, seconds: float) -> None:
        """Wait until the server says that the node is at `stage`; a failure on its console ends the wait."""
        name = vm.machine.name
        try:
            async with asyncio.timeout(seconds):
                while (await self.head.stages()).get(name) != stage:
                    vm.console.check()
                    server.check_alive()
                    await asyncio.sleep(STAGE_POLL)
        except TimeoutError as exc:
            raise Error(
                f"{name} did not get to stage {stage} in {seconds:g} seconds",
                hint=f"the console's last lines:\n{vm.console.tail()}",
            ) from exc


def status_of(table: str, node: str) -> str:
    """The node's stage in what `wwctl node status` printed: the second column; empty when the node is not there."""
    return next((words[1] for line in table.splitlines() if (words := line.split())[:1] == [node]), "")


def run_isolated(name: str, scenario: Callable[[Lab], Coroutine[None, None, None]], steps: Steps) -> int:
    """Run a scenario in namespaces of its own; returns an exit status: 0 when all held, 130 after Ctrl-C or SIGTERM.

    A failure leaves console logs, the server's log and a pcap, and the last line says where.
    """
    return isolated(lambda: _report(name, scenario, steps))


def _report(name: str, scenario: Callable[[Lab], Coroutine[None, None, None]], steps: Steps) -> int:
    run = new_run(name)
    status = 1
    try:
        asyncio.run(_until_signal(_run(run, scenario, steps)))
        status = 0
        steps.summary()
    except* Error as group:
        for error in _errors(group):
            steps.failed(error.message, error.hint)
    except* asyncio.CancelledError:
        steps.failed("interrupted", None)
        status = 130
    finally:
        run.finish(failed=status != 0)
        if status != 0:
            steps.note(f"console logs, the server's log and the pcap are in {run.path}")
    return status


def _errors(group: BaseExceptionGroup[Error]) -> Iterator[Error]:
    """Every error of a group, which a TaskGroup nests."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            yield from _errors(error)
        else:
            yield error


async def _until_signal(scenario: Coroutine[None, None, None]) -> None:
    """Run the coroutine; the first SIGINT or SIGTERM cancels it, and its `finally` blocks end what it started."""
    task = asyncio.current_task()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        asyncio.get_running_loop().add_signal_handler(number, task.cancel)
    await scenario


async def _run(run: Run, scenario: Callable[[Lab], Coroutine[None, None, None]], steps: Steps) -> None:
    async with _lab(run, steps) as lab:
        await scenario(lab)


@asynccontextmanager
async def _lab(run: Run, steps: Steps) -> AsyncIterator[Lab]:
    network = await build_network()
    async with AsyncExitStack() as stack:
        lab = Lab(head=await prepare_head(run, network), steps=steps, stack=stack)
        await lab.service(capture(network.bridge, run.path / "bridge.pcap"))
        yield lab
