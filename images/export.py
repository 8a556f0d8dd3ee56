"""A generation as one ordinary initramfs file, which any boot loader hands to the kernel.

Its first archive names the generation, and so does its last: our init compares the two when the kernel's arguments name none.
"""

import contextlib
import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import BinaryIO

from images import cpio
from images.atomic import sync_folder
from images.compress import Compression, compressor
from images.errors import Error
from images.generation import Generation, begin_entries, end_archive
from images.generations import GenerationBroken

_CHUNK = 1 << 20
Report = Callable[[int, int], None]


class ExportExists(Error):
    def __init__(self, target: Path) -> None:
        super().__init__(f"{target} exists already", hint="use --force to replace it, or choose another file")


class ExportFailed(Error):
    def __init__(self, target: Path, reason: OSError) -> None:
        super().__init__(
            f"{target} was not written: {reason.strerror}", hint="what was there before is still there; choose another place"
        )


def initramfs(generation: Generation, report: Report | None = None) -> Iterator[bytes]:
    """The file's bytes; every segment is checked against its digest on the way. Raises GenerationBroken.

    `report` is told how many bytes of segments have gone out, of how many.
    """
    total, sent = sum(segment.size for segment in generation.manifest.segments), 0
    stream = compressor(Compression(generation.manifest.compression))
    begin = stream.compress(cpio.archive(begin_entries(generation.digest))) + stream.flush()
    size = len(begin)
    yield begin
    for (path, _), segment in zip(generation.image_files(), generation.manifest.segments, strict=True):
        digest = hashlib.sha256()
        with _opened(generation, path) as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                size += len(chunk)
                yield chunk
                sent += len(chunk)
                if report is not None:
                    report(sent, total)
        if f"sha256:{digest.hexdigest()}" != segment.digest:
            raise GenerationBroken(generation.digest, path)
    # The kernel reads an archive that is not compressed from a multiple of four on.
    yield cpio.padding(size) + end_archive(generation.digest)


def export(generation: Generation, target: Path, *, force: bool = False, report: Report | None = None) -> int:
    """Write `target` whole or not at all, readable by its owner only; its size in bytes.

    Raises ExportExists without `force`, ExportFailed or GenerationBroken. The caller holds the store's lock (`in_use`).
    """
    place = Path(os.path.realpath(target))
    _check(place, target, force=force)
    try:
        with _unnamed(place.parent) as file:
            for chunk in initramfs(generation, report):
                file.write(chunk)
            file.flush()
            os.fsync(file.fileno())
            _name(file, place, force=force)
            size = os.fstat(file.fileno()).st_size
        sync_folder(place.parent)
    except FileExistsError as exc:
        raise ExportExists(target) from exc
    except OSError as exc:
        raise ExportFailed(target, exc) from exc
    return size


def _check(place: Path, target: Path, *, force: bool) -> None:
    try:
        mode = os.lstat(place).st_mode
    except FileNotFoundError:
        return
    except OSError as exc:
        raise ExportFailed(target, exc) from exc
    if not stat.S_ISREG(mode):
        raise Error(f"{target} is no file that could be replaced", hint="name a file, or - for standard output")
    if not force:
        raise ExportExists(target)


@contextlib.contextmanager
def _opened(generation: Generation, path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb")
    except FileNotFoundError as exc:
        raise GenerationBroken(generation.digest, path) from exc
    with file:
        yield file


@contextlib.contextmanager
def _unnamed(folder: Path) -> Iterator[BinaryIO]:
    """A file without a name (open(2), O_TMPFILE): it vanishes by itself when the process dies.

    On file systems that have no such thing it is one that is removed here.
    """
    name = None
    try:
        descriptor = os.open(folder, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
    except OSError as exc:
        if exc.errno not in (errno.EOPNOTSUPP, errno.EISDIR):
            raise
        descriptor, name = tempfile.mkstemp(prefix=".new-", dir=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
    finally:
        if name is not None:
            os.unlink(name)


def _name(file: BinaryIO, place: Path, *, force: bool) -> None:
    """Give the file its name in one step; another one of that name goes only with `force`."""
    source = f"/proc/self/fd/{file.fileno()}"
    folder = os.open(place.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    # Always the same name, so that what a killed export left goes with the next one.
    beside = f".new-{place.name}"
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(beside, dir_fd=folder)
        os.link(source, beside if force else place.name, src_dir_fd=folder, dst_dir_fd=folder)
        if force:
            os.rename(beside, place.name, src_dir_fd=folder, dst_dir_fd=folder)
    finally:
        os.close(folder)
