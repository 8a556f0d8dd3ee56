"""Streaming reader of tar archives: ustar, pax, GNU and star headers, sparse files (POSIX.1-2017 pax, GNU tar manual)."""

import enum
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace

import msgspec

from images import pax, sparse
from images.pax import MAX_EXTENSION, Malformed, MalformedTar, Records, Xattrs
from images.sparse import BLOCK, SparseMap

_ZERO = bytes(BLOCK)
_FIELDS = struct.Struct("100s8s8s8s12s12s8sc100s8s64x8s8s155s12x")
"""name, mode, uid, gid, size, mtime, chksum, typeflag, linkname, magic and version, devmajor, devminor, prefix."""
_MAX_ID = (1 << 32) - 2
"""(uid_t) -1 means "leave as it is" to chown, so it is nobody's."""
_SMALL = 1 << 15
"""Bytes of a file that are sooner copied than cut out."""
_MAX_MAJOR, _MAX_MINOR = (1 << 12) - 1, (1 << 20) - 1
_MAX_TIME = (1 << 63) - 1
_GLOBAL_KEYS = (b"path", b"linkpath", b"size", b"mtime", b"uid", b"gid")


class Kind(enum.Enum):
    FILE = "file"
    HARDLINK = "hard link"
    SYMLINK = "symbolic link"
    CHARACTER = "character device"
    BLOCK = "block device"
    DIRECTORY = "directory"
    FIFO = "fifo"


_KINDS = {
    b"0": Kind.FILE,
    b"\0": Kind.FILE,
    b"7": Kind.FILE,
    b"S": Kind.FILE,
    b"1": Kind.HARDLINK,
    b"2": Kind.SYMLINK,
    b"3": Kind.CHARACTER,
    b"4": Kind.BLOCK,
    b"5": Kind.DIRECTORY,
    b"6": Kind.FIFO,
}


class Entry(msgspec.Struct, frozen=True, kw_only=True, gc=False, array_like=True):
    """One member; `name` and `linkname` are the archive's bytes, neither normalised nor safe.

    A Struct, because making a frozen dataclass would be a third of the whole reader's time.
    """

    name: bytes
    kind: Kind
    mode: int
    uid: int
    gid: int
    size: int
    """Bytes of the file, holes included; 0 for every other kind."""
    mtime_ns: int
    linkname: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: Xattrs = ()
    sparse: SparseMap | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _LongNames:
    """What GNU's long-name headers say about the entry that follows."""

    name: bytes = b""
    linkname: bytes = b""


_NO_LONG_NAMES = _LongNames()
_NO_RECORDS: Records = {}


Piece = bytes | memoryview


class _Blocks:
    """Exact reads over chunks of any size."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._chunk = b""
        self._at = 0
        self._before = 0

    @property
    def offset(self) -> int:
        return self._before + self._at

    def _next(self) -> bool:
        self._before += len(self._chunk)
        self._chunk, self._at = next(self._chunks, b""), 0
        return bool(self._chunk)

    def take(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end of the archive."""
        end = self._at + size
        if end <= len(self._chunk):
            data = self._chunk[self._at : end]
            self._at = end
            return data
        return b"".join(self.pieces(size))

    def find(self, size: int) -> bytes | None:
        """`size` bytes if the current chunk has them all."""
        end = self._at + size
        if end > len(self._chunk):
            return None
        data = self._chunk[self._at : end]
        self._at = end
        return data

    def pieces(self, size: int) -> Iterator[Piece]:
        """Up to `size` bytes as they come, not copied."""
        while size:
            if self._at == len(self._chunk) and not self._next():
                return
            data = memoryview(self._chunk)[self._at : self._at + size]
            self._at += len(data)
            size -= len(data)
            yield data

    def skip(self, size: int) -> bool:
        """Pass over `size` bytes; False if the archive ends before."""
        while size > (left := len(self._chunk) - self._at):
            size -= left
            if not self._next():
                return False
        self._at += size
        return True


