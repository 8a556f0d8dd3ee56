import os
from pathlib import Path

import pytest

from images.sandbox import mountpoints


@pytest.fixture
def rootfs(tmp_path: Path) -> Path:
    (tmp_path / "rootfs/etc").mkdir(parents=True)
    os.utime(tmp_path / "rootfs/etc", ns=(1, 2_000_000_003))
    os.utime(tmp_path / "rootfs", ns=(1, 4_000_000_005))
    return tmp_path / "rootfs"


def mtimes(rootfs: Path) -> tuple[int, int]:
    return rootfs.stat().st_mtime_ns, (rootfs / "etc").stat().st_mtime_ns


POINTS = [("etc/resolv.conf", False), ("a/b", True), ("a/c", False)]


def test_made_and_removed_with_the_times_of_what_is_above(rootfs: Path) -> None:
    mountpoints.create(str(rootfs), POINTS)
    assert (rootfs / "a/b").is_dir()
    assert (rootfs / "a/c").is_file()
    assert (rootfs / "etc/resolv.conf").is_file()
    mountpoints.remove(str(rootfs))
    assert os.listdir(rootfs) == ["etc"]
    assert mtimes(rootfs) == (4_000_000_005, 2_000_000_003)
    assert os.listdir(rootfs.parent) == ["rootfs"]


def test_what_was_changed_meanwhile_stays(rootfs: Path) -> None:
    mountpoints.create(str(rootfs), POINTS)
    (rootfs / "a/b/new").touch()
    (rootfs / "etc/resolv.conf").write_text("nameserver 192.0.2.1\n")
    (rootfs / "etc/other").touch()
    mountpoints.remove(str(rootfs))
    assert sorted(os.listdir(rootfs / "etc")) == ["other", "resolv.conf"]
    assert os.listdir(rootfs / "a") == ["b"]
    assert mtimes(rootfs)[0] == 4_000_000_005
    assert mtimes(rootfs)[1] != 2_000_000_003


def test_nothing_missing_leaves_no_record(rootfs: Path) -> None:
    mountpoints.create(str(rootfs), [("etc", True)])
    assert os.listdir(rootfs.parent) == ["rootfs"]
    mountpoints.remove(str(rootfs))
    assert mtimes(rootfs) == (4_000_000_005, 2_000_000_003)


def test_a_failure_half_way_is_undone(rootfs: Path) -> None:
    with pytest.raises(OSError, match="name"):
        mountpoints.create(str(rootfs), [("a/b", True), ("x" * 300, True)])
    mountpoints.remove(str(rootfs))
    assert os.listdir(rootfs) == ["etc"]
    assert mtimes(rootfs)[0] == 4_000_000_005


def test_names_that_are_not_utf8(rootfs: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    mountpoints.create(str(rootfs), [(name, True)])
    assert (rootfs / name).is_dir()
    mountpoints.remove(str(rootfs))
    assert os.listdir(rootfs) == ["etc"]
