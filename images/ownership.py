"""Perform a synchronization of users in an image's tree, so that a crash at any point is made good by the next run.

The plan is written beside the tree first; it holds absolute values, so that whoever finds it performs it once more, whole.
"""

import contextlib
import errno
import os
import posixpath
import re
import stat
from dataclasses import dataclass
from pathlib import Path

import msgspec

from images import syncuser
from images.atomic import sync_folder, write_whole
from images.attributes import hint_for, read_xattrs, set_open_attributes, set_xattrs, xattr_path
from images.catalog import Catalog
from images.errors import Error
from images.excludes import Excludes
from images.rootfs import Directory, Rootfs, UnsafePath, find_status, show
from images.scan import scan
from images.syncuser import AccountFiles, Comparison, Owned, SyncPlan

_MAX_LINKS = 40
_UID_MIN = re.compile(r"^\s*UID_MIN\s+(\d+)", re.MULTILINE)


class NoAccounts(Error):
    def __init__(self, path: str, where: str, reason: str) -> None:
        super().__init__(
            f"cannot read {path} of {where}: {reason}", hint="both this server and the image need passwd and group"
        )


class Collisions(Error):
    """Some of the image's ids belong to other names on the head node."""

    def __init__(self, name: str, collisions: tuple[syncuser.Collision, ...]) -> None:
        shown = ", ".join(map(str, collisions))
        super().__init__(
            f"ids of image {name!r} belong to other names on this server: {shown}; nothing is changed",
            hint=f"{syncuser.remedy(collisions)}; then run this again",
        )
        self.collisions = collisions


class ReadOnly(Error):
    def __init__(self, name: str, marker: Path) -> None:
        super().__init__(f"image {name!r} is read-only", hint=f"{marker} says so; remove it to change the image")


class NotSynchronized(Error):
    def __init__(self, path: bytes, exc: OSError) -> None:
        super().__init__(
            f"cannot change {show(path)!r} in the image: {exc.strerror}", hint=f"{hint_for(exc)}; then run this again"
        )


