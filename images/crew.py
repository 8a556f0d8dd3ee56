"""Forked processes that read layers, several at once, and the way back of what they tell.

Each layer is read by one of them (`images.layer_reader`). Workers end with their parent, however that ends.
"""

import asyncio
import contextlib
import gc
import mmap
import os
import signal
import socket
import tempfile
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import NoReturn

import msgspec

from images.allocator import keep_freed
from images.errors import Error
from images.growing import Growth
from images.layer_reader import MESSAGE, MORE, SIZE, Done, Failed, Job, open_records, records_name, serve
from images.rootfs import UnsafePath, remove_tree
from images.tree import UnpackFailed
from images.workers import follow

MOST = 8
"""Workers at most: whoever applies what they read is one process."""
ENOUGH = 4
"""Workers even where cores are fewer: they are shared out by what each layer takes, which nobody knows before, and what comes
slowly is read while it comes."""


class MalformedBlob(Exception):
    """Its bytes are no layer; whoever gave the job knows whose fault that is."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class WorkerDied(Error):
    def __init__(self) -> None:
        super().__init__(
            "a process that unpacks layers was killed",
            hint="`dmesg` says whether memory was short; nothing of the image was kept: import it again",
        )


@dataclass(frozen=True, slots=True)
class _Worker:
    pid: int
    link: socket.socket


class Crew:
    """`workers` processes; use it with `with`, in the thread of the event loop, while no other thread is at work.

    `beside` is the tree; contents go to a folder next to it, on the same file system, which is gone afterwards.
    """

    def __init__(self, beside: Path, workers: int) -> None:
        self._beside = beside
        self._cores = len(os.sched_getaffinity(0))
        self._count = max(1, min(workers, MOST, max(ENOUGH, self._cores)))
        self._workers: list[_Worker] = []
        self._waiting: deque[tuple[Job, tuple[int, ...]]] = deque()
        self._given = 0
        self._ends: dict[int, Done | Failed] = {}
        self._news = asyncio.Event()
        self._died = False

    def __enter__(self) -> "Crew":
        keep_freed()
        with contextlib.ExitStack() as stack:
            self._folder = Path(tempfile.mkdtemp(prefix=".contents-", dir=self._beside.parent))
            stack.callback(_discard, self._folder)
            self.contents = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, self.contents)
            # Shared with the workers: how many cores none of them uses.
            self._idle = stack.enter_context(mmap.mmap(-1, 1))
            self._jobs, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            stack.callback(self._jobs.close)
            self._jobs.setblocking(False)
            stack.callback(self._end)
            with theirs:
                loop = asyncio.get_running_loop()
                for _ in range(self._count):
                    worker = self._fork(theirs)
                    self._workers.append(worker)
                    loop.add_reader(worker.link, self._hear, worker.link)
            self._stack = stack.pop_all()
        return self

    def __exit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        self._stack.close()

    def give(self, job: Job, growth: Growth | None = None) -> None:
        """A worker begins with it as soon as one is idle. `growth`: of its blob, which is still being written."""
        self._waiting.append((job, () if growth is None else (growth.file, growth.event)))
        self._given += 1
        self._note_idle()
        self._push()

    async def batches(self, number: int) -> AsyncIterator[bytes]:
        """Encoded batches of that job as they come. Raises MalformedBlob, UnsafePath, UnpackFailed, WorkerDied, OSError."""
        with os.fdopen(open_records(self.contents, number, os.O_RDONLY), "rb", buffering=0) as file:
            pending = b""
            while True:
                self._news.clear()
                end = self._ends.get(number)
                while chunk := file.read(1 << 20):
                    pending += chunk
                    at = 0
                    while (begin := at + SIZE.size) <= len(pending):
                        (size,) = SIZE.unpack_from(pending, at)
                        if begin + size > len(pending):
                            break
                        yield pending[begin : begin + size]
                        at = begin + size
                    pending = pending[at:]
                if isinstance(end, Failed):
                    _raise(end)
                if end is not None:
                    os.unlink(records_name(number), dir_fd=self.contents)
                    return
                if self._died:
                    raise WorkerDied
                await self._news.wait()

    def digest(self, number: int) -> str | None:
        """Of the uncompressed bytes, once there are no more batches."""
        end = self._ends[number]
        assert isinstance(end, Done)
        return end.digest

    def _push(self) -> None:
        with contextlib.suppress(BlockingIOError):
            while self._waiting:
                job, growth = self._waiting[0]
                socket.send_fds(self._jobs, [msgspec.msgpack.encode(job)], growth)
                self._waiting.popleft()

    def _note_idle(self) -> None:
        """Tell the workers, at each job's begin and end."""
        busy = min(self._given - len(self._ends), self._count)
        self._idle[0] = min(max(self._cores - busy, 0), 255)

    def _hear(self, link: socket.socket) -> None:
        message = b""
        with contextlib.suppress(ConnectionError):
            message = link.recv(MESSAGE)
        if not message:
            self._died = True
            asyncio.get_running_loop().remove_reader(link)
        elif message != MORE:
            end = msgspec.msgpack.decode(message, type=Done | Failed)
            self._ends[end.number] = end
            self._note_idle()
            self._push()
        self._news.set()

    def _fork(self, jobs: socket.socket) -> _Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                _become_worker(parent, keep=(jobs.fileno(), theirs.fileno(), self.contents))
                serve(jobs, theirs, self.contents, ahead=lambda: self._idle[0] > 0)
            os._exit(0)
        theirs.close()
        return _Worker(pid, ours)

    def _end(self) -> None:
        loop = asyncio.get_running_loop()
        for worker in self._workers:
            loop.remove_reader(worker.link)
            worker.link.close()
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker.pid, signal.SIGTERM)
        for worker in self._workers:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(worker.pid, 0)


def _become_worker(parent: int, keep: tuple[int, ...]) -> None:
    # Neither signals nor descriptors nor forgotten objects of the parent are ours.
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not follow(parent):
        os._exit(0)
    # Nothing here makes cycles, and a worker does not live long.
    gc.freeze()
    gc.disable()
    # What workers make lies in a folder that only root enters, and shall have the mode that it is made with.
    os.umask(0)
    before = 2
    for fd in (*sorted(keep), os.sysconf("SC_OPEN_MAX")):
        os.closerange(before + 1, fd)
        before = fd


def _discard(folder: Path) -> None:
    with contextlib.suppress(OSError):
        remove_tree(folder)


def _raise(failed: Failed) -> NoReturn:
    match failed.kind:
        case "malformed":
            raise MalformedBlob(failed.reason)
        case "unsafe":
            raise UnsafePath(failed.path, failed.reason)
        case "refused":
            cause = OSError(failed.errno, failed.reason)
            raise UnpackFailed(failed.path, cause) from cause
        case "system":
            raise OSError(failed.errno, failed.reason, os.fsdecode(failed.path) or None)
    raise RuntimeError(failed.reason)
