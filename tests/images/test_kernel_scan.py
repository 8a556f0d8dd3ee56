"""Kernels of a tree that was not built."""

from pathlib import Path

from images.excludes import Excludes
from images.kernel import find_kernels
from images.kernel_scan import scan_kernels
from images.scan import scan
from images.view import ImageView


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
