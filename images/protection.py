"""What `chattr +i` and `+a` put on files and directories: even root can remove neither them nor what lies in them."""

import contextlib
import fcntl
import os
import sys

_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602
"""FS_IOC_GETFLAGS and FS_IOC_SETFLAGS of linux/fs.h, as 64-bit machines number them."""
_PROTECTED = 0x10 | 0x20
"""FS_IMMUTABLE_FL and FS_APPEND_FL of linux/fs.h."""


def unprotect(fd: int) -> None:
    """Take it off an open file or directory, as far as there is any; an attempt to remove tells whether that helped."""
    # File systems without such flags answer ENOTTY.
    with contextlib.suppress(OSError):
        flags = int.from_bytes(fcntl.ioctl(fd, _GETFLAGS, bytes(8))[:4], sys.byteorder)
        if flags & _PROTECTED:
            fcntl.ioctl(fd, _SETFLAGS, (flags & ~_PROTECTED).to_bytes(8, sys.byteorder))


def unprotect_entry(directory: int, name: bytes) -> None:
    """Take it off a regular file or a directory that lies in an open directory."""
    opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
    try:
        unprotect(opened)
    finally:
        os.close(opened)
