"""Mount points that an image lacks: made for one run of the sandbox, removed after it, recorded beside the rootfs meanwhile.

Why not an overlay that hides them: with the image as its upper layer it leaves xattrs in the image and does not work on
every file system; a tmpfs over the parent would swallow what the command writes there. What this way leaves is a new ctime
of the parent. A record that a crash left is worked off by `remove`. Few imports: the sandbox's child starts with this file.
"""

import contextlib
import json
import os
import stat
from collections.abc import Iterator

Point = tuple[str, bool, str]
"""Path below the rootfs without links in it, whether it is a directory, and the host's file that it is a copy of, or ""."""

Identity = list[int]
"""What changes with a file, whoever changes it and how: inode, size, mtime and ctime in ns."""


def record_path(rootfs: str) -> str:
    folder, name = os.path.split(rootfs)
    return os.path.join(folder, f".{name}.mountpoints")


def create(rootfs: str, points: list[Point]) -> None:
    """Make the points and the directories above them that are missing. Raises OSError; `remove` then undoes what was done."""
    missing = _missing(rootfs, points)
    if not missing:
        return
    made = {path for path, _, _ in missing}
    parents = sorted({os.path.dirname(path) for path in made} - made)
    before = {path: _mtime(rootfs, path) for path in parents}
    copies: dict[str, Identity | None] = {path: None for path, _, source in missing if source}
    record: dict[str, object] = {"points": missing, "before": before, "after": {}, "copies": copies}
    _write(rootfs, record)
    for path, directory, source in missing:
        with _parent(rootfs, path) as parent:
            name = os.path.basename(path)
            if directory:
                os.mkdir(name, 0o755, dir_fd=parent)
            else:
                make_file(name, parent, source)
                if source:
                    copies[path] = _identity(name, parent)
    _write(rootfs, record | {"after": {path: _mtime(rootfs, path) for path in parents}})


def make_file(path: str, parent: int | None, source: str) -> None:
    """Empty, or a copy of `source` with its mode, owner and mtime; nothing may be there yet."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600 if source else 0o644, dir_fd=parent)
    with open(descriptor, "wb") as copy:
        if not source:
            return
        with open(source, "rb") as original:
            while piece := original.read(1 << 20):
                copy.write(piece)
            status = os.fstat(original.fileno())
        copy.flush()
        os.fchown(descriptor, status.st_uid, status.st_gid)
        os.fchmod(descriptor, stat.S_IMODE(status.st_mode))
        os.utime(descriptor, ns=(status.st_mtime_ns, status.st_mtime_ns))


def remove(rootfs: str) -> None:
    """Remove what `create` made, unless something was put there since; a parent not changed otherwise gets its mtime back.

    Raises OSError, or ValueError for a record that is damaged.
    """
    record = record_path(rootfs)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(record + ".new")
    try:
        with open(record, "rb") as file:
            noted = json.load(file)
    except FileNotFoundError:
        return
    try:
        points, before, after, copies = noted["points"], noted["before"], noted["after"], noted["copies"]
    except (TypeError, KeyError) as exc:
        raise ValueError("it is not a record of mount points") from exc
    restore = noted.get("restore")
    if restore is None:
        restore = {path: mtime for path, mtime in before.items() if after.get(path) in (None, _mtime(rootfs, path))}
        # For whoever goes on when we are killed: once the first point has gone, the times do not tell any more.
        with contextlib.suppress(OSError):
            _write(rootfs, noted | {"restore": restore}, sync=False)
    for path, directory, source in reversed(points):
        with contextlib.suppress(OSError), _parent(rootfs, path) as parent:
            name = os.path.basename(path)
            if directory:
                os.rmdir(name, dir_fd=parent)
            elif copies.get(path) in (None, _identity(name, parent)) if source else _is_empty(name, parent):
                os.unlink(name, dir_fd=parent)
    for path, mtime in restore.items():
        with contextlib.suppress(OSError), _directory(rootfs, path) as descriptor:
            os.utime(descriptor, ns=(os.fstat(descriptor).st_atime_ns, mtime))
    os.unlink(record)


def _missing(rootfs: str, points: list[Point]) -> list[Point]:
    """Each entry to make, parents before what is in them."""
    entries: dict[str, Point] = {}
    for path, directory, source in points:
        parts = path.split("/")
        for depth in range(1, len(parts) + 1):
            step = "/".join(parts[:depth])
            if not os.path.lexists(os.path.join(rootfs, step)):
                entries.setdefault(step, (step, True, "") if depth < len(parts) else (step, directory, source))
    return list(entries.values())


def _write(rootfs: str, content: dict[str, object], *, sync: bool = True) -> None:
    """Whole and on disk before anything is made: even a power cut leaves a record of what may lie in the image."""
    record = record_path(rootfs)
    with open(record + ".new", "w") as file:
        json.dump(content, file)
        if sync:
            file.flush()
            os.fsync(file.fileno())
    os.rename(record + ".new", record)


def _mtime(rootfs: str, path: str) -> int | None:
    with contextlib.suppress(OSError), _directory(rootfs, path) as descriptor:
        return os.fstat(descriptor).st_mtime_ns
    return None


def _is_empty(name: str, parent: int) -> bool:
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    return stat.S_ISREG(found.st_mode) and found.st_size == 0


def _identity(name: str, parent: int) -> Identity:
    found = os.stat(name, dir_fd=parent, follow_symlinks=False)
    return [found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns]


@contextlib.contextmanager
def _directory(rootfs: str, path: str) -> Iterator[int]:
    """Opened step by step without following links: the command may have put one where a directory was."""
    descriptor = os.open(rootfs, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for part in path.split("/") if path else ():
            below = os.open(part, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=descriptor)
            os.close(descriptor)
            descriptor = below
        yield descriptor
    finally:
        os.close(descriptor)


def _parent(rootfs: str, path: str) -> contextlib.AbstractContextManager[int]:
    return _directory(rootfs, os.path.dirname(path))
