"""PID 1 of a sandbox: sets it up as planned, runs the command, reaps orphans, and ends with the command's status.

When it ends, the kernel ends every process of its namespace and with them every mount. Few imports: see `child`.
"""

import contextlib
import errno
import json
import os
import select
import signal
from collections.abc import Callable
from typing import NoReturn

from images.sandbox import mountpoints, namespaces, remount, union
from images.sandbox.namespaces import MountFlag, Namespace

Fields = dict[str, object]

NOT_EXECUTABLE = 126
NOT_FOUND = 127
"""Exit statuses of a shell that could not start a command (POSIX, Shell Command Language, 2.8.2)."""

TAKE_TERMINAL = signal.SIGRTMIN + 1
GO_ON = signal.SIGRTMIN + 2
"""From the supervisor, after a stop: go on in the foreground, in the background. SIGCONT comes from shells too."""
STOPPED_IN_FOREGROUND = b"F"
STOPPED_IN_BACKGROUND = b"B"

PASSED_ON = (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGQUIT)
MAX_DEPTH = 1024
"""Directories that a chroot may be deep; PATH_MAX would allow twice as many, of one letter each."""

PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)
SI_USER = 0
"""siginfo's code of a signal sent by a process: the terminal's own reach the command without us (sigaction(2))."""


def report_failure(report: int, message: str, status: int, hint: str | None = None) -> NoReturn:
    """Tell `run` one sentence and end this process."""
    with contextlib.suppress(OSError):  # nobody may be left to read it
        os.write(report, json.dumps({"message": message, "hint": hint, "status": status}).encode())
    os._exit(status)


def main(
    operations: list[tuple[str, Fields]], report: int, alive: int, stopped: int, terminal: int | None, *, foreground: bool
) -> NoReturn:
    """Runs in a new process; never returns, not by an exception either."""
    try:
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        _die_with_supervisor(alive)
        _set_up(operations[:-1], report)
        execute: Callable[..., NoReturn] = _execute
        child = os.fork()
        if child == 0:
            execute(report, terminal, foreground, **operations[-1][1])
        os.close(report)
        os._exit(_reap_until_end(child, stopped, terminal))
    except Exception as exc:
        report_failure(report, f"internal error in the sandbox: {exc!r}", 70)
    finally:
        os._exit(70)


def _die_with_supervisor(alive: int) -> None:
    namespaces.die_with_parent(signal.SIGKILL)
    # It may have died just before; then the other end of this pipe is closed.
    if select.select([alive], [], [], 0)[0]:
        os._exit(1)


def _set_up(operations: list[tuple[str, Fields]], report: int) -> None:
    try:
        namespaces.unshare(Namespace.MOUNT | Namespace.UTS | Namespace.IPC)
        _make_mounts_private()
        setup = _Setup()
    except OSError as exc:
        report_failure(report, f"cannot make namespaces for the sandbox: {exc.strerror}", 1)
    steps: dict[str, tuple[Callable[..., None], str]] = {
        "SetHostname": (namespaces.set_hostname, "set the host name {name}"),
        "EnterRoot": (setup.enter_root, "enter {rootfs}"),
        "Mount": (_mount, "mount {fstype} on {target}"),
        "BindMount": (setup.bind, "bind {source} to {target}"),
        "MakeDirectory": (_make_directory, "make the directory {path}"),
        "MakeFile": (_make_file, "make the file {path}"),
        "MakeLink": (_make_link, "make the link {path}"),
        "CopyFile": (setup.copy, "copy {source} to {path}"),
        "LeaveHost": (setup.leave_host, "unmount the host's tree"),
        "DropCapability": (namespaces.drop_capability, "drop capability {capability}"),
    }
    for name, fields in operations:
        step, sentence = steps[name]
        try:
            step(**fields)
        except OSError as exc:
            report_failure(report, f"cannot {sentence.format(**fields)} in the sandbox: {exc.strerror}", 1)


def _make_mounts_private() -> None:
    """No mount of ours shall appear on the host; this must come first."""
    private = MountFlag.PRIVATE | MountFlag.RECURSIVE
    try:
        namespaces.mount("none", "/", flags=private)
        return
    except OSError:
        host = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    # In a chroot "/" is no mount point: climb to the namespace's own root, as a working directory outside of the root can.
    os.chdir("/")
    os.chroot(os.path.dirname(__file__))
    for _ in range(MAX_DEPTH):
        os.chdir("..")
    namespaces.mount("none", ".", flags=private)
    os.fchdir(host)
    os.chroot(".")
    os.close(host)


class _Setup:
    """The steps that need the host's tree (as mounted in our own namespace), reachable by a descriptor until `leave_host`."""

    def __init__(self) -> None:
        self._host = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._pivoted = False

    def enter_root(
        self, rootfs: str, readonly: bool, extra: list[mountpoints.Point], on_top: list[union.TopFields] | None
    ) -> None:
        if extra or on_top is not None:
            rootfs = union.mount_union(rootfs, extra, on_top)
        else:
            namespaces.mount(rootfs, rootfs, flags=MountFlag.BIND | MountFlag.RECURSIVE)
            if readonly:
                _set_read_only(rootfs)
        os.chdir(rootfs)
        try:
            # The old root then lies on top of the new one (pivot_root(2), `pivot_root(".", ".")`).
            namespaces.pivot_root(".", ".")
            self._pivoted = True
        except OSError:
            # "/" is no mount point, as in a chroot: what hides the old root serves as well.
            namespaces.mount(".", "/", flags=MountFlag.MOVE)
            os.chroot(".")
        os.chdir("/")

    def bind(self, source: str, target: str, readonly: bool, inside: bool) -> None:
        os.fchdir(self._host)
        origin = source if inside else source.lstrip("/") or "."
        namespaces.mount(origin, target, flags=MountFlag.BIND | MountFlag.RECURSIVE)
        if readonly:
            _set_read_only(target)

    def copy(self, source: str, path: str) -> None:
        os.fchdir(self._host)
        mountpoints.make_file(path, None, source.lstrip("/"))

    def leave_host(self) -> None:
        if self._pivoted:
            os.fchdir(self._host)
            namespaces.detach(".")
        os.chdir("/")
        os.close(self._host)


