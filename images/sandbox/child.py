"""The supervisor of a sandbox: a process of its own on the host, between `run` and the sandbox's init.

It makes the mount points that the image lacks, starts the init in a new PID namespace, passes signals and job control on,
and tidies up, also when its parent was killed. Started by path and without site-packages, so it imports only what it must.
"""

import contextlib
import errno
import json
import os
import select
import signal
import sys
from types import FrameType

from images.sandbox import init as sandbox_init
from images.sandbox import mountpoints, namespaces
from images.sandbox.init import Fields, report_failure

TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGQUIT)
HINTS = {
    errno.EPERM: "mount points and namespaces need root with all capabilities; a container has not all",
    errno.ENOSPC: "free some space on the file system of the images",
    errno.EDQUOT: "free some space on the file system of the images",
    errno.EROFS: "an image on a read-only file system can be opened read-only: create the file `readonly` beside its rootfs",
}


def main() -> None:
    """`sys.argv[1:5]` are descriptors: the plan, the parent's life line, the report and the image's lock."""
    source, lifeline, report, lock = (int(text) for text in sys.argv[1:5])
    for descriptor in (source, lifeline, report, lock):
        os.set_inheritable(descriptor, False)
    os.umask(0o022)
    with open(source, "rb") as file:
        plan = file.read()
    try:
        rootfs, operations = _parse(plan)
    except ValueError:
        os._exit(1)  # our parent died before it had written all of it
    wanted = [fields for name, fields in operations if name == "MakeMountPoint"]
    points = [(str(fields["path"]), bool(fields["directory"]), str(fields["source"])) for fields in wanted]
    inner = [step for step in operations if step[0] != "MakeMountPoint"]
    failure, hint, status = None, None, 1
    try:
        mountpoints.create(rootfs, points)
        status = _supervise(inner, lifeline, report, lock)
    except OSError as exc:
        failure = f"cannot prepare {rootfs}: {exc.strerror}" + (f": {exc.filename}" if exc.filename else "")
        hint = HINTS.get(exc.errno or 0, "look at the file system of the images")
    finally:
        with contextlib.suppress(OSError):  # our parent tries again and says why, or the next command does
            mountpoints.remove(rootfs)
    if failure is not None:
        report_failure(report, failure, 1, hint)
    os._exit(status)


def _parse(plan: bytes) -> tuple[str, list[tuple[str, Fields]]]:
    wire = json.loads(plan)
    return wire["rootfs"], [(name, fields) for name, fields in wire["operations"]]


def _supervise(operations: list[tuple[str, Fields]], lifeline: int, report: int, lock: int) -> int:
    """Start the init, serve it until it ends, and give the command's status as a shell would."""
    terminal = _own_terminal()
    foreground = terminal is not None and os.tcgetpgrp(terminal) == os.getpgrp()
    stops, stopped = os.pipe()
    alive, keep_alive = os.pipe()
    namespaces.unshare(namespaces.Namespace.PID)
    init = os.fork()
    if init == 0:
        for descriptor in (keep_alive, stops, lifeline, lock):
            os.close(descriptor)
        sandbox_init.main(operations, report, alive, stopped, terminal, foreground=foreground)
    os.close(stopped)
    _forward_signals(init, terminal)
    _serve(init, lifeline, stops, terminal)
    _, status = os.waitpid(init, 0)
    if terminal is not None:
        _take_terminal_back(terminal)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _own_terminal() -> int | None:
    """The terminal, when the command is to be a job of its own on it.

    Only with both ends on it: in `wwctl … | less` the pager is in our process group and must stay in the foreground.
    """
    if not (os.isatty(0) and os.isatty(1)):
        return None
    try:
        os.tcgetpgrp(0)
    except OSError:
        return None  # somebody else's terminal: not the controlling one of our session
    return 0


def _forward_signals(init: int, terminal: int | None) -> None:
    def forward(number: int, _frame: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(init, number)

    # Without a job of its own the command is in our process group: the terminal's signals reach it without us.
    unforwarded = TERMINAL_SIGNALS if terminal is None and _has_controlling_terminal() else ()
    for number in sandbox_init.PASSED_ON:
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_IGN if number in unforwarded else forward)
    signal.signal(signal.SIGTTOU, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_SETMASK, {signal.SIGCONT})


def _has_controlling_terminal() -> bool:
    try:
        os.close(os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC))
    except OSError:
        return False
    return True


def _serve(init: int, lifeline: int, stops: int, terminal: int | None) -> None:
    """Until the init is gone: kill it when our parent dies, stop with it when the command is stopped."""
    poll = select.poll()
    poll.register(lifeline, select.POLLIN)
    poll.register(stops, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == lifeline:
                poll.unregister(lifeline)
                os.kill(init, signal.SIGKILL)
            elif not (message := os.read(stops, 1)):
                return
            elif terminal is not None:
                _stop_with_command(init, terminal, took_terminal=message == sandbox_init.STOPPED_IN_FOREGROUND)


def _stop_with_command(init: int, terminal: int, *, took_terminal: bool) -> None:
    """Stop as one job with our parent, so that the shell outside sees it; go on when that shell says so."""
    foreground = False
    with contextlib.suppress(OSError):  # the terminal may have been hung up
        if took_terminal:
            os.tcsetpgrp(terminal, os.getpgrp())
    signal.sigtimedwait({signal.SIGCONT}, 0)
    os.killpg(0, signal.SIGTSTP)
    # Without a shell that could continue us the kernel has not stopped us either, and no SIGCONT has come.
    has_shell = signal.sigtimedwait({signal.SIGCONT}, 0) is not None
    with contextlib.suppress(OSError):
        foreground = os.tcgetpgrp(terminal) == os.getpgrp()
    if foreground:
        os.kill(init, sandbox_init.TAKE_TERMINAL)
    elif has_shell:
        os.kill(init, sandbox_init.GO_ON)  # else in the background for good: it would only be stopped again


def _take_terminal_back(terminal: int) -> None:
    """Unless the shell outside has given it to another job meanwhile."""
    with contextlib.suppress(OSError):
        try:
            os.killpg(os.tcgetpgrp(terminal), 0)
        except ProcessLookupError:
            os.tcsetpgrp(terminal, os.getpgrp())
