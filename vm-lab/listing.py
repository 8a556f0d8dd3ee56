"""Is a node's root, as it describes it itself, what the image's tree holds? The tiny image's `tree-listing` describes it."""

import hashlib
import io
import os
import re
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

from images.errors import Error
from images.segment_archive import ALWAYS_EMPTY

LISTING = "tree-listing"
BOOT_ONLY = (b"/init", b"/.bootsvc", b"/dev", b"/proc", b"/run", b"/sys")
"""What the boot itself makes, mounts or hides: these, and all below them."""

_STAT = re.compile(rb"([0-9a-f]+) (\d+) (\d+) (\d+) (\d+) (-?\d+) ([0-9a-f]+) ([0-9a-f]+) (\d+:\d+) ")
_ATTRIBUTE = re.compile(rb"([^=\n]+)=0x([0-9a-f]*)")
_CARRIED = (b"security.", b"system.posix_acl_")


class BadListing(Error):
    """What the node sent is no description of a tree."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One path of a tree: what a node must have as the image has it.

    `size` and `digest` are a regular file's, `target` a symbolic link's, `rdev` (major, minor) a device's. `links` and
    `same_as`, the first path of the same inode, are those of files and special files: a file system decides how many links a
    directory has, and no initramfs carries hard links between symbolic links. `mtime` is in seconds since 1970.
    """

    mode: int
    uid: int
    gid: int
    mtime: int
    size: int = 0
    links: int = 1
    same_as: bytes = b""
    rdev: tuple[int, int] = (0, 0)
    target: bytes = b""
    digest: str = ""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()


COMPARED = tuple(field.name for field in fields(Entry))


def parse(tar: bytes) -> dict[bytes, Entry]:
    """What the node sent, by path; raises BadListing unless every byte of it is understood."""
    try:
        with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
            names, stats, digests, xattrs = (_member(archive, name) for name in ("names", "stats", "digests", "xattrs"))
    except (tarfile.TarError, KeyError) as exc:
        raise BadListing(f"the node's listing cannot be read: {exc}") from exc
    paths = names.split(b"\0")
    if paths.pop():
        raise BadListing("the node's listing breaks off in a path")
    found, inodes = _parse_stats(paths, stats)
    sums = _parse_digests([path for path in paths if stat.S_ISREG(found[path].mode)], digests)
    attributes = _parse_xattrs(xattrs)
    if unknown := attributes.keys() - found.keys():
        raise BadListing(f"the node's listing has attributes of an unknown path: {min(unknown)!r}")
    return {
        path: replace(entry, digest=sums.get(path, ""), xattrs=attributes.get(path, ()))
        for path, entry in _grouped(found, inodes).items()
    }


def scan(rootfs: Path) -> dict[bytes, Entry]:
    """What a node must find of the image's tree, by path on the node."""
    top = os.fsencode(rootfs)
    found, inodes = {b"/": _entry(top, b"")}, {}
    for folder, folders, files in os.walk(top):
        for name in folders + files:
            full = os.path.join(folder, name)
            path = full[len(top) :]
            found[path] = _entry(full, path)
            status = os.lstat(full)
            inodes[path] = b"%d:%d" % (status.st_dev, status.st_ino)
    return _grouped(found, inodes)


def differences(
    expected: Mapping[bytes, Entry], arrived: Mapping[bytes, Entry], overlaid: Iterable[bytes] = ()
) -> Iterator[str]:
    """A line for each entry that the node has otherwise than the image, not at all, or besides.

    `overlaid` are paths that overlays may change or add, with all below them.
    """
    free = (*BOOT_ONLY, *overlaid)
    below = tuple(path + b"/" for path in free)
    for path in sorted(expected.keys() | arrived.keys()):
        if path in free or path.startswith(below):
            continue
        if path not in arrived:
            yield f"{_shown(path)} is missing on the node"
        elif path not in expected:
            yield f"{_shown(path)} is on the node, and not in the image"
        else:
            wrong = list(_compare(expected[path], arrived[path]))
            if wrong:
                yield f"{_shown(path)}: {', '.join(wrong)}"


def _compare(expected: Entry, arrived: Entry) -> Iterator[str]:
    for field in fields(Entry):
        wanted, found = getattr(expected, field.name), getattr(arrived, field.name)
        if wanted != found:
            show = oct if field.name == "mode" else repr
            yield f"{field.name} is {show(found)} on the node and {show(wanted)} in the image"


def _shown(path: bytes) -> str:
    text = path.decode(errors="backslashreplace").replace("\n", "\\n")
    return text if len(text) <= 200 else f"{text[:100]}…{text[-100:]}"