class Reader:
    """Entries in the archive's order; `data` gives the contents of the entry that came last. Raises only MalformedTar."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._blocks = _Blocks(chunks)
        self._globals = _NO_RECORDS
        self._stored = 0
        self._padding = 0
        self._entry: Entry | None = None

    @property
    def offset(self) -> int:
        """Bytes of the archive read: right after an entry came, where its stored contents begin."""
        return self._blocks.offset

    def __iter__(self) -> Iterator[Entry]:
        while True:
            start = self._finish()
            try:
                entry = self._next_entry()
            except Malformed as exc:
                raise MalformedTar(start, str(exc)) from exc
            if entry is None:
                return
            _check_entry(entry, start)
            self._entry = entry
            yield entry

    def data(self) -> Iterator[tuple[int, Piece]]:
        """(offset, bytes) of the current entry's contents, ascending; holes are left out."""
        entry = self._entry
        if entry is None:
            return iter(())
        # Most files are small, and come in one piece.
        if 0 < entry.size == self._stored <= _SMALL and (whole := self._blocks.find(entry.size)) is not None:
            self._stored = 0
            return iter(((0, whole),))
        return self._pieces(entry)

    def _pieces(self, entry: Entry) -> Iterator[tuple[int, Piece]]:
        for offset, length in ((0, entry.size),) if entry.sparse is None else entry.sparse:
            at, end = offset, offset + length
            for piece in self._blocks.pieces(length):
                self._stored -= len(piece)
                yield at, piece
                at += len(piece)
            if at != end:
                raise self._ends_early()

    def _ends_early(self) -> MalformedTar:
        return MalformedTar(self._blocks.offset, "it ends in the middle of an entry")

    def _finish(self) -> int:
        """Pass over what is left of the current entry; the offset of the next header."""
        if not self._blocks.skip(self._stored + self._padding):
            raise self._ends_early()
        self._stored = self._padding = 0
        return self._blocks.offset

    def _next_entry(self) -> Entry | None:
        records = self._globals
        long = _NO_LONG_NAMES
        extended = 0
        while True:
            block = self._blocks.take(BLOCK)
            # An archive without the two zero blocks at its end is read as GNU tar reads it.
            if block == _ZERO or not block:
                if records is not self._globals or long is not _NO_LONG_NAMES:
                    raise Malformed("it ends after an extension header")
                return None
            if len(block) < BLOCK:
                raise self._ends_early()
            fields = _FIELDS.unpack(block)
            _check_sum(block, fields[6])
            if fields[7] in _KINDS:
                return self._make_entry(block, fields, records, long)
            match fields[7]:
                case b"x" | b"X":
                    extension = self._extension(fields[4])
                    extended += len(extension)
                    if extended > MAX_EXTENSION:
                        raise Malformed(f"extension headers of more than {MAX_EXTENSION} bytes for one entry")
                    records = records | pax.parse_records(extension)
                case b"g":
                    parsed = pax.parse_records(self._extension(fields[4]))
                    known = {key: parsed[key] for key in _GLOBAL_KEYS if key in parsed}
                    records = self._globals = self._globals | known
                case b"L":
                    long = replace(long, name=self._extension(fields[4]).partition(b"\0")[0])
                case b"K":
                    long = replace(long, linkname=self._extension(fields[4]).partition(b"\0")[0])
                case other:
                    raise Malformed(f"an entry has the unknown type {other!r}")

    def _extension(self, size_field: bytes) -> bytes:
        size = pax.parse_number(size_field)
        if not 0 <= size <= MAX_EXTENSION:
            raise Malformed(f"an extension header of {size} bytes")
        return self._take(size + -size % BLOCK)[:size]

    def _take(self, size: int) -> bytes:
        data = self._blocks.take(size)
        if len(data) < size:
            raise self._ends_early()
        return data

    def _make_entry(self, block: bytes, fields: tuple[bytes, ...], records: Records, long: _LongNames) -> Entry:
        name = records.get(b"path") or long.name or _ustar_name(block, fields)
        # V7 archives have no type for directories.
        kind = Kind.DIRECTORY if fields[7] == b"\0" and name.endswith(b"/") else _KINDS[fields[7]]
        pieces = None
        size = 0
        # Links and special files carry no contents, whatever their size field says (POSIX pax, "size").
        if kind is Kind.FILE:
            size = self._stored = _number(fields[4], records, b"size")
            if size < 0:
                raise Malformed(f"entry {name!r} has a negative size")
            self._padding = -size % BLOCK
            if fields[7] == b"S":
                size, pieces = sparse.read_gnu(block, self._take)
            elif records and any(key.startswith(b"GNU.sparse.") for key in records):
                name = records.get(b"GNU.sparse.name") or name
                size, pieces, used = sparse.read_pax(records, self._take)
                self._stored -= used
            if pieces is not None:
                sparse.check(pieces, size=size, stored=self._stored)
        device = kind is Kind.CHARACTER or kind is Kind.BLOCK
        return Entry(
            name=name,
            kind=kind,
            mode=pax.parse_number(fields[1]) & 0o7777,
            uid=_number(fields[2], records, b"uid"),
            gid=_number(fields[3], records, b"gid"),
            size=size,
            mtime_ns=_time(fields[5], records.get(b"mtime")),
            linkname=records.get(b"linkpath") or long.linkname or fields[8].partition(b"\0")[0],
            major=pax.parse_number(fields[10]) if device else 0,
            minor=pax.parse_number(fields[11]) if device else 0,
            xattrs=pax.parse_xattrs(records) if records else (),
            sparse=pieces,
        )


