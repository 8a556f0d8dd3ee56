"""One command on many nodes at once: what each says, line by line and with its name, and how each ended."""

import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import IO, NamedTuple

Say = Callable[[str, str, bool], None]
"""Name, line and whether it is of standard error; one call at a time."""
NOT_STARTED = 255
"""The status of a command that could not be started, as ssh(1) has it for what is its own fault."""


class Job(NamedTuple):
    name: str
    command: Sequence[str]


class Running:
    """The programs that run now; `stop` ends them all."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._programs: set[subprocess.Popen[str]] = set()
        self.stopped = False

    @contextmanager
    def start(self, command: Sequence[str], *, keep_stdin: bool) -> Iterator["subprocess.Popen[str] | None"]:
        """The program, or None when everything was stopped. Raises OSError."""
        with self._lock:
            if self.stopped:
                yield None
                return
            program = subprocess.Popen(
                command,
                stdin=None if keep_stdin else subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
            )
            self._programs.add(program)
        try:
            with program:
                yield program
        finally:
            with self._lock:
                self._programs.discard(program)

    def stop(self) -> None:
        with self._lock:
            self.stopped = True
            for program in self._programs:
                program.terminate()


def run_all(jobs: Sequence[Job], say: Say, *, fanout: int, seconds_between: float = 0) -> dict[str, int]:
    """The exit status of every job, by its name; at most `fanout` run at a time.

    A status is 128 and the number of the signal for what a signal ended. An interrupt ends what runs, and is raised again.
    """
    running, lock = Running(), threading.Lock()

    def say_alone(name: str, line: str, is_error: bool) -> None:
        with lock:
            say(name, line, is_error)

    with ThreadPoolExecutor(max_workers=min(fanout, len(jobs)) or 1) as pool:
        try:
            waiting = {}
            for index, job in enumerate(jobs):
                if index and seconds_between:
                    time.sleep(seconds_between)
                waiting[job.name] = pool.submit(_run, job, say_alone, running, keep_stdin=len(jobs) == 1)
            return {name: future.result() for name, future in waiting.items()}
        except BaseException:
            running.stop()
            pool.shutdown(cancel_futures=True)
            raise


def _run(job: Job, say: Say, running: Running, *, keep_stdin: bool) -> int:
    try:
        with running.start(job.command, keep_stdin=keep_stdin) as program:
            if program is None:
                return NOT_STARTED
            assert program.stdout is not None
            assert program.stderr is not None
            errors = threading.Thread(target=_pass_on, args=(job.name, program.stderr, say, True))
            errors.start()
            _pass_on(job.name, program.stdout, say, False)
            errors.join()
            status = program.wait()
    except OSError as exc:
        say(job.name, f"{job.command[0]}: {exc.strerror}", True)
        return NOT_STARTED
    return 128 - status if status < 0 else status


def _pass_on(name: str, stream: IO[str], say: Say, is_error: bool) -> None:
    for line in stream:
        say(name, line.rstrip("\n"), is_error)
