"""The tiny root, and the order of its modules."""

import subprocess
from pathlib import Path

import pytest
from roots import _with_dependencies, copy_tiny, take_signature

from images.compress import Compression
from images.errors import Error
from images.excludes import Excludes
from images.kernel import find_kernels, supported_compression
from images.scan import scan
from images.view import ImageView

pytestmark = pytest.mark.lab


def module(folder: Path, name: str, depends: str) -> None:
    (folder / f"{name}.ko").write_bytes(b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0name=x\0")


def test_modules_come_after_what_they_need(tmp_path: Path) -> None:
    module(tmp_path, "virtio-net", "net_failover,virtio,virtio_ring")
    module(tmp_path, "net_failover", "failover")
    module(tmp_path, "failover", "")
    module(tmp_path, "virtio_ring", "virtio")
    module(tmp_path, "virtio", "")
    module(tmp_path, "unrelated", "")
    names = [path.stem for path in _with_dependencies(["virtio_net", "built_in"], tmp_path)]
    assert names == ["failover", "net_failover", "virtio", "virtio_ring", "virtio-net"]


def test_the_tiny_root_is_an_image(tiny_root: Path) -> None:
    (release,) = (path.name for path in (tiny_root / "lib/modules").iterdir())
    assert (tiny_root / f"boot/vmlinuz-{release}").stat().st_size > 1_000_000
    assert "CONFIG_RD_ZSTD=y" in (tiny_root / f"boot/config-{release}").read_text()
    order = (tiny_root / "lib/modules" / release / "load-order").read_text().split()
    assert order[-1] == "virtio_net.ko"
    assert order.index("virtio_ring.ko") < order.index("virtio_pci.ko")
    assert (tiny_root / "sbin/init").resolve() == tiny_root / "bin/init"
    assert (tiny_root / "bin/sh").readlink() == Path("busybox")


@pytest.mark.parametrize("compression", Compression)
def test_a_copy_is_built_with_the_compression_that_was_asked_for(
    tiny_root: Path, tmp_path: Path, compression: Compression
) -> None:
    root = copy_tiny(tiny_root, tmp_path / "copy", compression)
    view = ImageView(scan(root, excludes=Excludes([])))
    assert supported_compression(root, view, find_kernels(view)) is compression
    assert "CONFIG_RD_ZSTD=y" in next(tiny_root.glob("boot/config-*")).read_text()


def test_an_unsigned_kernel_is_the_signed_one_without_its_end(tiny_root: Path, tmp_path: Path) -> None:
    (signed,) = tiny_root.glob("boot/vmlinuz-*")
    kernel = tmp_path / "vmlinuz"
    kernel.write_bytes(signed.read_bytes())
    take_signature(kernel)
    before, after = signed.read_bytes(), kernel.read_bytes()
    assert 1000 < len(before) - len(after) < 10_000
    assert b"Debian Secure Boot" in before[len(after) :]
    assert sum(one != other for one, other in zip(before, after, strict=False)) <= 8
    with pytest.raises(Error, match="no signature"):
        take_signature(kernel)


@pytest.mark.root
def test_its_getfattr_needs_nothing_else(tiny_root: Path) -> None:
    done = subprocess.run(["chroot", tiny_root, "/usr/bin/getfattr", "--version"], capture_output=True, text=True)
    assert done.stdout.startswith("getfattr "), done.stderr
