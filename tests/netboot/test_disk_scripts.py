"""The scripts of sfdisk, mkfs and mkswap on loop devices: what is blank is formatted, what is not is kept."""

import re
import subprocess
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from netboot.engine import RenderContext, Server
from netboot.node import to_node
from netboot.overlay import load, shipped
from netboot.overlay_render import render_items
from netboot.urls import Urls

pytestmark = pytest.mark.root

ADDRESS = IPv4Address("10.0.0.1")
SERVER = Server(
    name="head",
    address=ADDRESS,
    network=IPv4Network("10.0.0.0/24"),
    domain="",
    urls=Urls(address=ADDRESS, port=9873),
)
SWAP_GUID = "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F"


@pytest.fixture
def disk(tmp_path: Path, require_tool: Callable[..., Path]) -> Iterator[str]:
    """A blank disk of 64 MiB, by its device."""
    for tool in ("losetup", "blkid", "wipefs", "mkswap"):
        require_tool(tool, package="util-linux")
    require_tool("sfdisk", package="fdisk")
    require_tool("mkfs.ext4", package="e2fsprogs")
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(64 << 20)
    made = subprocess.run(["losetup", "--find", "--partscan", "--show", image], capture_output=True, text=True, check=False)
    if made.returncode != 0:
        pytest.skip(f"no loop device can be had: {made.stderr.strip()}")
    device = made.stdout.strip()
    yield device
    subprocess.run(["losetup", "--detach", device], check=True)


