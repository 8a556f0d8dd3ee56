"""A tree of everything that an image may hold and that is easily lost on the way to a node: `/odd`, and a few places more."""

import os
import random
import stat
import struct
from collections.abc import Iterator, Sequence
from pathlib import Path

BULK_FILES = 400
"""Files of random bytes, 44 MB in all: they fill several segments, whatever the compressor."""
LISTED = 2000
SEED = 20

CAP_NET_ADMIN, CAP_NET_RAW = 12, 13
_USER_OBJ, _USER, _GROUP_OBJ, _GROUP, _MASK, _OTHER = 0x01, 0x02, 0x04, 0x08, 0x10, 0x20
_NO_ID = 0xFFFFFFFF

NAMES = (
    *(b"with space", b" ", b"trailing ", b"new\nline", b"\n", b"tab\t", b"\x01\x7f\x1b[2J"),
    *(b"\xff\xfe invalid UTF-8", "Größe".encode(), b"back\\slash", b"\\012", b"quote'", b'"', b"x' -> 'y"),
    *(b"-n", b"--", b"*", b"$(reboot)", b"TRAILER!!!", b"# file: x", b"n" * 255),
)


def add_odd_tree(root: Path) -> None:
    """Add it to the tree `root`, which has /bin/busybox. Needs root, and a file system with ACLs."""
    top = os.fsencode(root) + b"/odd"
    os.mkdir(top)
    _bulk(top + b"/bulk")
    _links(top)
    _attributes(top, os.fsencode(root) + b"/bin/busybox")
    _special(top + b"/special")
    _symlinks(top + b"/symlinks")
    _names(top + b"/names")
    _folders(top)
    _file(os.fsencode(root) + b"/TRAILER!!!", b"no end of an archive")
    _sparse(os.fsencode(root))
    _times(top)


def capability(number: int) -> bytes:
    """security.capability with one permitted and effective capability (linux/capability.h, VFS_CAP_REVISION_2)."""
    return struct.pack("<IIIII", 0x02000001, 1 << number, 0, 0, 0)


def acl(*entries: tuple[int, int, int]) -> bytes:
    """system.posix_acl_*: (tag, permissions, id) in the order of tags (linux/posix_acl_xattr.h)."""
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def _file(path: bytes, content: bytes = b"", *, mode: int = 0o644, owner: tuple[int, int] = (0, 0)) -> bytes:
    with open(path, "xb") as file:
        file.write(content)
    os.chown(path, *owner)
    os.chmod(path, mode)
    return path


