"""Roots to run commands in, and what is left when a sandbox has ended: nothing."""

import os
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from sandboxed import Image

APPLETS = "cat echo env grep head hostname ln ls mkdir mkfifo mv sh sleep stat stty touch true tty"
DEADLINE = 20.0
"""Seconds after which a process or a file that should have appeared or gone is given up."""


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
