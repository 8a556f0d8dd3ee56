"""The tar reader against tarfile, GNU tar and bsdtar, and against hostile bytes."""

import contextlib
import io
import os
import struct
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import oci_image as oci
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from images.pax import MAX_EXTENSION, MalformedTar
from images.tar import Entry, Kind, Reader

_KINDS = {
    tarfile.REGTYPE: Kind.FILE,
    tarfile.AREGTYPE: Kind.FILE,
    tarfile.CONTTYPE: Kind.FILE,
    tarfile.GNUTYPE_SPARSE: Kind.FILE,
    tarfile.LNKTYPE: Kind.HARDLINK,
    tarfile.SYMTYPE: Kind.SYMLINK,
    tarfile.CHRTYPE: Kind.CHARACTER,
    tarfile.BLKTYPE: Kind.BLOCK,
    tarfile.DIRTYPE: Kind.DIRECTORY,
    tarfile.FIFOTYPE: Kind.FIFO,
}


def _chunks(data: bytes, size: int = 1 << 16) -> Iterator[bytes]:
    return (data[at : at + size] for at in range(0, len(data), size))


def _read(data: bytes, size: int = 1 << 16) -> list[tuple[Entry, bytes]]:
    reader = Reader(_chunks(data, size))
    found = []
    for entry in reader:
        contents = bytearray(entry.size)
        for offset, piece in reader.data():
            contents[offset : offset + len(piece)] = piece
        found.append((entry, bytes(contents)))
    return found


def _oracle(data: bytes) -> list[tuple[object, ...]]:
    found: list[tuple[object, ...]] = []
    with tarfile.open(fileobj=io.BytesIO(data), errors="surrogateescape") as archive:
        for info in archive:
            stream = archive.extractfile(info) if info.isreg() else None
            device = info.type in (tarfile.CHRTYPE, tarfile.BLKTYPE)
            found.append(
                (
                    os.fsencode(info.name).rstrip(b"/"),
                    _KINDS[info.type],
                    info.mode & 0o7777,
                    info.uid,
                    info.gid,
                    info.size if info.isreg() else 0,
                    int(info.mtime),
                    os.fsencode(info.linkname) if info.islnk() or info.issym() else b"",
                    (info.devmajor, info.devminor) if device else (0, 0),
                    stream.read() if stream is not None else b"",
                )
            )
    return found


def _ours(data: bytes, size: int = 1 << 16) -> list[tuple[object, ...]]:
    return [
        (
            entry.name.rstrip(b"/"),
            entry.kind,
            entry.mode,
            entry.uid,
            entry.gid,
            entry.size,
            # tarfile rounds a float towards zero.
            int(entry.mtime_ns / 1_000_000_000),
            entry.linkname if entry.kind in (Kind.HARDLINK, Kind.SYMLINK) else b"",
            (entry.major, entry.minor),
            contents,
        )
        for entry, contents in _read(data, size)
    ]


