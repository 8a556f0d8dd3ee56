"""Jobs in forked processes: results, failures, and that no process is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import pytest

from images.workers import Job, Workers


def process_and_task(task: bytes) -> bytes:
    return b"%d %s" % (os.getpid(), task)


def echo(task: bytes) -> bytes:
    return task


def work(crew: Workers, tasks: Iterable[bytes]) -> dict[int, bytes]:
    """Have all tasks done; results by number."""
    pending = list(enumerate(tasks))
    found: dict[int, bytes] = {}
    total = len(pending)
    while len(found) < total:
        while pending and crew.free:
            crew.give(*pending.pop(0))
        found.update(crew.results(wait=True))
    return found


def run(job: Job, tasks: Iterable[bytes], count: int) -> dict[int, bytes]:
    with Workers(job, count) as crew:
        return work(crew, tasks)


def children() -> set[str]:
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


NUMBERS = [b"%d" % number for number in range(20)]


def test_every_job_is_done_once_by_the_workers() -> None:
    before = children()
    results = run(process_and_task, NUMBERS, 3)
    assert [results[number].split()[1] for number in range(20)] == NUMBERS
    pids = {text.split()[0] for text in results.values()}
    assert len(pids) <= 3
    assert b"%d" % os.getpid() not in pids
    assert children() == before


def test_as_many_processes_as_there_are_jobs_at_most() -> None:
    before = children()
    with Workers(process_and_task, 4) as crew:
        assert children() == before
        crew.give(0, b"")
        assert len(children() - before) == 1
        assert crew.free
        crew.give(1, b"")
        assert len(children() - before) == 2


def test_no_process_when_only_one_is_wanted() -> None:
    mine = b"%d " % os.getpid()
    with Workers(process_and_task, 1) as crew:
        crew.give(7, b"x")
        assert not crew.free
        assert dict(crew.results(wait=True)) == {7: mine + b"x"}
        assert crew.free
    with Workers(process_and_task, 4) as crew:
        crew.dismiss()
        crew.give(7, b"x")
        assert dict(crew.results(wait=True)) == {7: mine + b"x"}


def test_results_that_are_not_ready_are_not_waited_for(tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)
    with Workers(lambda task: gate.read_bytes(), 2) as crew:
        crew.give(0, b"")
        assert list(crew.results(wait=False)) == []
        gate.write_bytes(b"go")
        assert list(crew.results(wait=True)) == [(0, b"go")]
        assert list(crew.results(wait=True)) == []


def test_who_is_dismissed_goes_while_the_others_work() -> None:
    before = children()
    with Workers(echo, 2) as crew:
        assert work(crew, [b"a", b"b"]) == {0: b"a", 1: b"b"}
        crew.dismiss()
        for pid in children() - before:
            # It is a zombie until the end of the block.
            os.waitid(os.P_PID, int(pid), os.WEXITED | os.WNOWAIT)
    assert children() == before


def test_large_tasks_and_results_arrive_whole() -> None:
    tasks = [bytes([number]) * 5_000_000 for number in (1, 2, 3)]
    assert run(echo, tasks, 2) == dict(enumerate(tasks))


def test_a_failure_is_raised_by_the_caller_and_leaves_no_worker() -> None:
    def job(task: bytes) -> bytes:
        if task == b"3":
            raise FileNotFoundError(2, "no such file", "third")
        return b""

    before = children()
    with pytest.raises(FileNotFoundError, match="third"):
        run(job, NUMBERS, 2)
    assert children() == before


def test_a_worker_that_dies_costs_nothing_but_its_job_done_again() -> None:
    parent = os.getpid()

    def job(task: bytes) -> bytes:
        if task == b"2" and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return task

    assert run(job, NUMBERS, 2) == dict(enumerate(NUMBERS))


def test_all_workers_dying_leaves_the_caller_to_do_everything() -> None:
    parent = os.getpid()

    def job(task: bytes) -> bytes:
        if os.getpid() != parent:
            os._exit(1)
        return task

    assert run(job, NUMBERS, 3) == dict(enumerate(NUMBERS))


def test_workers_end_also_when_their_results_are_not_awaited() -> None:
    before = children()
    with Workers(process_and_task, 2) as crew:
        crew.give(0, b"")
        crew.give(1, b"")
    assert children() == before


KILLED = """
import os, signal, sys
from images.workers import Workers

def job(task):
    if task == b"0":
        os.kill(os.getppid(), signal.SIGKILL)
    sys.stdout.write(f"{os.getpid()}\\n")
    sys.stdout.flush()
    signal.pause()
    return b""

with Workers(job, 2) as crew:
    crew.give(1, b"1")
    crew.give(0, b"0")
    list(crew.results(wait=True))
"""


def test_workers_end_with_their_parent_even_when_it_is_killed() -> None:
    # The pipe reaches its end only when every process that holds it is gone.
    with subprocess.Popen([sys.executable, "-c", KILLED], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.read()
    assert process.returncode == -signal.SIGKILL


def test_ending_workers_while_they_leave_by_themselves_never_hangs() -> None:
    before = children()
    for _ in range(100):
        assert run(echo, [b"1", b"2"], 2) == {0: b"1", 1: b"2"}
    assert children() == before
