"""A disk that is full at each stage of exec and copy: one sentence, and the image is as it was."""

import asyncio
import contextlib
import itertools
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import pytest

from images.atomic import write_whole
from images.catalog import Catalog
from images.errors import Error
from images.leftovers import clear
from images.ownership import synchronize
from images.rebuild import BuildContext, rebuild
from images.renaming import copy_image, rename_image
from images.sandbox.bind import Bind, BindMode
from images.sandbox.run import SandboxRequest, run

pytestmark = pytest.mark.root

PAGE = 4096
Fill = Callable[[int], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Disk:
    """A small file system with an image, and `fill(left)`, which leaves so many pages, or inodes, of it free."""

    catalog: Catalog
    fill: Fill


@pytest.fixture(params=["blocks", "inodes"])
def disk(tmp_path: Path, require_tool: Callable[..., Path], request: pytest.FixtureRequest) -> Iterator[Disk]:
    place = tmp_path / "disk"
    place.mkdir()
    options = "size=8m" if request.param == "blocks" else "size=64m,nr_inodes=200"
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "small", place], check=True)
    try:
        rootfs = place / "chroots/img/rootfs"
        for name in ("bin", "etc", "mnt", "usr/deep/er"):
            (rootfs / name).mkdir(parents=True)
        shutil.copy(require_tool("busybox", package="busybox-static"), rootfs / "bin/busybox")
        for name in ("sh", "cat"):
            (rootfs / "bin" / name).symlink_to("busybox")
        for number in range(10):
            (rootfs / f"usr/deep/er/{number}").write_bytes(bytes([number]) * 5000)
        os.setxattr(rootfs / "bin/busybox", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
        fill = _fill_blocks if request.param == "blocks" else _fill_inodes
        yield Disk(
            catalog=Catalog(chroots=place / "chroots", provision=tmp_path / "provision"), fill=lambda left: fill(place, left)
        )
    finally:
        subprocess.run(["umount", place], check=True)


def _fill_blocks(place: Path, left: int) -> None:
    filler = place / "filler"
    filler.unlink(missing_ok=True)
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(PAGE))
    size = filler.stat().st_size // PAGE * PAGE
    os.truncate(filler, max(size - left * PAGE, 0))
    assert os.statvfs(place).f_bfree == left


def _fill_inodes(place: Path, left: int) -> None:
    shutil.rmtree(place / "fillers", ignore_errors=True)
    (place / "fillers").mkdir()
    for number in range(os.statvfs(place).f_ffree - left):
        (place / "fillers" / str(number)).touch()
    assert os.statvfs(place).f_ffree == left


def failure_of(work: Callable[[], object]) -> Error | None:
    try:
        work()
    except Error as exc:
        return exc
    return None


def until_it_fits(disk: Disk, work: Callable[[], object], unchanged: Callable[[], None]) -> int:
    """Run `work` with no room, then a little more, until it succeeds; how much that was."""
    for left in itertools.chain(range(40), range(40, 1000, 23)):
        disk.fill(left)
        failure = failure_of(work)
        if failure is None:
            return left
        assert "No space left on device" in failure.message
        assert "\n" not in failure.message
        assert failure.hint is not None
        assert "free some space" in failure.hint
        unchanged()
    pytest.fail("it never fits")


@pytest.mark.parametrize("size", [10, 3 * PAGE])
def test_a_file_that_is_written_whole_or_not_at_all(disk: Disk, size: int) -> None:
    path = disk.catalog.chroots.parent / "file"
    before = sorted(path.parent.iterdir())
    disk.fill(0)
    with pytest.raises(OSError, match="No space left on device") as caught:
        write_whole(path, bytes(size))
    assert caught.value.filename == str(path)
    assert [found for found in sorted(path.parent.iterdir()) if not found.name.startswith("filler")] == before


def test_exec(disk: Disk, tmp_path: Path, snapshot: Callable[[Path], object], capfd: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "credentials").write_bytes(b"secret " * 3000)
    rootfs = disk.catalog.get("img")
    binds = (
        Bind(source=tmp_path / "credentials", target=PurePosixPath("/opt/etc/credentials"), mode=BindMode.COPY),
        Bind(source=tmp_path, target=PurePosixPath("/srv/a/b")),
    )
    request = SandboxRequest(
        rootfs=rootfs,
        argv=("/bin/sh", "-c", "cat /opt/etc/credentials"),
        name="img",
        lock=disk.catalog.lock_path("img"),
        binds=binds,
    )
    before = snapshot(rootfs)

    def unchanged() -> None:
        assert snapshot(rootfs) == before
        assert os.listdir(rootfs.parent) == ["rootfs"]
        assert capfd.readouterr() == ("", "")

    assert until_it_fits(disk, lambda: run(request), unchanged) > 3
    assert capfd.readouterr() == ("secret " * 3000, "")
    assert snapshot(rootfs) == before


