"""Processes that the lab starts: commands that end, and services that run in the background with their output in a log."""

import asyncio
import os
import re
import signal
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from images.errors import Error

POLL = 0.05
STOP_SECONDS = 5.0


class CommandFailed(Error):
    """A command of the lab ended with another status than 0."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """What a command wrote, and how it ended."""

    status: int
    text: str


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    return {**os.environ, "LC_ALL": "C.UTF-8", **(extra or {})}


async def run(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, seconds: float = 120, cwd: Path | None = None
) -> Output:
    """Run a command to its end, standard error with standard output; kills it after `seconds`."""
    process = await asyncio.create_subprocess_exec(
        *command,
        env=environment(env),
        cwd=cwd,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(seconds):
            text, _ = await process.communicate()
    except TimeoutError as exc:
        raise CommandFailed(f"{command[0]} did not end in {seconds:g} seconds", hint=" ".join(command)) from exc
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return Output(status=process.returncode or 0, text=text.decode(errors="replace"))


async def check(
    command: Sequence[str], *, env: Mapping[str, str] | None = None, seconds: float = 120, cwd: Path | None = None
) -> str:
    """`run`, and an error unless the status is 0; returns the text."""
    output = await run(command, env=env, seconds=seconds, cwd=cwd)
    if output.status != 0:
        tail = "\n".join(output.text.strip().splitlines()[-15:])
        raise CommandFailed(f"{' '.join(command)!r} ended with status {output.status}", hint=tail)
    return output.text


class Service:
    """A process in the background; its output goes to a log file."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.process = process
        self.log = log

    @classmethod
    async def start(
        cls,
        name: str,
        command: Sequence[str],
        *,
        log: Path,
        env: Mapping[str, str] | None = None,
        pass_fds: Sequence[int] = (),
    ) -> "Service":
        with log.open("ab") as output:
            process = await asyncio.create_subprocess_exec(
                *command,
                env=environment(env),
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                pass_fds=pass_fds,
            )
        return cls(name, process, log)

    async def until(self, ready: Callable[[], Awaitable[bool]], seconds: float) -> None:
        """Ask `ready` until it is; raises with the log's last lines when the process ends before, or after `seconds`."""
        try:
            async with asyncio.timeout(seconds):
                while not await ready():
                    self.check_alive()
                    await asyncio.sleep(POLL)
        except TimeoutError as exc:
            raise CommandFailed(f"{self.name} was not ready in {seconds:g} seconds", hint=self._tail()) from exc

    async def says(self, pattern: bytes, seconds: float) -> None:
        """Wait until its log shows a match of `pattern`."""

        async def said() -> bool:
            return re.search(pattern, self.log.read_bytes()) is not None

        await self.until(said, seconds)

    def check_alive(self) -> None:
        """Raise with the log's last lines when the process has ended."""
        if self.process.returncode is not None:
            raise CommandFailed(f"{self.name} ended with status {self.process.returncode}", hint=self._tail())

    def _tail(self) -> str:
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-15:])

    async def stop(self) -> int:
        """SIGTERM, then SIGKILL after five seconds; returns the exit status (negative: the signal)."""
        if self.process.returncode is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                async with asyncio.timeout(STOP_SECONDS):
                    await self.process.wait()
            except TimeoutError:
                self.process.kill()
        return await self.process.wait()


@asynccontextmanager
async def running(service: Service) -> AsyncIterator[Service]:
    """The service for the length of a `with` block."""
    try:
        yield service
    finally:
        await service.stop()
