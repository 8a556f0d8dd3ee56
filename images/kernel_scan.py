"""The kernels of a tree, whether a build was made of it and whatever that leaves out; only the folders that kernels lie in are
looked at."""

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

FOLDERS = (b"", b"boot", b"usr", b"usr/lib", b"lib", b"lib/modules", b"usr/lib/modules")


def scan_kernels(rootfs: Path) -> list[ImageKernel]:
    """What `find_kernels` finds in the tree, in its order."""
    return find_kernels(kernel_view(rootfs))


def kernel_view(rootfs: Path) -> ImageView:
    """As much of the tree as `find_kernels` and `supported_compression` look at."""
    return ImageView(_entries(os.fsencode(rootfs)))


def _entries(root: bytes) -> Iterator[Entry]:
    for folder in FOLDERS:
        yield from _list(root, folder)
    for modules in (b"lib/modules", b"usr/lib/modules"):
        for entry in list(_list(root, modules)):
            if entry.is_directory:
                yield from _list(root, entry.path)


def _list(root: bytes, folder: bytes) -> Iterator[Entry]:
    """The entries of a real folder; below a link they are found where it leads."""
    full = os.path.join(root, folder)
    if os.path.realpath(full) != os.path.join(os.path.realpath(root), folder).rstrip(b"/") or not os.path.isdir(full):
        return
    with os.scandir(full) as found:
        for item in found:
            info = item.stat(follow_symlinks=False)
            yield Entry(
                path=folder + b"/" + item.name if folder else item.name,
                mode=info.st_mode,
                inode=info.st_ino,
                uid=info.st_uid,
                gid=info.st_gid,
                size=info.st_size,
                nlink=info.st_nlink,
                rdev=0,
                mtime_ns=info.st_mtime_ns,
                ctime_ns=info.st_ctime_ns,
                target=os.readlink(item.path) if stat.S_ISLNK(info.st_mode) else b"",
            )
