"""Kernels: search order, versions, choice, and what they can unpack."""

from pathlib import Path

import pytest

from images.compress import Compression
from images.excludes import Excludes
from images.kernel import ImageKernel, choose_kernel, default_kernel, find_kernels, supported_compression
from images.scan import scan
from images.view import ImageView


def tree(root: Path, *files: str) -> ImageView:
    for file in files:
        (root / file).parent.mkdir(parents=True, exist_ok=True)
        (root / file).write_bytes(b"kernel")
    return ImageView(scan(root, excludes=Excludes([])))


def kernel(path: str, version: str) -> ImageKernel:
    return ImageKernel(path=path, real=path, version=version, release=version)


def test_search_order_and_releases(tmp_path: Path) -> None:
    view = tree(
        tmp_path, "boot/vmlinuz-6.1.0-56-amd64", "usr/lib/modules/6.9.1/vmlinuz", "boot/vmlinuz-linux", "boot/x/vmlinuz-7.0.0"
    )
    (tmp_path / "lib").symlink_to("usr/lib")
    view = ImageView(scan(tmp_path, excludes=Excludes([])))
    assert [(k.path, k.version, k.release) for k in find_kernels(view)] == [
        ("/boot/vmlinuz-linux", "", "linux"),
        ("/boot/vmlinuz-6.1.0-56-amd64", "6.1.0-56", "6.1.0-56-amd64"),
        ("/usr/lib/modules/6.9.1/vmlinuz", "6.9.1", "6.9.1"),
    ]


def test_a_name_that_is_no_text_is_no_kernels(tmp_path: Path) -> None:
    view = tree(tmp_path, "boot/vmlinuz-6.1.0", "boot/vmlinuz-6\udcff", "boot/vmlinuz-7\n", "boot/vmlinuz-8\x1b[2J")
    assert [k.path for k in find_kernels(view)] == ["/boot/vmlinuz-6.1.0"]


def test_a_linked_kernel_is_the_file_behind_it(tmp_path: Path) -> None:
    view = tree(tmp_path, "usr/lib/kernel/image")
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6.1.0").symlink_to("../usr/lib/kernel/image")
    view = ImageView(scan(tmp_path, excludes=Excludes([])))
    assert [k.real for k in find_kernels(view)] == ["usr/lib/kernel/image"]


@pytest.mark.parametrize(
    ("versions", "expected"),
    [
        (["5.9.0", "5.10.0"], "5.10.0"),
        (["5.10.0-999", "5.10.0"], "5.10.0"),
        (["6.1.0-9", "6.1.0-10"], "6.1.0-10"),
        (["", "4.0.0"], "4.0.0"),
    ],
)
def test_default_is_the_highest_version(versions: list[str], expected: str) -> None:
    found = default_kernel([kernel(f"/boot/vmlinuz-{version}", version) for version in versions])
    assert found is not None
    assert found.version == expected


def test_debug_and_rescue_kernels_are_never_the_default() -> None:
    assert default_kernel([kernel("/boot/vmlinuz-9.0.0+debug", "9.0.0"), kernel("/boot/vmlinuz-0-rescue-1", "")]) is None


def test_choice_by_path_or_version_prefix() -> None:
    kernels = [kernel("/boot/vmlinuz-6.1.0-1", "6.1.0-1"), kernel("/boot/vmlinuz-5.10.0", "5.10.0")]
    assert choose_kernel(kernels, "5.10") is kernels[1]
    assert choose_kernel(kernels, "/boot/vmlinuz-6.1.0-1") is kernels[0]
    assert choose_kernel(kernels, "7") is None
    assert choose_kernel(kernels, "") is kernels[0]


def test_zstd_only_where_every_kernel_says_so(tmp_path: Path) -> None:
    tree(tmp_path, "boot/vmlinuz-6.1.0", "boot/vmlinuz-5.10.0")
    (tmp_path / "boot/config-6.1.0").write_text("#\nCONFIG_RD_ZSTD=y\n")
    view = ImageView(scan(tmp_path, excludes=Excludes([])))
    assert supported_compression(tmp_path, view, find_kernels(view)) is Compression.GZIP
    (tmp_path / "boot/config-5.10.0").write_text("#\nCONFIG_RD_ZSTD=y\n")
    view = ImageView(scan(tmp_path, excludes=Excludes([])))
    assert supported_compression(tmp_path, view, find_kernels(view)) is Compression.ZSTD
    assert supported_compression(tmp_path, view, []) is Compression.GZIP