def _bulk(folder: bytes) -> None:
    """Also hard links whose names lie far apart, and would come into different segments."""
    noise = random.Random(SEED)
    os.mkdir(folder)
    for number in range(BULK_FILES):
        if number % 20 == 0:
            os.mkdir(b"%s/%02d" % (folder, number // 20))
        _file(b"%s/%02d/file-%03d" % (folder, number // 20, number), noise.randbytes(noise.randrange(20_000, 200_000)))
    os.link(folder + b"/00/file-000", folder + b"/10/link")
    os.link(folder + b"/00/file-000", folder + b"/19/link")
    os.link(folder + b"/19/file-399", folder + b"/00/a-link")


def _links(top: bytes) -> None:
    for folder in (b"/links", b"/a", b"/z", b"/z/below"):
        os.mkdir(top + folder)
    one = _file(top + b"/links/four names", b"hard\n", mode=0o4750, owner=(70_000, 70_001))
    for name in (b"/a/1", b"/z/2", b"/z/below/3"):
        os.link(one, top + name)
    empty = _file(top + b"/links/empty")
    os.link(empty, top + b"/a/empty")
    many = _file(top + b"/links/many", b"many")
    for number in range(200):
        os.link(many, b"%s/links/many-%03d" % (top, number))
    fifo = top + b"/links/fifo"
    os.mkfifo(fifo, 0o640)
    os.link(fifo, top + b"/z/fifo")
    os.mknod(top + b"/links/null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.link(top + b"/links/null", top + b"/a/null")
    os.link(top + b"/links/null", top + b"/z/null")
    # These arrive as two: no initramfs carries hard links between symbolic links.
    os.symlink(b"fifo", top + b"/links/symlink")
    os.link(top + b"/links/symlink", top + b"/links/symlink-2", follow_symlinks=False)


def _attributes(top: bytes, busybox: bytes) -> None:
    folder = top + b"/attributes"
    os.mkdir(folder)
    with open(busybox, "rb") as file:
        ping = _file(folder + b"/ping", file.read(), mode=0o755)
    os.setxattr(ping, b"security.capability", capability(CAP_NET_RAW))
    odd = _file(folder + b"/new\nline \\ \xff", b"#!/bin/sh\n", mode=0o755, owner=(100_000, 100_000))
    os.setxattr(odd, b"security.capability", capability(CAP_NET_ADMIN))
    os.link(odd, folder + b"/linked to it")
    os.mkdir(folder + b"/shared")
    os.chmod(folder + b"/shared", 0o2770)
    rwx = acl((_USER_OBJ, 7, _NO_ID), (_USER, 7, 70_000), (_GROUP_OBJ, 5, _NO_ID), (_MASK, 7, _NO_ID), (_OTHER, 0, _NO_ID))
    os.setxattr(folder + b"/shared", b"system.posix_acl_access", rwx)
    os.setxattr(folder + b"/shared", b"system.posix_acl_default", rwx)
    _file(folder + b"/shared/inherits")
    read = acl((_USER_OBJ, 6, _NO_ID), (_GROUP_OBJ, 4, _NO_ID), (_GROUP, 4, 12), (_MASK, 4, _NO_ID), (_OTHER, 4, _NO_ID))
    os.setxattr(_file(folder + b"/file with ACL"), b"system.posix_acl_access", read)
    os.symlink(b"ping", folder + b"/symlink")
    os.mkfifo(folder + b"/fifo")
    for name in (b"/symlink", b"/fifo", b"/shared"):
        os.setxattr(folder + name, b"security.odd", b"\0\n\xffvalue\0" + name, follow_symlinks=False)
    _file(folder + b"/setuid", mode=0o4755)
    _file(folder + b"/setgid", mode=0o2711, owner=(1, 65_536))
    _file(folder + b"/no permissions", b"0", mode=0)
    _file(folder + b"/all bits", mode=0o7777)
    _file(folder + b"/high ids", mode=0o4711, owner=(0xFFFFFFFE, 3_000_000_000))
    for name, mode in ((b"/sticky", 0o1777), (b"/closed", 0), (b"/all bits on a folder", 0o7777)):
        os.mkdir(folder + name)
        os.chown(folder + name, 3_000_000_000, 70_000)
        os.chmod(folder + name, mode)


def _special(folder: bytes) -> None:
    os.mkdir(folder)
    devices = (
        (b"fifo", stat.S_IFIFO | 0o4620, 0),
        (b"zero", stat.S_IFCHR | 0o666, os.makedev(1, 5)),
        (b"disk", stat.S_IFBLK | 0o660, os.makedev(259, 1_000_000)),
        (b"new\nline", stat.S_IFCHR, os.makedev(4095, 1_048_575)),
    )
    for name, mode, device in devices:
        path = folder + b"/" + name
        os.mknod(path, mode, device)
        os.chown(path, 70_000, 5)
        os.chmod(path, stat.S_IMODE(mode))


def _symlinks(folder: bytes) -> None:
    os.mkdir(folder)
    targets = (
        *(b"/bin/busybox", b"../special/zero", b"/no/such/file", b"itself", b".", b"/"),
        *(b"' -> 'x", b"line\nend\n", b"\xff\xfe", b"x" * 100, b"long/" * 800 + b"end"),
    )
    for number, target in enumerate(targets):
        os.symlink(target, b"%s/%02d" % (folder, number))
    os.symlink(b"itself", folder + b"/itself")
    os.chown(folder + b"/itself", 70_000, 70_001, follow_symlinks=False)


def _names(folder: bytes) -> None:
    """Each name as a file, a folder and a symbolic link."""
    for kind in (b"", b"/files", b"/folders", b"/symlinks"):
        os.mkdir(folder + kind)
    for name in NAMES:
        _file(folder + b"/files/" + name, name)
        os.mkdir(folder + b"/folders/" + name)
        os.symlink(name, folder + b"/symlinks/" + name)


def _folders(top: bytes) -> None:
    os.mkdir(top + b"/empty folder")
    os.mkdir(top + b"/large")
    for number in range(LISTED):
        _file(b"%s/large/entry-%04d" % (top, number), b"%d" % (number % 50) if number % 2 else b"")
    for folder in (b"/deep", b"/far"):
        os.mkdir(top + folder)
    _deep(top + b"/deep", [b"d"] * 300)
    _deep(top + b"/far", [b"f" * 240] * 8)


def _deep(folder: bytes, names: Sequence[bytes]) -> None:
    for name in names:
        folder += b"/" + name
        os.mkdir(folder)
    _file(folder + b"/bottom", b"here")


def _sparse(root: bytes) -> None:
    """A file of holes, and the log that is as large as the highest uid, which is built empty."""
    with open(root + b"/odd/sparse", "xb") as file:
        file.truncate(3_000_000)
        file.write(b"begin")
    os.makedirs(root + b"/var/log", exist_ok=True)
    with open(root + b"/var/log/lastlog", "xb") as file:
        file.truncate(300_000_000)


def _times(top: bytes) -> None:
    """Times of every kind of entry, spread over what newc can say: 1970 to 2106. Parts of a second are lost."""
    spread = random.Random(SEED)
    for path in sorted(_below(top), reverse=True):
        os.utime(path, ns=(0, spread.randrange(1 << 32) * 1_000_000_000 + 987_654_321), follow_symlinks=False)


def _below(top: bytes) -> Iterator[bytes]:
    yield top
    for folder, folders, files in os.walk(top):
        yield from (os.path.join(folder, name) for name in folders + files)
