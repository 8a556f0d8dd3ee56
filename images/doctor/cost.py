"""What the image costs a node: memory; and what a build cannot carry."""

import math
from collections.abc import Iterable, Iterator

from images.doctor.subject import Finding, Subject, error, listed, note, shown
from images.excludes import literal
from images.index import Entry
from images.segment_archive import ALWAYS_EMPTY

MIB = 1 << 20
PAGE = 4096
RESERVE = 4 * MIB
KERNEL_OWN = 52 * MIB
"""What a kernel keeps for itself before it counts MemTotal, beside a struct page (1/64) for each page."""
GUESSED_RATIO = 0.35
"""Compressed by unpacked size of the distributions that were measured: 0.24 to 0.33."""
LARGEST_FILE = (1 << 32) - 1
"""newc has eight hex digits for a size."""
WORTH_A_WORD = 8 * MIB
_CACHES = {
    "debian": ("apt-get clean && rm -rf /var/lib/apt/lists/*", (b"var/cache/apt", b"var/lib/apt/lists")),
    "redhat": ("dnf clean all", (b"var/cache/dnf", b"var/cache/yum")),
    "suse": ("zypper clean --all", (b"var/cache/zypp",)),
    "alpine": ("rm -rf /var/cache/apk/*", (b"var/cache/apk",)),
    "arch": ("pacman -Scc --noconfirm", (b"var/cache/pacman",)),
}
_DOCUMENTATION = ("usr/share/doc", "usr/share/man", "usr/share/locale", "usr/share/info")


def unpacked_memory(entries: Iterable[Entry]) -> int:
    """Bytes that the files take as pages of a tmpfs: each rounded up, a file with several names once."""
    sizes = {
        entry.inode if entry.nlink > 1 else entry.path: entry.size
        for entry in entries
        if entry.is_regular and entry.path not in ALWAYS_EMPTY
    }
    return sum(math.ceil(size / PAGE) * PAGE for size in sizes.values())


def memory_needed(unpacked: int, compressed: int) -> int:
    """Bytes of memory that a machine needs to boot such an image in one stage.

    Measured: while the kernel unpacks, the root may take half of what memory the compressed image leaves of MemTotal.
    """
    total = 2 * (unpacked + RESERVE) + compressed + KERNEL_OWN
    return math.ceil(total * 64 / 63 / (16 * MIB)) * 16 * MIB


def memory(subject: Subject) -> Iterator[Finding]:
    unpacked = unpacked_memory(subject.view)
    known = subject.compressed is not None
    compressed = subject.compressed if subject.compressed is not None else int(unpacked * GUESSED_RATIO)
    needed = memory_needed(unpacked, compressed)
    guess = "" if known else "; the latter is a guess until it is built"
    yield note(
        f"a node needs about {_mib(needed)} of memory to boot it: {_mib(unpacked)} of files, and {_mib(compressed)} "
        f"compressed while they are unpacked{guess}",
        f"give nodes that much, or make the image smaller: each MiB less saves two; {subject.command} list -s",
    )


def boot_files(subject: Subject) -> Iterator[Finding]:
    """A node is past its initramfs when it sees /boot."""
    found = [
        entry
        for entry in subject.below(b"boot")
        if entry.is_regular and entry.path.rpartition(b"/")[2].startswith((b"initrd", b"initramfs"))
    ]
    size = sum(entry.size for entry in found)
    if size >= MIB:
        yield note(
            f"{_mib(size)} of initramfs files in /boot cost every node that much memory",
            subject.exclude("/boot/initrd*", "/boot/initramfs*"),
        )


def caches(subject: Subject) -> Iterator[Finding]:
    for clean, folders in _CACHES.values():
        size = sum(entry.size for folder in folders for entry in subject.below(folder) if entry.is_regular)
        if size >= WORTH_A_WORD:
            yield note(f"{_mib(size)} of the package manager's cache cost every node that much memory", subject.shell(clean))


def documentation(subject: Subject) -> Iterator[Finding]:
    sizes = {name: sum(entry.size for entry in subject.below(name.encode()) if entry.is_regular) for name in _DOCUMENTATION}
    found = [name for name, size in sizes.items() if size >= WORTH_A_WORD // 2]
    total = sum(sizes[name] for name in found)
    if total >= 4 * WORTH_A_WORD:
        yield note(
            f"{_mib(total)} of documentation and translations cost every node that much memory: /{listed(found)}",
            subject.exclude(*(f"/{name}/*" for name in found)),
        )


def large_files(subject: Subject) -> Iterator[Finding]:
    found = [shown(entry.path) for entry in subject.view if entry.size > LARGEST_FILE and entry.is_regular]
    found = [path for path in found if path[1:].encode() not in ALWAYS_EMPTY]
    if found:
        yield error(f"{listed(found)} has 4 GiB or more, which an initramfs cannot hold", subject.exclude(*map(literal, found)))


def sparse_logs(subject: Subject) -> Iterator[Finding]:
    found = [shown(path) for path in sorted(ALWAYS_EMPTY) if (entry := subject.view.find(path)) is not None and entry.size]
    if found:
        yield note(f"{listed(found)} is a sparse log; nodes get it empty", subject.run("truncate", "-s", "0", *found))


def _mib(size: int) -> str:
    return f"{math.ceil(size / MIB)} MiB"
