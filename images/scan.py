"""Walk a root file system: every entry with lstat, in path order."""

import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from images.excludes import Excludes
from images.index import Entry

NO_ENTRIES: Mapping[bytes, Entry] = {}


def scan(rootfs: Path, *, excludes: Excludes, previous: Mapping[bytes, Entry] = NO_ENTRIES) -> list[Entry]:
    """All entries of the tree, sorted by path.

    An entry that stat finds as `previous` has it keeps its known xattrs and digest. Excluded directories and what lies below a
    mount point are left out; the mount point itself stays, as the empty directory that it is in the image.
    """
    root = os.fsencode(rootfs)
    top = os.lstat(root)
    entries = [_entry(b".", root, top, previous)]
    entries += [_entry(path, full, info, previous) for path, full, info in _walk(root, b"", top.st_dev, excludes)]
    entries.sort(key=lambda entry: entry.path)
    return entries


def _walk(folder: bytes, below: bytes, device: int, excludes: Excludes) -> Iterator[tuple[bytes, bytes, os.stat_result]]:
    with os.scandir(folder) as found:
        for item in found:
            path = below + item.name
            if excludes.match(path):
                continue
            info = item.stat(follow_symlinks=False)
            yield path, item.path, info
            if stat.S_ISDIR(info.st_mode) and info.st_dev == device:
                yield from _walk(item.path, path + b"/", device, excludes)


def _entry(path: bytes, full: bytes, info: os.stat_result, previous: Mapping[bytes, Entry]) -> Entry:
    known = previous.get(path)
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
        xattrs=_xattrs(full),
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


def _xattrs(full: bytes) -> tuple[tuple[bytes, bytes], ...]:
    """What newc cannot carry and a node needs: `security.*` (file capabilities, SELinux) and POSIX ACLs."""
    names = os.listxattr(full, follow_symlinks=False)
    wanted = sorted(name for name in names if name.startswith(("security.", "system.posix_acl_")))
    return tuple((os.fsencode(name), os.getxattr(full, name, follow_symlinks=False)) for name in wanted)