@pytest.fixture(params=[tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=["ustar", "gnu", "pax"])
def archive(request: pytest.FixtureRequest) -> bytes:
    members = [
        oci.directory("./"),
        oci.directory("d", mode=0o2755),
        oci.Member("d/file", b"x" * 1000, mode=0o4755, uid=1000, gid=100),
        oci.Member("d/empty"),
        oci.Member("d/exact", b"y" * 1024),
        oci.symlink("link", "/usr/lib"),
        oci.hardlink("hard", "d/file"),
        oci.Member("fifo", type=tarfile.FIFOTYPE),
        oci.Member("null", type=tarfile.CHRTYPE, device=(1, 3), mode=0o666),
        oci.Member("disk", type=tarfile.BLKTYPE, device=(8, 1), mode=0o660),
        oci.Member("p" * 90 + "/" + "n" * 90, b"prefix"),
    ]
    if request.param != tarfile.USTAR_FORMAT:
        members += [
            oci.Member("long/" * 60 + "name", b"long"),
            oci.symlink("longlink", "t" * 300),
            oci.Member("big-ids", b"", uid=3_000_000, gid=4_000_000_000),
            oci.Member("umlaut-ä\udcff", b"1"),
        ]
    data: bytes = oci.layer(members, tar_format=request.param)
    return data


@pytest.mark.parametrize("size", [1, 511, 512, 513, 1 << 16])
def test_as_tarfile(archive: bytes, size: int) -> None:
    assert _ours(archive, size) == _oracle(archive)


def test_truncated_anywhere(archive: bytes) -> None:
    whole = [entry for entry, _ in _read(archive)]
    end_of_last = len(archive.rstrip(b"\0")) + 511
    for end in range(0, len(archive) - 1024, 97):
        seen = []
        complete = False
        with contextlib.suppress(MalformedTar):
            for entry in Reader(_chunks(archive[:end])):
                seen.append(entry)
            complete = True
        assert seen == whole[: len(seen)]
        assert not complete or end % 512 == 0 or end > end_of_last


def test_end_without_zero_blocks() -> None:
    data = oci.layer([oci.Member("a", b"x" * 512)])
    assert [entry.name for entry, _ in _read(data[:1024])] == [b"a"]
    assert _read(b"") == []


def test_data_may_be_left_unread() -> None:
    data = oci.layer([oci.Member("a", b"x" * 5000), oci.Member("b", b"y" * 700), oci.Member("c")])
    reader = Reader(_chunks(data, 100))
    names = []
    for entry in reader:
        names.append(entry.name)
        if entry.name == b"b":
            next(reader.data())
    assert names == [b"a", b"b", b"c"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("1700000000.123456789", 1_700_000_000_123_456_789),
        ("1700000000.1234567891", 1_700_000_000_123_456_789),
        ("1700000000.5", 1_700_000_000_500_000_000),
        ("0.000000001", 1),
        ("-1.5", -1_500_000_000),
        ("99999999999999", 0),
    ],
)
def test_pax_times_are_exact(text: str, expected: int) -> None:
    ((entry, _),) = _read(oci.layer([oci.Member("a", mtime=text)]))
    assert entry.mtime_ns == expected


def test_xattrs() -> None:
    member = oci.Member("a", xattrs={"user.note": "a=b\nc", "security.capability": "\x01\x00\x00\x02"})
    ((entry, _),) = _read(oci.layer([member]))
    assert dict(entry.xattrs) == {b"user.note": b"a=b\nc", b"security.capability": b"\x01\x00\x00\x02"}


def _gnu_tar(directory: Path, *options: str) -> bytes:
    command = ["tar", "--create", "--sort=name", *options, "--directory", str(directory), "."]
    return subprocess.run(command, check=True, capture_output=True).stdout


@pytest.mark.parametrize("form", [["gnu"], ["pax", "--sparse-version=0.0"], ["pax", "--sparse-version=0.1"], ["pax"]])
@pytest.mark.parametrize("pieces", [0, 1, 3, 30, 200])
def test_sparse_files_of_gnu_tar(tmp_path: Path, form: list[str], pieces: int, require_tool: Callable[..., Path]) -> None:
    require_tool("tar")
    expected = bytearray(pieces * 65536 + 300_000)
    with (tmp_path / "sparse").open("wb") as stream:
        stream.truncate(len(expected))
        for piece in range(pieces):
            content = bytes([piece + 1]) * 4096
            stream.seek(piece * 65536)
            stream.write(content)
            expected[piece * 65536 : piece * 65536 + 4096] = content
    data = _gnu_tar(tmp_path, "--sparse", f"--format={form[0]}", *form[1:])
    assert len(data) < len(expected)
    (_, (entry, contents)) = _read(data, 1000)
    assert entry.name == b"./sparse"
    assert entry.sparse is not None
    assert contents == expected
    for end in range(1024, len(data) - 10240, 1711):
        with contextlib.suppress(MalformedTar):
            _read(data[:end])


@pytest.mark.parametrize("form", ["v7", "oldgnu", "gnu", "ustar", "posix"])
def test_formats_of_gnu_tar(tmp_path: Path, form: str, require_tool: Callable[..., Path]) -> None:
    require_tool("tar")
    (tmp_path / "d").mkdir()
    (tmp_path / "d" / "f").write_bytes(b"z" * 1234)
    (tmp_path / "l").symlink_to("d/f")
    os.link(tmp_path / "d" / "f", tmp_path / "h")
    data = _gnu_tar(tmp_path, f"--format={form}")
    assert _ours(data) == _oracle(data)
    assert {entry.kind for entry, _ in _read(data)} == {Kind.DIRECTORY, Kind.FILE, Kind.SYMLINK, Kind.HARDLINK}


