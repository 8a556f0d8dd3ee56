"""Where figures come from: the machine, the versions of all that was measured, and the commit."""

import os
import platform
import re
import subprocess
from importlib.metadata import version
from pathlib import Path

from places import CHECKOUT

PEERS = (
    "cpio",
    "findutils",
    "pigz",
    "skopeo",
    "umoci",
    "docker-registry",
    "nginx",
    "wrk",
    "tftpd-hpa",
    "dnsmasq-base",
    "dnsperf",
)
OURS = ("isal", "zstandard", "aiohttp", "msgspec")


def machine(folder: Path) -> dict[str, str]:
    """`folder` lies on the file system that is measured."""
    memory = int(_first(Path("/proc/meminfo"), r"MemTotal:\s*(\d+)"))
    return {
        "cpu": _first(Path("/proc/cpuinfo"), r"model name\s*: (.+)") or platform.machine(),
        "cores": str(cores()),
        "memory": f"{memory / (1 << 20):.1f} GiB",
        "kernel": platform.release(),
        "distribution": _first(Path("/etc/os-release"), r'PRETTY_NAME="(.+)"'),
        "file system": file_system(folder),
    }


def cores() -> int:
    """Those that this process may use."""
    return len(os.sched_getaffinity(0))


def file_system(folder: Path) -> str:
    """Its type, found by the device number of the folder."""
    device = folder.stat().st_dev
    wanted = rf"(?m)^\d+ \d+ {os.major(device)}:{os.minor(device)} .* - (\S+) "
    return _first(Path("/proc/self/mountinfo"), wanted) or "unknown"


def versions() -> dict[str, str]:
    return {
        "python": platform.python_version(),
        **{name: version(name) for name in OURS},
        **{name: _package_version(name) for name in PEERS},
    }


def _package_version(name: str) -> str:
    try:
        return _output("dpkg-query", "--show", "--showformat=${Version}", name)
    except (OSError, subprocess.CalledProcessError):
        return "not installed"


def commit() -> str:
    """The commit, and whether the checkout differs from it; `unknown` where there is no git."""
    try:
        found = _output("git", "-C", str(CHECKOUT), "rev-parse", "--short=12", "HEAD")
        changed = _output("git", "-C", str(CHECKOUT), "status", "--porcelain")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return f"{found} with changes" if changed else found


def _first(path: Path, pattern: str) -> str:
    found = re.search(pattern, path.read_text())
    return found[1].strip() if found else ""


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
