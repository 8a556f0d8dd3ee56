"""The newc codec: round trip, hostile bytes, and GNU cpio as the foreign peer in both directions."""

import contextlib
import os
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from images import cpio
from images.cpio import CpioError, Entry

FIELD = st.integers(0, cpio.MAX_FIELD)
NAMES = st.binary(min_size=1, max_size=300).filter(lambda name: b"\0" not in name and name != b"TRAILER!!!")
ENTRIES = st.builds(
    Entry, path=NAMES, mode=FIELD, uid=FIELD, gid=FIELD, mtime=FIELD, ino=FIELD, nlink=FIELD, rdev_major=FIELD, rdev_minor=FIELD
)


def test_header_is_the_documented_one() -> None:
    entry = Entry(path=b"etc/motd", mode=0o100644, uid=1, gid=2, mtime=3, size=4, ino=5, nlink=6, rdev_major=7, rdev_minor=8)
    assert cpio.header(entry) == (
        b"070701" b"00000005" b"000081A4" b"00000001" b"00000002" b"00000006" b"00000003" b"00000004"
        b"00000000" b"00000000" b"00000007" b"00000008" b"00000009" b"00000000" b"etc/motd\0\0"
    )  # fmt: skip


@given(st.lists(st.tuples(ENTRIES, st.binary(max_size=50)), max_size=5))
def test_parse_gives_back_what_was_serialized(pairs: list[tuple[Entry, bytes]]) -> None:
    sized = [(Entry(**{name: getattr(e, name) for name in e.__struct_fields__} | {"size": len(c)}), c) for e, c in pairs]
    assert [(entry, bytes(content)) for entry, content in cpio.parse(cpio.archive(sized))] == sized


@given(st.binary(max_size=400))
def test_random_bytes_raise_nothing_else(data: bytes) -> None:
    with contextlib.suppress(CpioError):
        list(cpio.parse(cpio.MAGIC + data))


def test_every_truncation_is_noticed() -> None:
    data = cpio.archive([cpio.file_entry(b"a", b"content")])
    body = data[: -len(cpio.TRAILER)]
    for length in range(1, len(body) - 1):
        with pytest.raises(CpioError):
            list(cpio.parse(body[:length]))


def test_file_of_four_gib_is_refused_by_name() -> None:
    with pytest.raises(CpioError, match=r"var/big.*4294967296 bytes"):
        cpio.header(Entry(path=b"var/big", mode=stat.S_IFREG, size=1 << 32))


def test_times_outside_the_field_are_clamped() -> None:
    early, late = (cpio.header(Entry(path=b"x", mode=0, mtime=mtime)) for mtime in (-5, 1 << 40))
    assert [next(cpio.parse(head))[0].mtime for head in (early, late)] == [0, cpio.MAX_FIELD]


@pytest.mark.root
def test_gnu_cpio_unpacks_ours(tmp_path: Path) -> None:
    entries = [
        (Entry(path=b"d", mode=stat.S_IFDIR | 0o1777, mtime=86400), b""),
        (Entry(path=b"d/f", mode=stat.S_IFREG | 0o4755, uid=3, gid=4, mtime=1000, size=5, nlink=1), b"hello"),
        (Entry(path=b"d/l", mode=stat.S_IFLNK | 0o777, size=1), b"f"),
        (Entry(path=b"d/h1", mode=stat.S_IFREG | 0o600, ino=9, nlink=2), b""),
        (Entry(path=b"d/h2", mode=stat.S_IFREG | 0o600, ino=9, nlink=2, size=3), b"two"),
        (Entry(path=b"d/c", mode=stat.S_IFCHR | 0o666, rdev_major=1, rdev_minor=3), b""),
        (Entry(path=b"d/p", mode=stat.S_IFIFO | 0o644), b""),
    ]
    subprocess.run(["cpio", "-idm", "--quiet"], input=cpio.archive(entries), cwd=tmp_path, check=True)
    d = tmp_path / "d"
    info = (d / "f").stat()
    assert (d.stat().st_mode, info.st_mode, info.st_uid, info.st_gid, info.st_mtime) == (0o041777, 0o104755, 3, 4, 1000)
    assert (d / "f").read_bytes() == b"hello"
    assert os.readlink(d / "l") == "f"
    assert (d / "h1").read_bytes() == b"two"
    assert (d / "h1").stat().st_ino == (d / "h2").stat().st_ino
    assert (d / "c").stat().st_rdev == os.makedev(1, 3)
    assert stat.S_ISFIFO((d / "p").stat().st_mode)


def test_ours_reads_gnu_cpio(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"some text")
    (tmp_path / "l").symlink_to("f")
    packed = subprocess.run(
        ["cpio", "-o", "--format=newc", "--quiet"], input=b"f\nl\n", cwd=tmp_path, check=True, capture_output=True
    ).stdout
    found = {entry.path: bytes(content) for entry, content in cpio.parse(packed)}
    assert found == {b"f": b"some text", b"l": b"f"}
