"""Forked processes that read layers: decompress, hash, parse, write the files' contents; what is left to do comes back.

Each layer is read by one of them. Its operations go to a file, so that a layer can be read long before its turn; the link to
the parent only says that there are more. Workers end with their parent, however that ends.
"""

import asyncio
import contextlib
import gc
import os
import shutil
import signal
import socket
import struct
import tempfile
import traceback
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, NoReturn

import msgspec

from images.contents import stage
from images.decompress import LayerStream, MalformedCompression
from images.errors import Error
from images.layers import Move, Operation, Put, plan_layer
from images.pax import MalformedTar
from images.rootfs import UnsafePath
from images.tar import Reader
from images.tree import UnpackFailed
from images.window import open_window
from images.workers import follow

MOST = 8
"""Workers at most: whoever applies what they read is one process."""
_BATCH = 256
_BATCH_BYTES = 1 << 18
"""Of link targets and extended attributes in a batch; an entry may have a megabyte of them."""
_SIZE = struct.Struct("<I")
_MORE = b"+"
_MESSAGE = 1 << 16


class Job(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A layer, or the archive of a whole tree, to read: `size` bytes of `path` from `offset` on, None for all.

    `algorithm`: of the digest of the uncompressed bytes; None if nobody wants one.
    """

    number: int
    path: str
    offset: int = 0
    size: int | None = None
    algorithm: str | None
    whiteouts: bool = True

    def open(self) -> BinaryIO:
        path = Path(self.path)
        return path.open("rb") if self.size is None else open_window(path, self.offset, self.size)


class Batch(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Operations that come next; `done`: bytes of the blob that were read for them."""

    done: int
    operations: list[Operation]


class Done(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    number: int
    digest: str | None


class Failed(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """`kind` is an exception's name, `path` what it is about, `errno` the system's reason."""

    number: int
    kind: str
    reason: str
    path: bytes = b""
    errno: int = 0


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
        self._count = max(1, min(workers, MOST, len(os.sched_getaffinity(0))))
        self._workers: list[_Worker] = []
        self._waiting: deque[Job] = deque()
        self._ends: dict[int, Done | Failed] = {}
        self._news = asyncio.Event()
        self._died = False

    def __enter__(self) -> "Crew":
        with contextlib.ExitStack() as stack:
            self._folder = Path(tempfile.mkdtemp(prefix=".contents-", dir=self._beside.parent))
            stack.callback(shutil.rmtree, self._folder, ignore_errors=True)
            self.contents = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stack.callback(os.close, self.contents)
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

    def give(self, job: Job) -> None:
        """A worker begins with it as soon as one is idle."""
        self._waiting.append(job)
        self._push()

    async def batches(self, number: int) -> AsyncIterator[bytes]:
        """Encoded batches of that job as they come. Raises MalformedBlob, UnsafePath, UnpackFailed, WorkerDied, OSError."""
        with os.fdopen(_open_records(self.contents, number, os.O_RDONLY), "rb", buffering=0) as file:
            pending = b""
            while True:
                self._news.clear()
                end = self._ends.get(number)
                while chunk := file.read(1 << 20):
                    pending += chunk
                    at = 0
                    while (begin := at + _SIZE.size) <= len(pending):
                        (size,) = _SIZE.unpack_from(pending, at)
                        if begin + size > len(pending):
                            break
                        yield pending[begin : begin + size]
                        at = begin + size
                    pending = pending[at:]
                if isinstance(end, Failed):
                    _raise(end)
                if end is not None:
                    os.unlink(_records(number), dir_fd=self.contents)
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
                self._jobs.send(msgspec.msgpack.encode(self._waiting[0]))
                self._waiting.popleft()

    def _hear(self, link: socket.socket) -> None:
        message = b""
        with contextlib.suppress(ConnectionError):
            message = link.recv(_MESSAGE)
        if not message:
            self._died = True
            asyncio.get_running_loop().remove_reader(link)
        elif message != _MORE:
            end = msgspec.msgpack.decode(message, type=Done | Failed)
            self._ends[end.number] = end
            self._push()
        self._news.set()

    def _fork(self, jobs: socket.socket) -> _Worker:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        parent = os.getpid()
        pid = os.fork()
        if pid == 0:
            with contextlib.suppress(BaseException):
                _become_worker(parent, keep=(jobs.fileno(), theirs.fileno(), self.contents))
                _serve(jobs, theirs, self.contents)
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


def decode(batch: bytes) -> Batch:
    return _decoder.decode(batch)


_decoder = msgspec.msgpack.Decoder(Batch)


def _records(number: int) -> str:
    return f"operations-{number}"


def _open_records(folder: int, number: int, flags: int) -> int:
    """Whoever comes first makes the file."""
    return os.open(_records(number), flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)


def _become_worker(parent: int, keep: tuple[int, ...]) -> None:
    # Neither signals nor descriptors nor forgotten objects of the parent are ours.
    signal.set_wakeup_fd(-1)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    if not follow(parent):
        os._exit(0)
    gc.freeze()
    before = 2
    for fd in (*sorted(keep), os.sysconf("SC_OPEN_MAX")):
        os.closerange(before + 1, fd)
        before = fd


def _serve(jobs: socket.socket, link: socket.socket, folder: int) -> None:
    while data := jobs.recv(_MESSAGE):
        job = msgspec.msgpack.decode(data, type=Job)
        link.send(msgspec.msgpack.encode(_do(job, link, folder)))


def _do(job: Job, link: socket.socket, folder: int) -> Done | Failed:
    try:
        return Done(number=job.number, digest=_read(job, link, folder))
    except (MalformedTar, MalformedCompression) as exc:
        return Failed(number=job.number, kind="malformed", reason=exc.message)
    except UnsafePath as exc:
        return Failed(number=job.number, kind="unsafe", reason=exc.reason, path=exc.path)
    except UnpackFailed as exc:
        cause = exc.__cause__
        assert isinstance(cause, OSError)
        return Failed(number=job.number, kind="refused", reason=cause.strerror or "", path=exc.path, errno=cause.errno or 0)
    except OSError as exc:
        path = os.fsencode(exc.filename or b"")
        return Failed(number=job.number, kind="system", reason=exc.strerror or str(exc), path=path, errno=exc.errno or 0)
    except Exception:
        return Failed(number=job.number, kind="bug", reason=traceback.format_exc()[-_MESSAGE // 4 :])


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


def _read(job: Job, link: socket.socket, folder: int) -> str | None:
    position = 0

    def note(done: int) -> None:
        nonlocal position
        position = done

    with (
        os.fdopen(_open_records(folder, job.number, os.O_WRONLY), "wb", buffering=0) as file,
        LayerStream(job.open, algorithm=job.algorithm, stopped=lambda: False, advanced=note) as stream,
    ):
        chunks = iter(stream)
        reader = Reader(chunks)
        plan = plan_layer(reader, whiteouts=job.whiteouts)
        batch: list[Operation] = []
        weight, begun = 0, 0
        try:
            for operation in stage(plan, reader, folder, b"%d-" % job.number):
                batch.append(operation)
                weight += _weigh(operation)
                # Large files are news of their own, for progress.
                if len(batch) >= _BATCH or weight > _BATCH_BYTES or position - begun > 1 << 22:
                    _tell(batch, position, file, link)
                    batch, weight, begun = [], 0, position
            # The digest covers what stands after the archive's end, too; and damage may show only there.
            for _ in chunks:
                pass
        except Exception:
            # What came before is wrong first, if it is.
            with contextlib.suppress(OSError):
                _tell(batch, position, file, link)
            raise
        _tell(batch, position, file, link)
        return stream.digest() if job.algorithm else None


def _weigh(operation: Operation) -> int:
    if isinstance(operation, Put):
        entry = operation.entry
        return len(entry.linkname) + sum(len(name) + len(value) for name, value in entry.xattrs)
    return sum(map(len, operation.skipped)) if isinstance(operation, Move) and operation.skipped else 0


def _tell(operations: list[Operation], done: int, file: BinaryIO, link: socket.socket) -> None:
    data = msgspec.msgpack.encode(Batch(done=done, operations=operations))
    view = memoryview(_SIZE.pack(len(data)) + data)
    while view:
        view = view[file.write(view) :]
    # When the parent has not read earlier news, it will read these, too.
    with contextlib.suppress(BlockingIOError):
        link.send(_MORE, socket.MSG_DONTWAIT)
