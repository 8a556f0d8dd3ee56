"""Kernels of a tree that was not built."""

from pathlib import Path

import pytest

from images.excludes import Excludes
from images.kernel import find_kernels
from images.kernel_scan import scan_kernels
from images.scan import scan
from images.view import MAX_LINKS, ImageView


def test_it_finds_what_a_walk_over_the_whole_tree_finds(tmp_path: Path) -> None:
    root = tmp_path / "rootfs"
    (root / "usr/lib/modules/6.1.0-2").mkdir(parents=True)
    (root / "usr/lib/modules/6.1.0-2/vmlinuz").write_text("k")
    (root / "usr/lib/modules/6.1.0-1").mkdir()
    (root / "lib").symlink_to("usr/lib")
    (root / "boot").mkdir()
    (root / "boot/vmlinuz-6.1.0-2").symlink_to("../lib/modules/6.1.0-2/vmlinuz")
    (root / "boot/vmlinuz-5.10.0").write_text("k")
    (root / "boot/vmlinuz-gone").symlink_to("/nowhere")
    (root / "srv/boot").mkdir(parents=True)
    (root / "srv/boot/vmlinuz-1.0.0").write_text("k")
    expected = find_kernels(ImageView(scan(root, excludes=Excludes([]))))
    assert scan_kernels(root) == expected
    assert len(expected) == 3


def test_links_out_of_the_tree_are_not_followed(tmp_path: Path) -> None:
    root = tmp_path / "rootfs"
    root.mkdir()
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6.1.0").touch()
    (root / "boot").symlink_to(tmp_path / "boot")
    assert scan_kernels(root) == []


def test_links_are_followed_to_wherever_kernels_lie(tmp_path: Path) -> None:
    root = tmp_path / "rootfs"
    (root / "boot").mkdir(parents=True)
    (root / "opt/kernels/deep").mkdir(parents=True)
    (root / "opt/kernels/deep/image").write_text("k")
    (root / "opt/here").symlink_to("/opt/kernels")
    (root / "boot/vmlinuz-6.1.0").symlink_to("/opt/here/deep/../deep/image")
    (root / "boot/vmlinuz-round").symlink_to("vmlinuz-about")
    (root / "boot/vmlinuz-about").symlink_to("vmlinuz-round")
    (root / "opt/modules/6.2.0").mkdir(parents=True)
    (root / "opt/modules/6.2.0/vmlinuz").write_text("k")
    (root / "usr/lib").mkdir(parents=True)
    (root / "usr/lib/modules").symlink_to("../../opt/modules")
    (root / "lib").symlink_to("usr/lib")
    expected = find_kernels(ImageView(scan(root, excludes=Excludes([]))))
    assert scan_kernels(root) == expected
    assert [kernel.real for kernel in expected] == ["opt/kernels/deep/image", "opt/modules/6.2.0/vmlinuz"]


def test_more_links_than_are_followed_do_not_lead_out_of_the_tree(tmp_path: Path) -> None:
    """Where we stop to follow, the system must not go on: a file of the host would be given to nodes as a kernel."""
    root = tmp_path / "rootfs"
    (tmp_path / "host/6.1.0").mkdir(parents=True)
    (tmp_path / "host/secret").write_text("s")
    (tmp_path / "host/6.1.0/vmlinuz").write_text("s")
    (root / "boot").mkdir(parents=True)
    (root / "lib").mkdir()
    for begin in ("boot/vmlinuz-6.1.0", "lib/modules"):
        folder = (root / begin).parent
        (root / begin).symlink_to("c1/secret" if folder.name == "boot" else "c1")
        last = MAX_LINKS if folder.name == "boot" else MAX_LINKS + 1
        for number in range(1, last):
            (folder / f"c{number}").symlink_to(f"c{number + 1}")
        (folder / f"c{last}").symlink_to(tmp_path / "host")
    assert scan_kernels(root) == []


@pytest.mark.parametrize("target", ["x" * 300, "vmlinuz-6.1.0/b"], ids=["a name too long", "round about"])
def test_a_link_that_no_system_follows_is_no_kernel(tmp_path: Path, target: str) -> None:
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6.1.0").symlink_to(target)
    assert scan_kernels(tmp_path) == []
