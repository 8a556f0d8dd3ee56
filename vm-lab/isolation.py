"""A run's own network, mount and PID namespaces: whatever the lab starts ends with the lab's process.

The process forks. The parent stays outside and passes signals on; the child is PID 1 of the
new PID namespace, so the kernel kills everything in it when the child ends, however it ends (pid_namespaces(7)), and
the network namespace with its bridge and taps goes when its last process does.
"""

import ctypes
import os
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import FrameType

from images.errors import Error

CLONE_NEWNS = 0x00020000
CLONE_NEWPID = 0x20000000
CLONE_NEWNET = 0x40000000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
PR_SET_PDEATHSIG = 1

_libc = ctypes.CDLL(None, use_errno=True)


def isolated(body: Callable[[], int]) -> int:
    """Run `body` in a child that has the namespaces to itself; returns what it returned, or 128 + signal as a shell does.

    Needs root. Call it outside an event loop, in a process with one thread.
    """
    if os.geteuid() != 0:
        raise Error("the lab makes namespaces, a bridge and taps, which needs root", hint="run it with sudo")
    own = os.open("/proc/self/ns/pid", os.O_RDONLY)
    _checked("unshare", _libc.unshare(CLONE_NEWPID))
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child:
        # Later children of this process belong to its own PID namespace again.
        _checked("setns", _libc.setns(own, CLONE_NEWPID))
        os.close(own)
        return _supervise(child)
    status = 1
    try:
        _enter()
        status = body()
    except SystemExit as exc:
        status = exc.code if isinstance(exc.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


def _enter() -> None:
    _libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    # Its own process group: Ctrl-C reaches the parent alone, which passes it on once; QEMU never sees it.
    os.setpgid(0, 0)
    _checked("unshare", _libc.unshare(CLONE_NEWNS | CLONE_NEWNET))
    _mount("none", "/", "", MS_REC | MS_PRIVATE)
    _mount("proc", "/proc", "proc", 0)
    if Path("/sys/class").is_dir():
        _mount("sysfs", "/sys", "sysfs", 0)


def _supervise(child: int) -> int:
    """Pass signals on to the child (a second one kills it) and return its status."""
    seen = 0

    def forward(number: int, _frame: FrameType | None) -> None:
        nonlocal seen
        seen += 1
        os.kill(child, number if seen == 1 else signal.SIGKILL)

    before = {number: signal.signal(number, forward) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)}
    try:
        _, status = os.waitpid(child, 0)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _mount(source: str, target: str, kind: str, flags: int) -> None:
    result = _libc.mount(source.encode(), target.encode(), kind.encode() or None, ctypes.c_ulong(flags), None)
    _checked(f"mount {target}", result)


def _checked(what: str, result: int) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")
