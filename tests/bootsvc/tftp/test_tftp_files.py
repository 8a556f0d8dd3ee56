"""Which names TFTP hands out."""

import os
from pathlib import Path

import pytest

from bootsvc.tftp import files
from bootsvc.tftp.files import Forbidden, NoSuchFile, open_file


@pytest.fixture
def root(tmp_path: Path) -> Path:
    made = tmp_path / "root"
    (made / "sub").mkdir(parents=True)
    (made / "loader").write_bytes(b"loader")
    (made / "sub" / "inner").write_bytes(b"inner")
    (tmp_path / "secret").write_bytes(b"secret")
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot" / "ipxe.efi").write_bytes(b"ipxe")
    (tmp_path / "boot" / "vmlinuz").write_bytes(b"kernel")
    (made / "link").symlink_to("loader")
    (made / "out").symlink_to(tmp_path / "secret")
    (made / "ipxe.efi").symlink_to(tmp_path / "boot" / "ipxe.efi")
    (made / "other.efi").symlink_to(tmp_path / "boot" / "vmlinuz")
    (made / "up").symlink_to(tmp_path)
    (made / "loop").symlink_to("loop")
    os.mkfifo(made / "fifo")
    return made


def content(root: Path, name: str) -> bytes:
    opened = open_file((root.parent / "missing", root), name)
    try:
        return opened.read(0, opened.size)
    finally:
        opened.close()


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("loader", b"loader"),
        ("/loader", b"loader"),
        ("//loader", b"loader"),
        ("sub/inner", b"inner"),
        ("sub\\inner", b"inner"),
        ("./loader", b"loader"),
        ("link", b"loader"),
    ],
)
def test_found(root: Path, name: str, expected: bytes) -> None:
    assert content(root, name) == expected


@pytest.mark.parametrize("name", ["none", "sub/none", "loader/x", "loop", "a" * 5000])
def test_missing(root: Path, name: str) -> None:
    with pytest.raises(NoSuchFile):
        content(root, name)


@pytest.mark.parametrize(
    "name",
    ["", "/", ".", "../secret", "sub/../../secret", "..\\secret", "out", "up/secret", "sub", "fifo", "ipxe.efi", "x\0y"],
)
def test_forbidden(root: Path, name: str) -> None:
    with pytest.raises(Forbidden):
        content(root, name)


def test_an_absolute_name_stays_below_the_root(root: Path) -> None:
    with pytest.raises(NoSuchFile):
        content(root, str(root.parent / "secret"))


def test_a_packages_own_link_may_leave_to_a_file_of_its_name(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "LINKED_DIRS", (root.parent / "boot",))
    assert content(root, "ipxe.efi") == b"ipxe"
    for name in ("other.efi", "up/boot/vmlinuz"):
        with pytest.raises(Forbidden):
            content(root, name)