def _set_read_only(target: str) -> None:
    try:
        namespaces.set_read_only(target)
    except OSError as exc:
        if exc.errno != errno.ENOSYS:
            raise
        remount.set_read_only(target)


def _mount(fstype: str, target: str, flags: int, data: str) -> None:
    namespaces.mount(fstype, target, fstype=fstype, flags=flags, data=data)


def _make_directory(path: str, mode: int) -> None:
    os.mkdir(path)
    os.chmod(path, mode)


def _make_file(path: str, content: str, mode: int) -> None:
    with open(path, "x") as file:
        file.write(content)
        os.fchmod(file.fileno(), mode)


def _make_link(path: str, target: str) -> None:
    os.symlink(target, path)


def _execute(
    report: int, terminal: int | None, foreground: bool, argv: list[str], environment: dict[str, str], workdir: str
) -> NoReturn:
    """In the command's own process: become a job, undo Python's signal settings, start the program."""
    if terminal is not None:
        os.setpgid(0, 0)
        if foreground:
            os.tcsetpgrp(terminal, os.getpid())
    for number in (*PASSED_ON, *PYTHON_IGNORES):
        if number in PYTHON_IGNORES or signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    try:
        os.chdir(workdir)
    except OSError as exc:
        report_failure(report, f"cannot change to {workdir} in the image: {exc.strerror}", 1)
    name = argv[0]
    path = name if "/" in name else _look_up(name, environment["PATH"])
    if path is None:
        hint = f"the image's PATH is {environment['PATH']}"
        report_failure(report, f"command not found in the image: {name}", NOT_FOUND, hint)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    try:
        os.execve(path, argv, environment)
    except OSError as exc:
        failure = exc
    if failure.errno == errno.ENOEXEC and not _is_elf(path):
        # A script without `#!`: every shell then reads it itself (POSIX, Shell Command Language, 2.9.1.1).
        with contextlib.suppress(OSError):
            os.execve("/bin/sh", ["/bin/sh", path, *argv[1:]], environment)
    message, status = _explain(path, failure)
    report_failure(report, message, status)


def _look_up(name: str, search: str) -> str | None:
    """As execvp(3): the first that can be executed, else the first that exists."""
    found = [path for path in (f"{folder}/{name}" for folder in search.split(":")) if os.path.isfile(path)]
    return next((path for path in found if os.access(path, os.X_OK)), found[0] if found else None)


def _explain(path: str, failure: OSError) -> tuple[str, int]:
    if failure.errno == errno.ENOENT and os.path.exists(path):
        return f"{path} in the image cannot start: the interpreter or loader that it names is missing", NOT_FOUND
    if failure.errno in (errno.ENOENT, errno.ENOTDIR):
        return f"command not found in the image: {path}", NOT_FOUND
    if failure.errno == errno.EACCES:
        return f"{path} in the image is not an executable file", NOT_EXECUTABLE
    if failure.errno == errno.ENOEXEC:
        return f"{path} in the image is a program for another kind of machine, or damaged", NOT_EXECUTABLE
    return f"{path} in the image cannot start: {failure.strerror}", NOT_EXECUTABLE


def _is_elf(path: str) -> bool:
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(4) == b"\x7fELF"
    return False


def _reap_until_end(child: int, stopped: int, terminal: int | None) -> int:
    """Reap whatever ends in the namespace until the command does; its status as a shell gives it."""
    while True:
        info = signal.sigwaitinfo({signal.SIGCHLD, TAKE_TERMINAL, GO_ON, *PASSED_ON})
        if info.si_signo == signal.SIGCHLD:
            status = _reap(child, stopped, terminal)
            if status is not None:
                return status
        elif info.si_code != SI_USER or info.si_pid != 0:
            continue  # only the supervisor, whose pid in here is 0, may direct us: what runs inside may not
        elif info.si_signo in PASSED_ON:
            os.kill(child, info.si_signo)
            if info.si_signo in (signal.SIGTERM, signal.SIGHUP):
                os.kill(child, signal.SIGCONT)  # it may be stopped
        elif terminal is not None:
            if info.si_signo == TAKE_TERMINAL:
                with contextlib.suppress(OSError):
                    os.tcsetpgrp(terminal, child)
            os.killpg(child, signal.SIGCONT)


def _reap(child: int, stopped: int, terminal: int | None) -> int | None:
    while True:
        pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED)
        if pid == 0:
            return None
        if pid != child:
            continue
        if not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status)
            return code if code >= 0 else 128 - code
        if terminal is not None:
            os.write(stopped, STOPPED_IN_FOREGROUND if _in_foreground(terminal) else STOPPED_IN_BACKGROUND)


def _in_foreground(terminal: int) -> bool:
    """A process group outside of the namespace has no number in here."""
    try:
        return os.tcgetpgrp(terminal) != 0
    except OSError:
        return False
