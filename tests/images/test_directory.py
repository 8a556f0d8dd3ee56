"""A directory of this machine as a source."""

import os
import socket
import stat
import subprocess
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from images.copying import CopyFailed, copy_size, copy_tree
from images.decompress import Interrupted
from images.mounts import find_mounts
from images.progress import Event, TreeAdvanced, TreeCopying
from images.rootfs import remove_tree
from images.source.contract import SourceOptions
from images.source.directory import DirectorySource, UnusableDirectory
from images.source.scheme import open_source

pytestmark = pytest.mark.root

Snapshot = Callable[[Path], dict[bytes, tuple[object, ...]]]


def _never() -> bool:
    return False


@pytest.fixture
def chroot(tmp_path: Path) -> Path:
    root = tmp_path / "chroot"
    (root / "usr/bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    (root / "dangling").symlink_to("/no/where")
    (root / "usr/bin/sh").write_bytes(b"shell")
    (root / "usr/bin/empty").touch()
    os.chown(root / "usr/bin/sh", 3, 4)
    os.chmod(root / "usr/bin/sh", 0o6755)
    os.setxattr(root / "usr/bin/sh", "user.note", b"1")
    os.setxattr(root / "usr/bin/sh", "security.capability", bytes.fromhex("0100000200200000000000000000000000000000"))
    os.link(root / "usr/bin/sh", root / "usr/bin/bash")
    os.link(root / "dangling", root / "dangling2", follow_symlinks=False)
    os.mkdir(root / "tmp", 0o1777)
    os.chmod(root / "tmp", 0o1777)
    os.mkdir(root / "sgid")
    os.chown(root / "sgid", 0, 50)
    os.chmod(root / "sgid", 0o2775)
    (root / "sgid" / "in").touch()
    os.chown(root / "sgid" / "in", 0, 0)
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", stat.S_IFCHR | 0o666, os.makedev(1, 3))
    os.mknod(root / "disk", stat.S_IFBLK | 0o660, os.makedev(8, 1))
    os.mkdir(os.fsencode(root) + b"/not-utf8-\xff")
    with (root / "sparse").open("wb") as stream:
        stream.write(b"start")
        stream.seek(30_000_000)
        stream.write(b"middle")
        stream.truncate(60_000_000)
    with (root / "hole").open("wb") as stream:
        stream.truncate(10_000_000)
    (root / "big").write_bytes(os.urandom(5_000_000))
    for number, path in enumerate([root, *root.rglob("*")]):
        os.utime(path, ns=(1, 1_500_000_000_123_456_789 + number), follow_symlinks=False)
    return root


async def test_copy_is_faithful(chroot: Path, tmp_path: Path, snapshot: Snapshot) -> None:
    expected = snapshot(chroot)
    rootfs = tmp_path / "new" / "rootfs"
    rootfs.mkdir(parents=True)
    events: list[Event] = []
    old = os.umask(0o077)
    try:
        source = open_source(str(chroot), SourceOptions(blobs=tmp_path / "blobs"))
        provenance = await source.unpack(rootfs, events.append)
    finally:
        os.umask(old)
    assert snapshot(rootfs) == expected
    assert snapshot(chroot) == expected
    assert (rootfs / "usr/bin/sh").stat().st_ino == (rootfs / "usr/bin/bash").stat().st_ino
    assert (rootfs / "sparse").stat().st_blocks * 512 < 1_000_000
    assert (rootfs / "hole").stat().st_blocks * 512 < 1_000_000
    assert [event for event in events if not isinstance(event, TreeAdvanced)] == [TreeCopying(path=chroot)]
    assert (provenance.reference, provenance.digest) == (str(chroot), None)


def test_sockets_are_left_out(chroot: Path, tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(chroot / "socket"))
    target = tmp_path / "target"
    target.mkdir()
    copy_tree(chroot, target, stopped=_never)
    assert not (target / "socket").exists()
    assert (target / "usr/bin/sh").exists()


def test_mounts_are_left_out(chroot: Path, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    """Also bind mounts of the same file system, and of single files."""
    (chroot / "proc dir").mkdir()
    (chroot / "data").mkdir()
    (chroot / "resolv.conf").touch()
    for arguments in (
        ["-t", "tmpfs", "none", str(chroot / "proc dir")],
        ["--bind", str(chroot / "usr"), str(chroot / "data")],
        ["--bind", str(chroot / "usr/bin/sh"), str(chroot / "resolv.conf")],
    ):
        subprocess.run(["mount", *arguments], check=True)
        request.addfinalizer(partial(subprocess.run, ["umount", arguments[-1]], check=True))
    (chroot / "proc dir" / "inside").touch()
    assert find_mounts(chroot) == {b"proc dir", b"data", b"resolv.conf"}
    target = tmp_path / "target"
    target.mkdir()
    copy_tree(chroot, target, stopped=_never)
    assert list((target / "proc dir").iterdir()) == []
    assert list((target / "data").iterdir()) == []
    assert (target / "resolv.conf").read_bytes() == b""
    assert (target / "usr/bin/sh").read_bytes() == b"shell"


@pytest.mark.parametrize("name", ["/", "alias", "file", "missing", "usr/.."])
async def test_refused_sources(chroot: Path, tmp_path: Path, name: str) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "alias").symlink_to("/")
    if name == "usr/..":
        with pytest.raises(UnusableDirectory, match="contains the place"):
            await DirectorySource(chroot / name).unpack(chroot / "usr", lambda event: None)
        return
    with pytest.raises(UnusableDirectory):
        DirectorySource(tmp_path / name)


async def test_destination_within_the_source(chroot: Path, tmp_path: Path) -> None:
    inner = chroot / "var/lib/warewulf/chroots/x/rootfs"
    inner.mkdir(parents=True)
    (tmp_path / "alias").symlink_to(chroot)
    with pytest.raises(UnusableDirectory, match="contains the place"):
        await DirectorySource(tmp_path / "alias").unpack(inner, lambda event: None)
    assert list(inner.iterdir()) == []


def test_errors_name_the_entry(chroot: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    (target / "usr").mkdir(parents=True)
    with pytest.raises(CopyFailed, match=r"cannot copy 'usr' into the image: File exists"):
        copy_tree(chroot, target, stopped=_never)


def test_stops_when_told(chroot: Path, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.mkdir()
    with pytest.raises(Interrupted):
        copy_tree(chroot, target, stopped=lambda: True)
    assert list(target.iterdir()) == []


@pytest.fixture
def elsewhere(tmp_path: Path) -> Iterator[Path]:
    """A folder of another file system, so that no blocks can be shared."""
    target = tmp_path / "elsewhere"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", str(target)], check=True)
    yield target
    subprocess.run(["umount", str(target)], check=True)


async def test_what_is_copied_is_told(chroot: Path, elsewhere: Path) -> None:
    rootfs = elsewhere / "rootfs"
    rootfs.mkdir()
    events: list[Event] = []
    await DirectorySource(chroot).unpack(rootfs, events.append)
    told = [event for event in events if isinstance(event, TreeAdvanced)]
    assert told
    assert {event.path for event in told} == {chroot}
    assert [event.done for event in told] == sorted({event.done for event in told})
    assert 4_000_000 < told[-1].done < 6_000_000, "the large file is copied, and holes are not"


def test_the_size_of_a_tree_is_what_is_copied_of_it(chroot: Path, elsewhere: Path, request: pytest.FixtureRequest) -> None:
    """Each file once, no holes, and nothing that is mounted."""
    (chroot / "data").mkdir()
    subprocess.run(["mount", "--bind", chroot / "usr", chroot / "data"], check=True)
    request.addfinalizer(lambda: subprocess.run(["umount", chroot / "data"], check=True))
    copied: list[int] = []
    copy_tree(chroot, elsewhere, stopped=_never, copied=copied.append)
    size = copy_size(chroot, stopped=_never)
    # The hole of a file ends where a block of its file system does.
    assert copied[-1] - 8192 <= size <= copied[-1] + 8192
    assert size > 5_000_000
    with pytest.raises(Interrupted):
        copy_size(chroot, stopped=lambda: True)


def test_the_size_of_a_deep_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Deeper than Python calls itself."""
    monkeypatch.chdir(tmp_path)
    try:
        for _ in range(1200):
            os.mkdir("a")
            os.chdir("a")
        Path("file").write_bytes(bytes(4096))
        assert copy_size(tmp_path, stopped=_never) == 4096
    finally:
        os.chdir(tmp_path)
        remove_tree(tmp_path / "a")


def test_stops_in_the_midst_of_a_large_file(tmp_path: Path, elsewhere: Path) -> None:
    (tmp_path / "tree").mkdir()
    (tmp_path / "tree/big").write_bytes(bytes(80 << 20))
    copied: list[int] = []
    with pytest.raises(Interrupted):
        copy_tree(tmp_path / "tree", elsewhere, stopped=lambda: bool(copied), copied=copied.append)
    assert copied == [(elsewhere / "big").stat().st_size]
    assert copied[0] < 80 << 20


def test_no_descriptors_are_left(chroot: Path, tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    target = tmp_path / "target"
    target.mkdir()
    copy_tree(chroot, target, stopped=_never)
    with pytest.raises(CopyFailed):
        copy_tree(chroot, target, stopped=_never)
    assert len(os.listdir("/proc/self/fd")) == before


def test_other_file_system(chroot: Path, elsewhere: Path, snapshot: Snapshot) -> None:
    skipped = copy_tree(chroot, elsewhere, stopped=_never)
    expected, actual = snapshot(chroot), snapshot(elsewhere)
    if "user.note" in skipped:
        # tmpfs has user xattrs only since Linux 6.6.
        assert skipped["user.note"] in ("usr/bin/sh", "usr/bin/bash")
        expected = {path: (*entry[:7], ()) for path, entry in expected.items()}
        actual = {path: (*entry[:7], ()) for path, entry in actual.items()}
    assert actual == expected


def test_a_bundle_is_told_from_its_root_file_system(chroot: Path) -> None:
    """`umoci unpack` makes DIR/rootfs, and so does Warewulf."""
    bundle = chroot.parent / "bundle"
    bundle.mkdir()
    chroot.rename(bundle / "rootfs")
    with pytest.raises(UnusableDirectory) as caught:
        DirectorySource(bundle)
    assert caught.value.hint == f"did you mean {bundle}/rootfs?"
    assert DirectorySource(bundle / "rootfs").default_name == "rootfs"
