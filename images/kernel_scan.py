"""The kernels of a tree, whether a build was made of it and whatever that leaves out; only the folders that kernels lie in are
looked at, and what links in them lead to."""

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

from images.generation import Kernel
from images.index import Entry
from images.kernel import ImageKernel, find_kernels
from images.view import ImageView

AnyKernel = ImageKernel | Kernel
"""A kernel in a tree, or one of a built image."""
_NOTHING_THERE = (errno.ENOENT, errno.ENOTDIR, errno.ENAMETOOLONG)
"""Also where a link's target is longer than any path: no system finds anything there."""


def scan_kernels(rootfs: Path) -> list[ImageKernel]:
    """What `find_kernels` finds in the tree, in its order."""
    return find_kernels(kernel_view(rootfs))


def kernel_view(rootfs: Path) -> ImageView:
    """As much of the tree as `find_kernels` and `supported_compression` look at."""
    root = os.fsencode(rootfs)
    found = ImageView(_list(root, b"boot"))
    modules = _resolve(root, found, b"lib/modules")
    if (folder := found.find(modules)) is not None and folder.is_directory:
        _add(found, _list(root, modules))
    for entry in list(found):
        if entry.is_directory and entry.path.startswith(modules + b"/"):
            _add(found, _list(root, entry.path))
    for entry in list(found):
        if entry.is_symlink:
            _resolve(root, found, entry.path)
    return found


def _add(found: ImageView, entries: Iterator[Entry]) -> None:
    for entry in entries:
        found.add(entry)


def _resolve(root: bytes, found: ImageView, path: bytes) -> bytes:
    """The path with every link in it followed, inside the tree; what lies on its way is added to what was found.

    What lies below anything but a folder is not looked at: below a link, which stays where there are too many of them, the
    system would go on, out of the tree.
    """
    device = os.lstat(root).st_dev
    while True:
        real = found.resolve(path)
        parts = real.split(b"/")
        ways = [b"/".join(parts[:count]) for count in range(1, len(parts) + 1)]
        known = [entry for way in ways if (entry := found.find(way)) is not None]
        if len(known) == len(ways) or not real or not all(entry.is_directory for entry in known):
            return real
        unknown = next(way for way in ways if found.find(way) is None)
        try:
            info = os.lstat(root + b"/" + unknown)
        except OSError as exc:
            if exc.errno in _NOTHING_THERE:
                return real
            raise
        if stat.S_ISDIR(info.st_mode) and info.st_dev != device:
            return real
        found.add(_entry(root, unknown, info))


def _list(root: bytes, folder: bytes) -> Iterator[Entry]:
    """The entries of a folder whose path has no links, unless something is mounted there."""
    try:
        info = os.lstat(root + b"/" + folder)
    except (FileNotFoundError, NotADirectoryError):
        return
    if not stat.S_ISDIR(info.st_mode) or info.st_dev != os.lstat(root).st_dev:
        return
    with os.scandir(root + b"/" + folder) as items:
        for item in items:
            yield _entry(root, folder + b"/" + item.name, item.stat(follow_symlinks=False))


def _entry(root: bytes, path: bytes, info: os.stat_result) -> Entry:
    return Entry(
        path=path,
        mode=info.st_mode,
        inode=info.st_ino,
        uid=info.st_uid,
        gid=info.st_gid,
        size=info.st_size,
        nlink=info.st_nlink,
        rdev=0,
        mtime_ns=info.st_mtime_ns,
        ctime_ns=info.st_ctime_ns,
        target=os.readlink(root + b"/" + path) if stat.S_ISLNK(info.st_mode) else b"",
    )
