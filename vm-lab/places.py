"""Where the lab keeps things: the checkout, its cache, and a directory for each run."""

import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

CHECKOUT = Path(__file__).resolve().parent.parent
CACHE = CHECKOUT / ".cache"
RUNS = CHECKOUT / "vm-lab" / "runs"
WWCTL = CHECKOUT / ".venv" / "bin" / "wwctl"
KEEP_RUNS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """One run's directory: logs at the top, `etc` and `var` of its head node, and `scratch` for all that is big."""

    path: Path

    @property
    def scratch(self) -> Path:
        return self.path / "scratch"

    def finish(self, *, failed: bool) -> None:
        """Remove what is big; after a success also the pcap, the firmware's variables and the head node's files."""
        shutil.rmtree(self.scratch, ignore_errors=True)
        for variables in self.path.glob("*.fd"):
            variables.unlink()
        if not failed:
            for pcap in self.path.glob("*.pcap"):
                pcap.unlink()
            for name in ("etc", "var"):
                shutil.rmtree(self.path / name, ignore_errors=True)


def new_run(name: str) -> Run:
    """A fresh directory under vm-lab/runs; the oldest ones beyond twenty go."""
    RUNS.mkdir(exist_ok=True)
    for old in sorted(RUNS.iterdir())[: -KEEP_RUNS + 1]:
        shutil.rmtree(old, ignore_errors=True)
    path = RUNS / f"{time.strftime('%Y%m%d-%H%M%S')}-{name}-{os.urandom(2).hex()}"
    path.mkdir()
    (path / "scratch").mkdir(mode=0o700)
    return Run(path=path)