@pytest.fixture
def run(tmp_path: Path) -> Callable[..., str]:
    """`run("mkfs", {…})` runs the overlay's script for a node of these fields, and gives what it says."""

    def script(overlay: str, fields: dict[str, Any], *, status: int = 0, path: str = "/usr/sbin:/usr/bin:/sbin:/bin") -> str:
        node = to_node("n1", fields)
        items = render_items([load(overlay, [shipped()])], RenderContext(node=node, nodes=[node], server=SERVER)).items
        [(name, item)] = [(name, item) for name, item in items.items() if b"wwinit.d/" in name]
        place = tmp_path / name.decode().rpartition("/")[2]
        place.write_bytes(item.content)
        done = subprocess.run(
            ["/bin/sh", place],
            env={"PATH": path, "DEVICE_SECONDS": "0"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    return script


def tags(device: str) -> dict[str, str]:
    """What blkid finds on the device."""
    done = subprocess.run(
        ["blkid", "-c", "/dev/null", "-p", "-o", "export", device], capture_output=True, text=True, check=False
    )
    return dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)


def filesystem(device: str, **fields: Any) -> dict[str, Any]:
    return {"filesystems": {device: {"format": "ext4", **fields}}}


def test_a_blank_device_is_formatted_and_then_kept(disk: str, run: Callable[..., str]) -> None:
    fields = filesystem(disk, label="scratch", uuid="7d1c1f2e-8f4b-4b1c-9f55-2f3f6f0c1a11", options=["-m", "0"])
    assert f"mkfs: {disk}: mkfs.ext4\n" in run("mkfs", fields)
    found = tags(disk)
    assert (found["TYPE"], found["LABEL"], found["UUID"]) == ("ext4", "scratch", "7d1c1f2e-8f4b-4b1c-9f55-2f3f6f0c1a11")
    assert run("mkfs", filesystem(disk, label="other")) == f"mkfs: {disk} holds ext4, and is kept\n"
    assert tags(disk) == found


def test_wipe_formats_anew(disk: str, run: Callable[..., str]) -> None:
    run("mkfs", filesystem(disk))
    before = tags(disk)["UUID"]
    run("mkfs", filesystem(disk, wipe_filesystem=True))
    assert tags(disk)["UUID"] != before


def test_swap(disk: str, run: Callable[..., str]) -> None:
    fields = filesystem(disk, format="swap", label="swap1")
    run("mkswap", fields)
    assert (tags(disk)["TYPE"], tags(disk)["LABEL"]) == ("swap", "swap1")
    assert "holds swap, and is kept" in run("mkswap", fields)


def test_the_resources_mkfs_and_mkswap(disk: str, run: Callable[..., str]) -> None:
    run("mkswap", {"resources": {"mkswap": [{"device": disk, "label": "s"}]}})
    assert tags(disk)["LABEL"] == "s"
    kept = [{"device": disk, "type": "ext4"}]
    assert "holds swap, and is kept" in run("mkfs", {"resources": {"mkfs": kept}})
    anew = {"device": disk, "type": "ext2", "options": "-b 1024", "overwrite": True, "size": 8192}
    run("mkfs", {"resources": {"mkfs": [anew]}})
    size = subprocess.run(["dumpe2fs", "-h", disk], capture_output=True, text=True, check=True).stdout
    assert re.search(r"^Block count: +8192$", size, re.MULTILINE)


def test_a_device_that_is_not_there(run: Callable[..., str]) -> None:
    said = run("mkfs", filesystem("/dev/nonsense") | {}, status=1)
    assert said == "mkfs: FAILED: there is no /dev/nonsense\n"


def test_an_image_without_the_tool(disk: str, run: Callable[..., str]) -> None:
    said = run("mkfs", filesystem(disk, format="nonsensefs"), status=1)
    assert said == f"mkfs: FAILED: {disk}: the image has no mkfs.nonsensefs\n"


def test_nobody_who_cannot_look_formats(disk: str, run: Callable[..., str], tmp_path: Path) -> None:
    """Without blkid it is not known whether a device is blank."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for tool in ("/usr/sbin/mkfs.ext4", "/usr/bin/sed", "/usr/bin/head", "/bin/sleep"):
        (folder / Path(tool).name).symlink_to(tool)
    assert "FAILED: nobody can tell what is on" in run("mkfs", filesystem(disk), status=1, path=str(folder))
    assert "TYPE" not in tags(disk)


def partitions(device: str) -> list[tuple[str, str]]:
    """Name and type of each partition, in order."""
    done = subprocess.run(["sfdisk", "--dump", device], capture_output=True, text=True, check=True)
    lines = [line for line in done.stdout.splitlines() if line.startswith(device)]
    return [(line.partition('name="')[2].partition('"')[0], line.partition("type=")[2].partition(",")[0]) for line in lines]


def table(device: str, **rows: Any) -> dict[str, Any]:
    return {"disks": {device: {"partitions": rows}}}


def test_a_blank_disk_is_partitioned_and_then_only_added_to(disk: str, run: Callable[..., str]) -> None:
    swap = {"number": "1", "size_mib": "8", "type_guid": SWAP_GUID}
    first = table(disk, swap=swap, scratch={"number": "2", "size_mib": "16"})
    assert run("sfdisk", first) == f"sfdisk: {disk}: a new partition table\n"
    linux = "0FC63DAF-8483-4772-8E79-3D69D8477DE4"
    assert partitions(disk) == [("swap", SWAP_GUID), ("scratch", linux)]
    dump = subprocess.run(["sfdisk", "--dump", disk], capture_output=True, check=True).stdout
    run("sfdisk", first)
    assert subprocess.run(["sfdisk", "--dump", disk], capture_output=True, check=True).stdout == dump
    second = table(disk, swap=swap, scratch={"number": "2", "should_exist": False}, more={"size_mib": "8"})
    said = run("sfdisk", second)
    assert f"sfdisk: {disk}: the partition scratch is gone\n" in said
    assert [name for name, _ in partitions(disk)] == ["swap", "more"]


def test_wipe_table_writes_it_anew(disk: str, run: Callable[..., str]) -> None:
    run("sfdisk", table(disk, a={"size_mib": "8"}))
    fields = table(disk, b={"size_mib": "8"})
    fields["disks"][disk]["wipe_table"] = True
    run("sfdisk", fields)
    assert [name for name, _ in partitions(disk)] == ["b"]


def test_a_disk_with_a_file_system_is_not_partitioned(disk: str, run: Callable[..., str]) -> None:
    run("mkfs", filesystem(disk))
    said = run("sfdisk", table(disk, a={}), status=1)
    assert said.startswith(f"sfdisk: FAILED: {disk} holds ext4 and no partition table, and is kept\n")
    assert tags(disk)["TYPE"] == "ext4"


def test_the_resource_sfdisk(disk: str, run: Callable[..., str]) -> None:
    rows = [{"device": f"{disk}p1", "name": "root fs", "size": 16384}, {"device": f"{disk}p2", "name": "rest", "type": "swap"}]
    run("sfdisk", {"resources": {"sfdisk": [{"device": disk, "label": "gpt", "partitions": rows}]}})
    assert [name for name, _ in partitions(disk)] == ["root fs", "rest"]
    assert partitions(disk)[1][1] == SWAP_GUID
