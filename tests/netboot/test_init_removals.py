"""Our init takes away what overlays remove: an archive unpacked by GNU cpio, then the init itself in a root of its own."""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from images.index import Entry
from images.view import ImageView
from netboot.overlay import Item
from netboot.overlay_archive import archive
from netboot.overlay_render import Placed

pytestmark = pytest.mark.root


@pytest.fixture
def root(tmp_path: Path, require_tool: Callable[..., Path]) -> Path:
    """A root with our init, busybox, and an init of its own that lists what is there."""
    root = tmp_path / "root"
    for folder in ("bin", "sbin", "proc", "etc/folder/deep", "etc/kept"):
        (root / folder).mkdir(parents=True)
    shutil.copy(require_tool("busybox", package="busybox-static"), root / "bin/busybox")
    for name in ("sh", "mount", "umount", "sleep", "rm", "rmdir", "find", "sort"):
        (root / "bin" / name).symlink_to("busybox")
    for name in ("etc/gone", "etc/folder/a", "etc/folder/deep/b", "etc/kept/a", "etc/kept/b", "etc/a name"):
        (root / name).write_text("x")
    (root / "etc/link").symlink_to("gone")
    (root / "sbin/init").write_text("#!/bin/sh\nfind /etc | sort\n")
    (root / "sbin/init").chmod(0o755)
    (root / "init").write_bytes((files("netboot") / "init" / "init").read_bytes())
    (root / "init").chmod(0o755)
    return root


def view(root: Path) -> ImageView:
    return ImageView(_entry(root, path) for path in sorted(root.rglob("*")))


def _entry(root: Path, path: Path) -> Entry:
    target = os.fsencode(os.readlink(path)) if path.is_symlink() else b""
    name = os.fsencode(path.relative_to(root))
    return Entry(
        path=name, mode=path.lstat().st_mode, inode=1, uid=0, gid=0, size=0, nlink=1, rdev=0, mtime_ns=0, ctime_ns=0,
        target=target,
    )  # fmt: skip


def unpack(root: Path, placed: Placed, stage: str, image: ImageView) -> None:
    subprocess.run(["cpio", "-idmu", "--quiet"], input=archive(placed, image, stage), cwd=root, check=True)


def boot(root: Path, require_tool: Callable[..., Path]) -> list[str]:
    command = [str(require_tool("unshare", package="util-linux")), "--mount", "--pid", "--fork", "chroot", str(root), "/init"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    return [line for line in done.stdout.splitlines() if line.startswith("/etc")]


def file(path: bytes) -> Item:
    return Item(path=path, mode=stat.S_IFREG | 0o644, content=b"new")


def test_what_overlays_remove_is_gone(root: Path, require_tool: Callable[..., Path]) -> None:
    image = view(root)
    removals = [b"etc/gone", b"etc/link", b"etc/folder", b"etc/kept", b"etc/a name", b"etc/never"]
    unpack(root, Placed(items={b"etc/kept/new": file(b"etc/kept/new")}, removals=removals), "system", image)
    assert boot(root, require_tool) == ["/etc", "/etc/kept", "/etc/kept/new"]


def test_a_later_archive_brings_it_again(root: Path, require_tool: Callable[..., Path]) -> None:
    image = view(root)
    removals = [b"etc/gone", b"etc/folder", b"etc/kept", b"etc/a name", b"etc/link"]
    unpack(root, Placed(items={}, removals=removals), "system", image)
    again = {path: file(path) for path in (b"etc/gone", b"etc/folder/deep/b")}
    unpack(root, Placed(items=again, removals=[b"etc/kept"]), "runtime", image)
    assert boot(root, require_tool) == ["/etc", "/etc/folder", "/etc/folder/deep", "/etc/folder/deep/b", "/etc/gone"]


def test_nothing_is_removed_without_a_list(root: Path, require_tool: Callable[..., Path]) -> None:
    assert len(boot(root, require_tool)) == 11
