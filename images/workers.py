"""Do numbered jobs in forked processes, for work that Python's own lock would serialise in threads.

A worker has what its parent had in memory when it was forked: only job numbers and results travel. It ends with its parent,
however that ends.
"""

import contextlib
import ctypes
import os
import selectors
import signal
import socket
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from types import FrameType
from typing import NoReturn

Job = Callable[[int], bytes]
"""Does the job of that number; its result travels back as bytes."""

PR_SET_PDEATHSIG = 1
_SIZE = struct.Struct("<Q")


@dataclass(frozen=True, slots=True)
class _Worker:
    pid: int
    link: socket.socket


def _nothing() -> None:
    pass


def run(
    job: Job, numbers: Sequence[int], workers: int, meanwhile: Callable[[], None] = _nothing
) -> Iterator[tuple[int, bytes]]:
    """Results in the order in which they are ready, with their job's number.

    With one worker, or one job, no process is forked. A job that fails in its worker, or whose worker dies, is done once more
    by the caller's process, which so raises what is wrong. However the iteration ends, no worker is left. `meanwhile` is what
    the caller's process does as soon as the workers have something to do.
    """
    if workers < 2 or len(numbers) < 2:
        meanwhile()
        yield from ((number, job(number)) for number in numbers)
        return
    pending = list(reversed(numbers))
    crew: list[_Worker] = []
    with selectors.DefaultSelector() as ready:
        try:
            for _ in range(min(workers, len(numbers))):
                worker = _fork(job, crew)
                crew.append(worker)
                ready.register(worker.link, selectors.EVENT_READ, (worker, _give(worker, pending.pop())))
            meanwhile()
            while ready.get_map():
                for key, _events in ready.select():
                    worker, number = key.data
                    result = _receive(worker.link)
                    if result is None:
                        ready.unregister(worker.link)
                        result = job(number)
                    elif pending:
                        ready.modify(worker.link, selectors.EVENT_READ, (worker, _give(worker, pending.pop())))
                    else:
                        ready.unregister(worker.link)
                    yield number, result
            yield from ((number, job(number)) for number in reversed(pending))
        finally:
            _end(crew)


def _fork(job: Job, crew: Sequence[_Worker]) -> _Worker:
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    pid = os.fork()
    if pid == 0:
        # What a worker raises is for its parent to see by doing the job itself; nothing of the parent's is cleaned up here.
        try:
            for worker in crew:
                worker.link.close()
            ours.close()
            _serve(job, theirs, parent)
        finally:
            # Whatever was raised, by a job or by the signal to end, and even here.
            os._exit(0)
    theirs.close()
    return _Worker(pid, ours)


def _serve(job: Job, link: socket.socket, parent: int) -> None:
    signal.signal(signal.SIGTERM, _leave)
    if not follow(parent):
        return
    while number := link.recv(_SIZE.size, socket.MSG_WAITALL):
        result = job(_SIZE.unpack(number)[0])
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
    _block_end()
    raise SystemExit


def _block_end() -> None:
    """Blocked rather than ignored: Python complains of a signal that arrives while its handler is being replaced."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})


def _give(worker: _Worker, number: int) -> int:
    with contextlib.suppress(BrokenPipeError):
        worker.link.sendall(_SIZE.pack(number))
    return number


def _receive(link: socket.socket) -> bytes | None:
    """None when the worker is gone."""
    size = link.recv(_SIZE.size, socket.MSG_WAITALL)
    if len(size) < _SIZE.size:
        return None
    left = _SIZE.unpack(size)[0]
    data = link.recv(left, socket.MSG_WAITALL) if left else b""
    return data if len(data) == left else None


def _end(crew: Sequence[_Worker]) -> None:
    """All at once: giving back what a process has in memory takes a while."""
    for worker in crew:
        worker.link.close()
        with contextlib.suppress(ProcessLookupError):
            os.kill(worker.pid, signal.SIGTERM)
    for worker in crew:
        with contextlib.suppress(ChildProcessError):
            os.waitpid(worker.pid, 0)