def _member(archive: tarfile.TarFile, name: str) -> bytes:
    file = archive.extractfile(name)
    if file is None:
        raise KeyError(name)
    return file.read()


def _parse_stats(paths: Iterable[bytes], text: bytes) -> tuple[dict[bytes, Entry], dict[bytes, bytes]]:
    """Entries and inodes by path. A path and a target may hold line ends, so they are read by their known lengths."""
    found, inodes, at = {}, {}, 0
    for path in paths:
        match = _STAT.match(text, at)
        if match is None:
            raise BadListing(f"the node's stat of {path!r} cannot be read")
        mode, size = int(match[1], 16), int(match[5])
        shown, target = path, b""
        if stat.S_ISLNK(mode):
            start = match.end() + len(path) + len(b"'' -> '")
            target = text[start : start + size]
            shown = b"'%s' -> '%s'" % (path, target)
        at = match.end() + len(shown) + 1
        if text[match.end() : at] != shown + b"\n":
            raise BadListing(f"the node's stat of {path!r} is one of another path")
        found[path] = Entry(
            mode=mode,
            uid=int(match[2]),
            gid=int(match[3]),
            mtime=int(match[6]),
            size=size if stat.S_ISREG(mode) else 0,
            links=int(match[4]) if _counts_links(mode) else 1,
            rdev=(int(match[7], 16), int(match[8], 16)) if _is_device(mode) else (0, 0),
            target=target,
        )
        inodes[path] = match[9]
    if at != len(text):
        raise BadListing("the node's stat has more lines than paths")
    return found, inodes


def _parse_digests(paths: Iterable[bytes], text: bytes) -> dict[bytes, str]:
    found, at = {}, 0
    for path in paths:
        line = text[at : at + 64] + b"  " + path + b"\n"
        if not re.match(rb"[0-9a-f]{64}", line) or text[at : at + len(line)] != line:
            raise BadListing(f"the node's sha256 of {path!r} cannot be read")
        found[path] = line[:64].decode()
        at += len(line)
    if at != len(text):
        raise BadListing("the node's sha256sum has more lines than files")
    return found


def _parse_xattrs(text: bytes) -> dict[bytes, tuple[tuple[bytes, bytes], ...]]:
    """getfattr's dump: it writes a line end or backslash in a path as three octal digits."""
    found = {}
    for block in filter(None, text.split(b"\n\n")):
        first, *lines = block.strip(b"\n").split(b"\n")
        attributes = [_ATTRIBUTE.fullmatch(line) for line in lines]
        if not first.startswith(b"# file: ") or not all(attributes):
            raise BadListing(f"the node's attributes cannot be read: {block[:200]!r}")
        path = re.sub(rb"\\([0-7]{3})", lambda match: bytes([int(match[1], 8)]), first.removeprefix(b"# file: "))
        found[path] = tuple(sorted((match[1], bytes.fromhex(match[2].decode())) for match in attributes if match))
    return found


def _grouped(found: Mapping[bytes, Entry], inodes: Mapping[bytes, bytes]) -> dict[bytes, Entry]:
    """The entries, each hard link with the first path of its inode."""
    first: dict[bytes, bytes] = {}
    for path in sorted(inodes):
        first.setdefault(inodes[path], path)
    return {path: replace(entry, same_as=first[inodes[path]]) if entry.links > 1 else entry for path, entry in found.items()}


def _entry(full: bytes, path: bytes) -> Entry:
    status = os.lstat(full)
    regular, content = stat.S_ISREG(status.st_mode), b""
    if regular and path.lstrip(b"/") not in ALWAYS_EMPTY:
        content = Path(os.fsdecode(full)).read_bytes()
    names = sorted(os.fsencode(name) for name in os.listxattr(full, follow_symlinks=False))
    return Entry(
        mode=status.st_mode,
        uid=status.st_uid,
        gid=status.st_gid,
        mtime=status.st_mtime_ns // 1_000_000_000,
        size=len(content),
        links=status.st_nlink if _counts_links(status.st_mode) else 1,
        rdev=(os.major(status.st_rdev), os.minor(status.st_rdev)) if _is_device(status.st_mode) else (0, 0),
        target=os.readlink(full) if stat.S_ISLNK(status.st_mode) else b"",
        digest=hashlib.sha256(content).hexdigest() if regular else "",
        xattrs=tuple((name, os.getxattr(full, name, follow_symlinks=False)) for name in names if name.startswith(_CARRIED)),
    )


def _counts_links(mode: int) -> bool:
    return not stat.S_ISDIR(mode) and not stat.S_ISLNK(mode)


def _is_device(mode: int) -> bool:
    return stat.S_ISBLK(mode) or stat.S_ISCHR(mode)
