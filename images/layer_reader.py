"""Read a layer in a forked process: decompress, hash, parse, write the files' contents; what is left to do is told.

The operations go to a file, so that a layer can be read long before its turn; the link only says that there are more.
"""

import contextlib
import os
import socket
import struct
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import BinaryIO

import msgspec

from images.contents import Contents
from images.decompress import LayerStream, MalformedCompression
from images.growing import open_growing
from images.layers import Link, Move, Operation, Put, plan_layer
from images.pax import MalformedTar
from images.rootfs import UnsafePath
from images.tar import Reader
from images.tree import UnpackFailed
from images.window import open_window

SIZE = struct.Struct("<I")
"""Stands before each batch in the file of operations."""
MORE = b"+"
"""What the link says of new batches; any other message is an end."""
MESSAGE = 1 << 16
"""Bytes of a message at most."""
_SAID = 4000
"""Characters of a reason and bytes of a path in a message: a hostile archive has names of a megabyte."""
_BATCH = 4096
"""Operations at most; what is staged in one directory moves into the tree at once only within a batch."""
_BATCH_BYTES = 1 << 18
"""Of names, link targets and extended attributes in a batch; an entry may have a megabyte of them."""
_NEWS = 1 << 22
"""Bytes of a blob after which its progress is told, if no batch is full."""


class Job(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """A layer, or the archive of a whole tree, to read: `size` bytes of `path` from `offset` on, None for all.

    `algorithm`: of the digest of the uncompressed bytes; None if nobody wants one.
    """

    number: int
    path: bytes
    offset: int = 0
    size: int | None = None
    algorithm: str | None
    whiteouts: bool = True

    def open(self) -> BinaryIO:
        path = Path(os.fsdecode(self.path))
        return path.open("rb", buffering=0) if self.size is None else open_window(path, self.offset, self.size)


class Batch(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Operations that come next; `done`: bytes of the blob that were read for them."""

    done: int
    operations: list[Operation]


class Done(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    number: int
    digest: str | None


class Failed(msgspec.Struct, frozen=True, kw_only=True, array_like=True, tag=True):
    """`path` is what it is about, `errno` the system's reason."""

    number: int
    kind: str
    reason: str
    path: bytes = b""
    errno: int = 0


_DECODER = msgspec.msgpack.Decoder(Batch)


def decode(batch: bytes) -> Batch:
    return _DECODER.decode(batch)


def records_name(number: int) -> str:
    return f"operations-{number}"


def open_records(folder: int, number: int, flags: int) -> int:
    """Whoever comes first makes the file."""
    return os.open(records_name(number), flags | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=folder)


def serve(jobs: socket.socket, link: socket.socket, folder: int, *, ahead: Callable[[], bool]) -> None:
    """Do what comes from `jobs`; `ahead` says whether there is a core for a thread that decompresses.

    With a job may come the two descriptors of a `Growth`: its blob still comes.
    """
    while True:
        data, growth, _flags, _sender = socket.recv_fds(jobs, MESSAGE, 2, socket.MSG_CMSG_CLOEXEC)
        if not data:
            return
        job = msgspec.msgpack.decode(data, type=Job)
        link.send(msgspec.msgpack.encode(_do(job, growth, link, folder, ahead)))


def _do(job: Job, growth: Sequence[int], link: socket.socket, folder: int, ahead: Callable[[], bool]) -> Done | Failed:
    def open_blob() -> BinaryIO:
        if not growth:
            return job.open()
        file, event = growth
        assert job.size is not None
        return open_growing(file, event, job.size)

    try:
        with LayerStream(open_blob, algorithm=job.algorithm, stopped=lambda: False, ahead=ahead) as stream:
            return Done(number=job.number, digest=_read(job, stream, link, folder))
    except (MalformedTar, MalformedCompression) as exc:
        return _failed(job, "malformed", exc.message)
    except UnsafePath as exc:
        return _failed(job, "unsafe", exc.reason, exc.path)
    except UnpackFailed as exc:
        cause = exc.__cause__
        assert isinstance(cause, OSError)
        return _failed(job, "refused", cause.strerror or "", exc.path, cause.errno)
    except OSError as exc:
        return _failed(job, "system", exc.strerror or str(exc), os.fsencode(exc.filename or b""), exc.errno)
    except Exception:
        return _failed(job, "bug", traceback.format_exc()[-_SAID:])


def _failed(job: Job, kind: str, reason: str, path: bytes = b"", number: int | None = None) -> Failed:
    shown = path if len(path) <= _SAID else path[: _SAID // 2] + path[-_SAID // 2 :]
    return Failed(number=job.number, kind=kind, reason=reason[:_SAID], path=shown, errno=number or 0)


def _read(job: Job, stream: LayerStream, link: socket.socket, folder: int) -> str | None:
    with os.fdopen(open_records(folder, job.number, os.O_WRONLY), "wb", buffering=0) as file:
        chunks = iter(stream)
        reader = Reader(chunks)
        plan = plan_layer(reader, whiteouts=job.whiteouts)
        contents = Contents(reader, folder, b"%d-" % job.number)
        batch: list[Operation] = []
        weight, told = 0, 0
        try:
            for operation in contents.stage(plan):
                batch.append(operation)
                weight += _weigh(operation)
                if len(batch) >= _BATCH or weight > _BATCH_BYTES:
                    contents.settle()
                    _tell(batch, stream.position, file, link)
                    batch, weight, told = [], 0, stream.position
                elif stream.position - told > _NEWS:
                    _tell([], stream.position, file, link)
                    told = stream.position
            # The digest covers what stands after the archive's end, too; and damage may show only there.
            for _ in chunks:
                pass
        except Exception:
            # What came before is wrong first, if it is.
            with contextlib.suppress(OSError):
                _tell(batch, stream.position, file, link)
            raise
        _tell(batch, stream.position, file, link)
        return stream.digest() if job.algorithm else None


def _weigh(operation: Operation) -> int:
    match operation:
        case Move(path=path, staged=staged, skipped=skipped):
            return len(path) + len(staged) + sum(map(len, skipped))
        case Put(path=path, entry=entry, staged=staged):
            attributes = sum(len(name) + len(value) for name, value in entry.xattrs) if entry.xattrs else 0
            return len(path) + len(entry.name) + len(entry.linkname) + len(staged) + attributes
        case Link(path=path, target=target):
            return len(path) + len(target)
    return len(operation.path)


def _tell(operations: list[Operation], done: int, file: BinaryIO, link: socket.socket) -> None:
    data = msgspec.msgpack.encode(Batch(done=done, operations=operations))
    view = memoryview(SIZE.pack(len(data)) + data)
    while view:
        view = view[file.write(view) :]
    # When the parent has not read earlier news, it will read these, too.
    with contextlib.suppress(BlockingIOError):
        link.send(MORE, socket.MSG_DONTWAIT)
