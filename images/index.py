"""What a built image was made from: one entry per path with its stat fields, which decide staleness, and its content digest."""

import hashlib
import stat

import msgspec

FORMAT = 2
"""Part of every segment key: raise it when the same entries would give other bytes."""


class Entry(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """One path of the tree; `path` is relative to the root (`.` is the root itself), times are in nanoseconds since 1970."""

    path: bytes
    mode: int
    inode: int
    uid: int
    gid: int
    size: int
    nlink: int
    rdev: int
    mtime_ns: int
    ctime_ns: int
    target: bytes = b""
    xattrs: tuple[tuple[bytes, bytes], ...] = ()
    digest: bytes = b""
    """sha256 of a regular file's content; empty for everything else, and before the content was read."""

    @property
    def is_regular(self) -> bool:
        return stat.S_ISREG(self.mode)

    @property
    def is_directory(self) -> bool:
        return stat.S_ISDIR(self.mode)

    @property
    def is_symlink(self) -> bool:
        return stat.S_ISLNK(self.mode)


class SegmentRecord(msgspec.Struct, frozen=True, kw_only=True):
    """A compressed segment in the store, and the key of the entries that it was made from."""

    key: bytes
    """Empty when an entry was as young as the scan: such a segment is never taken as unchanged."""
    digest: str
    size: int
    unpacked_digest: str
    unpacked_size: int
    entries: int


class Index(msgspec.Struct, frozen=True, kw_only=True):
    """All entries in path order, and the segments that hold them."""

    format: int
    entries: tuple[Entry, ...]
    segments: tuple[SegmentRecord, ...]
    clock: int = 0
    """The file system's time at the scan, in ns: what changed at or after it may have changed again unseen."""
    inputs: bytes = b""
    """A digest of what the build was made of besides the tree; empty when that is not known."""

    def settled(self) -> dict[bytes, Entry]:
        """By path, in path order, those entries that cannot have changed since without a later ctime."""
        return {entry.path: entry for entry in self.entries if entry.ctime_ns < self.clock}


_ENCODER = msgspec.msgpack.Encoder()
_DECODER = msgspec.msgpack.Decoder(Index)


def serialize(index: Index) -> bytes:
    return _ENCODER.encode(index)


def parse(data: bytes) -> Index | None:
    """The index in `data`, or None when it is damaged or of another format: then everything is built anew."""
    try:
        index = _DECODER.decode(data)
    except msgspec.DecodeError:
        return None
    return index if index.format == FORMAT else None


def segment_key(entries: list[Entry], context: bytes) -> bytes:
    """The identity of a segment's source: what stat says of each entry, and `context` (compressor, our own files)."""
    digest = hashlib.blake2b(context, digest_size=20)
    digest.update(b"%d\0" % FORMAT)
    for e in entries:
        digest.update(
            b"%s\0%o %d %d %d %d %d %d %d %d\0%s\0"
            % (e.path, e.mode, e.inode, e.uid, e.gid, e.size, e.nlink, e.rdev, e.mtime_ns, e.ctime_ns, e.target)
        )
    return digest.digest()
