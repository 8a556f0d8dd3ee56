import contextlib
import os
import shutil
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


POINTS = [("etc/resolv.conf", False, ""), ("a/b", True, ""), ("a/c", False, "")]


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
    mountpoints.create(str(rootfs), [("etc", True, "")])
    assert os.listdir(rootfs.parent) == ["rootfs"]
    mountpoints.remove(str(rootfs))
    assert mtimes(rootfs) == (4_000_000_005, 2_000_000_003)


def test_a_failure_half_way_is_undone(rootfs: Path) -> None:
    with pytest.raises(OSError, match="name"):
        mountpoints.create(str(rootfs), [("a/b", True, ""), ("x" * 300, True, "")])
    mountpoints.remove(str(rootfs))
    assert os.listdir(rootfs) == ["etc"]
    assert mtimes(rootfs)[0] == 4_000_000_005


def test_names_that_are_not_utf8(rootfs: Path) -> None:
    name = os.fsdecode(b"caf\xe9")
    mountpoints.create(str(rootfs), [(name, True, "")])
    assert (rootfs / name).is_dir()
    mountpoints.remove(str(rootfs))
    assert os.listdir(rootfs) == ["etc"]


@pytest.fixture
def source(tmp_path: Path) -> str:
    (tmp_path / "source").write_text("user:secret\n")
    (tmp_path / "source").chmod(0o640)
    os.utime(tmp_path / "source", ns=(1, 3_000_000_007))
    return str(tmp_path / "source")


def test_a_copy_that_is_not_changed_is_removed(rootfs: Path, source: str) -> None:
    mountpoints.create(str(rootfs), [("opt/etc/credentials", False, source)])
    status = (rootfs / "opt/etc/credentials").stat()
    assert (oct(status.st_mode), status.st_mtime_ns) == ("0o100640", 3_000_000_007)
    assert (rootfs / "opt/etc/credentials").read_text() == "user:secret\n"
    mountpoints.remove(str(rootfs))
    assert os.listdir(rootfs) == ["etc"]
    assert mtimes(rootfs) == (4_000_000_005, 2_000_000_003)


@pytest.mark.parametrize("change", ["write", "replace", "mode", "link"])
def test_a_copy_that_is_changed_stays(rootfs: Path, source: str, change: str) -> None:
    mountpoints.create(str(rootfs), [("etc/credentials", False, source)])
    copy = rootfs / "etc/credentials"
    match change:
        case "write":
            copy.write_text("user:secreT\n")
        case "replace":
            shutil.copy(source, rootfs / "etc/new")
            (rootfs / "etc/new").rename(copy)
        case "mode":
            copy.chmod(0o600)
        case "link":
            (rootfs / "etc/kept").hardlink_to(copy)
    mountpoints.remove(str(rootfs))
    assert copy.exists()


def test_a_copy_that_the_command_removed_stays_away(rootfs: Path, source: str) -> None:
    mountpoints.create(str(rootfs), [("etc/credentials", False, source)])
    (rootfs / "etc/credentials").unlink()
    mountpoints.remove(str(rootfs))
    assert os.listdir(rootfs / "etc") == []


def test_a_copy_of_which_only_a_part_was_written_is_removed(rootfs: Path, source: str) -> None:
    with pytest.raises(OSError, match="No such file"):
        mountpoints.create(str(rootfs), [("etc/credentials", False, source), ("etc/other", False, "/nowhere")])
    assert sorted(os.listdir(rootfs / "etc")) == ["credentials", "other"]
    mountpoints.remove(str(rootfs))
    assert os.listdir(rootfs / "etc") == []
    assert mtimes(rootfs)[1] == 2_000_000_003


@pytest.mark.parametrize("steps", range(8))
def test_a_removal_that_was_killed_is_completed(rootfs: Path, source: str, steps: int, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [*POINTS, ("etc/credentials", False, source)]
    mountpoints.create(str(rootfs), points)
    (rootfs / "etc").joinpath("resolv.conf").touch()
    left = steps

    class Killed(BaseException):
        pass

    def counted(name: str) -> None:
        real = getattr(os, name)

        def call(*args: object, **options: object) -> object:
            nonlocal left
            if left == 0:
                raise Killed
            left -= 1
            return real(*args, **options)

        monkeypatch.setattr(os, name, call)

    with monkeypatch.context() as patch:
        monkeypatch = patch
        for name in ("unlink", "rmdir", "utime", "rename"):
            counted(name)
        with contextlib.suppress(Killed):
            mountpoints.remove(str(rootfs))
    mountpoints.remove(str(rootfs))
    assert os.listdir(rootfs) == ["etc"]
    assert mtimes(rootfs) == (4_000_000_005, 2_000_000_003)
    assert sorted(os.listdir(rootfs.parent)) == ["rootfs", "source"]
