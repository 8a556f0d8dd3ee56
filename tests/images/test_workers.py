"""Numbered jobs in forked processes: results, failures, and that no process is left."""

import os
import signal
import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest

from images import workers


def process_and_number(number: int) -> bytes:
    return f"{os.getpid()} {number}".encode()


def children() -> set[str]:
    return set(Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())


def test_every_job_is_done_once_by_the_workers() -> None:
    before = children()
    results = dict(workers.run(process_and_number, range(20), 3))
    assert sorted(results) == list(range(20))
    pids = {text.split()[0] for text in results.values()}
    assert all(results[number].split()[1] == str(number).encode() for number in results)
    assert len(pids) <= 3
    assert str(os.getpid()).encode() not in pids
    assert children() == before


@pytest.mark.parametrize(("numbers", "count"), [([7], 4), ([1, 2, 3], 1), ([], 4)])
def test_no_process_for_one_worker_or_one_job(numbers: list[int], count: int) -> None:
    results = dict(workers.run(process_and_number, numbers, count))
    assert results == {number: f"{os.getpid()} {number}".encode() for number in numbers}


@pytest.mark.parametrize("count", [1, 2])
def test_the_caller_does_something_meanwhile_once(count: int) -> None:
    done: list[set[str]] = []
    before = children()
    results = dict(workers.run(process_and_number, range(5), count, lambda: done.append(children() - before)))
    assert sorted(results) == list(range(5))
    assert [len(working) for working in done] == [0 if count == 1 else 2]


def test_a_large_result_arrives_whole() -> None:
    results = dict(workers.run(lambda number: bytes([number]) * 5_000_000, [1, 2, 3], 2))
    assert results == {number: bytes([number]) * 5_000_000 for number in (1, 2, 3)}


def test_a_failure_is_raised_by_the_caller_and_leaves_no_worker() -> None:
    def job(number: int) -> bytes:
        if number == 3:
            raise FileNotFoundError(2, "no such file", "third")
        return b""

    before = children()
    with pytest.raises(FileNotFoundError, match="third"):
        list(workers.run(job, range(6), 2))
    assert children() == before


def test_a_worker_that_dies_costs_nothing_but_its_job_done_again() -> None:
    parent = os.getpid()

    def job(number: int) -> bytes:
        if number == 2 and os.getpid() != parent:
            os.kill(os.getpid(), signal.SIGKILL)
        return str(number).encode()

    assert dict(workers.run(job, range(8), 2)) == {number: str(number).encode() for number in range(8)}


def test_all_workers_dying_leaves_the_caller_to_do_everything() -> None:
    parent = os.getpid()

    def job(number: int) -> bytes:
        if os.getpid() != parent:
            os._exit(1)
        return str(number).encode()

    assert dict(workers.run(job, range(8), 3)) == {number: str(number).encode() for number in range(8)}


def test_an_iteration_that_is_left_early_ends_its_workers() -> None:
    before = children()
    results = workers.run(process_and_number, range(100), 2)
    next(results)
    assert isinstance(results, Generator)
    results.close()
    assert children() == before


KILLED = """
import os, signal, sys
from images import workers

def job(number):
    if number == 0:
        os.kill(os.getppid(), signal.SIGKILL)
    sys.stdout.write(f"{os.getpid()}\\n")
    sys.stdout.flush()
    signal.pause()
    return b""

list(workers.run(job, range(4), 2))
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
        assert dict(workers.run(process_and_number, [1, 2], 2)).keys() == {1, 2}
    assert children() == before