def _check_sum(block: bytes, stored: bytes) -> None:
    # Half a header sums to at most 256 * 255 < 65521, so the low half of Adler-32 is the sum itself (plus one):
    # eight times as fast as sum().
    total = (zlib.adler32(block[:256]) & 0xFFFF) + (zlib.adler32(block[256:]) & 0xFFFF) - 2
    field = block[148:156]
    try:
        expected = pax.parse_number(stored)
    except Malformed:
        raise Malformed("this is no header") from None
    if total - sum(field) + 8 * 32 == expected:
        return
    # Some old writers added signed bytes.
    signed = sum(byte - 256 if byte > 127 else byte for byte in block[:148] + block[156:]) + 8 * 32
    if signed != expected:
        raise Malformed("a header has a wrong checksum")


def _ustar_name(block: bytes, fields: tuple[bytes, ...]) -> bytes:
    name = fields[0].partition(b"\0")[0]
    # GNU's own format ("ustar  ") keeps times where ustar keeps the prefix; star's prefix is shorter.
    if fields[12][0] and block[257:263] == b"ustar\0":
        prefix = fields[12][:131] if block[508:512] == b"tar\0" else fields[12]
        return prefix.partition(b"\0")[0] + b"/" + name
    return name


def _number(field: bytes, records: Records, key: bytes) -> int:
    return pax.parse_decimal(records[key]) if records and records.get(key) else pax.parse_number(field)


def _time(field: bytes, record: bytes | None) -> int:
    time = pax.parse_time(record) if record else pax.parse_number(field) * 1_000_000_000
    # As container engines do: a time that no file system holds becomes the epoch.
    return time if -_MAX_TIME <= time <= _MAX_TIME else 0


def _check_entry(entry: Entry, offset: int) -> None:
    if not entry.name or b"\0" in entry.name or b"\0" in entry.linkname:
        raise MalformedTar(offset, f"entry {entry.name!r} has no usable name or link target")
    if not entry.linkname and (entry.kind is Kind.HARDLINK or entry.kind is Kind.SYMLINK):
        raise MalformedTar(offset, f"entry {entry.name!r} is a link to nothing")
    if not 0 <= entry.uid <= _MAX_ID or not 0 <= entry.gid <= _MAX_ID:
        raise MalformedTar(offset, f"entry {entry.name!r} has no usable owner")
    if not 0 <= entry.major <= _MAX_MAJOR or not 0 <= entry.minor <= _MAX_MINOR:
        raise MalformedTar(offset, f"entry {entry.name!r} has no usable device number")
