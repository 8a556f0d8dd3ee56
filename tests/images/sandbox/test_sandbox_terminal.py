"""On a real terminal: the prompt, Ctrl-C, Ctrl-Z under a shell with job control, the terminal's name."""

import contextlib
import fcntl
import os
import pty
import re
import select
import shlex
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterator

import pytest
from sandboxed import Image

pytestmark = pytest.mark.root

LIMIT = 20.0
END_OF_COMMAND = r'"binds": \[\][^\n]*\r\n'
"""Of our program, when a shell shows what it continues; only then has its line editor let go of the terminal."""
DEBIAN_BASHRC = "[ -z \"$PS1\" ] && return\nPS1='${debian_chroot:+($debian_chroot)}\\u@\\h:\\w\\$ '\n"
ROCKY_BASHRC = (
    'if [ "$PS1" ]; then\n  if [ -z "$PROMPT_COMMAND" ]; then PROMPT_COMMAND=\'printf "title"\'; fi\n'
    '  [ "$PS1" = "\\\\s-\\\\v\\\\\\$ " ] && PS1="[\\u@\\h \\W]\\\\$ "\nfi\n'
)


class Terminal:
    """Runs a program as the leader of a session on a new pseudo terminal."""

    def __init__(self, command: list[str]) -> None:
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 33, 77, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            env={**os.environ, "TERM": "dumb"},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),
        )
        os.close(slave)
        self.text = ""

    def type(self, text: str) -> None:
        os.write(self._master, text.encode())

    def expect(self, pattern: str) -> str:
        """Read until the pattern comes; what stood before it, and it, are taken out of the text."""
        end = time.monotonic() + LIMIT
        while (found := re.search(pattern, self.text)) is None:
            assert select.select([self._master], [], [], max(0, end - time.monotonic()))[0], f"no {pattern!r} in {self.text!r}"
            try:
                self.text += os.read(self._master, 65536).decode()
            except OSError:
                pytest.fail(f"the program ended without {pattern!r} in {self.text!r}")
        before, self.text = self.text[: found.end()], self.text[found.end() :]
        return before

    def end(self) -> int:
        with contextlib.suppress(OSError):
            while select.select([self._master], [], [], LIMIT)[0]:
                self.text += os.read(self._master, 65536).decode()
        return self.process.wait(LIMIT)

    def close(self) -> None:
        self.process.kill()
        self.process.wait(LIMIT)
        os.close(self._master)


Until = Callable[[Callable[[], object], str], None]
Begin = Callable[[list[str]], Terminal]


@pytest.fixture
def terminal() -> Iterator[Begin]:
    opened = []

    def begin(command: list[str]) -> Terminal:
        opened.append(Terminal(command))
        return opened[-1]

    yield begin
    for each in opened:
        each.close()


@pytest.fixture
def bash_image(image: Image, add_program: Callable[[str, str], None]) -> Image:
    add_program("/bin/bash", "bin/bash")
    (image.rootfs / "etc/bash.bashrc").write_text(DEBIAN_BASHRC)
    (image.rootfs / "etc/bashrc").write_text(ROCKY_BASHRC)
    (image.rootfs / "root/.bashrc").write_text(DEBIAN_BASHRC)
    return image


def shells(image: Image, add_program: Callable[[str, str], None]) -> dict[str, Callable[[], tuple[str, ...]]]:
    def dash() -> tuple[str, ...]:
        add_program("/bin/dash", "bin/sh")
        return ("/bin/sh",)

    def bash_as_sh() -> tuple[str, ...]:
        (image.rootfs / "bin/sh").unlink()
        (image.rootfs / "bin/sh").symlink_to("bash")
        return ("/bin/sh",)

    def rocky() -> tuple[str, ...]:
        (image.rootfs / "root/.bashrc").write_text(". /etc/bashrc\n")
        return ("/bin/bash",)

    return {
        "debian's bash": lambda: ("/bin/bash",),
        "rocky's bash": rocky,
        "login bash": lambda: ("/bin/bash", "-l"),
        "busybox": lambda: ("/bin/sh",),
        "dash": dash,
        "bash as sh": bash_as_sh,
    }


@pytest.mark.parametrize("shell", ["debian's bash", "rocky's bash", "login bash", "busybox", "dash", "bash as sh"])
def test_prompt(bash_image: Image, add_program: Callable[[str, str], None], terminal: Begin, shell: str) -> None:
    argv = shells(bash_image, add_program)[shell]()
    prompt = re.escape(f"[{bash_image.name}] Warewulf> ")
    on = terminal(bash_image.program(*argv))
    first = on.expect(prompt)
    assert first.splitlines()[-1] == f"[{bash_image.name}] Warewulf> "
    assert shell == "busybox" or first == f"[{bash_image.name}] Warewulf> "  # it alone greets
    # In one program: a ^C between two commands of a list may hit neither (with any shell).
    on.type("/bin/busybox sh -c 'echo $((6*7)); exec sleep 1000'\n")
    on.expect("42\r\n")
    on.type("\x03")
    # Only "^C" and an end of line may stand between.
    assert re.sub(r"\^C|\s", "", on.expect(prompt)).endswith(f"[{bash_image.name}]Warewulf>")
    on.type("echo status $?\n")
    on.expect("status 130\r\n")
    on.expect(prompt)
    on.type("exit 7\n")
    assert on.end() == 7
    assert not re.search("job control|process group|tty", on.text)