class NotBegun(Error):
    def __init__(self, name: str, exc: OSError) -> None:
        super().__init__(
            f"users of image {name!r} are not synchronized, and nothing was changed: {exc.strerror}",
            hint=f"{hint_for(exc)}; then run this again",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Synchronization:
    """What is to change (`plan`), what it means (`comparison`), and whether it was done."""

    comparison: Comparison
    plan: SyncPlan
    written: bool


def read_host(sysconfdir: Path) -> tuple[AccountFiles, int]:
    """The head node's accounts, and the first id that is a person's. Raises NoAccounts."""
    texts = []
    for name in ("passwd", "group"):
        try:
            texts.append((sysconfdir / name).read_text("utf-8", "surrogateescape"))
        except OSError as exc:
            raise NoAccounts(str(sysconfdir / name), "this server", exc.strerror or str(exc)) from exc
    first = None
    with contextlib.suppress(OSError):
        first = _UID_MIN.search((sysconfdir / "login.defs").read_text(errors="replace"))
    return AccountFiles(passwd=texts[0], group=texts[1]), int(first[1]) if first else syncuser.FIRST_PERSON


def synchronize(catalog: Catalog, name: str, sysconfdir: Path, *, write: bool) -> Synchronization:
    """Give image `name` the ids of the head node whose files lie in `sysconfdir`; without `write` only say what it takes.

    The caller holds the image's lock. Raises ImageNotFound, ReadOnly, NoAccounts, Collisions, NotBegun, all of which change
    nothing, or NotSynchronized.
    """
    rootfs = catalog.get(name)
    if write:
        if catalog.is_read_only(name):
            raise ReadOnly(name, catalog.chroots / name / "readonly")
        finish(catalog, name)
    host, first_person = read_host(sysconfdir)
    image = read_image(rootfs, name)
    comparison = syncuser.compare(image, host, first_person=first_person)
    if comparison.collisions:
        raise Collisions(name, comparison.collisions)
    try:
        plan = syncuser.plan(comparison, image, scan(rootfs, excludes=Excludes([])))
    except OSError as exc:
        raise NotSynchronized(os.fsencode(exc.filename or ""), exc) from exc
    if write and plan:
        try:
            write_whole(catalog.sync_plan_path(name), msgspec.msgpack.encode(plan))
        except OSError as exc:
            raise NotBegun(name, exc) from exc
        sync_folder(rootfs.parent)
        finish(catalog, name)
    return Synchronization(comparison=comparison, plan=plan, written=write)


def finish(catalog: Catalog, name: str) -> bool:
    """Perform what an interrupted synchronization had planned; the caller holds the image's lock. Raises NotSynchronized."""
    path = catalog.sync_plan_path(name)
    try:
        plan = msgspec.msgpack.decode(path.read_bytes(), type=SyncPlan)
    except FileNotFoundError:
        return False
    except msgspec.DecodeError as exc:
        raise Error(f"{path} is damaged: {exc}", hint="remove it, then run syncuser again") from exc
    apply(catalog.get(name), plan)
    path.unlink()
    return True


def read_image(rootfs: Path, name: str) -> AccountFiles:
    """The image's own files; links are followed inside the image only. Raises NoAccounts."""
    with Rootfs(rootfs) as root:
        passwd, group, shadow = (_read_accounts(root, path, name) for path in (b"etc/passwd", b"etc/group", b"etc/shadow"))
        for path, text in (("/etc/passwd", passwd), ("/etc/group", group)):
            if text is None:
                raise NoAccounts(path, f"image {name!r}", "there is no such file")
        return AccountFiles(passwd=passwd or "", group=group or "", shadow=shadow)


def _read_accounts(root: Rootfs, path: bytes, name: str) -> str | None:
    try:
        return _read(root, path)
    except UnsafePath as exc:
        raise NoAccounts(f"/{os.fsdecode(path)}", f"image {name!r}", f"it {exc.reason}") from exc
    except OSError as exc:
        raise NoAccounts(f"/{os.fsdecode(path)}", f"image {name!r}", exc.strerror or str(exc)) from exc


def apply(rootfs: Path, plan: SyncPlan) -> None:
    """Owners first, then the account files; each step may be repeated."""
    with Rootfs(rootfs) as root:
        for owned in plan.entries:
            root.settle()
            try:
                _give(root, owned)
            except OSError as exc:
                raise NotSynchronized(owned.path, exc) from exc
        for path, text in ((b"etc/group", plan.group), (b"etc/passwd", plan.passwd), (b"etc/shadow", plan.shadow)):
            if text is not None:
                try:
                    _replace(root, path, text)
                except OSError as exc:
                    raise NotSynchronized(path, exc) from exc


def _give(root: Rootfs, owned: Owned) -> None:
    """The entry itself, never what a link leads to; what has vanished or become something else is left alone."""
    head, _, name = owned.path.rpartition(b"/")
    directory = root.find_directory(head)
    status = None if directory is None or directory.path != head else find_status(directory, name)
    if directory is None or status is None or stat.S_IFMT(status.st_mode) != stat.S_IFMT(owned.mode):
        return
    if (status.st_uid, status.st_gid) != (owned.uid, owned.gid):
        os.chown(name, owned.uid, owned.gid, dir_fd=directory.fd, follow_symlinks=False)
    # chown takes set-ID bits and file capabilities away.
    if not stat.S_ISLNK(owned.mode):
        os.chmod(name, stat.S_IMODE(owned.mode), dir_fd=directory.fd)
    set_xattrs(xattr_path(directory, name), owned.xattrs)


def _locate(root: Rootfs, path: bytes) -> tuple[Directory, bytes] | None:
    """Where the file really lies: the directory and its name there, links followed; None when a directory is missing."""
    for _ in range(_MAX_LINKS):
        head, _, name = path.rpartition(b"/")
        directory = root.find_directory(head)
        if directory is None:
            return None
        status = find_status(directory, name)
        if status is None or not stat.S_ISLNK(status.st_mode):
            return directory, name
        target = posixpath.join(b"/" + directory.path, os.readlink(name, dir_fd=directory.fd))
        path = posixpath.normpath(target).lstrip(b"/")
    raise UnsafePath(path, "goes through too many links")


def _read(root: Rootfs, path: bytes) -> str | None:
    found = _locate(root, path)
    if found is None:
        return None
    directory, name = found
    try:
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory.fd)
    except FileNotFoundError:
        return None
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(errno.EINVAL, "it is no file")
    with os.fdopen(descriptor, encoding="utf-8", errors="surrogateescape", newline="") as file:
        return file.read()


def _replace(root: Rootfs, path: bytes, data: bytes) -> None:
    """The new text by rename, with the old file's owner, mode and xattrs."""
    found = _locate(root, path)
    if found is None:
        return
    directory, name = found
    temporary = b".bootsvc-" + name
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=directory.fd)
    status = os.lstat(name, dir_fd=directory.fd)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    with os.fdopen(os.open(temporary, flags, 0o600, dir_fd=directory.fd), "wb") as file:
        file.write(data)
        file.flush()
        set_open_attributes(
            file.fileno(),
            uid=status.st_uid,
            gid=status.st_gid,
            mode=stat.S_IMODE(status.st_mode),
            mtime_ns=None,
            xattrs=read_xattrs(xattr_path(directory, name)),
        )
        os.fsync(file.fileno())
    os.rename(temporary, name, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)
    os.fsync(directory.fd)
