"""The xattr record and the tool that restores it: the code is what its source says, and it runs."""

import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

from images.elf import executable
from images.excludes import Excludes
from images.index import Entry
from images.scan import scan
from images.xattrs.record import CODE, RECORD, TOOL, code, own_files, record

CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")
TOOLS = {
    "amd64": ("as", "objcopy", "binutils"),
    "arm64": ("aarch64-linux-gnu-as", "aarch64-linux-gnu-objcopy", "binutils-aarch64-linux-gnu"),
}


def entry(path: bytes, *xattrs: tuple[bytes, bytes]) -> Entry:
    return Entry(
        path=path, mode=stat.S_IFREG | 0o755, inode=1, uid=0, gid=0, size=0, nlink=1, rdev=0, mtime_ns=0, ctime_ns=0,
        xattrs=xattrs,
    )  # fmt: skip


def test_record() -> None:
    entries = [entry(b"a"), entry(b"b\n", (b"security.x", b"12345"), (b"system.posix_acl_access", b""))]
    assert record(entries) == (
        b"/b\n\0security.x\0\x05\0\0\x0012345" b"/b\n\0system.posix_acl_access\0\0\0\0\0"
    )  # fmt: skip


def test_nothing_to_restore_carries_nothing() -> None:
    assert own_files([entry(b"a")], "amd64") == []


def test_unknown_architecture_carries_the_record_alone() -> None:
    assert [file.path for file in own_files([entry(b"a", (b"security.x", b"1"))], "s390x")] == [RECORD]


@pytest.mark.parametrize("architecture", CODE)
def test_code_is_what_its_source_says(architecture: str, tmp_path: Path, require_tool: Callable[..., Path]) -> None:
    assembler, objcopy, package = TOOLS[architecture]
    source = Path(str(files("images.xattrs"))) / f"{architecture}.S"
    made, binary = str(tmp_path / "o"), str(tmp_path / "bin")
    subprocess.run([str(require_tool(assembler, package=package)), str(source), "-o", made], check=True)
    command = [str(require_tool(objcopy, package=package)), "-O", "binary", "-j", ".text", made, binary]
    subprocess.run(command, check=True)
    assert (tmp_path / "bin").read_bytes() == code(architecture)


@pytest.fixture
def node_root(tmp_path: Path) -> Path:
    """A root for chroot: the tool finds its record at /.bootsvc."""
    (tmp_path / ".bootsvc").mkdir()
    return tmp_path


def run_tool(root: Path, architecture: str, content: bytes, emulator: Path | None = None) -> int:
    (root / RECORD.decode()).write_bytes(content)
    tool = root / TOOL.decode()
    tool.write_bytes(executable(architecture, code(architecture)))
    tool.chmod(0o500)
    command = ["/" + TOOL.decode()]
    if emulator is not None:
        shutil.copy2(emulator, root / "emulator")
        command.insert(0, "/emulator")
    return subprocess.run(["chroot", root, *command], check=False, timeout=20).returncode


@pytest.mark.root
@pytest.mark.parametrize("architecture", CODE)
def test_it_restores_what_was_recorded(architecture: str, node_root: Path, require_tool: Callable[..., Path]) -> None:
    emulator = None if architecture == "amd64" else require_tool("qemu-aarch64-static", package="qemu-user-static")
    names = ["ping", "odd\nname\udcff", "with acl"]
    for name in names:
        (node_root / name).touch()
    os.symlink("ping", node_root / "link")
    os.setxattr(node_root / "ping", "security.capability", CAPABILITY)
    os.setxattr(node_root / names[1], "security.capability", CAPABILITY)
    os.setxattr(node_root / "link", "security.bootsvc", b"on the link", follow_symlinks=False)
    subprocess.run([require_tool("setfacl", package="acl"), "-m", "u:7:rw", node_root / "with acl"], check=True)
    before = {e.path: e.xattrs for e in scan(node_root, excludes=Excludes([])) if e.xattrs}
    assert len(before) == 4
    content = record(scan(node_root, excludes=Excludes([])))
    for path in before:
        for name in os.listxattr(os.fsencode(node_root) + b"/" + path, follow_symlinks=False):
            os.removexattr(os.fsencode(node_root) + b"/" + path, name, follow_symlinks=False)
    assert run_tool(node_root, architecture, content, emulator) == 0
    assert {e.path: e.xattrs for e in scan(node_root, excludes=Excludes([])) if e.xattrs} == before


@pytest.mark.root
@pytest.mark.parametrize(("count", "status"), [(2, 2), (300, 255)])
def test_failures_are_counted(count: int, status: int, node_root: Path) -> None:
    (node_root / "ok").touch()
    entries = [entry(b"missing", (b"security.x", b"1"))] * count + [entry(b"ok", (b"security.x", b"1"))]
    assert run_tool(node_root, "amd64", record(entries)) == status
    assert os.getxattr(node_root / "ok", "security.x") == b"1"


@pytest.mark.root
def test_no_record(node_root: Path) -> None:
    tool = node_root / "tool"
    tool.write_bytes(executable("amd64", code("amd64")))
    tool.chmod(0o500)
    assert subprocess.run(["chroot", node_root, "/tool"], check=False, timeout=20).returncode == 255
