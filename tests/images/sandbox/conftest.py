"""Roots to run commands in, and what must be as before when a sandbox has ended."""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from images.sandbox.run import SandboxRequest

APPLETS = "cat echo env grep head hostname ln ls mkdir mkfifo mv sh sleep stat stty touch true tty"
DEADLINE = 20.0
"""Seconds after which a process or a file that should have appeared or gone is given up."""

_RUN = """
import json, os, sys
from pathlib import Path
from images.errors import Error
from images.sandbox.run import SandboxRequest, parse_bind, run
fields = json.loads(sys.argv[1])
request = SandboxRequest(
    rootfs=Path(fields["rootfs"]), argv=tuple(fields["argv"]), name=fields["name"], lock=Path(fields["lock"]),
    binds=tuple(map(parse_bind, fields["binds"])), environment=os.environ, readonly=fields["readonly"],
)
try:
    sys.exit(run(request))
except Error as error:
    print(error.message, file=sys.stderr)
    sys.exit(getattr(error, "exit_status", 1))
"""

Snapshot = dict[str, tuple[int, int, int, int, int, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """A root with a static busybox in /bin, and nothing that a command of ours may change."""

    rootfs: Path
    name: str
    lock: Path

    def request(self, *argv: str, **fields: Any) -> SandboxRequest:
        return SandboxRequest(**{"rootfs": self.rootfs, "name": self.name, "lock": self.lock, "argv": argv, **fields})

    def program(self, *argv: str, binds: tuple[str, ...] = (), readonly: bool = False) -> list[str]:
        """The command line of a process of its own that calls `run`."""
        wanted: dict[str, object] = {"rootfs": str(self.rootfs), "name": self.name, "lock": str(self.lock)}
        wanted |= {"argv": argv, "binds": binds, "readonly": readonly}
        return [sys.executable, "-c", _RUN, json.dumps(wanted)]

    def snapshot(self) -> Snapshot:
        """Everything about each file but its ctime and atime."""
        found: Snapshot = {}
        for folder, folders, files in os.walk(self.rootfs):
            for path in [folder, *(os.path.join(folder, name) for name in files + folders)]:
                status = os.lstat(path)
                target = os.readlink(path) if os.path.islink(path) else ""
                found[path] = (status.st_mode, status.st_uid, status.st_gid, status.st_size, status.st_mtime_ns, target)
        return found

    def processes(self) -> list[int]:
        """Every process in the sandbox or of its supervisor: they carry the image's name, which no other test uses."""
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdecimal():
                continue
            try:
                marks = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
            except OSError:
                continue
            if f"WW_IMAGE_SHELL={self.name}\0".encode() in marks or f"sandbox of {self.name}\0".encode() in marks:
                found.append(int(entry.name))
        return found


@pytest.fixture
def image(tmp_path: Path, require_tool: Callable[..., Path]) -> Iterator[Image]:
    """Afterwards no process, no mount and no record of mount points is left."""
    rootfs = tmp_path / "img" / "rootfs"
    for name in ("bin", "dev", "etc", "mnt", "proc", "root", "run", "sys", "tmp"):
        (rootfs / name).mkdir(parents=True)
    shutil.copy(require_tool("busybox", package="busybox-static"), rootfs / "bin/busybox")
    for name in APPLETS.split():
        (rootfs / "bin" / name).symlink_to("busybox")
    (rootfs / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    made = Image(rootfs=rootfs, name=f"img-{os.getpid()}-{tmp_path.name[-16:]}", lock=tmp_path / "lock")
    yield made
    wait_until(lambda: not made.processes(), "a process of the sandbox is left")
    assert str(tmp_path) not in Path("/proc/self/mountinfo").read_text()
    assert not list(rootfs.parent.glob(".rootfs.mountpoints*"))


def wait_until(holds: Callable[[], object], otherwise: str) -> None:
    """For what the kernel tells nobody about."""
    end = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < end, otherwise


@pytest.fixture
def until() -> Callable[[Callable[[], object], str], None]:
    return wait_until


@pytest.fixture
def add_program(image: Image) -> Callable[[str, str], None]:
    """`add_program("/bin/bash", "bin/bash")` copies a program of the host, with its libraries, into the image."""

    def add(source: str, target: str) -> None:
        listing = subprocess.run(["ldd", source], capture_output=True, text=True, check=True).stdout
        for word in listing.split():
            if word.startswith("/"):
                place = image.rootfs / word.lstrip("/")
                place.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(os.path.realpath(word), place)
        (image.rootfs / target).unlink(missing_ok=True)
        shutil.copy(source, image.rootfs / target)

    return add