def test_the_terminal_is_passed_through(image: Image, terminal: Begin) -> None:
    on = terminal(image.program("sh", "-c", "tty; stat -c '%t' /dev/console; stty size"))
    on.expect("/dev/console\r\n")
    on.expect("88\r\n")  # major number of a pseudo terminal, in hexadecimal
    on.expect("33 77\r\n")
    assert on.end() == 0


def test_interrupt_ends_a_plain_command(image: Image, terminal: Begin) -> None:
    on = terminal(image.program("sh", "-c", "echo ready; exec sleep 1000"))
    on.expect("ready")
    on.type("\x03")
    assert on.end() == 130


def test_hangup_ends_it(image: Image, terminal: Begin, until: Until) -> None:
    on = terminal(image.program("sh", "-c", "echo ready; exec sleep 1000"))
    on.expect("ready")
    on.process.kill()
    until(lambda: not image.processes(), "a process is left")


@pytest.fixture
def outer_shell(terminal: Begin) -> Terminal:
    """An interactive bash on the host, whose prompt is `outer>`."""
    on = terminal(["/bin/bash", "--norc", "--noprofile", "-i"])
    on.type("PS1='out''er> '\n")
    on.expect("outer> ")
    return on


def test_stop_and_continue(image: Image, outer_shell: Terminal) -> None:
    on = outer_shell
    on.type(shlex.join(image.program("sh", "-c", "echo rea''dy; exec cat")) + "\n")
    on.expect("\nready\r\n")
    on.type("one\n")
    on.expect("one\r\none\r\n")
    for word in ("two", "three"):
        on.type("\x1a")
        on.expect(r"Stopped[^\n]*\n(.|\n)*outer> ")
        on.type("fg\n")
        on.expect(END_OF_COMMAND)
        on.type(f"{word}\n")
        on.expect(f"{word}\r\n{word}\r\n")
    on.type("\x04")
    on.expect("outer> ")
    on.type("echo status $?\n")
    on.expect("status 0\r\n")


def test_started_in_the_background(image: Image, outer_shell: Terminal) -> None:
    on = outer_shell
    on.type(shlex.join(image.program("cat")) + " &\n")
    # cat reads from a terminal that is not its own: it is stopped, until it gets it.
    on.expect(r"outer> ")
    on.type("wait\n")
    on.expect(r"Stopped")
    on.expect(r"outer> ")
    on.type("fg\n")
    on.expect(END_OF_COMMAND)
    on.type("word\n")
    on.expect("word\r\nword\r\n")
    on.type("\x04")
    on.expect("outer> ")


def test_the_terminal_comes_back_after_a_command_that_was_killed(image: Image, outer_shell: Terminal) -> None:
    on = outer_shell
    on.type(shlex.join(image.program("sh", "-c", "kill -9 $$")) + "; echo status $?; cat\n")
    on.expect("status 137\r\n")
    # cat of the host reads: it is in the foreground.
    on.type("word\n")
    on.expect("word\r\nword\r\n")
    on.type("\x04")
    on.expect("outer> ")


def test_a_pager_behind_it_keeps_the_terminal(image: Image, outer_shell: Terminal) -> None:
    on = outer_shell
    command = shlex.join(image.program("sh", "-c", "echo from-inside; exec sleep 1000"))
    on.type(command + " | (read x; read y < /dev/tty; echo got $x $y)\n")
    on.type("typed\n")
    on.expect("got from-inside typed\r\n")
    on.type("\x03")
    on.expect("outer> ")


def test_a_stop_without_a_shell_to_continue_it_is_none(image: Image, terminal: Begin) -> None:
    on = terminal(image.program("sh", "-c", "echo ready; exec cat"))
    on.expect("ready\r\n")
    on.type("\x1aword\n")
    on.expect("word\r\nword\r\n")
    on.type("\x04")
    assert on.end() == 0


def test_reading_in_the_background_without_a_shell_waits_to_be_ended(image: Image, outer_shell: Terminal, until: Until) -> None:
    on = outer_shell
    command = shlex.join(image.program("sh", "-c", "echo pid $$; read x"))
    on.type(f"({command} </dev/tty & echo process $! .)\n")
    caller = int(re.findall(r"process (\d+) \.", on.expect(r"process \d+ \."))[-1])
    on.expect("pid 2\r\n")
    os.kill(caller, signal.SIGTERM)
    until(lambda: not image.processes(), "it is not ended")
