"""A SIF file of Singularity or Apptainer, by its squashfs partition, and a plain squashfs file; unsquashfs unpacks both.

The header and descriptors are those of SIF version 01 (little-endian, without padding).
"""

import asyncio
import contextlib
import ctypes
import errno
import os
import signal
import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from images.errors import Error
from images.interruptible import run_interruptible
from images.progress import ArchiveAdvanced, ArchiveUnpacking, Progress
from images.source.contract import Provenance, SourceOptions
from images.source.naming import name_of_file
from images.source.unpacking import MalformedArchive, open_archive

_UNSQUASHFS = "unsquashfs"
_HEADER = struct.Struct("<32s10s3s3s16s8q")
"""Launch line, magic, version, architecture, ID; times, free and all descriptors, where they begin, their bytes; data."""
_DESCRIPTOR = struct.Struct("<i?III7q128s384s")
"""Type, in use, ID, group, link; offset, size, size with padding, times, uid, gid; name, what the type adds."""
_PARTITION = struct.Struct("<ii3s")
"""File system, kind of partition, architecture."""
_MAGIC = b"SIF_MAGIC\0"
_MAX_DESCRIPTORS = 4096
_DATA_PARTITION, _DATA_OCI_ROOT = 0x4004, 0x400A
_SQUASHFS, _ENCRYPTED = 1, 5
_FILE_SYSTEMS = {2: "ext3", 3: "an archive", 4: "raw data", _ENCRYPTED: "encrypted"}
_SYSTEM, _PRIMARY_SYSTEM = 1, 2
_ARCHITECTURES = {
    b"01": "386",
    b"02": "amd64",
    b"03": "arm",
    b"04": "arm64",
    b"05": "ppc64",
    b"06": "ppc64le",
    b"11": "s390x",
    b"12": "riscv64",
}
_SQUASHFS_MAGIC = b"hsqs"
_MESSAGE_LINES = 3
_MAX_SAID = 1 << 16
_LOOK_SECONDS = 0.1
"""Between two looks at how far unsquashfs is."""
_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None)
HEAD = _HEADER.size
"""Bytes that tell a SIF or squashfs file from another."""


