"""A node's serial console, read by bytes (a prompt has no newline), with waits that end at once when the node cannot go on."""

import asyncio
import itertools
import re
import shlex
from dataclasses import dataclass

from images.errors import Error

FAILURES = (
    (re.compile(rb"Kernel panic - not syncing[^\r\n]*"), "the kernel panicked"),
    # With its colon: our init's sentence names these words too.
    (re.compile(rb"Initramfs unpacking failed: [^\r\n]*"), "the kernel could not unpack the initramfs"),
    (re.compile(rb"bootsvc[^\r\n]{0,20}: FAILED:[^\r\n]*"), "the node's init stopped"),
    (re.compile(rb"You are in emergency mode[^\r\n]*"), "systemd is in emergency mode"),
    (re.compile(rb"No bootable (?:device|option)[^\r\n]*"), "the firmware found nothing to boot"),
)
"""What ends every wait, and the words for it."""

_LONGEST_FAILURE = 400
_ESCAPES = re.compile(rb"\x1b(?:\[[0-9;?=]*[A-Za-z]|\][^\x07]*\x07|[()][A-Z0-9]|[=>78cM])|\r")


class ConsoleFailed(Error):
    """The node cannot get to what was waited for; the message says why."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What a command typed at the console printed, and its exit status."""

    status: int
    text: str


class Console(asyncio.Protocol):
    """The near end of a serial line: bytes in, bytes out, and waits for a pattern."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.seen = bytearray()
        self.failure: str | None = None
        self._position = 0
        self._checked = 0
        self._closed = False
        self._changed = asyncio.Event()
        self._tokens = itertools.count(1)
        self._transport: asyncio.WriteTransport | None = None

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self.seen += data
        self._look_for_failure()
        self._changed.set()

    def connection_lost(self, exc: Exception | None) -> None:
        self._closed = True
        self._changed.set()

    # for the lab

    async def wait(self, pattern: str | bytes, seconds: float) -> re.Match[bytes]:
        """The first match after the previous one; raises ConsoleFailed at a failure, a dead QEMU or after `seconds`."""
        regex = re.compile(pattern.encode() if isinstance(pattern, str) else pattern)
        try:
            async with asyncio.timeout(seconds):
                while True:
                    match = regex.search(self.seen, self._position)
                    if match is not None:
                        self._position = match.end()
                        return match
                    self.check()
                    self._changed.clear()
                    await self._changed.wait()
        except TimeoutError as exc:
            raise ConsoleFailed(
                f"{self.name}: {regex.pattern.decode()!r} did not appear on the console in {seconds:g} seconds",
                hint=f"the console's last lines:\n{self.tail()}",
            ) from exc

    async def failed(self) -> None:
        """Wait for a failure and raise it; never returns. Run it beside a wait for something off the console."""
        while True:
            self.check()
            self._changed.clear()
            await self._changed.wait()

    def check(self) -> None:
        """Raise ConsoleFailed when the node has failed or its QEMU has ended."""
        if self.failure is not None:
            raise ConsoleFailed(self.failure, hint=f"the console's last lines:\n{self.tail()}")
        if self._closed:
            raise ConsoleFailed(f"{self.name}: QEMU ended", hint=f"the console's last lines:\n{self.tail()}")

    def restart(self) -> None:
        """Forget what was seen: the node was reset."""
        self._position = self._checked = len(self.seen)
        self.failure = None

    def forgive(self) -> None:
        """Go on after a failure that was expected; what was seen can still match."""
        self._checked = len(self.seen)
        self.failure = None

    def write(self, data: bytes) -> None:
        assert self._transport is not None, "the console is not connected"
        self._transport.write(data)

    async def command(self, command: str, seconds: float = 30) -> Reply:
        """Type a command at a shell that listens on the console."""
        token = f"{next(self._tokens):04d}"
        # The quotes keep the markers from matching their own echo.
        line = f"echo 'BEGIN'-{token}; sh -c {shlex.quote(command)}; echo 'END'-{token}-$?\n"
        self.write(line.encode())
        await self.wait(rf"BEGIN-{token}\r?\n", seconds)
        start = self._position
        end = await self.wait(rf"END-{token}-(\d+)", seconds)
        return Reply(status=int(end[1]), text=plain(bytes(self.seen[start : end.start()])))

    def close(self) -> None:
        if self._transport is not None:
            self._transport.close()

    def text(self) -> str:
        """All of it, without terminal control sequences."""
        return plain(bytes(self.seen))

    def tail(self, lines: int = 12) -> str:
        shown = [line.rstrip() for line in plain(bytes(self.seen[-20_000:])).splitlines()]
        return "\n".join([line for line in shown if line][-lines:])

    def _look_for_failure(self) -> None:
        if self.failure is not None:
            return
        start = max(0, self._checked)
        for regex, words in FAILURES:
            match = regex.search(self.seen, start)
            # A sentence is whole when its line is.
            if match is not None and (match.end() < len(self.seen) or match.end() - match.start() > _LONGEST_FAILURE):
                self.failure = f"{self.name}: {words}: {plain(match[0]).strip()}"
                return
        self._checked = max(start, self.seen.rfind(b"\n"))


def plain(data: bytes) -> str:
    """Console bytes as text, without carriage returns and terminal control sequences."""
    return _ESCAPES.sub(b"", data).decode(errors="replace")
