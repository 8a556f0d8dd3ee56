"""Segments: what goes where, where cuts fall, and that an archive holds what the tree holds."""

import hashlib
import os
import random
import stat
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from images import cpio, segments
from images.excludes import Excludes
from images.index import Entry
from images.scan import scan
from images.segment_archive import BLOCK, ChangedWhileRead, Emit, archive_regular, archive_special, size_at_most
from images.segments import OwnFile, cut, plan


def regular(path: str, size: int, *, inode: int = 0, nlink: int = 1) -> Entry:
    return Entry(
        path=path.encode(), mode=stat.S_IFREG | 0o644, inode=inode, uid=0, gid=0, size=size, nlink=nlink, rdev=0,
        mtime_ns=0, ctime_ns=0,
    )  # fmt: skip


def many(count: int) -> list[Entry]:
    sizes = random.Random(7)
    return [regular(f"usr/share/{number:05}", sizes.randrange(1, 60_000)) for number in range(count)]


def paths(group: list[Entry]) -> list[bytes]:
    return [entry.path for entry in group]


def test_every_file_is_in_exactly_one_segment_in_order() -> None:
    entries = many(3000)
    first, *rest = plan(entries, [])
    assert first == []
    assert [entry for group in rest for entry in group] == entries
    assert len(rest) > 5


def test_sizes_are_bounded() -> None:
    groups = plan(many(5000), [])[1:]
    sizes = [sum(entry.size for entry in group) for group in groups]
    assert max(sizes) <= segments.MAXIMUM
    assert min(sizes[:-1]) >= segments.MINIMUM - 5000 * 130


def test_an_added_file_touches_one_segment() -> None:
    entries = many(3000)
    before = {tuple(paths(group)) for group in plan(entries, [])}
    added = sorted([*entries, regular("usr/share/01500a", 1000)], key=lambda entry: entry.path)
    after = {tuple(paths(group)) for group in plan(added, [])}
    assert len(after - before) <= 2


def test_a_file_larger_than_the_bound_is_alone() -> None:
    groups = plan([regular("a", 10), regular("b", segments.MAXIMUM * 2), regular("c", 10)], [])[1:]
    assert [paths(group) for group in groups] == [[b"a"], [b"b"], [b"c"]]


def test_hard_links_stay_in_the_segment_of_the_first_path() -> None:
    big = segments.MAXIMUM - 1000
    entries = [regular("a", 10, inode=5, nlink=2), regular("b", big), regular("z", 10, inode=5, nlink=2)]
    assert [paths(group) for group in plan(entries, [])[1:]] == [[b"a", b"z", b"b"]]


def cut_after(entries: Sequence[Entry]) -> list[tuple[list[bytes], int]]:
    """Each segment, and how many entries had been asked for when it was known."""
    asked = 0

    def come() -> Iterator[Entry]:
        nonlocal asked
        for entry in entries:
            asked += 1
            yield entry

    return [(paths(group), asked) for group in cut(come(), [], [])]


def test_a_segment_is_known_before_the_later_entries() -> None:
    big = segments.MAXIMUM - 1000
    entries = [regular("a", big), regular("b", 1), regular("c", big), regular("d", 1), regular("e", 1)]
    assert cut_after(entries) == [([b"a"], 1), ([b"b", b"c"], 3), ([b"d", b"e"], 5)]


@pytest.mark.parametrize(("nlink", "known_after"), [(2, 2), (3, 4)])
def test_a_segment_waits_for_all_names_of_a_hard_link(nlink: int, known_after: int) -> None:
    big = segments.MAXIMUM * 2
    entries = [
        regular("a", big, inode=5, nlink=nlink),
        regular("b", big, inode=5, nlink=nlink),
        regular("c", big),
        regular("d", 1),
    ]
    first, *_ = cut_after(entries)
    assert first == ([b"a", b"b"], known_after)


def test_a_name_that_turns_up_when_its_hard_link_was_whole_is_not_lost() -> None:
    entries = [regular(name, 10, inode=5, nlink=2) for name in "abc"]
    assert [path for group in plan(entries, [])[1:] for path in paths(group)] == [b"a", b"b", b"c"]


