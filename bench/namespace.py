"""A network namespace in which servers and load generators meet on the loopback device, away from this machine's own ports."""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from figures import Sample
from measure import nothing

from images.errors import Error

LOAD = Path(__file__).with_name("load")
READY_SECONDS = 20
_TICK = os.sysconf("SC_CLK_TCK")


@dataclass(kw_only=True)
class Network:
    """Use with `with`: ends what it started, and is gone afterwards."""

    folder: Path
    name: str = field(default_factory=lambda: f"bench-{os.getpid()}", init=False)
    _running: list["subprocess.Popen[bytes]"] = field(default_factory=list, init=False)

    def __enter__(self) -> "Network":
        _run("ip", "netns", "add", self.name)
        _run("ip", "-n", self.name, "link", "set", "lo", "up")
        # tftpd-hpa finds its own address only where there is more than a loopback device.
        _run("ip", "-n", self.name, "link", "add", "v0", "type", "veth", "peer", "name", "v1")
        _run("ip", "-n", self.name, "address", "add", "192.0.2.1/24", "dev", "v0")
        for device in ("v0", "v1"):
            _run("ip", "-n", self.name, "link", "set", device, "up")
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._running:
            process.terminate()
        for process in self._running:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        _run("ip", "netns", "delete", self.name)

    def start(self, *command: str) -> "subprocess.Popen[bytes]":
        """A server; `ip netns exec` becomes the command itself."""
        with (self.folder / f"{Path(command[0]).name}.log").open("ab") as log:
            process = subprocess.Popen(["ip", "netns", "exec", self.name, *command], stdout=log, stderr=log)
        self._running.append(process)
        return process

    def output(self, *command: str) -> str:
        run = subprocess.run(["ip", "netns", "exec", self.name, *command], capture_output=True, text=True, timeout=300)
        if run.returncode != 0:
            raise Error(f"{' '.join(command)} ended with status {run.returncode}", hint=run.stderr[-500:] + run.stdout[-500:])
        return run.stdout

    def load(self, script: str, *arguments: str) -> list[float]:
        """Run a load generator; the numbers that it prints."""
        return [float(word) for word in self.output(sys.executable, str(LOAD / script), *arguments).split()]

    def wait(self, *command: str) -> None:
        """Until the command succeeds."""
        deadline = time.monotonic() + READY_SECONDS
        while subprocess.run(["ip", "netns", "exec", self.name, *command], capture_output=True).returncode != 0:
            if time.monotonic() > deadline:
                raise Error(f"a server does not answer: {' '.join(command)}", hint=f"see the logs in {self.folder}")
            time.sleep(0.1)


def cpu(pids: Sequence[int]) -> float:
    """Seconds of CPU time of these processes, and of the children that each of them has now."""
    total = 0
    for pid in pids:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for each in (str(pid), *children):
            fields = Path(f"/proc/{each}/stat").read_text().rpartition(")")[2].split()
            total += int(fields[11]) + int(fields[12])
    return total / _TICK


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """A case: `fetch` puts load on a server and says how many seconds its work took."""

    description: str
    fetch: Callable[[], float]
    pids: Sequence[int]

    def prepare(self) -> None:
        nothing()

    def run(self) -> Sample:
        before = cpu(self.pids)
        wall = self.fetch()
        return Sample(wall=wall, cpu=cpu(self.pids) - before)

    def verify(self) -> None:
        nothing()


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