@pytest.mark.parametrize("form", ["pax", "ustar", "gnutar"])
def test_formats_of_bsdtar(tmp_path: Path, form: str, require_tool: Callable[..., Path]) -> None:
    program = require_tool("bsdtar", package="libarchive-tools")
    (tmp_path / "f").write_bytes(b"z" * 1234)
    os.utime(tmp_path / "f", ns=(1, 1_600_000_000_987_654_321))
    (tmp_path / "l").symlink_to("f")
    command = [str(program), "--create", f"--format={form}", "--file=-", "-C", str(tmp_path), "."]
    data = subprocess.run(command, check=True, capture_output=True).stdout
    assert _ours(data) == _oracle(data)
    if form == "pax":
        times = {entry.name: entry.mtime_ns for entry, _ in _read(data)}
        assert times[b"./f"] == 1_600_000_000_987_654_321


def _header(name: bytes = b"a", *, kind: bytes = b"0", size: bytes = b"0", **fields: bytes) -> bytes:
    block = bytearray(512)
    places = {"mode": 100, "uid": 108, "gid": 116, "mtime": 136, "linkname": 157, "major": 329, "minor": 337}
    block[: len(name)] = name
    block[124 : 124 + len(size)] = size
    block[156:157] = kind
    block[257:265] = b"ustar\00000"
    for field, value in fields.items():
        block[places[field] : places[field] + len(value)] = value
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def _pax(*records: tuple[bytes, bytes], kind: bytes = b"x") -> bytes:
    text = b""
    for key, value in records:
        length = len(key) + len(value) + 3
        length += len(str(length + len(str(length))))
        text += b"%d %s=%s\n" % (length, key, value)
    return _raw_pax(text, kind)


def _raw_pax(text: bytes, kind: bytes = b"x") -> bytes:
    return _header(b"pax", kind=kind, size=b"%011o" % len(text)) + text + bytes(-len(text) % 512)


def _base256(value: int, length: int) -> bytes:
    number = value.to_bytes(length, "big", signed=True)
    return bytes([number[0] | 0x80]) + number[1:]


def test_base_256() -> None:
    data = _header(uid=_base256(70_000, 8), gid=_base256(4_000_000_000, 8), mtime=_base256(-5, 12))
    ((entry, _),) = _read(data)
    assert (entry.uid, entry.gid, entry.mtime_ns) == (70_000, 4_000_000_000, -5_000_000_000)
    assert _ours(data)[0][3:7] == _oracle(data)[0][3:7]


def test_signed_checksum() -> None:
    block = bytearray(_header("ä".encode()))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(struct.unpack("512b", block))
    assert _read(bytes(block))[0][0].name == "ä".encode()


def test_global_header_applies_to_all_that_follow() -> None:
    data = (
        _pax((b"mtime", b"5"), (b"comment", b"x"), kind=b"g")
        + _header(b"a", mtime=b"1")
        + _pax((b"mtime", b"7"))
        + _header(b"b")
    )
    assert [(entry.name, entry.mtime_ns) for entry, _ in _read(data)] == [(b"a", 5 * 10**9), (b"b", 7 * 10**9)]


def test_pax_beats_gnu_beats_header() -> None:
    long = _header(b"././@LongLink", kind=b"L", size=b"5") + b"gnu\0\0" + bytes(507)
    assert [entry.name for entry, _ in _read(long + _header(b"a"))] == [b"gnu"]
    assert [entry.name for entry, _ in _read(long + _pax((b"path", b"pax")) + _header(b"a"))] == [b"pax"]


