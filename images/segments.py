"""Cut a tree's entries into segments; `images.segment_archive` writes one as a newc archive.

Segment 0 holds our own files (`/init`), directories, symbolic links, special files and the xattr record; the others hold
regular files in path order. A cut follows a path whose hash says so, so that one changed file touches one segment and an
added file does not shift the rest. A hard-link group stays in the segment of its first path: the kernel forgets inodes at a
trailer.
"""

import stat
import zlib
from collections import deque
from collections.abc import Iterable, Iterator, Sequence

import msgspec

from images import cpio
from images.index import Entry

TARGET = 8 << 20
"""Mean unpacked size of a segment, in bytes: smaller ones compress worse, larger ones make a small change dear."""
MINIMUM = 2 << 20
MAXIMUM = 32 << 20

OWN_FOLDER = b".bootsvc"


class OwnFile(msgspec.Struct, frozen=True, kw_only=True):
    """A file of ours in segment 0, such as `/init`; it hides an image's file of the same path."""

    path: bytes
    mode: int
    content: bytes


def plan(entries: Iterable[Entry], own: Sequence[OwnFile]) -> list[list[Entry]]:
    """The entries of each segment, in the order of the concatenation; `entries` must be in path order."""
    special: list[Entry] = []
    regular = list(cut(entries, own, special))
    return [special, *regular]


def cut(entries: Iterable[Entry], own: Sequence[OwnFile], special: list[Entry]) -> Iterator[list[Entry]]:
    """The segments of regular files, each as soon as it is known what belongs to it; `special` gets what segment 0 holds.

    `entries` must be in path order.
    """
    return _cut(_with_links_together(_regular(entries, own, special)))


def _regular(entries: Iterable[Entry], own: Sequence[OwnFile], special: list[Entry]) -> Iterator[Entry]:
    hidden, below = {file.path for file in own} | {OWN_FOLDER}, OWN_FOLDER + b"/"
    is_regular = stat.S_ISREG
    for entry in entries:
        path = entry.path
        if path not in hidden and not path.startswith(below):
            if is_regular(entry.mode):
                yield entry
            else:
                special.append(entry)


def _with_links_together(regular: Iterable[Entry]) -> Iterator[list[Entry]]:
    """Every file alone, or its hard-link group at the place of the first path; what follows waits until that is whole."""
    groups: dict[int, list[Entry]] = {}
    waiting: deque[list[Entry]] = deque()
    for entry in regular:
        if entry.nlink > 1:
            group = groups.setdefault(entry.inode, [])
            group.append(entry)
            if len(group) == 1:
                waiting.append(group)
        elif waiting:
            waiting.append([entry])
        else:
            yield [entry]
        while waiting and len(waiting[0]) >= waiting[0][0].nlink:
            whole = waiting.popleft()
            groups.pop(whole[0].inode, None)
            yield whole
    yield from waiting


def _cut(groups: Iterable[list[Entry]]) -> Iterator[list[Entry]]:
    segment: list[Entry] = []
    size = 0
    for group in groups:
        first = group[0]
        weight = first.size + cpio.HEADER_SIZE + len(first.path)
        for other in group[1:]:
            weight += cpio.HEADER_SIZE + len(other.path)
        if segment and size + weight > MAXIMUM:
            yield segment
            segment, size = [], 0
        segment += group
        size += weight
        if size >= MINIMUM and zlib.crc32(first.path) * (TARGET - MINIMUM) < (weight << 32):
            yield segment
            segment, size = [], 0
    if segment:
        yield segment
