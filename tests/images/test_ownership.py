"""A synchronization of users on a real tree; killed at each of its system calls, it is completed by the next run."""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from killed_step import killed_at

from images.catalog import PLAN_FILE, Catalog
from images.ownership import Collisions, NoAccounts, ReadOnly, finish, read_host, synchronize

pytestmark = pytest.mark.root

CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
IMAGE_PASSWD = "root:x:0:0::/root:/bin/sh\na:x:1000:1000::/:/bin/sh\nb:x:1001:1001::/:/bin/sh\n"
IMAGE_GROUP = "root:x:0:\na:x:1000:\nb:x:1001:\n"
IMAGE_SHADOW = "root:*:::::::\na:*:::::::\nb:!:::::::\n"
HOST_PASSWD = "root:x:0:0::/root:/bin/sh\na:x:1001:1001::/:/bin/sh\nb:x:1000:1000::/:/bin/sh\nnew:x:1005:1000::/:/bin/sh\n"
HOST_GROUP = "root:x:0:\na:x:1001:\nb:x:1000:\n"


@pytest.fixture
def host(tmp_path: Path) -> Path:
    folder = tmp_path / "host"
    folder.mkdir()
    (folder / "passwd").write_text(HOST_PASSWD)
    (folder / "group").write_text(HOST_GROUP)
    return folder


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog(chroots=tmp_path / "chroots", provision=tmp_path / "provision")
    make_image(catalog.chroots / "x/rootfs", tmp_path / "outside")
    return catalog


def make_image(root: Path, outside: Path) -> None:
    (root / "etc").mkdir(parents=True)
    (root / "etc/passwd").write_text(IMAGE_PASSWD)
    (root / "etc/group").write_text(IMAGE_GROUP)
    (root / "etc/shadow").write_text(IMAGE_SHADOW)
    (root / "etc/shadow").chmod(0o640)
    (root / "home/a").mkdir(parents=True)
    outside.write_text("of this machine")
    for number, name in enumerate(("home/a/file", "home/a/suid", "home/b", "home/caps")):
        (root / name).write_text(name)
        os.chown(root / name, 1000 + number % 2, 1000 + number % 2)
    (root / "home/a/suid").chmod(0o4755)
    os.chown(root / "home/caps", 1000, 0)
    os.setxattr(root / "home/caps", "security.capability", CAPABILITY)
    (root / "home/link").symlink_to(outside)
    os.chown(root / "home/link", 1000, 1000, follow_symlinks=False)
    os.mknod(root / "home/device", stat.S_IFCHR | 0o660, os.makedev(1, 3))
    os.chown(root / "home/device", 1001, 1001)
    os.link(root / "home/b", root / "home/b2")
    os.chown(root / "home/a", 1000, 1000)


EXPECTED = {
    "home/a": (1001, 1001),
    "home/a/file": (1001, 1001),
    "home/a/suid": (1000, 1000),
    "home/b": (1001, 1001),
    "home/b2": (1001, 1001),
    "home/caps": (1001, 0),
    "home/device": (1000, 1000),
    "home/link": (1001, 1001),
}


def owners(root: Path) -> dict[str, tuple[int, int]]:
    found = {str(path.relative_to(root)): path.lstat() for path in root.glob("home/**/*")}
    return {name: (status.st_uid, status.st_gid) for name, status in sorted(found.items())}


def assert_done(root: Path, outside: Path) -> None:
    assert owners(root) == EXPECTED
    assert stat.S_IMODE((root / "home/a/suid").stat().st_mode) == 0o4755
    assert os.getxattr(root / "home/caps", "security.capability") == CAPABILITY
    assert (root / "etc/passwd").read_text() == HOST_PASSWD
    assert (root / "etc/group").read_text() == HOST_GROUP
    assert (root / "etc/shadow").read_text() == IMAGE_SHADOW + "new:*:::::::\n"
    assert stat.S_IMODE((root / "etc/shadow").stat().st_mode) == 0o640
    assert [path.name for path in (root / "etc").iterdir() if path.name.startswith(".")] == []
    assert (outside.stat().st_uid, outside.stat().st_gid) == (0, 0)


def test_swapped_ids_links_devices_and_set_id_bits(catalog: Catalog, host: Path, tmp_path: Path) -> None:
    rootfs = catalog.get("x")
    before = (rootfs / "home/a/file").stat().st_mtime_ns
    only_said = synchronize(catalog, "x", host, write=False)
    assert (rootfs / "etc/passwd").read_text() == IMAGE_PASSWD
    done = synchronize(catalog, "x", host, write=True)
    assert (only_said.plan, only_said.comparison) == (done.plan, done.comparison)
    assert_done(rootfs, tmp_path / "outside")
    assert (rootfs / "home/a/file").stat().st_mtime_ns == before
    assert not (rootfs.parent / PLAN_FILE).exists()
    assert not synchronize(catalog, "x", host, write=True).plan


