"""Run commands as whole processes, and calls inside this one; in turn, so that a drifting machine hits all alike."""

import os
import resource
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from figures import Runs, Sample

from images.errors import Error

LAUNCH = Path(__file__).with_name("launch.py")


def nothing() -> None:
    pass


class Case(Protocol):
    """One of the things that a round runs; only `run` is timed."""

    @property
    def description(self) -> str: ...
    def prepare(self) -> None: ...
    def run(self) -> Sample: ...
    def verify(self) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """A whole process. `before` and `after` are not timed; `after` raises if the command did not do what it should."""

    argv: Sequence[str]
    log: Path
    cwd: Path | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[], None] = nothing
    after: Callable[[], None] = nothing
    shown: str = ""

    @property
    def description(self) -> str:
        return self.shown or shlex.join(self.argv)

    def prepare(self) -> None:
        self.before()

    def run(self) -> Sample:
        reader, writer = os.pipe()
        try:
            launcher = [sys.executable, "-I", "-S", str(LAUNCH), str(writer), str(self.log), *self.argv]
            env = {**os.environ, "LC_ALL": "C.UTF-8", **self.environment}
            # An installed program has its byte code; a shell that forbids writing it would charge each start for it.
            env.pop("PYTHONDONTWRITEBYTECODE", None)
            subprocess.run(launcher, cwd=self.cwd, env=env, pass_fds=[writer], check=True)
            code, wall, cpu, memory = os.read(reader, 4096).split()
        finally:
            os.close(reader)
            os.close(writer)
        if int(code) != 0:
            tail = "\n".join(self.log.read_text(errors="replace").splitlines()[-10:])
            raise Error(f"{self.description} ended with status {int(code)}", hint=tail)
        return Sample(wall=float(wall), cpu=float(cpu), memory=int(memory))

    def verify(self) -> None:
        self.after()


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A function of ours, in this process, which has loaded everything before."""

    function: Callable[[], None]
    description: str
    before: Callable[[], None] = nothing
    after: Callable[[], None] = nothing

    def prepare(self) -> None:
        self.before()

    def run(self) -> Sample:
        cpu, start = _cpu(), time.monotonic()
        self.function()
        return Sample(wall=time.monotonic() - start, cpu=_cpu() - cpu)

    def verify(self) -> None:
        self.after()


@dataclass(frozen=True, slots=True, kw_only=True)
class Once:
    """A case that several subjects have; it runs for the first of them, and all get that sample."""

    case: Case
    known: dict[str, Sample]

    @property
    def description(self) -> str:
        return self.case.description

    def prepare(self) -> None:
        if self.description not in self.known:
            self.case.prepare()

    def run(self) -> Sample:
        if self.description not in self.known:
            self.known[self.description] = self.case.run()
        return self.known[self.description]

    def verify(self) -> None:
        self.case.verify()


def _cpu() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def in_turn(cases: Sequence[Case], *, rounds: int, warmups: int, say: Callable[[str], None]) -> list[Runs]:
    """Every case once a round; the runs of each, warm-ups left out."""
    samples: list[list[Sample]] = [[] for _ in cases]
    for number in range(-warmups, rounds):
        for case, counted in zip(cases, samples, strict=True):
            case.prepare()
            # What one run left to be written must not be written during the next one.
            os.sync()
            sample = case.run()
            case.verify()
            if number >= 0:
                counted.append(sample)
            say(f"{'warm-up' if number < 0 else f'round {number + 1}'}: {sample.wall:.2f} s  {case.description}")
    return [Runs(command=case.description, samples=tuple(found)) for case, found in zip(cases, samples, strict=True)]
