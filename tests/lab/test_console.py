"""The serial console: what it matches, and what ends a wait."""

import asyncio
import socket
from collections.abc import AsyncIterator

import pytest
from console import Console, ConsoleFailed, plain

SECONDS = 20


class Line:
    """A console, and the far end of its serial line."""

    def __init__(self, console: Console, far: socket.socket) -> None:
        self.console = console
        self.far = far

    def send(self, data: bytes) -> None:
        self.console.data_received(data)


@pytest.fixture
async def line() -> AsyncIterator[Line]:
    near, far = socket.socketpair()
    with far:
        _, console = await asyncio.get_running_loop().create_unix_connection(lambda: Console("n1"), sock=near)
        yield Line(console, far)
        console.close()


async def test_a_prompt_has_no_newline(line: Line) -> None:
    line.send(b"\r\nn1 login: ")
    match = await line.console.wait(r"(\w+) login: $", SECONDS)
    assert match[1] == b"n1"


async def test_a_match_may_come_in_pieces_and_is_used_up(line: Line) -> None:
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(line.console.wait("ready", SECONDS))
        line.send(b"re")
        line.send(b"ady read")
    assert waiting.result()[0] == b"ready"
    with pytest.raises(ConsoleFailed, match="did not appear"):
        await line.console.wait("ready", 0.01)
    line.send(b"y")
    assert await line.console.wait("ready", SECONDS)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        (b"[ 1.0] Kernel panic - not syncing: No working init found.\r\n", "panicked.*No working init found"),
        (b"[ 1.0] Initramfs unpacking failed: write error\r\n", "could not unpack the initramfs.*write error"),
        (b"bootsvc init: FAILED: the root did not arrive whole\r\n", "init stopped.*did not arrive whole"),
        (b"bootsvc init: FAILED: look above for 'Initramfs unpacking failed'\r\n", "init stopped.*look above"),
        (b"You are in emergency mode. After logging in\r\n", "emergency mode"),
        (b"No bootable device.\r\n", "nothing to boot"),
    ],
)
async def test_a_failure_ends_every_wait_at_once(line: Line, text: bytes, sentence: str) -> None:
    async with asyncio.TaskGroup() as tasks:
        waits = [tasks.create_task(_failure(line.console, pattern)) for pattern in ("login", "up")]
        # The sentence is reported whole, although it comes in pieces.
        for start in range(0, len(text), 7):
            line.send(text[start : start + 7])
    for wait in waits:
        assert "n1" in wait.result()
    with pytest.raises(ConsoleFailed, match=sentence):
        await line.console.wait("anything later", SECONDS)


async def _failure(console: Console, pattern: str) -> str:
    with pytest.raises(ConsoleFailed) as caught:
        await console.wait(pattern, SECONDS)
    return caught.value.message


async def test_what_came_before_the_failure_still_matches(line: Line) -> None:
    line.send(b"tiny: ready\r\nKernel panic - not syncing: later\r\n")
    assert await line.console.wait("ready", SECONDS)
    with pytest.raises(ConsoleFailed, match="panicked"):
        line.console.check()


async def test_the_end_of_qemu_ends_a_wait(line: Line) -> None:
    line.send(b"last words\r\n")
    async with asyncio.TaskGroup() as tasks:
        waiting = tasks.create_task(_failure(line.console, "login"))
        line.far.close()
    assert waiting.result() == "n1: QEMU ended"


async def test_a_late_pattern_shows_the_last_lines(line: Line) -> None:
    line.send(b"\x1b[2Jloading \x1b[1mimage\x1b[0m\r\n")
    with pytest.raises(ConsoleFailed) as caught:
        await line.console.wait("login", 0.01)
    assert caught.value.hint is not None
    assert "loading image" in caught.value.hint


async def test_a_reset_forgets(line: Line) -> None:
    line.send(b"tiny: ready\r\nKernel panic - not syncing: x\r\n")
    line.console.restart()
    line.console.check()
    with pytest.raises(ConsoleFailed, match="did not appear"):
        await line.console.wait("ready", 0.01)


async def test_an_expected_failure_is_forgiven(line: Line) -> None:
    line.send(b"Initramfs unpacking failed: write error\r\nbootsvc init: starting\r\n")
    with pytest.raises(ConsoleFailed, match="could not unpack"):
        await line.console.wait("never", SECONDS)
    line.console.forgive()
    assert await line.console.wait("init: starting", SECONDS)
    line.send(b"Kernel panic - not syncing: x\r\n")
    with pytest.raises(ConsoleFailed, match="panicked"):
        await line.console.wait("never", SECONDS)


async def test_a_command_is_not_confused_by_its_echo(line: Line) -> None:
    async with asyncio.TaskGroup() as tasks:
        command = tasks.create_task(line.console.command("cat 'a b'; false"))
        typed = await asyncio.get_running_loop().run_in_executor(None, line.far.recv, 4096)
        assert typed.endswith(b"\n")
        shell = await asyncio.create_subprocess_exec(
            *("sh", "-c", typed.decode()), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
        )
        answer, _ = await shell.communicate()
        line.send(b"/ # " + typed.replace(b"\n", b"\r\n") + answer.replace(b"\n", b"\r\n") + b"/ # ")
    reply = command.result()
    assert reply.status == 1
    assert reply.text == "cat: 'a b': No such file or directory\n"


def test_plain_text() -> None:
    assert plain(b"\x1b[0;32m  OK  \x1b[0m\r\n\x1b]0;title\x07x\x1b(B") == "  OK  \nx"
