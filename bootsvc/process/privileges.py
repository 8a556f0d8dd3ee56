"""Gives up, for good, every capability that the server does not need (capabilities(7)).

`limit` comes before any thread exists, since Linux keeps capabilities per thread: what it leaves for the opening of the ports,
each further thread gives up as it begins, and the event loop's own when all ports are open (`limit_thread`).
"""

import ctypes
import resource
import struct
from collections.abc import Mapping
from pathlib import Path

NEEDED: Mapping[str, tuple[int, str]] = {
    "CAP_CHOWN": (0, "a nodes.conf that is written anew keeps its owner and group"),
    "CAP_DAC_READ_SEARCH": (2, "files of overlays may belong to others, and be theirs alone"),
    "CAP_NET_BIND_SERVICE": (10, "ports 53, 67 and 69, also when an interface comes back"),
    "CAP_NET_RAW": (13, "replies to machines without an address, ARP, router advertisements, and one interface only"),
}
"""Name → number (linux/capability.h) and what it is for."""

FOR_OPENING: Mapping[str, tuple[int, str]] = {
    "CAP_NET_ADMIN": (12, "socket buffers above the system's limit, for a cluster that powers on at once; given up after that"),
}

MAX_FILES = 65536
_CAP_SETPCAP = 8
_CAPBSET_READ, _CAPBSET_DROP, _SET_NO_NEW_PRIVS = 23, 24, 38
_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL = 47, 4
_VERSION_3 = 0x20080522


def limit() -> bool:
    """Keep the capabilities of NEEDED and FOR_OPENING that this process has, and no other; False where the kernel refuses.

    The bounding set loses those of FOR_OPENING at once. Without CAP_SETPCAP, as our systemd unit starts us, it stays as it is:
    nothing that is started can get anything back either way (no_new_privs).
    """
    libc = ctypes.CDLL(None, use_errno=True)
    refused = libc.prctl(_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    refused |= libc.prctl(_CAP_AMBIENT, _CAP_AMBIENT_CLEAR_ALL, 0, 0, 0)
    # Dropping from the bounding set takes CAP_SETPCAP, so it comes before that is given up.
    droppable = range(64) if permitted() >> _CAP_SETPCAP & 1 else ()
    for number in droppable:
        if _mask(NEEDED) >> number & 1 or libc.prctl(_CAPBSET_READ, number, 0, 0, 0) != 1:
            continue
        refused |= libc.prctl(_CAPBSET_DROP, number, 0, 0, 0)
    return bool(refused == 0) and _keep(_mask(NEEDED) | _mask(FOR_OPENING))


def limit_thread() -> bool:
    """Keep only those of NEEDED in the calling thread, and in those that it starts."""
    return _keep(_mask(NEEDED))


def _mask(capabilities: Mapping[str, tuple[int, str]]) -> int:
    return sum(1 << number for number, _ in capabilities.values())


def _keep(mask: int) -> bool:
    held = mask & permitted()
    words = [(held >> shift & 0xFFFFFFFF, held >> shift & 0xFFFFFFFF, 0) for shift in (0, 32)]
    header = struct.pack("@Ii", _VERSION_3, 0)
    libc = ctypes.CDLL(None, use_errno=True)
    return bool(libc.capset(header, struct.pack("@6I", *words[0], *words[1])) == 0)


def permitted() -> int:
    """The mask of capabilities that this thread may use."""
    for line in Path("/proc/thread-self/status").read_text().splitlines():
        if line.startswith("CapPrm:"):
            return int(line.split()[1], 16)
    return 0


def raise_file_limit() -> None:
    """Thousands of idle connections must not use up the descriptors of the others."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))
