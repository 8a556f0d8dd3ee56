"""Walk a root file system: every entry with lstat, in path order."""

import errno
import os
import stat
from collections.abc import Callable, Mapping
from operator import attrgetter
from pathlib import Path

from images.errors import Error
from images.excludes import Excludes
from images.index import Entry

Xattrs = tuple[tuple[bytes, bytes], ...]
ReadXattrs = Callable[[bytes], Xattrs]
NO_ENTRIES: Mapping[bytes, Entry] = {}


class TooDeep(Error):
    def __init__(self, folder: bytes) -> None:
        super().__init__(
            f"the tree is too deep: a path of {len(folder)} bytes that begins with {os.fsdecode(folder[:80])!r}",
            hint="remove the folders, or name one of them in the image's /etc/warewulf/excludes",
        )


def scan(rootfs: Path, *, excludes: Excludes, previous: Mapping[bytes, Entry] = NO_ENTRIES, xattrs: bool = True) -> list[Entry]:
    """All entries of the tree, sorted by path.

    An entry that stat finds as `previous` has it is the same object, with its known xattrs and digest. Excluded directories and
    what lies below a mount point are left out; the mount point itself stays, as the empty directory that it is in the image.
    `previous` must be in path order. Without `xattrs`, which take a third of the time, entries have none. Raises TooDeep.
    """
    root = os.fsencode(rootfs)
    top = os.lstat(root)
    read = read_xattrs if xattrs else _no_xattrs
    entries = [_entry(b".", root, top, previous.get(b"."), read)]
    try:
        entries += _walk(root, top.st_dev, excludes, previous, read)
    except OSError as exc:
        if exc.errno == errno.ENAMETOOLONG:
            raise TooDeep(os.fsencode(exc.filename)) from exc
        raise
    if len(entries) == len(previous) and all(previous.get(entry.path) is entry for entry in entries):
        return list(previous.values())
    entries.sort(key=attrgetter("path"))
    return entries


def _walk(root: bytes, device: int, excludes: Excludes, previous: Mapping[bytes, Entry], read: ReadXattrs) -> list[Entry]:
    """Everything below the root, in no order; this loop is what "is it current?" costs."""
    found: list[Entry] = []
    excluded = None if excludes.empty else excludes.match
    known, is_directory = previous.get, stat.S_ISDIR
    pending = [b""]
    while pending:
        below = pending.pop()
        with os.scandir(root + b"/" + below) as items:
            for item in items:
                path = below + item.name
                if excluded is not None and excluded(path):
                    continue
                info = item.stat(follow_symlinks=False)
                found.append(_entry(path, item.path, info, known(path), read))
                if is_directory(info.st_mode) and info.st_dev == device:
                    pending.append(path + b"/")
    return found


def _entry(path: bytes, full: bytes, info: os.stat_result, known: Entry | None, read: ReadXattrs) -> Entry:
    if known is not None and _unchanged(known, info):
        return known
    is_device = stat.S_ISBLK(info.st_mode) or stat.S_ISCHR(info.st_mode)
    return Entry(
        path=path,
        mode=info.st_mode,
        inode=info.st_ino,
        uid=info.st_uid,
        gid=info.st_gid,
        size=info.st_size if stat.S_ISREG(info.st_mode) else 0,
        nlink=info.st_nlink if not stat.S_ISDIR(info.st_mode) else 1,
        rdev=info.st_rdev if is_device else 0,
        mtime_ns=info.st_mtime_ns,
        ctime_ns=info.st_ctime_ns,
        target=os.readlink(full) if stat.S_ISLNK(info.st_mode) else b"",
        xattrs=read(full),
    )


def _unchanged(known: Entry, info: os.stat_result) -> bool:
    """Every change of content, owner, mode, links or xattrs moves ctime, which nothing can set back."""
    return (
        known.ctime_ns == info.st_ctime_ns
        and known.mtime_ns == info.st_mtime_ns
        and known.inode == info.st_ino
        and known.mode == info.st_mode
        and known.uid == info.st_uid
        and known.gid == info.st_gid
        and (known.size == info.st_size or not stat.S_ISREG(info.st_mode))
    )


def _no_xattrs(full: bytes) -> Xattrs:
    return ()


def read_xattrs(full: bytes) -> Xattrs:
    """What newc cannot carry and a node needs: `security.*` (file capabilities, SELinux) and POSIX ACLs."""
    names = os.listxattr(full, follow_symlinks=False)
    wanted = sorted(name for name in names if name.startswith(("security.", "system.posix_acl_")))
    return tuple((os.fsencode(name), os.getxattr(full, name, follow_symlinks=False)) for name in wanted)
