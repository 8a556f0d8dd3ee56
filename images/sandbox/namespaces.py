"""Linux namespaces and mounts, which Python 3.11 does not offer: unshare, mount, mount_setattr, pivot_root, prctl (all man 2).

Each function raises OSError with the kernel's errno. Few imports: the sandbox's child starts with this file.
"""

import ctypes
import os
from enum import IntEnum, IntFlag
from typing import NoReturn

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mount.argtypes = (ctypes.c_char_p, ctypes.c_char_p, ctypes.c_char_p, ctypes.c_ulong, ctypes.c_char_p)
_libc.prctl.argtypes = (ctypes.c_int, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong, ctypes.c_ulong)
_libc.syscall.argtypes = (ctypes.c_long,) * 6

AT_FDCWD = -100
AT_RECURSIVE = 0x8000
MNT_DETACH = 2
MOUNT_ATTR_RDONLY = 1
SYS_MOUNT_SETATTR = 442
"""The same number on every architecture; glibc wraps it only since 2.36."""
PR_SET_PDEATHSIG = 1
PR_CAPBSET_DROP = 24


class Namespace(IntFlag):
    """What unshare(2) separates (CLONE_NEW…, linux/sched.h)."""

    MOUNT = 0x00020000
    UTS = 0x04000000
    IPC = 0x08000000
    PID = 0x20000000


class MountFlag(IntFlag):
    """mount(2)'s flags (MS_…, linux/mount.h)."""

    READ_ONLY = 1
    NO_SUID = 2
    NO_DEV = 4
    NO_EXEC = 8
    REMOUNT = 32
    NO_ATIME = 1024
    NO_DIR_ATIME = 2048
    BIND = 4096
    MOVE = 8192
    RECURSIVE = 16384
    PRIVATE = 1 << 18
    REL_ATIME = 1 << 21


class Capability(IntEnum):
    """Numbers from linux/capability.h, of those that reach the machine itself and not a file tree."""

    SYS_MODULE = 16
    SYS_TIME = 25


class _MountAttributes(ctypes.Structure):
    _fields_ = (
        ("attr_set", ctypes.c_uint64),
        ("attr_clr", ctypes.c_uint64),
        ("propagation", ctypes.c_uint64),
        ("userns_fd", ctypes.c_uint64),
    )


def unshare(namespaces: Namespace) -> None:
    if _libc.unshare(int(namespaces)) != 0:
        _fail()


def mount(source: str, target: str, *, fstype: str = "", flags: int = 0, data: str = "") -> None:
    if _libc.mount(os.fsencode(source), os.fsencode(target), fstype.encode(), flags, os.fsencode(data)) != 0:
        _fail(target)


def set_read_only(target: str) -> None:
    """A mount and all below it (since Linux 5.12); a remount would leave submounts writable."""
    attributes = _MountAttributes(attr_set=MOUNT_ATTR_RDONLY)
    path = ctypes.create_string_buffer(os.fsencode(target))
    address = ctypes.addressof(path), ctypes.addressof(attributes)
    size = ctypes.sizeof(attributes)
    if _libc.syscall(SYS_MOUNT_SETATTR, AT_FDCWD, address[0], AT_RECURSIVE, address[1], size) != 0:
        _fail(target)


def detach(target: str) -> None:
    """umount2(2), at once and with everything below."""
    if _libc.umount2(os.fsencode(target), MNT_DETACH) != 0:
        _fail(target)


def pivot_root(new_root: str, put_old: str) -> None:
    if _libc.pivot_root(os.fsencode(new_root), os.fsencode(put_old)) != 0:
        _fail(new_root)


def set_hostname(name: str) -> None:
    raw = os.fsencode(name)
    if _libc.sethostname(raw, len(raw)) != 0:
        _fail()


def die_with_parent(number: int) -> None:
    """Have the kernel send this signal when the parent dies; a parent that is dead already is not noticed."""
    if _libc.prctl(PR_SET_PDEATHSIG, number, 0, 0, 0) != 0:
        _fail()


def drop_capability(capability: int) -> None:
    """Remove it from the bounding set: no program started later has it."""
    if _libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) != 0:
        _fail()


def _fail(path: str | None = None) -> NoReturn:
    number = ctypes.get_errno()
    raise OSError(number, os.strerror(number), path)