def test_killed_at_any_step_it_is_completed_by_the_next_run(catalog: Catalog, host: Path, tmp_path: Path) -> None:
    rootfs = catalog.get("x")
    step, finished = 0, 0
    while True:
        step += 1
        assert step < 1000
        shutil.rmtree(catalog.chroots)
        make_image(rootfs, tmp_path / "outside")
        if not killed_at(step, lambda: synchronize(catalog, "x", host, write=True)):
            break
        finished += finish(catalog, "x")
        synchronize(catalog, "x", host, write=True)
        assert_done(rootfs, tmp_path / "outside")
    assert finished > 10, "most of the work is behind the plan"
    assert_done(rootfs, tmp_path / "outside")


def test_a_collision_changes_nothing(catalog: Catalog, host: Path) -> None:
    rootfs = catalog.get("x")
    (host / "passwd").write_text("root:x:0:0::/:/bin/sh\nother:x:1000:0::/:/bin/sh\n")
    before = owners(rootfs)
    with pytest.raises(Collisions, match=r"uid 1000 \(a; here other\); nothing is changed"):
        synchronize(catalog, "x", host, write=True)
    assert owners(rootfs) == before
    assert (rootfs / "etc/passwd").read_text() == IMAGE_PASSWD


def test_what_became_a_link_since_the_plan_is_left_alone(catalog: Catalog, host: Path, tmp_path: Path) -> None:
    rootfs = catalog.get("x")
    killed = 0
    while not (rootfs.parent / PLAN_FILE).exists():
        killed += 1
        killed_at(killed, lambda: synchronize(catalog, "x", host, write=True))
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim/file").touch()
    shutil.rmtree(rootfs / "home/a")
    (rootfs / "home/a").symlink_to(tmp_path / "victim")
    (rootfs / "home/b").unlink()
    (rootfs / "home/b").symlink_to(tmp_path / "outside")
    assert finish(catalog, "x")
    assert (tmp_path / "victim/file").stat().st_uid == 0
    assert (tmp_path / "outside").stat().st_uid == 0


def test_account_files_behind_links_stay_inside(catalog: Catalog, host: Path, tmp_path: Path) -> None:
    rootfs = catalog.get("x")
    (rootfs / "usr/etc").mkdir(parents=True)
    (rootfs / "etc/passwd").rename(rootfs / "usr/etc/passwd")
    (rootfs / "etc/passwd").symlink_to("/usr/etc/passwd")
    synchronize(catalog, "x", host, write=True)
    assert (rootfs / "etc/passwd").is_symlink()
    assert (rootfs / "usr/etc/passwd").read_text() == HOST_PASSWD


@pytest.mark.parametrize("kind", ["loop", "folder", "fifo"])
def test_account_files_that_are_none(catalog: Catalog, host: Path, kind: str) -> None:
    passwd = catalog.get("x") / "etc/passwd"
    passwd.unlink()
    match kind:
        case "loop":
            passwd.symlink_to("passwd")
        case "folder":
            passwd.mkdir()
        case _:
            os.mkfifo(passwd)
    with pytest.raises(NoAccounts, match="/etc/passwd of image 'x'"):
        synchronize(catalog, "x", host, write=True)
    assert (catalog.get("x") / "etc/group").read_text() == IMAGE_GROUP


def test_pwck_agrees(catalog: Catalog, host: Path, require_tool: Callable[..., Path]) -> None:
    rootfs = catalog.get("x")
    synchronize(catalog, "x", host, write=True)
    pwck = require_tool("pwck", package="passwd")
    run = subprocess.run([pwck, "-r", "-q", rootfs / "etc/passwd", rootfs / "etc/shadow"], capture_output=True, text=True)
    assert "no matching" not in run.stdout
    assert "duplicate" not in run.stdout


def test_errors_are_sentences(catalog: Catalog, host: Path) -> None:
    (catalog.chroots / "x/readonly").touch()
    with pytest.raises(ReadOnly):
        synchronize(catalog, "x", host, write=True)
    (catalog.chroots / "x/readonly").unlink()
    (catalog.get("x") / "etc/group").unlink()
    with pytest.raises(NoAccounts, match="cannot read /etc/group of image 'x'"):
        synchronize(catalog, "x", host, write=True)
    (host / "passwd").unlink()
    with pytest.raises(NoAccounts, match="of this server"):
        read_host(host)


def test_the_hosts_first_person(host: Path) -> None:
    assert read_host(host)[1] == 1000
    (host / "login.defs").write_text("#UID_MIN 1\nUID_MIN\t\t  500\nUID_MAX 60000\n")
    assert read_host(host)[1] == 500
