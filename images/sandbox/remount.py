"""A mount and all below it made read-only on kernels before 5.12 (RHEL 8 has 4.18), which lack mount_setattr(2).

A remount reaches one mount only and sets all of its flags, so each mount below is looked up in /proc/self/mountinfo
(proc(5)) and keeps the flags that it has. Few imports: see `child`.
"""

import os
import re
from collections.abc import Iterable

from images.sandbox import namespaces
from images.sandbox.namespaces import MountFlag

_FLAGS = {
    b"nosuid": MountFlag.NO_SUID,
    b"nodev": MountFlag.NO_DEV,
    b"noexec": MountFlag.NO_EXEC,
    b"noatime": MountFlag.NO_ATIME,
    b"nodiratime": MountFlag.NO_DIR_ATIME,
    b"relatime": MountFlag.REL_ATIME,
}

Mounts = dict[int, tuple[int, bytes, MountFlag]]
"""Mount ID → ID of the mount above, mount point, flags."""


def set_read_only(target: str) -> None:
    """Raises OSError; what is mounted over and so cannot be reached is left as it is."""
    with open("/proc/self/mountinfo", "rb") as file:
        mounts = parse_mounts(file)
    wanted = [_mount_id(target)]
    for mount in wanted:
        wanted += [below for below, (parent, _, _) in mounts.items() if parent == mount and below not in wanted]
    flags = MountFlag.REMOUNT | MountFlag.BIND | MountFlag.READ_ONLY
    namespaces.mount("none", target, flags=flags | mounts[wanted[0]][2])
    for mount in wanted[1:]:
        _, point, own = mounts[mount]
        namespaces.mount("none", os.fsdecode(point), flags=flags | own)


def _mount_id(path: str) -> int:
    """Of the topmost mount at the path; two mounts may have the same mount point."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        with open(f"/proc/self/fdinfo/{descriptor}", "rb") as file:
            for line in file:
                if line.startswith(b"mnt_id:"):
                    return int(line.split()[1])
    finally:
        os.close(descriptor)
    raise OSError(f"the kernel does not say which mount {path} is")


def parse_mounts(lines: Iterable[bytes]) -> Mounts:
    """Lines of mountinfo."""
    found: Mounts = {}
    for line in lines:
        mount, parent, _, _, point, options, *_ = line.split(b" ")
        flags = MountFlag(0)
        for option in options.split(b","):
            flags |= _FLAGS.get(option, MountFlag(0))
        found[int(mount)] = int(parent), _unescape(point), flags
    return found


def _unescape(path: bytes) -> bytes:
    """Blank, tab, newline and backslash stand there as three octal digits."""
    return re.sub(rb"\\([0-7]{3})", lambda found: bytes([int(found[1], 8)]), path)
