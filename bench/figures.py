"""What was measured, as records: runs, their spread, ratios pair by pair, and whether a target was met."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

NOISY_SPREAD = 0.2
"""(slowest - fastest) / median of the peer's runs from which on the machine is called noisy."""
NOISY_LOAD = 0.5
"""Load average for each core before the start, from which on it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One run: seconds of wall time, seconds of CPU time of all its processes, peak bytes of the largest of them."""

    wall: float
    cpu: float
    memory: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    median: float
    minimum: float
    maximum: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        return cls(median=statistics.median(values), minimum=min(values), maximum=max(values))

    @property
    def width(self) -> float:
        """As a share of the median."""
        return (self.maximum - self.minimum) / self.median if self.median else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Runs:
    """All counted runs of one command, in their order."""

    command: str
    samples: tuple[Sample, ...]

    @property
    def wall(self) -> Spread:
        return Spread.of([sample.wall for sample in self.samples])

    @property
    def cpu(self) -> Spread:
        return Spread.of([sample.cpu for sample in self.samples])

    @property
    def memory(self) -> int | None:
        """The peak of all runs; None for a call inside a process that was there before."""
        known = [sample.memory for sample in self.samples if sample.memory is not None]
        return max(known, default=None)


class Kind(Enum):
    FASTER = "times faster"
    """The peer's time divided by ours is at least the bound."""
    SHARE = "of the peer's time"
    """Our time divided by the peer's is at most the bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    kind: Kind
    bound: float

    def met(self, ratio: float) -> bool:
        return ratio >= self.bound if self.kind is Kind.FASTER else ratio <= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Ours against the peer; the runs of one round stand at the same place in both."""

    work: str
    ours: Runs
    peer: Runs
    target: Target

    @property
    def ratio(self) -> Spread:
        """Pair by pair, in the sense of the target."""
        pairs = [(a.wall, b.wall) for a, b in zip(self.ours.samples, self.peer.samples, strict=True)]
        return Spread.of([b / a if self.target.kind is Kind.FASTER else a / b for a, b in pairs])

    @property
    def met(self) -> bool:
        return self.target.met(self.ratio.median)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limit:
    """A figure that is no time, such as a size or a peak of memory, and what it may be at most."""

    what: str
    value: float
    bound: float
    unit: str = ""

    @property
    def met(self) -> bool:
        return self.value <= self.bound


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    name: str
    comparisons: tuple[Comparison, ...]
    limits: tuple[Limit, ...] = ()
    remarks: tuple[str, ...] = ()
    """What a reader must know of this run, such as that something was measured in another way than planned."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    date: str
    quick: bool
    rounds: int
    commit: str
    machine: dict[str, str]
    versions: dict[str, str]
    load: float
    """One-minute load average before the start."""
    cores: int
    subjects: tuple[Subject, ...]

    @property
    def noise(self) -> tuple[str, ...]:
        """Why the figures are not to be trusted; empty on a quiet machine."""
        return (*_noisy_load(self.load, self.cores), *_noisy_peers(self.subjects))


def _noisy_load(load: float, cores: int) -> list[str]:
    if load <= NOISY_LOAD * cores:
        return []
    return [f"the load average before the start was {load:.2f} on {cores} cores"]


def _noisy_peers(subjects: Sequence[Subject]) -> list[str]:
    widths = {
        f"{subject.name}: the peer's runs differ by {width:.0%} of their median"
        for subject in subjects
        for comparison in subject.comparisons
        if (width := comparison.peer.wall.width) > NOISY_SPREAD
    }
    return sorted(widths)
