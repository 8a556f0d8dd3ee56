"""Owner, mode, times and extended attributes of entries in a tree, and what to advise when the system refuses."""

import errno
import os
from collections.abc import Iterable

from images.rootfs import Directory

_HINTS = {
    errno.EPERM: "work on images needs root with all capabilities; a container has not all",
    errno.EACCES: "work on images needs root",
    errno.ENOSPC: "free some space on the file system of the images",
    errno.EDQUOT: "free some space on the file system of the images",
    errno.EROFS: "mount the file system of the images writable",
}


def hint_for(exc: OSError) -> str:
    return _HINTS.get(exc.errno or 0, "look at the file system of the images")


def set_open_attributes(
    fd: int, *, uid: int, gid: int, mode: int, mtime_ns: int | None, xattrs: Iterable[tuple[bytes, bytes]]
) -> list[bytes]:
    """Of an open file or directory; mtime_ns None leaves its times. Names of the xattrs that did not fit."""
    # The order matters: chown clears set-ID bits and file capabilities.
    os.fchown(fd, uid, gid)
    os.fchmod(fd, mode)
    skipped = set_xattrs(fd, xattrs) if xattrs else []
    if mtime_ns is not None:
        os.utime(fd, ns=(mtime_ns, mtime_ns))
    return skipped


def set_attributes(
    directory: Directory,
    name: bytes,
    *,
    uid: int,
    gid: int,
    mode: int | None,
    mtime_ns: int,
    xattrs: Iterable[tuple[bytes, bytes]],
) -> list[bytes]:
    """Of an entry that cannot be opened: a link (mode None) or special file. Names of the xattrs that did not fit."""
    os.chown(name, uid, gid, dir_fd=directory.fd, follow_symlinks=False)
    if mode is not None:
        os.chmod(name, mode, dir_fd=directory.fd)
    skipped = set_xattrs(xattr_path(directory, name), xattrs) if xattrs else []
    os.utime(name, ns=(mtime_ns, mtime_ns), dir_fd=directory.fd, follow_symlinks=False)
    return skipped


def xattr_path(directory: Directory, name: bytes) -> bytes:
    """The xattr system calls take no directory descriptor; /proc stands in."""
    return b"/proc/self/fd/%d/%s" % (directory.fd, name)


def set_xattrs(target: int | bytes, xattrs: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Set them; names of those that the file system or the kind of entry does not take."""
    skipped = []
    for name, value in xattrs:
        try:
            os.setxattr(target, name, value, follow_symlinks=isinstance(target, int))
        except OSError as exc:
            if exc.errno not in (errno.EOPNOTSUPP, errno.EPERM):
                raise
            skipped.append(name)
    return skipped


def read_xattrs(target: int | bytes) -> list[tuple[bytes, bytes]]:
    follow = isinstance(target, int)
    try:
        names = [os.fsencode(name) for name in os.listxattr(target, follow_symlinks=follow)]
    except OSError as exc:
        if exc.errno == errno.EOPNOTSUPP:
            return []
        raise
    return [(name, os.getxattr(target, name, follow_symlinks=follow)) for name in names]


def clear_xattrs(fd: int) -> None:
    """Before a directory of an upper layer gives an existing one its own; a label set by the host's policy stays."""
    for name, _ in read_xattrs(fd):
        if name != b"security.selinux":
            os.removexattr(fd, name)
