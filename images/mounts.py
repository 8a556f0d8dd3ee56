"""What is mounted below a folder: no copy may take it along, and no removal may reach into it."""

import os
import re
from pathlib import Path

_MOUNTINFO = Path("/proc/self/mountinfo")


def find_mounts(root: Path) -> set[bytes]:
    """Relative paths at which something is mounted below `root` (proc_pid_mountinfo(5))."""
    prefix = os.fsencode(root).rstrip(b"/") + b"/"
    try:
        lines = _MOUNTINFO.read_bytes().splitlines()
    except FileNotFoundError:
        return set()
    points = (re.sub(rb"\\([0-7]{3})", lambda code: bytes([int(code[1], 8)]), line.split(b" ")[4]) for line in lines)
    return {point.removeprefix(prefix) for point in points if point.startswith(prefix)}
