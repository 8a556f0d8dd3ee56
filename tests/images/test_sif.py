"""SIF files as their specification has them, around what mksquashfs makes; unsquashfs as the tool that may be missing."""

import asyncio
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from artefacts import Artefacts, make_sif

from images.progress import ArchiveAdvanced, ArchiveUnpacking, Event
from images.source.contract import Provenance, SourceOptions
from images.source.scheme import open_source
from images.source.sif import ToolMissing, find_partition
from images.source.unpacking import MalformedArchive

pytestmark = pytest.mark.root

Snapshot = Callable[..., dict[bytes, tuple[object, ...]]]
DEFINITION, PARTITION, OCI_ROOT = 0x4001, 0x4004, 0x400A
SQUASHFS, EXT3, ENCRYPTED = 1, 2, 5
SYSTEM, PRIMARY, DATA, OVERLAY = 1, 2, 3, 4


@pytest.fixture(scope="session")
def squashfs(artefacts: Artefacts, tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> bytes:
    require_tool("mksquashfs")
    file = tmp_path_factory.mktemp("squashfs") / "root"
    command = ["mksquashfs", str(artefacts.tree), str(file), "-no-progress", "-quiet", "-comp", "gzip"]
    subprocess.run(command, check=True, capture_output=True)
    return file.read_bytes()


def require_tool(program: str) -> str:
    found = shutil.which(program)
    if found is None:
        pytest.skip(f"{program} is missing (Debian package squashfs-tools)")
    return found


async def bring(file: Path, folder: Path) -> tuple[Path, Provenance, list[Event]]:
    tree, events = folder / "tree", list[Event]()
    tree.mkdir()
    source = open_source(str(file), SourceOptions(blobs=folder / "cache"))
    assert await source.find_digest() is None
    return tree, await source.unpack(tree, events.append), events


def whole_seconds(tree: dict[bytes, tuple[object, ...]]) -> dict[bytes, tuple[object, ...]]:
    """squashfs keeps no more of times."""
    return {path: (*entry[:3], int(str(entry[3])) // 10**9, *entry[4:]) for path, entry in tree.items()}


async def test_sif(artefacts: Artefacts, squashfs: bytes, tmp_path: Path, snapshot: Snapshot) -> None:
    """The primary system partition among others."""
    objects = [
        (DEFINITION, 0, 0, b"bootstrap: docker\nfrom: rocky:9\n"),
        (PARTITION, EXT3, OVERLAY, b"e" * 5000),
        (PARTITION, SQUASHFS, DATA, b"d" * 100),
        (PARTITION, SQUASHFS, PRIMARY, squashfs),
    ]
    file = make_sif(tmp_path / "any.tar.gz", objects, arch=b"04")
    tree, provenance, events = await bring(file, tmp_path)
    assert whole_seconds(snapshot(tree)) == whole_seconds(snapshot(artefacts.tree))
    assert provenance == Provenance(reference=str(file), architecture="arm64")
    assert events[0] == ArchiveUnpacking(path=file)


async def test_plain_squashfs(artefacts: Artefacts, squashfs: bytes, tmp_path: Path, snapshot: Snapshot) -> None:
    (tmp_path / "x").write_bytes(squashfs)
    tree, provenance, _ = await bring(tmp_path / "x", tmp_path)
    assert whole_seconds(snapshot(tree)) == whole_seconds(snapshot(artefacts.tree))
    assert provenance.architecture is None


def test_the_primary_partition_goes_before_another_system(tmp_path: Path) -> None:
    objects = [(PARTITION, SQUASHFS, SYSTEM, b"s" * 10), (PARTITION, SQUASHFS, PRIMARY, b"p" * 20)]
    assert find_partition(make_sif(tmp_path / "x", objects)).size == 20
    assert find_partition(make_sif(tmp_path / "x", objects[:1])).size == 10


@pytest.mark.parametrize(
    ("objects", "said", "hint"),
    [
        ([], "no root file system", ""),
        ([(DEFINITION, 0, 0, b"x")], "no root file system", ""),
        ([(PARTITION, SQUASHFS, OVERLAY, b"x")], "no root file system", ""),
        ([(PARTITION, EXT3, PRIMARY, b"x")], "ext3", "--sandbox"),
        ([(PARTITION, ENCRYPTED, PRIMARY, b"x")], "encrypted", "--sandbox"),
        ([(OCI_ROOT, 0, 0, b"{}")], "OCI-SIF", "container"),
    ],
)
def test_without_a_usable_root(tmp_path: Path, objects: list[Any], said: str, hint: str) -> None:
    with pytest.raises(MalformedArchive, match=said) as caught:
        find_partition(make_sif(tmp_path / "x.sif", objects))
    assert hint in (caught.value.hint or "")
    assert "x.sif" in caught.value.message


def test_broken_headers(tmp_path: Path) -> None:
    """Cut anywhere, and any count or offset: a sentence, never more memory than the file has bytes."""
    objects = [(PARTITION, SQUASHFS, PRIMARY, b"s" * 5000)]
    with pytest.raises(MalformedArchive, match="version '02'"):
        find_partition(make_sif(tmp_path / "x", objects, version=b"02"))
    whole = make_sif(tmp_path / "x", objects).read_bytes()
    for size in (60, 127, 128, 4096, 4600, 33_000, len(whole) - 5000):
        (tmp_path / "x").write_bytes(whole[:size])
        with pytest.raises(MalformedArchive):
            find_partition(tmp_path / "x")
    for at, value in ((88, -1), (88, 1 << 40), (96, -1), (96, 1 << 60), (4096 + 17, -5), (4096 + 17, 1 << 62), (4096 + 25, -1)):
        (tmp_path / "x").write_bytes(whole[:at] + value.to_bytes(8, "little", signed=True) + whole[at + 8 :])
        with pytest.raises(MalformedArchive):
            find_partition(tmp_path / "x")


async def test_damaged_squashfs(squashfs: bytes, tmp_path: Path) -> None:
    spoilt = squashfs[:200] + bytes(len(squashfs) - 300) + squashfs[-100:]
    file = make_sif(tmp_path / "x", [(PARTITION, SQUASHFS, PRIMARY, spoilt)])
    with pytest.raises(MalformedArchive, match="unsquashfs says") as caught:
        await bring(file, tmp_path)
    assert "\n" not in caught.value.message


async def test_how_much_is_read_is_told(squashfs: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tool is held at its end until something has been told."""
    file = tmp_path / "x.sif"
    file.write_bytes(squashfs)
    real, gate = require_tool("unsquashfs"), tmp_path / "gate"
    os.mkfifo(gate)
    (tmp_path / "bin").mkdir()
    tool = tmp_path / "bin/unsquashfs"
    tool.write_text(f'#!/bin/sh\n{real} "$@" || exit\nread line < {gate}\n')
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tool.parent}:{os.environ['PATH']}")
    told: list[ArchiveAdvanced] = []

    def report(event: Event) -> None:
        if isinstance(event, ArchiveAdvanced):
            told.append(event)
            if event.done == len(squashfs) and told.count(event) == 1:
                gate.write_text("go on\n")

    tree = tmp_path / "tree"
    tree.mkdir()
    await open_source(str(file), SourceOptions(blobs=tmp_path / "cache")).unpack(tree, report)
    assert {(event.name, event.size) for event in told} == {("x.sif", len(squashfs))}
    assert [event.done for event in told] == sorted(event.done for event in told)
    assert told[-1].done == len(squashfs)


async def test_missing_tool(squashfs: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(squashfs)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolMissing) as caught:
        await bring(tmp_path / "x", tmp_path)
    assert "squashfs-tools" in (caught.value.hint or "")


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 20
    while not path.exists() and time.monotonic() < deadline:
        time.sleep(0.01)


async def test_cancelling_ends_the_tool(squashfs: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "x").write_bytes(squashfs)
    tool = tmp_path / "unsquashfs"
    tool.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid.new\nmv {tmp_path}/pid.new {tmp_path}/pid\nexec sleep 600\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    async with asyncio.TaskGroup() as group:
        task = group.create_task(bring(tmp_path / "x", tmp_path))
        await asyncio.to_thread(wait_for, tmp_path / "pid")
        task.cancel()
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)
