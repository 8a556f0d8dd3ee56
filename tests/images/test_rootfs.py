"""Resolution within a root: as chroot does, and never outside."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from images.rootfs import MAX_PATH, Rootfs, UnsafePath, find_status

pytestmark = pytest.mark.root


@pytest.fixture
def top(tmp_path: Path) -> Path:
    (tmp_path / "outside").mkdir()
    (tmp_path / "root" / "usr" / "lib").mkdir(parents=True)
    return tmp_path / "root"


@pytest.fixture
def rootfs(top: Path) -> Iterator[Rootfs]:
    with Rootfs(top) as rootfs:
        yield rootfs


@pytest.mark.parametrize(
    ("target", "resolved"),
    [
        ("usr/lib", b"usr/lib"),
        ("/usr/lib", b"usr/lib"),
        ("./usr//./lib/", b"usr/lib"),
        ("usr/../usr/lib/..", b"usr"),
        ("/", b""),
    ],
)
def test_link_within(top: Path, rootfs: Rootfs, target: str, resolved: bytes) -> None:
    (top / "link").symlink_to(target)
    (top / "twice").symlink_to("link")
    for name in (b"link", b"twice"):
        directory, made = rootfs.make_directory(name + b"/x/y")
        assert directory.path == (resolved + b"/x/y").lstrip(b"/")
        assert (top / os.fsdecode(directory.path)).is_dir()
    assert made == []


@pytest.mark.parametrize(
    ("target", "reason"),
    [
        ("..", "outside"),
        ("../outside", "outside"),
        ("usr/../../outside", "outside"),
        ("/..", "outside"),
        ("/nowhere", "nothing in the image"),
        ("nowhere/at/all", "nothing in the image"),
        ("link", "too many"),
        ("file", "no directory"),
    ],
)
def test_link_that_leads_astray(top: Path, rootfs: Rootfs, target: str, reason: str) -> None:
    (top / "file").touch()
    (top / "link").symlink_to(target)
    with pytest.raises(UnsafePath, match=reason):
        rootfs.make_directory(b"link/x")
    assert sorted(path.name for path in top.iterdir()) == ["file", "link", "usr"]
    assert list((top.parent / "outside").iterdir()) == []


def test_absolute_link_to_a_place_outside_is_taken_within(top: Path, rootfs: Rootfs) -> None:
    (top / "link").symlink_to(top.parent / "outside")
    with pytest.raises(UnsafePath, match="nothing in the image"):
        rootfs.make_directory(b"link")
    assert list((top.parent / "outside").iterdir()) == []


def test_missing_parents_are_made(top: Path, rootfs: Rootfs) -> None:
    os.chmod(top / "usr", 0o2755)
    os.chown(top / "usr", 0, 50)
    old = os.umask(0o077)
    try:
        directory, made = rootfs.make_directory(b"usr/a/b")
    finally:
        os.umask(old)
    assert made == [b"usr/a", b"usr/a/b"]
    for path in (top / "usr/a", top / "usr/a/b"):
        status = path.stat()
        assert (status.st_mode & 0o7777, status.st_uid, status.st_gid) == (0o755, 0, 0)
    assert rootfs.find_directory(b"usr/a/b") is directory
    assert rootfs.find_directory(b"usr/z/b") is None
    assert not (top / "usr/z").exists()


def test_a_replaced_directory_is_resolved_anew(top: Path, rootfs: Rootfs) -> None:
    (top / "real").mkdir()
    (top / "d").mkdir()
    found = rootfs.find_directory(b"d")
    assert found is not None
    status = find_status(rootfs.root, b"d")
    assert status is not None
    rootfs.remove(rootfs.root, b"d", status)
    (top / "d").symlink_to("real")
    rootfs.settle()
    again = rootfs.find_directory(b"d")
    assert again is not None
    assert again.path == b"real"


def test_a_replaced_link_is_resolved_anew(top: Path, rootfs: Rootfs) -> None:
    (top / "d").symlink_to("usr")
    assert rootfs.find_directory(b"d/lib") is not None
    status = find_status(rootfs.root, b"d")
    assert status is not None
    rootfs.remove(rootfs.root, b"d", status)
    rootfs.settle()
    assert rootfs.find_directory(b"d/lib") is None


def test_remove_does_not_follow_links(top: Path, rootfs: Rootfs) -> None:
    outside = top.parent / "outside"
    (outside / "precious").touch()
    (top / "d" / "e").mkdir(parents=True)
    (top / "d" / "e" / "link").symlink_to(outside)
    status = find_status(rootfs.root, b"d")
    assert status is not None
    rootfs.remove(rootfs.root, b"d", status)
    assert not (top / "d").exists()
    assert (outside / "precious").exists()


def test_remove_a_tree_deeper_than_the_stack(top: Path, rootfs: Rootfs) -> None:
    fd = os.open(top, os.O_RDONLY)
    for _ in range(3000):
        os.mkdir("d", dir_fd=fd)
        os.mkdir("e", dir_fd=fd)
        inner = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(os.open("file", os.O_CREAT, dir_fd=inner))
        os.close(fd)
        fd = inner
    os.close(fd)
    status = find_status(rootfs.root, b"d")
    assert status is not None
    rootfs.remove(rootfs.root, b"d", status)
    assert sorted(path.name for path in top.iterdir()) == ["e", "usr"]


def test_many_directories_need_few_descriptors(top: Path, rootfs: Rootfs) -> None:
    for number in range(1500):
        rootfs.settle()
        rootfs.make_directory(b"m/%d" % number)
    assert len(os.listdir("/proc/self/fd")) < 400
    assert len(list((top / "m").iterdir())) == 1500


def test_too_long_a_path(top: Path, rootfs: Rootfs) -> None:
    (top / "l").symlink_to("/" + "x/" * 100)
    (top / ("x/" * 100)).mkdir(parents=True)
    path = b"l" + b"/" + b"y" * 200
    for _ in range(MAX_PATH // 200 - 1):
        rootfs.make_directory(path)
        path += b"/" + b"y" * 200
    with pytest.raises(UnsafePath, match="too long"):
        rootfs.make_directory(path)