def test_our_files_hide_the_images() -> None:
    own = [OwnFile(path=b"init", mode=0o755, content=b"ours")]
    entries = [regular("init", 4), regular(".bootsvc/x", 1), regular("initrd", 1)]
    assert [paths(group) for group in plan(entries, own)] == [[], [b"initrd"]]


def unpacked(archive: Callable[[Emit], object]) -> dict[bytes, tuple[cpio.Entry, bytes]]:
    data = bytearray()
    archive(data.extend)
    return {entry.path: (entry, bytes(content)) for entry, content in cpio.parse(bytes(data))}


def files_of(
    rootfs: Path, entries: list[Entry], digests: dict[bytes, bytes] | None = None
) -> dict[bytes, tuple[cpio.Entry, bytes]]:
    return unpacked(lambda emit: archive_regular(rootfs, entries, {} if digests is None else digests, emit))


@pytest.mark.root
def test_archives_hold_the_tree(tmp_path: Path) -> None:
    (tmp_path / "d").mkdir(mode=0o750)
    (tmp_path / "d/f").write_bytes(b"content")
    os.chown(tmp_path / "d/f", 11, 12)
    (tmp_path / "d/f").chmod(0o4711)
    os.utime(tmp_path / "d/f", ns=(0, 1_500_000_000_999_999_999))
    os.link(tmp_path / "d/f", tmp_path / "d/g")
    (tmp_path / "l").symlink_to("/absolute")
    os.mknod(tmp_path / "null", stat.S_IFCHR, os.makedev(1, 3))
    (tmp_path / "null").chmod(0o666)
    (tmp_path / os.fsdecode(b"new\nline\xff")).write_bytes(b"odd")
    entries = scan(tmp_path, excludes=Excludes([]))
    own = [OwnFile(path=b"init", mode=0o755, content=b"#!")]
    special, files = plan(entries, own)
    digests: dict[bytes, bytes] = {}
    first = unpacked(lambda emit: archive_special(special, own, emit))
    second = files_of(tmp_path, files, digests)
    assert list(first)[:2] == [b".", b"d"]
    assert first[b"init"][1] == b"#!"
    assert first[b"l"][1] == b"/absolute"
    null = first[b"null"][0]
    assert (null.mode, null.rdev_major, null.rdev_minor) == (stat.S_IFCHR | 0o666, 1, 3)
    f, g = second[b"d/f"], second[b"d/g"]
    assert (f[0].mode, f[0].uid, f[0].gid, f[0].mtime, f[0].nlink, f[0].ino) == (0o104711, 11, 12, 1_500_000_000, 2, g[0].ino)
    assert (f[1], g[1]) == (b"", b"content")
    assert second[b"new\nline\xff"][1] == b"odd"
    assert digests[b"d/f"] == digests[b"d/g"]


@pytest.mark.root
def test_hard_links_of_special_files_are_kept(tmp_path: Path) -> None:
    for name, kind in (("a", stat.S_IFIFO), ("b", stat.S_IFCHR), ("c", stat.S_IFIFO)):
        os.mknod(tmp_path / name, kind | 0o600, os.makedev(1, 3))
    os.link(tmp_path / "a", tmp_path / "x")
    os.link(tmp_path / "b", tmp_path / "y")
    # Those of symbolic links are not: the kernel cannot.
    (tmp_path / "s").symlink_to("a")
    os.link(tmp_path / "s", tmp_path / "t", follow_symlinks=False)
    (special,) = plan(scan(tmp_path, excludes=Excludes([])), [])
    entries = unpacked(lambda emit: archive_special(special, [], emit))
    found = {path: (entry.ino, entry.nlink) for path, (entry, _) in entries.items()}
    assert found[b"a"] == found[b"x"] != found[b"b"] == found[b"y"]
    assert found[b"a"][1] == found[b"b"][1] == 2
    assert found[b"c"] == found[b"s"] == found[b"t"] == (0, 1)
    assert entries[b"t"][1] == b"a"


