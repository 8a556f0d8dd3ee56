"""On a kernel without mount_setattr(2) a sandbox shows the same: a seccomp filter plays the old kernel."""

import ctypes
import errno
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sandboxed import Image

from images.sandbox import remount
from images.sandbox.namespaces import SYS_MOUNT_SETATTR, MountFlag

pytestmark = pytest.mark.root

PR_SET_SECCOMP, SECCOMP_MODE_FILTER = 22, 2
LOAD_NUMBER, JUMP_IF_EQUAL, RETURN = 0x20, 0x15, 0x06
ALLOW, REFUSE = 0x7FFF0000, 0x00050000


class Instruction(ctypes.Structure):
    """struct sock_filter."""

    _fields_ = (("code", ctypes.c_uint16), ("true", ctypes.c_uint8), ("false", ctypes.c_uint8), ("value", ctypes.c_uint32))


class Program(ctypes.Structure):
    """struct sock_fprog."""

    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.POINTER(Instruction)))


def forget_mount_setattr() -> None:
    """For this process and what it starts, as seccomp(2) has it; the number is the same on every architecture."""
    filters = (Instruction * 4)(
        Instruction(LOAD_NUMBER, 0, 0, 0),
        Instruction(JUMP_IF_EQUAL, 0, 1, SYS_MOUNT_SETATTR),
        Instruction(RETURN, 0, 0, REFUSE | errno.ENOSYS),
        Instruction(RETURN, 0, 0, ALLOW),
    )
    program = Program(len(filters), filters)
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, ctypes.byref(program), 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "seccomp")


Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run_old(image: Image) -> Run:
    def run(*argv: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        program = image.program(*argv, **options)
        return subprocess.run(program, preexec_fn=forget_mount_setattr, capture_output=True, text=True, timeout=30, check=False)

    return run


def test_the_filter_works(tmp_path: Path) -> None:
    script = (
        "import ctypes; libc = ctypes.CDLL(None, use_errno=True); libc.syscall(442, -1, 0, 0, 0, 0); print(ctypes.get_errno())"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], preexec_fn=forget_mount_setattr, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) == errno.ENOSYS


def test_the_systems_read_only_mounts(image: Image, run_old: Run) -> None:
    before = image.snapshot()
    done = run_old("sh", "-c", "cat /etc/resolv.conf; echo x > /etc/resolv.conf || echo x > /proc/sys/kernel/domainname")
    assert (done.returncode, done.stdout) == (1, Path("/etc/resolv.conf").read_text())
    assert done.stderr.count("Read-only file system") == 2
    assert image.snapshot() == before


def test_a_read_only_image(image: Image, run_old: Run) -> None:
    before = image.snapshot()
    done = run_old("sh", "-c", "touch /root/x", readonly=True)
    assert (done.returncode, done.stderr) == (1, "touch: /root/x: Read-only file system\n")
    assert image.snapshot() == before


def test_a_read_only_bind_with_all_below_it(image: Image, run_old: Run, tmp_path: Path) -> None:
    submount = tmp_path / "source" / "a sub\\mount"
    submount.mkdir(parents=True)
    mounts = [("nosuid,nodev,noexec,noatime", submount), ("nosuid", submount / "inner")]
    for options, place in mounts:
        subprocess.run(["mount", "--mkdir", "-t", "tmpfs", "-o", options, "tmpfs", place], check=True)
    try:
        script = (
            "cd '/mnt/a sub\\mount'; touch x || touch inner/x || touch /mnt/x; "
            "grep /mnt /proc/mounts | while read -r a b c options e; do echo $options; done"
        )
        done = run_old("sh", "-c", script, binds=(f"{submount.parent}:/mnt:ro",))
        assert done.stderr.count("Read-only file system") == 3
        flags = [set(line.split(",")) for line in done.stdout.splitlines()]
        assert all("ro" in found for found in flags)
        assert {"nosuid", "nodev", "noexec", "noatime"} <= flags[1]
        assert "nosuid" in flags[2]
        assert not {"nodev", "noexec"} & flags[2]
        assert "relatime" in flags[2]
        (submount / "inner/still-writable-outside").touch()
    finally:
        for _, place in reversed(mounts):
            subprocess.run(["umount", place], check=True)


def test_escapes_of_mountinfo() -> None:
    line = b"36 35 98:0 / /mnt/a\\040b\\134c rw,noatime,nosuid shared:1 - tmpfs tmpfs rw\n"
    assert remount.parse_mounts([line]) == {36: (35, b"/mnt/a b\\c", MountFlag.NO_ATIME | MountFlag.NO_SUID)}
