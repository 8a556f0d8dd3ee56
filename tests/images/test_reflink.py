"""`wwctl image copy` shares the blocks of files where the file system can, and copies them where it cannot."""

import os
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from head_node import HeadNode

pytestmark = pytest.mark.root

Snapshot = dict[bytes, tuple[object, ...]]
MIB = 1 << 20
BIG = 48 * MIB


@pytest.fixture
def mounted(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """A file system of a kind, freshly made in a file and mounted by a loop device of its own."""
    devices: list[str] = []
    places: list[Path] = []

    def mount(make: str) -> Path:
        image, place = tmp_path / f"disk-{len(places)}", tmp_path / f"mnt-{len(places)}"
        place.mkdir()
        with image.open("wb") as file:
            file.truncate(400 * MIB)
        subprocess.run([*make.split(), image], check=True, capture_output=True)
        device = subprocess.run(["losetup", "--find", "--show", image], capture_output=True, text=True)
        if device.returncode != 0:
            # No package is missing: the machine, such as a container, does not let anybody have one.
            pytest.xfail(f"no loop device can be had here: {device.stderr.strip()}")
        devices.append(device.stdout.strip())
        done = subprocess.run(["mount", devices[-1], place], capture_output=True, text=True)
        if done.returncode != 0:
            pytest.xfail(f"this kernel cannot mount what {make.split()[0]} made: {done.stderr.strip()}")
        places.append(place)
        return place

    yield mount
    for place in places:
        subprocess.run(["umount", place], check=True)
    for device in devices:
        subprocess.run(["losetup", "--detach", device], check=True)


class Site(HeadNode):
    """A head node whose images lie in `place`, one of them `one`, with a large file, one with holes and two hard links."""

    def __init__(self, root: Path, place: Path) -> None:
        super().__init__(root)
        (root / "etc").mkdir()
        (root / "lib/warewulf").mkdir(parents=True)
        self.place = place
        self.chroots.symlink_to(place)
        tree = place / "one/rootfs"
        (tree / "bin").mkdir(parents=True)
        (tree / "bin/sh").write_text("#!/bin/true\n")
        (tree / "big").write_bytes(os.urandom(BIG))
        (tree / "linked").hardlink_to(tree / "big")
        with (tree / "holes").open("wb") as file:
            file.seek(64 * MIB)
            file.write(b"end")
        os.setxattr(tree / "big", "user.test", b"1")
        os.chown(tree / "big", 1000, 1001)
        os.sync()

    def used(self) -> int:
        os.sync()
        status = os.statvfs(self.place)
        return (status.f_blocks - status.f_bfree) * status.f_frsize

    def copy(self) -> Path:
        done = self.wwctl("image", "copy", "one", "two")
        assert done.returncode == 0, done.stderr
        return self.place / "two/rootfs"


def extents(path: Path) -> list[tuple[int, bool]]:
    """Where each extent of a file lies on the disk, and whether another file has it too, as filefrag (FIEMAP) says."""
    text = subprocess.run(["filefrag", "-v", path], check=True, capture_output=True, text=True).stdout
    rows = re.findall(r"^ +\d+: +\d+\.\. +\d+: +(\d+)\.\. +\d+: +\d+:(.*)$", text, re.MULTILINE)
    return [(int(start), "shared" in flags) for start, flags in rows]


def test_on_xfs_a_copy_shares_its_blocks_until_it_is_changed(
    tmp_path: Path, mounted: Callable[[str], Path], snapshot: Callable[[Path], Snapshot], require_tool: Callable[..., Path]
) -> None:
    require_tool("mkfs.xfs", package="xfsprogs")
    require_tool("filefrag", package="e2fsprogs")
    site = Site(tmp_path, mounted("mkfs.xfs -q -m reflink=1"))
    before, original = site.used(), snapshot(site.place / "one/rootfs")
    copy = site.copy()

    assert snapshot(copy) == original
    assert site.used() - before < BIG // 10, "the copy takes room of its own"
    assert (copy / "holes").stat().st_blocks < 2048
    for name in ("big", "holes"):
        mine, theirs = extents(copy / name), extents(site.place / "one/rootfs" / name)
        assert mine == theirs
        assert mine
        assert all(shared for _, shared in mine)

    with (copy / "big").open("r+b") as file:
        file.seek(8 * MIB)
        file.write(b"changed" * 1000)
        os.fsync(file.fileno())
    assert snapshot(site.place / "one/rootfs") == original
    assert (copy / "big").read_bytes() != (site.place / "one/rootfs/big").read_bytes()
    assert not all(shared for _, shared in extents(copy / "big"))
    assert site.wwctl("image", "delete", "--yes", "one").returncode == 0
    assert (copy / "big").read_bytes()[8 * MIB :].startswith(b"changed")


@pytest.mark.parametrize("kind", ["ext4", "tmpfs", "xfs without reflink"])
def test_elsewhere_it_copies(
    tmp_path: Path,
    mounted: Callable[[str], Path],
    snapshot: Callable[[Path], Snapshot],
    require_tool: Callable[..., Path],
    kind: str,
) -> None:
    require_tool("mkfs.xfs", package="xfsprogs")
    require_tool("mkfs.ext4", package="e2fsprogs")
    if kind == "tmpfs":
        place = tmp_path / "tmpfs"
        place.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "copies", place], check=True)
    else:
        place = mounted("mkfs.ext4 -q" if kind == "ext4" else "mkfs.xfs -q -m reflink=0")
    try:
        site = Site(tmp_path, place)
        before, original = site.used(), snapshot(place / "one/rootfs")
        copy = site.copy()
        assert snapshot(copy) == original
        assert BIG <= site.used() - before < BIG + 8 * MIB, "holes must stay holes"
        with (copy / "big").open("r+b") as file:
            file.write(b"changed")
        assert snapshot(place / "one/rootfs") == original
    finally:
        if kind == "tmpfs":
            subprocess.run(["umount", place], check=True)
