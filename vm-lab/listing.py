"""Is a node's root, as it lists it itself, what the image's rootfs holds? The tiny image's `tree-listing` prints it."""

import hashlib
import re
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

LISTING = "tree-listing"
_ENTRY = re.compile(r"([0-9a-f]{4}) (\d+) (\d+) (\d+) (\d+) '?(/[^']*?)'?(?: -> '?([^']*)'?)?$")
_DIGEST = re.compile(r"([0-9a-f]{64})  (/.*)$")
BOOT_ONLY = ("/init", "/.bootsvc", "/dev", "/proc", "/run", "/sys", "/root", "/")
"""What boot or the kernel itself changes: entries that need not be as in the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One entry of a tree; `size` and `digest` are a regular file's, `target` a symbolic link's."""

    mode: int
    uid: int
    gid: int
    size: int = 0
    target: str = ""
    digest: str = ""


def parse(text: str) -> dict[str, Entry]:
    """What the node printed, by path."""
    lines = [line.strip() for line in text.splitlines()]
    digests = {match[2]: match[1] for line in lines if (match := _DIGEST.match(line))}
    found = {}
    for line in lines:
        if match := _ENTRY.match(line):
            mode, path = int(match[1], 16), match[6]
            found[path] = Entry(
                mode=mode,
                uid=int(match[2]),
                gid=int(match[3]),
                size=int(match[5]) if stat.S_ISREG(mode) else 0,
                target=match[7] or "",
                digest=digests.get(path, ""),
            )
    return found


def scan(rootfs: Path) -> dict[str, Entry]:
    """What the image's tree holds, by path on the node."""
    return {"/" + str(path.relative_to(rootfs)): _entry(path) for path in sorted(rootfs.rglob("*"))}


def differences(expected: dict[str, Entry], arrived: dict[str, Entry], overlaid: Iterable[str]) -> Iterator[str]:
    """A line for each entry of the image that the node has otherwise, or not at all.

    `overlaid` are paths that overlays may change.
    """
    free = {*BOOT_ONLY, *overlaid}
    for path, entry in expected.items():
        if path in free or path.startswith(("/dev/", "/.bootsvc/")):
            continue
        if path not in arrived:
            yield f"{path} is missing on the node"
        elif arrived[path] != entry:
            yield f"{path} is {arrived[path]} on the node, but {entry} in the image"


def _entry(path: Path) -> Entry:
    status = path.lstat()
    regular = stat.S_ISREG(status.st_mode)
    return Entry(
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        size=status.st_size if regular else 0,
        target=str(path.readlink()) if path.is_symlink() else "",
        digest=hashlib.sha256(path.read_bytes()).hexdigest() if regular else "",
    )
