"""Walk a root file system: every entry with lstat, in path order."""

import contextlib
import errno
import os
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from operator import attrgetter, itemgetter
from pathlib import Path

import msgspec

from images.errors import Error
from images.excludes import Excludes
from images.index import Entry

Xattrs = tuple[tuple[bytes, bytes], ...]
ReadXattrs = Callable[[bytes], Xattrs]
NO_ENTRIES: Mapping[bytes, Entry] = {}

_ENCODING = sys.getfilesystemencoding()


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
    with _not_too_deep():
        root, walk = _begin(rootfs, excludes, previous, read_xattrs if xattrs else _no_xattrs)
        entries = [root, *walk.below(b"")]
    if len(entries) == len(previous) and all(previous.get(entry.path) is entry for entry in entries):
        return list(previous.values())
    entries.sort(key=attrgetter("path"))
    return entries


def walk_in_order(rootfs: Path, *, excludes: Excludes) -> Iterator[Entry]:
    """The same entries one after the other, for one who can begin with the first while the rest is looked for."""
    with _not_too_deep():
        root, walk = _begin(rootfs, excludes, NO_ENTRIES, read_xattrs)
        yield from walk.in_order(root)


@contextlib.contextmanager
def _not_too_deep() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        if exc.errno == errno.ENAMETOOLONG:
            raise TooDeep(os.fsencode(exc.filename)) from exc
        raise


def _begin(rootfs: Path, excludes: Excludes, previous: Mapping[bytes, Entry], read: ReadXattrs) -> tuple[Entry, "_Walk"]:
    """The root's own entry, and the walk of what is below."""
    root = os.fsencode(rootfs)
    top = os.lstat(root)
    before = previous.get(b".")
    entry = before if before is not None and _unchanged(before, top) else _new_entry(b".", root, top, read)
    return entry, _Walk(root, top.st_dev, excludes, previous, read)


class _Walk(msgspec.Struct, frozen=True):
    """What a walk needs to know; folders are paths with a slash at the end, the root is empty."""

    root: bytes
    device: int
    excludes: Excludes
    previous: Mapping[bytes, Entry]
    read: ReadXattrs

    def below(self, folder: bytes) -> list[Entry]:
        """Everything below, in no order."""
        found: list[Entry] = []
        pending = [folder]
        while pending:
            pending += self._read(pending.pop(), found)
        return found

    def in_order(self, root: Entry) -> Iterator[Entry]:
        """`root` and everything below, in path order; there a folder's contents stand where its path with a slash would."""
        pending: list[Entry | bytes] = [b""]
        found = [root]
        while pending:
            item = pending.pop()
            if isinstance(item, bytes):
                folders = self._read(item, found)
                items: list[tuple[bytes, Entry | bytes]] = [(entry.path, entry) for entry in found]
                items += [(path, path) for path in folders]
                items.sort(key=itemgetter(0), reverse=True)
                pending += [item for _, item in items]
                found.clear()
            else:
                yield item

    def _read(self, folder: bytes, found: list[Entry]) -> list[bytes]:
        """Add the folder's entries to what was found; its folders are returned. This loop is what "is it current?" costs."""
        excluded = None if self.excludes.empty else self.excludes.match
        known, read = self.previous.get, self.read
        is_directory, device = stat.S_ISDIR, self.device
        folders = []
        # By descriptor, so that the kernel does not go through all of the path for each entry; names are text then.
        descriptor = os.open(self.root + b"/" + folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with os.scandir(descriptor) as items:
                for item in items:
                    path = folder + item.name.encode(_ENCODING, "surrogateescape")
                    if excluded is not None and excluded(path):
                        continue
                    info = item.stat(follow_symlinks=False)
                    before = known(path)
                    if before is None or not _unchanged(before, info):
                        before = _new_entry(path, self.root + b"/" + path, info, read)
                    found.append(before)
                    if is_directory(info.st_mode) and info.st_dev == device:
                        folders.append(path + b"/")
        finally:
            os.close(descriptor)
        return folders


def _new_entry(path: bytes, full: bytes, info: os.stat_result, read: ReadXattrs) -> Entry:
    mode = info.st_mode
    kind = stat.S_IFMT(mode)
    return Entry(
        path=path,
        mode=mode,
        inode=info.st_ino,
        uid=info.st_uid,
        gid=info.st_gid,
        size=info.st_size if kind == stat.S_IFREG else 0,
        nlink=info.st_nlink if kind != stat.S_IFDIR else 1,
        rdev=info.st_rdev if kind in (stat.S_IFBLK, stat.S_IFCHR) else 0,
        mtime_ns=info.st_mtime_ns,
        ctime_ns=info.st_ctime_ns,
        target=os.readlink(full) if kind == stat.S_IFLNK else b"",
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
    if not names:
        return ()
    wanted = sorted(name for name in names if name.startswith(("security.", "system.posix_acl_")))
    return tuple((os.fsencode(name), os.getxattr(full, name, follow_symlinks=False)) for name in wanted)