def test_links_carry_no_data_whatever_their_size_says() -> None:
    data = _header(b"l", kind=b"1", size=b"2000", linkname=b"x") + _header(b"b")
    assert [entry.name for entry, _ in _read(data)] == [b"l", b"b"]


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (_header()[:-1], "middle of an entry"),
        (b"\x01" + _header()[1:], "checksum"),
        (_header(size=b"1000") + bytes(100), "middle of an entry"),
        (_header(size=b"x"), "not a number"),
        (_header(size=b"-1"), "not a number"),
        (_header(size=b"1_0"), "not a number"),
        (_header(size=b"\xff" * 12), "negative size"),
        (_header(size=b"\xbf" + b"\xff" * 11), "not a number"),
        (_header(kind=b"Z"), "unknown type"),
        (_header(b""), "no usable name"),
        (_header(kind=b"2"), "link to nothing"),
        (_header(uid=_base256(0xFFFFFFFF, 8)), "no usable owner"),
        (_header(uid=_base256(-2, 8)), "no usable owner"),
        (_header(kind=b"3", major=b"7777777"), "device number"),
        (_pax((b"path", b"a\0b")) + _header(), "no usable name"),
        (_pax((b"size", b"-5")) + _header(), "not a number"),
        (_pax((b"size", b"9" * 30)) + _header(), "not a number"),
        (_pax((b"mtime", b"1.x")) + _header(), "not a time"),
        (_pax((b"SCHILY.xattr.", b"1")) + _header(), "extended attribute"),
        (_pax((b"path", b"a")), "after an extension header"),
        (_raw_pax(b"nonsense\n"), "no length"),
        (_raw_pax(b"3 a\n"), "does not fit"),
        (_raw_pax(b"99 a=b\n"), "does not fit"),
        (_raw_pax(b"0 a=b\n"), "does not fit"),
        (_raw_pax(b"-6 a=b\n"), "no length"),
        (_header(kind=b"x", size=b"%o" % (MAX_EXTENSION + 1)), "extension header of"),
        (_header(kind=b"L", size=b"77777777777"), "extension header of"),
        (_pax((b"GNU.sparse.map", b"0,1,2")) + _header(), "not a number"),
        (_pax((b"GNU.sparse.map", b"0,1,2"), (b"GNU.sparse.size", b"9")) + _header(), "odd number"),
        (_pax((b"GNU.sparse.map", b"5,1,2,1"), (b"GNU.sparse.size", b"9")) + _header(size=b"2") + bytes(512), "in order"),
        (_pax((b"GNU.sparse.map", b"0,9"), (b"GNU.sparse.size", b"3")) + _header(size=b"11") + bytes(512), "does not fit"),
    ],
)
def test_broken(data: bytes, reason: str) -> None:
    with pytest.raises(MalformedTar, match=reason):
        _read(data)


def test_endless_sparse_map_is_refused() -> None:
    records = ((b"GNU.sparse.major", b"1"), (b"GNU.sparse.minor", b"0"), (b"GNU.sparse.realsize", b"1"))
    head = _pax(*records) + _header(size=b"77777777777")
    with pytest.raises(MalformedTar, match="too long"):
        _read(head + b"1" * (2 * MAX_EXTENSION))
    old = bytearray(_header(kind=b"S"))
    old[482] = 1
    old[148:156] = b" " * 8
    old[148:156] = b"%06o\0 " % sum(old)
    block = (b"%012o%012o" % (0, 0)) * 21 + b"\x01" + bytes(7)
    with pytest.raises(MalformedTar, match="too long"):
        _read(bytes(old) + block * 3000)


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=1200))
def test_random_bytes(data: bytes) -> None:
    with contextlib.suppress(MalformedTar):
        _read(data)


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.builds(
            _header,
            st.binary(min_size=1, max_size=100),
            kind=st.sampled_from([b"0", b"1", b"2", b"3", b"5", b"x", b"g", b"L", b"K", b"S", b"\0"]),
            size=st.sampled_from([b"0", b"1", b"1000", b"777", b"\x80" + bytes(11), b"\xff" * 12]) | st.binary(max_size=12),
            uid=st.binary(max_size=8),
            mtime=st.binary(max_size=12),
            linkname=st.binary(max_size=100),
        )
        | st.binary(min_size=512, max_size=512)
        | st.lists(
            st.tuples(
                st.sampled_from([b"path", b"size", b"mtime", b"GNU.sparse.map", b"GNU.sparse.size"]), st.binary(max_size=20)
            )
        ).map(lambda records: _pax(*records)),
        max_size=6,
    ),
    st.integers(min_value=1, max_value=2000),
)
def test_hostile_headers(blocks: list[bytes], size: int) -> None:
    reader = Reader(_chunks(b"".join(blocks), size))
    with contextlib.suppress(MalformedTar):
        for _ in reader:
            for _, piece in reader.data():
                assert piece