def test_what_the_command_itself_writes_is_its_own_failure(
    disk: Disk, snapshot: Callable[[Path], object], capfd: pytest.CaptureFixture[str]
) -> None:
    rootfs = disk.catalog.get("img")
    request = SandboxRequest(
        rootfs=rootfs, argv=("/bin/sh", "-c", "cat /bin/busybox > /etc/big"), name="img", lock=disk.catalog.lock_path("img")
    )
    disk.fill(20)
    failed = run(request) == 1
    assert failed is ("No space left on device" in capfd.readouterr().err)
    (rootfs / "etc/big").unlink()
    assert os.listdir(rootfs.parent) == ["rootfs"]


def test_copy(disk: Disk, snapshot: Callable[[Path], object]) -> None:
    rootfs = disk.catalog.get("img")
    before = snapshot(rootfs)

    def work() -> None:
        asyncio.run(copy_image(disk.catalog, "img", "new", lambda event: None))

    def unchanged() -> None:
        assert snapshot(rootfs) == before
        assert disk.catalog.names() == ["img"]
        assert not list(disk.catalog.chroots.glob(".staging*"))

    assert until_it_fits(disk, work, unchanged) > 3
    assert snapshot(disk.catalog.get("new")) == before
    clear(disk.catalog)
    assert disk.catalog.names() == ["img", "new"]


def test_delete_needs_no_room(disk: Disk) -> None:
    clear(disk.catalog)
    disk.fill(0)
    with disk.catalog.locked("img", holder="delete img"):
        disk.catalog.delete("img")
    assert list(disk.catalog.chroots.iterdir()) == []


def test_an_image_that_is_not_there_cannot_be_locked_without_room(disk: Disk) -> None:
    def work() -> None:
        with disk.catalog.locked("new", holder="import new"):
            assert disk.catalog.lock_path("new").exists()

    until_it_fits(disk, work, lambda: None)
    assert [path.name for path in disk.catalog.chroots.iterdir()] == ["img"]


def test_rename(disk: Disk) -> None:
    catalog = Catalog(chroots=disk.catalog.chroots, provision=disk.catalog.chroots.parent / "provision")
    rebuild(catalog, "img", BuildContext(own=[], built_by="test", now=0.0))

    def unchanged() -> None:
        assert catalog.names() == ["img"]
        assert catalog.current("img") is not None
        assert catalog.current("new") is None
        assert list(catalog.provision.glob("images/.*")) == []

    assert until_it_fits(disk, lambda: rename_image(catalog, "img", "new", move_users=lambda: None), unchanged) > 3
    assert catalog.names() == ["new"]
    found = catalog.current("new")
    assert found is not None
    assert found.missing() == []
    assert list(catalog.provision.glob("images/*")) == [catalog.provision / "images/new"]


def test_the_users_are_synchronized_or_nothing_is_changed(
    disk: Disk, tmp_path: Path, snapshot: Callable[[Path], object]
) -> None:
    """What has begun before the disk was full is completed later."""
    rootfs = disk.catalog.get("img")
    (tmp_path / "etc").mkdir()
    for etc, uid in ((rootfs / "etc", 1001), (tmp_path / "etc", 2001)):
        (etc / "passwd").write_text(f"root:x:0:0::/:/bin/sh\nalice:x:{uid}:{uid}::/:/bin/sh\n")
        (etc / "group").write_text(f"root:x:0:\nalice:x:{uid}:\n")
    mine = rootfs / "usr/deep/er/1"
    os.chown(mine, 1001, 1001)
    before = snapshot(rootfs)
    begun = []

    def unchanged() -> None:
        begun.append(disk.catalog.sync_plan_path("img").exists())
        assert begun[-1] or snapshot(rootfs) == before
        assert {path.name for path in rootfs.parent.iterdir()} <= {"rootfs", "syncuser.plan"}

    assert until_it_fits(disk, lambda: synchronize(disk.catalog, "img", tmp_path / "etc", write=True), unchanged) > 0
    assert begun[0] is False
    assert mine.stat().st_uid == 2001
    assert "alice:x:2001:2001" in (rootfs / "etc/passwd").read_text()
    assert [path.name for path in rootfs.parent.iterdir()] == ["rootfs"]
