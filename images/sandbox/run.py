"""Run a command in an image's tree: own mount, PID, UTS and IPC namespaces, the image as root, nothing of the host written to.

Three processes: `run` here, a supervisor (`child`) that passes signals on and tidies up even when this process was
killed, and the sandbox's init (`init`), which the kernel kills with the supervisor, and with it all that runs inside.
"""

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from io import BufferedReader, BufferedWriter
from pathlib import Path
from types import FrameType

from images.errors import Error
from images.locks import Lock, exclusive
from images.sandbox import mountpoints
from images.sandbox.bind import Bind, BindMode, parse_bind
from images.sandbox.operations import Operation, to_wire
from images.sandbox.plan import SandboxRequest, plan

__all__ = ["Bind", "BindMode", "CommandNotStarted", "SandboxRequest", "parse_bind", "plan", "run", "run_locked", "tidy"]

# Started by path and without site-packages: half the start-up time, and the same code whatever the caller's sys.path is.
_START = "import sys; sys.path.insert(0, sys.argv.pop(1)); from images.sandbox.child import main; main()"
_PACKAGES = str(Path(__file__).resolve().parent.parent.parent)
_FORWARDED = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT, signal.SIGQUIT)


class CommandNotStarted(Error):
    """The sandbox or the command in it could not be started; `exit_status` is what a shell would give (127, 126, else 1)."""

    def __init__(self, message: str, *, hint: str | None, exit_status: int) -> None:
        super().__init__(message, hint=hint)
        self.exit_status = exit_status


def run(request: SandboxRequest) -> int:
    """Lock the image, run the command on our standard streams, and give its exit status, 128 + N if signal N ended it.

    Raises Locked when somebody else has the image, CommandNotStarted, or another Error for a request that cannot be met.
    """
    _need_root(request.name)
    with exclusive(request.lock, holder=f"exec {request.name}") as lock:
        return run_locked(request, lock)


def run_locked(request: SandboxRequest, lock: Lock) -> int:
    """As `run`, for a caller that holds the image's lock already and goes on holding it."""
    _need_root(request.name)
    tidy(request.rootfs)
    operations = plan(request, terminal=_terminal())
    try:
        status, report = _supervise(request, operations, lock)
    finally:
        tidy(request.rootfs)
    if report:
        failure = json.loads(report)
        raise CommandNotStarted(failure["message"], hint=failure["hint"], exit_status=failure["status"])
    if status < 0:
        name = signal.Signals(-status).name
        raise CommandNotStarted(f"the sandbox of {request.name!r} was ended by {name}", hint=None, exit_status=128 - status)
    return status


def tidy(rootfs: Path) -> None:
    """Remove mount points that a run left because all its processes were killed at once. The caller holds the image's lock."""
    try:
        mountpoints.remove(str(rootfs.resolve()))
    except (OSError, ValueError) as exc:
        record = mountpoints.record_path(str(rootfs.resolve()))
        raise Error(f"cannot work off {record}: {exc}", hint="remove the file when it is damaged") from exc


def _need_root(name: str) -> None:
    if os.geteuid() != 0:
        raise Error(f"only root can run a command in image {name!r}", hint="use sudo")


def _supervise(request: SandboxRequest, operations: list[Operation], lock: Lock) -> tuple[int, bytes]:
    """Status of the supervisor, and what it or the sandbox's init reported."""
    wire = {"rootfs": str(request.rootfs.resolve()), "operations": [to_wire(operation) for operation in operations]}
    with contextlib.ExitStack() as stack:
        plan_end, plan_writer = _pipe(stack)
        lifeline_end, lifeline = _pipe(stack)
        report, report_end = _pipe(stack)
        passed = (plan_end.fileno(), lifeline_end.fileno(), report_end.fileno(), lock.descriptor)
        process = _start([*map(str, passed), f"sandbox of {request.name}"], passed)
        try:
            with _forwarding_signals(process):
                for end in (plan_end, lifeline_end, report_end):
                    end.close()
                with contextlib.suppress(BrokenPipeError):
                    plan_writer.write(json.dumps(wire).encode())
                    plan_writer.close()
                return process.wait(), report.read()
        except BaseException:
            lifeline.close()
            process.wait()
            raise


def _pipe(stack: contextlib.ExitStack) -> tuple[BufferedReader, BufferedWriter]:
    reader, writer = os.pipe()
    return stack.enter_context(open(reader, "rb")), stack.enter_context(open(writer, "wb"))


def _start(arguments: list[str], passed: tuple[int, ...]) -> subprocess.Popen[bytes]:
    """Signals stay blocked in the supervisor until it can handle them."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {*_FORWARDED, signal.SIGTSTP})
    try:
        return subprocess.Popen([sys.executable, "-I", "-S", "-c", _START, _PACKAGES, *arguments], pass_fds=passed)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


@contextlib.contextmanager
def _forwarding_signals(process: subprocess.Popen[bytes]) -> Iterator[None]:
    """Only the main thread may set handlers; in another one, our death is what ends the sandbox."""

    def forward(number: int, _frame: FrameType | None) -> None:
        process.send_signal(number)

    main = threading.current_thread() is threading.main_thread()
    before = {number: signal.getsignal(number) for number in _FORWARDED if main}
    changed = {number: handler for number, handler in before.items() if handler not in (signal.SIG_IGN, None)}
    for number in changed:
        signal.signal(number, forward)
    try:
        yield
    finally:
        for number, handler in changed.items():
            signal.signal(number, handler)


def _terminal() -> Path | None:
    """The device of the caller's terminal; None too when its name is not known here, as in a chroot without devpts."""
    try:
        return Path(os.ttyname(0))
    except OSError:
        return None
