"""Do jobs in forked processes, for work that Python's own lock would serialise in threads.

A worker has what its parent had in memory when it was forked, and is told the rest with each job. It ends with its parent,
however that ends.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import socket
import struct
from collections import deque
from collections.abc import Callable, Iterator
from types import FrameType, TracebackType
from typing import NamedTuple, NoReturn

Job = Callable[[bytes], bytes]
"""Does a job of which this tells; its result travels back as bytes."""

PR_SET_PDEATHSIG = 1
_SIZE = struct.Struct("<Q")


class _Worker(NamedTuple):
    pid: int
    link: socket.socket


class Workers:
    """At most `count` processes, each forked when there is a job for it; use it with `with`, after which none is left.

    With a count of one no process is forked. A job that fails in its worker, or whose worker dies, is done once more by the
    caller's process, which so raises what is wrong.
    """

    def __init__(self, job: Job, count: int) -> None:
        self._job = job
        self._to_fork = count if count > 1 else 0
        self._crew: list[_Worker] = []
        self._idle: list[_Worker] = []
        self._done: deque[tuple[int, bytes]] = deque()
        self._links = selectors.DefaultSelector()

    def __enter__(self) -> "Workers":
        return self

    def __exit__(self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None) -> None:
        """All at once: giving back what a process has in memory takes a while."""
        self._links.close()
        for worker in self._crew:
            worker.link.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGTERM)
        for worker in self._crew:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(worker.pid, 0)

    @property
    def free(self) -> bool:
        """Whether a job that is given now is begun now."""
        return bool(self._idle or self._to_fork) or not (self._done or self._links.get_map())

    def give(self, number: int, task: bytes) -> None:
        """Have the job done of which `task` tells; when nobody is left who could, in this very call."""
        if self._idle:
            worker = self._idle.pop()
        elif self._to_fork:
            self._to_fork -= 1
            worker = self._fork()
            self._crew.append(worker)
        else:
            self._done.append((number, self._job(task)))
            return
        with contextlib.suppress(ConnectionError):
            worker.link.sendall(_SIZE.pack(len(task)) + task)
        self._links.register(worker.link, selectors.EVENT_READ, (worker, number, task))

    def results(self, *, wait: bool) -> Iterator[tuple[int, bytes]]:
        """What is ready, with the jobs' numbers; with `wait` at least one, unless no job is under way."""
        while self._done:
            wait = False
            yield self._done.popleft()
        if not self._links.get_map():
            return
        for key, _events in self._links.select(None if wait else 0):
            worker, number, task = key.data
            self._links.unregister(worker.link)
            result = _receive(worker.link)
            if result is None:
                result = self._job(task)
            else:
                self._idle.append(worker)
            yield number, result

    def dismiss(self) -> None:
        """Whoever has no job gets none any more, and may go; nobody waits for it yet."""
        self._to_fork = 0
        while self._idle:
            self._idle.pop().link.close()

    def _fork(self) -> _Worker:
        ours, theirs = socket.socketpair()
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            # What a worker raises is for its parent to see by doing the job itself; nothing of the parent's is cleaned up here.
            try:
                self._links.close()
                for worker in self._crew:
                    worker.link.close()
                ours.close()
                _serve(self._job, theirs, parent)
            finally:
                # Whatever was raised, by a job or by the signal to end, and even here.
                os._exit(0)
        theirs.close()
        return _Worker(pid, ours)


def _serve(job: Job, link: socket.socket, parent: int) -> None:
    signal.signal(signal.SIGTERM, _leave)
    if not follow(parent):
        return
    while (task := _receive(link)) is not None:
        result = job(task)
        link.sendall(_SIZE.pack(len(result)) + result)


def follow(parent: int) -> bool:
    """In a forked process: the terminal's interrupt is the parent's affair, and SIGTERM comes when the parent ends.

    False when the parent has ended already. It is the thread that forked whose end counts (prctl(2), PR_SET_PDEATHSIG).
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
    return os.getppid() == parent


def _leave(_number: int, _frame: FrameType | None) -> NoReturn:
    """Unwind, so that temporary files are removed; once."""
    # Blocked rather than ignored: Python complains of a signal that arrives while its handler is being replaced.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    raise SystemExit


def _receive(link: socket.socket) -> bytes | None:
    """None when the other end is gone."""
    with contextlib.suppress(ConnectionError):
        size = link.recv(_SIZE.size, socket.MSG_WAITALL)
        if len(size) == _SIZE.size:
            left = _SIZE.unpack(size)[0]
            data = link.recv(left, socket.MSG_WAITALL) if left else b""
            return data if len(data) == left else None
    return None
