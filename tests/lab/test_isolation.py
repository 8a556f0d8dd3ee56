"""A run leaves nothing behind, however it ends."""

import os
import re
import select
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

Start = Callable[[str], subprocess.Popen[str]]

# The run's own processes are found by an argument that nobody else has.
SCRIPT = """
import asyncio, os, subprocess
from isolation import isolated
from network import build_network, add_tap

async def work() -> None:
    network = await build_network()
    await add_tap(network.bridge, "tap-x")

def body() -> int:
    asyncio.run(work())
    {body}

print("status", isolated(body))
print("outside", subprocess.run(["true"]).returncode)
"""
FOREVER = """
    sleeper = subprocess.Popen(["setsid", "sleep", "{seconds}"])
    subprocess.Popen(["mount", "-t", "tmpfs", "lab-leak-{seconds}", "/mnt"]).wait()
    print("netns", os.readlink("/proc/self/ns/net"), flush=True)
    return sleeper.wait()
"""


@pytest.fixture
def seconds() -> str:
    return f"86400.{os.getpid()}{time.monotonic_ns() % 1_000_000}"


def processes(argument: str) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except (FileNotFoundError, ProcessLookupError):
            continue
        if argument.encode() in words:
            found.append(path.parent.name)
    return found


def namespaces() -> set[str]:
    found = set()
    for path in Path("/proc").glob("[0-9]*/ns/net"):
        try:
            found.add(os.readlink(path))
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
    return found


def until(ended: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + 10
    while not ended():
        if time.monotonic() > deadline:
            return False
        select.select([], [], [], 0.02)
    return True


def ended_by_another(process: subprocess.Popen[str], number: signal.Signals) -> bool:
    """Signals that arrive together count as one, so it may take a third."""
    process.send_signal(number)
    return process.poll() is not None


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGKILL])
def test_nothing_is_left_after_a_signal(lab_script: Start, seconds: str, number: signal.Signals) -> None:
    process = lab_script(SCRIPT.format(body=FOREVER.format(seconds=seconds).strip()))
    assert process.stdout is not None
    with process:
        try:
            line = process.stdout.readline()
            match = re.match(r"netns (net:\[\d+\])", line)
            assert match, line + process.stdout.read()
            netns = match[1]
            assert processes(seconds)
            assert netns in namespaces()
            process.send_signal(number)
            if number is signal.SIGTERM:
                # PID 1 of a namespace ignores it unless it asked for it; the second signal is a kill.
                assert until(lambda: ended_by_another(process, number))
            process.wait(timeout=20)
        finally:
            process.kill()
    assert until(lambda: not processes(seconds)), "a process of the run is left"
    assert until(lambda: netns not in namespaces()), "the run's network namespace is left"
    assert f"lab-leak-{seconds}" not in Path("/proc/self/mountinfo").read_text()


def test_status_and_order_come_back(lab_script: Start) -> None:
    process = lab_script(SCRIPT.format(body='print("pid", os.getpid()); print(open("/proc/net/dev").read()); return 7'))
    output, _ = process.communicate(timeout=30)
    assert "pid 1\n" in output
    assert "br0:" in output
    assert "tap-x:" in output
    assert "status 7\n" in output
    # The parent can still start programs.
    assert "outside 0\n" in output


def test_an_exception_is_a_failure(lab_script: Start) -> None:
    process = lab_script(SCRIPT.format(body='raise ValueError("broken scenario")'))
    output, _ = process.communicate(timeout=30)
    assert "ValueError: broken scenario" in output
    assert "status 1\n" in output
