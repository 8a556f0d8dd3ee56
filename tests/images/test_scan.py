"""The walk of a tree: what is unchanged is the very entry of before, and what cannot be archived is a sentence."""

import os
import random
from pathlib import Path

import pytest

from images.excludes import Excludes
from images.index import Entry
from images.scan import TooDeep, scan, walk_in_order

NONE = Excludes([])


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "rootfs"
    for name in ("a/b", "a.c", "a-d", "z"):
        (root / name).mkdir(parents=True)
        (root / name / "file").write_text(name)
    (root / "link").symlink_to("z")
    return root


def by_path(entries: list[Entry]) -> dict[bytes, Entry]:
    return {entry.path: entry for entry in entries}


def test_entries_come_in_path_order(tree: Path) -> None:
    paths = [entry.path for entry in scan(tree, excludes=NONE)]
    assert paths == sorted(paths)
    assert paths[:6] == [b".", b"a", b"a-d", b"a-d/file", b"a.c", b"a.c/file"]


def test_what_is_unchanged_is_the_same_object(tree: Path) -> None:
    first = scan(tree, excludes=NONE)
    again = scan(tree, excludes=NONE, previous=by_path(first))
    assert len(again) == len(first)
    assert all(now is then for now, then in zip(again, first, strict=True))


@pytest.mark.parametrize("change", ["write", "chmod", "chown", "add", "remove", "swap", "retarget", "xattr"])
def test_every_change_is_found(tree: Path, change: str) -> None:
    before = by_path(scan(tree, excludes=NONE))
    file = tree / "a/b/file"
    match change:
        case "write":
            file.write_text("x")
        case "chmod":
            file.chmod(0o600)
        case "chown":
            os.chown(file, -1, -1)
        case "add":
            (tree / "new").touch()
        case "remove":
            file.unlink()
        case "swap":
            file.rename(tree / "a/b/kept")
            (tree / "z/file").rename(file)
        case "retarget":
            (tree / "link").unlink()
            (tree / "link").symlink_to("a")
        case "xattr":
            os.setxattr(file, "user.x", b"y")
    after = scan(tree, excludes=NONE, previous=before)
    assert [e.path for e in after] == [e.path for e in scan(tree, excludes=NONE)]
    assert any(before.get(entry.path) is not entry for entry in after) or len(after) != len(before)


def test_names_that_are_no_text(tree: Path) -> None:
    names = {b"new\nline", b"\xff\xfe", b"back\\slash", b"=", b" "}
    for name in names:
        Path(os.fsdecode(os.path.join(os.fsencode(tree), name))).touch()
    assert names <= {entry.path for entry in scan(tree, excludes=NONE)}


def test_a_directory_of_very_many_files(tmp_path: Path) -> None:
    numbers = list(range(20_000))
    random.Random(1).shuffle(numbers)
    for number in numbers:
        os.mknod(tmp_path / f"{number}")
    assert [entry.path for entry in scan(tmp_path, excludes=NONE)] == sorted([b".", *(b"%d" % n for n in numbers)])


def test_a_walk_gives_the_same_entries_in_the_same_order(tree: Path) -> None:
    for name in ("a/b0", "a/b-", "a0", "a!", " a", "-", "zz", "left-out", "a/left-out"):
        (tree / name).mkdir()
        (tree / name / "\u0436").touch()
        (tree / name / "0").symlink_to("nowhere")
    excludes = Excludes(["left-out", "*/left-out"])
    found = list(walk_in_order(tree, excludes=excludes))
    assert found == scan(tree, excludes=excludes)
    assert [entry.path for entry in found] == sorted(entry.path for entry in found)
    assert not any(b"left-out" in entry.path for entry in found)


def test_a_walk_reads_a_folder_when_it_is_its_turn(tree: Path) -> None:
    walk = walk_in_order(tree, excludes=NONE)
    for entry in walk:
        if entry.path == b"a.c":
            (tree / "a.c/file").rename(tree / "a.c/later")
            (tree / "a-d/late").touch()
            break
    rest = [entry.path for entry in walk]
    assert b"a.c/later" in rest
    assert b"a-d/late" not in rest


def test_a_tree_deeper_than_a_path_may_be_is_a_sentence(tmp_path: Path) -> None:
    top = os.open(tmp_path, os.O_RDONLY)
    folder, made = os.dup(top), []
    for _ in range(25):
        os.mkdir("x" * 200, dir_fd=folder)
        made.append(folder)
        folder = os.open("x" * 200, os.O_RDONLY, dir_fd=folder)
    os.close(folder)
    for walk in (scan, lambda rootfs, excludes: list(walk_in_order(rootfs, excludes=excludes))):
        with pytest.raises(TooDeep, match="too deep"):
            walk(tmp_path, excludes=NONE)
    for folder in reversed(made):
        os.rmdir("x" * 200, dir_fd=folder)
        os.close(folder)
    os.close(top)