class ToolMissing(Error):
    def __init__(self) -> None:
        super().__init__(
            f"{_UNSQUASHFS} is not installed, and SIF and squashfs files need it",
            hint="install the package squashfs-tools",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Where in the file the root file system lies; `architecture` as OCI spells it, "" if unknown."""

    offset: int
    size: int
    architecture: str = ""


def is_sif(head: bytes) -> bool:
    return head[32 : 32 + len(_MAGIC)] == _MAGIC


def is_squashfs(head: bytes) -> bool:
    return head.startswith(_SQUASHFS_MAGIC)


def find_partition(path: Path) -> Partition:
    """The primary system partition of a SIF file, or all of a squashfs file. Raises MalformedArchive."""
    with open_archive(path) as file:
        head = file.read(_HEADER.size)
        size = path.stat().st_size
        if is_squashfs(head):
            return Partition(offset=0, size=size)
        if len(head) < _HEADER.size or not is_sif(head):
            raise MalformedArchive(path, "it is no SIF file")
        _, _, version, _, _, _, _, _, total, start, _, _, _ = _HEADER.unpack(head)
        if version.rstrip(b"\0") != b"01":
            raise MalformedArchive(path, f"its SIF version {version.rstrip(bytes(1)).decode(errors='replace')!r} is unknown")
        if not 0 < total <= _MAX_DESCRIPTORS or not 0 < start < size:
            raise MalformedArchive(path, "its SIF header is broken")
        file.seek(start)
        found = _choose(path, file.read(total * _DESCRIPTOR.size))
    if found.offset <= 0 or found.size <= 0 or found.offset + found.size > size:
        raise MalformedArchive(path, "its root file system is cut off")
    return found


def _choose(path: Path, descriptors: bytes) -> Partition:
    other, has_layers = "", False
    found: dict[int, Partition] = {}
    for kind, offset, size, extra in _used(descriptors):
        has_layers = has_layers or kind == _DATA_OCI_ROOT
        if kind != _DATA_PARTITION:
            continue
        file_system, use, code = _PARTITION.unpack_from(extra)
        if use not in (_SYSTEM, _PRIMARY_SYSTEM):
            continue
        if file_system != _SQUASHFS:
            other = _FILE_SYSTEMS.get(file_system, "of an unknown kind")
            continue
        architecture = _ARCHITECTURES.get(code.rstrip(b"\0"), "")
        found.setdefault(use, Partition(offset=offset, size=size, architecture=architecture))
    if best := found.get(_PRIMARY_SYSTEM) or found.get(_SYSTEM):
        return best
    if other:
        raise MalformedArchive(
            path, f"its root file system is {other}, not squashfs", hint="`apptainer build --sandbox DIR FILE`, then import DIR"
        )
    if has_layers:
        hint = "convert it (singularity pull without --oci), or import the container that it was made of"
        raise MalformedArchive(path, "it is an OCI-SIF, which has layers instead of a root file system", hint=hint)
    raise MalformedArchive(path, "it has no root file system")


def _used(descriptors: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    whole = len(descriptors) // _DESCRIPTOR.size * _DESCRIPTOR.size
    for kind, used, _, _, _, offset, size, _, _, _, _, _, _, extra in _DESCRIPTOR.iter_unpack(descriptors[:whole]):
        if used:
            yield kind, offset, size, extra


class SquashfsSource:
    """Raises MalformedArchive and ToolMissing."""

    def __init__(self, path: Path) -> None:
        self.default_name = name_of_file(path)
        self._path = path

    @classmethod
    def parse(cls, text: str, options: SourceOptions) -> "SquashfsSource":
        return cls(Path(text))

    async def find_digest(self) -> str | None:
        return None

    async def unpack(self, rootfs: Path, progress: Progress) -> Provenance:
        partition = await run_interruptible(lambda stopped: find_partition(self._path))
        progress(ArchiveUnpacking(path=self._path))

        def report(done: int) -> None:
            progress(ArchiveAdvanced(name=self._path.name, size=partition.size, done=min(done, partition.size)))

        reason = await _unsquash(self._path, partition.offset, rootfs, report)
        if reason is None:
            return Provenance(reference=str(self._path.resolve()), architecture=partition.architecture or None)
        if (full := os.strerror(errno.ENOSPC)) in reason:
            raise OSError(errno.ENOSPC, full, str(rootfs))
        raise MalformedArchive(
            self._path, f"{_UNSQUASHFS} says: {reason}", hint="check that the file is whole, or copy it again"
        )


async def _unsquash(path: Path, offset: int, target: Path, report: Callable[[int], None]) -> str | None:
    """None, or what went wrong; `report` is told how many bytes have been read. Raises ToolMissing."""
    # The target is there already, which needs -force.
    options = ["-no-progress", "-quiet", "-force", "-strict-errors", "-offset", str(offset), "-dest", str(target)]
    try:
        process = await asyncio.create_subprocess_exec(
            _UNSQUASHFS,
            *options,
            str(path.resolve()),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            preexec_fn=_die_with_parent,
        )
    except FileNotFoundError:
        raise ToolMissing from None
    try:
        said = await _listen(process, report)
        await process.wait()
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    if process.returncode == 0:
        return None
    lines = [line.strip() for line in said.decode(errors="replace").splitlines() if line.strip()]
    return "; ".join(lines[:_MESSAGE_LINES])[:300] or f"exit status {process.returncode}"


async def _listen(process: asyncio.subprocess.Process, report: Callable[[int], None]) -> bytes:
    """What it writes to standard error, until it closes that, the beginning at least."""
    assert process.stderr is not None
    said = b""
    while True:
        try:
            async with asyncio.timeout(_LOOK_SECONDS):
                more = await process.stderr.read(_MAX_SAID)
        except TimeoutError:
            # unsquashfs before 4.6 tells nobody but a terminal how far it is, but what it reads is its file, and little else.
            with contextlib.suppress(OSError):
                report(_bytes_read(process.pid))
            continue
        if not more:
            return said
        said = (said + more)[:_MAX_SAID]


def _bytes_read(pid: int) -> int:
    """Bytes that a process has asked for by read(2) and its like (proc_pid_io(5)). Raises OSError."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return next((int(line.split()[1]) for line in lines if line.startswith("rchar:")), 0)


def _die_with_parent() -> None:
    """A killed import must not leave somebody who writes into its staging folder."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