def test_a_file_with_the_name_of_an_archives_end_does_not_end_it(tmp_path: Path) -> None:
    for name in ("A", "TRAILER!!!", "Z"):
        (tmp_path / name).write_text(name)
    files = plan(scan(tmp_path, excludes=Excludes([])), [])[1]
    found = files_of(tmp_path, files)
    assert {path: content for path, (_, content) in found.items()} == {b"A": b"A", b"./TRAILER!!!": b"TRAILER!!!", b"Z": b"Z"}


def outline_of(data: bytes | bytearray) -> str:
    """Computed from the archive alone, as somebody would who unpacked it."""
    digest, at = hashlib.sha256(), 0
    while at < len(data):
        size, name_size = (int(data[at + field : at + field + 8], 16) for field in (54, 94))
        start = at + (110 + name_size + 3) // 4 * 4
        digest.update(data[at:start])
        if size:
            digest.update(hashlib.sha256(data[start : start + size]).digest())
        at = start + (size + 3) // 4 * 4
    return f"newc+sha256:{digest.hexdigest()}"


def test_the_outline_is_what_a_reader_of_the_archive_finds(tmp_path: Path) -> None:
    for name, size in (("a", 0), ("b", 1), ("c", BLOCK - 1), ("d", 3 * BLOCK + 2), ("e", 4)):
        (tmp_path / name).write_bytes(random.Random(name).randbytes(size))
    os.link(tmp_path / "d", tmp_path / "f")
    (tmp_path / "l").symlink_to("anywhere")
    own = [OwnFile(path=b"init", mode=0o755, content=b"#!" * BLOCK)]
    special, files = plan(scan(tmp_path, excludes=Excludes([])), own)
    first, second = bytearray(), bytearray()
    outlines = archive_special(special, own, first.extend), archive_regular(tmp_path, files, {}, second.extend)
    assert [outline.digest for outline in outlines] == [outline_of(first), outline_of(second)]
    assert [outline.size for outline in outlines] == [len(first), len(second)]


def test_a_block_that_is_large_enough_holds_the_whole_archive(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"{number:02}{'x' * number}").write_bytes(random.Random(number).randbytes(number * 1001))
    os.link(tmp_path / "00", tmp_path / "0a")
    (tmp_path / "TRAILER!!!").write_bytes(b"1")
    files = plan(scan(tmp_path, excludes=Excludes([])), [])[1]
    pieces: list[bytes] = []
    archive_regular(tmp_path, files, {}, lambda block: pieces.append(bytes(block)))
    whole: list[bytes] = []
    archive_regular(tmp_path, files, {}, lambda block: whole.append(bytes(block)), bytearray(size_at_most(files)))
    assert len(pieces) > 1
    assert whole == [b"".join(pieces)]


def test_another_content_is_another_outline(tmp_path: Path) -> None:
    found = set()
    for content in (b"1234", b"1235"):
        (tmp_path / "f").write_bytes(content)
        os.utime(tmp_path / "f", ns=(0, 0))
        entries = [entry for entry in scan(tmp_path, excludes=Excludes([])) if entry.is_regular]
        found.add(archive_regular(tmp_path, entries, {}, lambda block: None).digest)
    assert len(found) == 2


def test_a_file_that_shrinks_or_grows_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    entries = [entry for entry in scan(tmp_path, excludes=Excludes([])) if entry.is_regular]
    for changed in (b"123", b"1234567"):
        (tmp_path / "f").write_bytes(changed)
        with pytest.raises(ChangedWhileRead, match="'f' changed"):
            files_of(tmp_path, entries)


def test_sparse_logs_are_written_empty(tmp_path: Path) -> None:
    (tmp_path / "var/log").mkdir(parents=True)
    with (tmp_path / "var/log/lastlog").open("wb") as file:
        file.truncate(1 << 30)
    entries = [entry for entry in scan(tmp_path, excludes=Excludes([])) if entry.is_regular]
    assert files_of(tmp_path, entries)[b"var/log/lastlog"][1] == b""
