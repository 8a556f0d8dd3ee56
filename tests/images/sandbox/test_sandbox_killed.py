"""kill -9 of each process at many moments: no process, no mount and no change of the image is left."""

import json
import os
import select
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sandboxed import Image

from images import locks
from images.errors import Error
from images.sandbox import mountpoints
from images.sandbox import run as sandbox

pytestmark = pytest.mark.root

Start = Callable[[], subprocess.Popen[bytes]]
Until = Callable[[Callable[[], object], str], None]
READY = ("sh", "-c", "sleep 1000 & echo ready; exec sleep 1000")


@pytest.fixture
def bare(image: Image) -> Image:
    """An image that needs mount points, one of them nested, so that there is something to tidy."""
    (image.rootfs / "etc/resolv.conf").unlink()
    for name in ("dev", "proc"):
        (image.rootfs / name).rmdir()
    return image


@pytest.fixture
def start(bare: Image, tmp_path: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    started = []

    def begin() -> subprocess.Popen[bytes]:
        program = bare.program(*READY, binds=(f"{tmp_path}:/a/b/c",))
        process = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        started.append(process)
        return process

    yield begin
    for process in started:
        process.kill()
        process.communicate(timeout=20)


def children(pid: int) -> list[int]:
    try:
        return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def wait_for_release(image: Image, until: Until) -> None:
    """The supervisor holds the lock on until it has tidied up."""

    def free() -> bool:
        try:
            with locks.exclusive(image.lock, holder="test"):
                return True
        except locks.Locked:
            return False

    until(free, "the lock is not released")


def supervisor_runs(image: Image, process: subprocess.Popen[bytes]) -> object:
    return children(process.pid)


def record_is_written(image: Image, process: subprocess.Popen[bytes]) -> object:
    return Path(mountpoints.record_path(str(image.rootfs))).exists()


def first_point_is_made(image: Image, process: subprocess.Popen[bytes]) -> object:
    return (image.rootfs / "proc").exists()


def init_runs(image: Image, process: subprocess.Popen[bytes]) -> object:
    return [init for supervisor in children(process.pid) for init in children(supervisor)]


def command_is_ready(image: Image, process: subprocess.Popen[bytes]) -> object:
    return process.stdout is not None and process.stdout.readline()


Moment = Callable[[Image, subprocess.Popen[bytes]], object]
MOMENTS: list[Moment] = [supervisor_runs, record_is_written, first_point_is_made, init_runs, command_is_ready]


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_caller_is_killed(bare: Image, start: Start, until: Until, moment: Moment) -> None:
    before = bare.snapshot()
    process = start()
    until(lambda: moment(bare, process), "it did not come so far")
    process.kill()
    wait_for_release(bare, until)
    assert bare.snapshot() == before
    until(lambda: not bare.processes(), "a process is left")


def test_the_caller_is_killed_at_any_time(bare: Image, start: Start, until: Until) -> None:
    before = bare.snapshot()
    for hundredths in range(0, 24, 2):
        process = start()
        assert process.stdout is not None
        # The command's first line, or the given time: whichever comes first.
        select.select([process.stdout], [], [], hundredths / 100)
        process.kill()
        wait_for_release(bare, until)
        assert bare.snapshot() == before, hundredths
        until(lambda: not bare.processes(), "a process is left")


@pytest.mark.parametrize("moment", MOMENTS)
def test_the_supervisor_is_killed(bare: Image, start: Start, until: Until, moment: Moment) -> None:
    before = bare.snapshot()
    process = start()
    until(lambda: moment(bare, process), "it did not come so far")
    os.kill(children(process.pid)[0], signal.SIGKILL)
    _, errors = process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGKILL
    assert errors == f"the sandbox of '{bare.name}' was ended by SIGKILL\n".encode()
    assert bare.snapshot() == before
    until(lambda: not bare.processes(), "a process is left")


def test_the_init_is_killed(bare: Image, start: Start) -> None:
    before = bare.snapshot()
    process = start()
    assert command_is_ready(bare, process)
    os.kill(children(children(process.pid)[0])[0], signal.SIGKILL)
    process.communicate(timeout=20)
    assert process.returncode == 128 + signal.SIGKILL
    assert bare.snapshot() == before


@pytest.mark.parametrize("moment", MOMENTS)
def test_all_are_killed_and_the_next_command_tidies(bare: Image, start: Start, until: Until, moment: Moment) -> None:
    before = bare.snapshot()
    process = start()
    until(lambda: moment(bare, process), "it did not come so far")
    supervisor = children(process.pid)[0]
    process.send_signal(signal.SIGSTOP)
    os.kill(supervisor, signal.SIGKILL)
    process.kill()
    wait_for_release(bare, until)
    until(lambda: not bare.processes(), "a process is left")
    assert sandbox.run(bare.request("true")) == 0
    assert bare.snapshot() == before


def test_a_damaged_record_is_one_sentence(bare: Image) -> None:
    record = Path(mountpoints.record_path(str(bare.rootfs)))
    for content in (b"", b"{}", json.dumps([]).encode()):
        record.write_bytes(content)
        with pytest.raises(Error, match="cannot work off") as caught:
            sandbox.run(bare.request("true"))
        assert caught.value.hint is not None
    record.unlink()
