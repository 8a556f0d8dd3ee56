"""Whole imports into a catalog: what replaces what, and what is left when they fail."""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import oci_image as oci
import pytest
from artefacts import Artefacts
from oci_image import Image, Registry

from images.blobs import CacheFailed
from images.catalog import Catalog, ImageExists, InTheWay
from images.errors import Error
from images.importer import ImportFailed, Mode, NotARootFileSystem, has_shell, import_image, update_resolv_conf
from images.locks import Locked
from images.progress import Event
from images.source.contract import Source
from images.source.scheme import SourceOptions, open_source

pytestmark = pytest.mark.root


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(chroots=tmp_path / "chroots", provision=tmp_path / "provision")


def ignore(event: Event) -> None:
    pass


def source(text: object, folder: Path) -> Source:
    return open_source(str(text), SourceOptions(blobs=folder / "cache"))


def listed(catalog: Catalog) -> list[str]:
    """All that is in the images' folder but locks."""
    return sorted(path.name for path in catalog.chroots.iterdir() if not path.name.endswith(".lock"))


@pytest.fixture
def chroot(tmp_path: Path) -> Path:
    root = tmp_path / "chroot"
    (root / "bin").mkdir(parents=True)
    (root / "bin/sh").write_text("shell")
    (root / "bin/sh").chmod(0o755)
    return root


def image_of(text: bytes) -> Image:
    return oci.build([oci.layer([oci.Member("bin/sh", text, mode=0o755), oci.Member("version", text)])])


async def test_update_of_an_unchanged_source_does_nothing(catalog: Catalog, registry: Registry, tmp_path: Path) -> None:
    reference = f"docker://{registry.host}/lab/importer:1"
    registry.push("lab/importer", "1", image_of(b"one"))
    first = await import_image(catalog, "img", source(reference, tmp_path), ignore, mode=Mode.UPDATE)
    assert not first.unchanged
    # What the administrator did in the image stays.
    (catalog.get("img") / "version").write_text("by hand")
    before = (catalog.chroots / "img").stat().st_ino
    events: list[Event] = []
    second = await import_image(catalog, "img", source(reference, tmp_path), events.append, mode=Mode.UPDATE)
    assert second.unchanged
    assert second.provenance == first.provenance == catalog.provenance("img")
    assert ((catalog.chroots / "img").stat().st_ino, events) == (before, [])
    registry.push("lab/importer", "1", image_of(b"two"))
    third = await import_image(catalog, "img", source(reference, tmp_path), ignore, mode=Mode.UPDATE)
    assert not third.unchanged
    assert (catalog.get("img") / "version").read_text() == "two"
    assert catalog.provenance("img").digest == third.provenance.digest != first.provenance.digest


async def test_force_replaces_also_what_is_unchanged(catalog: Catalog, artefacts: Artefacts, tmp_path: Path) -> None:
    reference = f"oci:{artefacts.layout}"
    await import_image(catalog, "img", source(reference, tmp_path), ignore)
    (catalog.get("img") / "by-hand").touch()
    with pytest.raises(ImageExists):
        await import_image(catalog, "img", source(reference, tmp_path), ignore)
    unchanged = await import_image(catalog, "img", source(reference, tmp_path), ignore, mode=Mode.UPDATE)
    assert unchanged.unchanged
    assert (catalog.get("img") / "by-hand").exists()
    await import_image(catalog, "img", source(reference, tmp_path), ignore, mode=Mode.REPLACE)
    assert not (catalog.get("img") / "by-hand").exists()


@pytest.mark.parametrize("mode", Mode)
async def test_what_is_no_image_is_never_replaced(catalog: Catalog, chroot: Path, tmp_path: Path, mode: Mode) -> None:
    (catalog.chroots / "folder").mkdir(parents=True)
    (catalog.chroots / "folder/notes").write_text("dear to somebody")
    (catalog.chroots / "file").write_text("dear to somebody")
    (catalog.chroots / "link").symlink_to("nowhere")
    for name in ("folder", "file", "link"):
        with pytest.raises(InTheWay, match=f"{catalog.chroots}/{name} is in the way"):
            await import_image(catalog, name, source(chroot, tmp_path), ignore, mode=mode)
    assert (catalog.chroots / "folder/notes").exists()
    assert (catalog.chroots / "file").exists()
    assert listed(catalog) == ["file", "folder", "link"]
    with catalog.stage("late") as staging:
        (catalog.chroots / "late").mkdir()
        with pytest.raises(InTheWay):
            catalog.swap(staging, "late", catalog.provenance("late"), replace=True)


async def test_a_folder_is_imported_anew_by_an_update(catalog: Catalog, chroot: Path, tmp_path: Path) -> None:
    await import_image(catalog, "img", source(chroot, tmp_path), ignore)
    (chroot / "new").touch()
    (catalog.chroots / "img/readonly").touch()
    done = await import_image(catalog, "img", source(chroot, tmp_path), ignore, mode=Mode.UPDATE)
    assert not done.unchanged
    assert (catalog.get("img") / "new").exists()
    assert catalog.is_read_only("img")


async def test_the_replaced_tree_goes_late(catalog: Catalog, chroot: Path, tmp_path: Path) -> None:
    await import_image(catalog, "img", source(chroot, tmp_path), ignore)
    await import_image(catalog, "img", source(chroot, tmp_path), ignore, mode=Mode.REPLACE)
    (old,) = catalog.chroots.glob(".staging-replaced-*")
    assert (old / "rootfs/bin/sh").exists()
    catalog.remove_abandoned()
    assert listed(catalog) == ["img"]


async def test_what_was_there_survives_failures(catalog: Catalog, chroot: Path, tmp_path: Path) -> None:
    await import_image(catalog, "img", source(chroot, tmp_path), ignore)
    broken = tmp_path / "broken.tar"
    broken.write_bytes(oci.layer([oci.Member("bin/sh", b"x" * 5000, mode=0o755)])[:2000])
    shell_less = tmp_path / "empty"
    shell_less.mkdir()
    for text, expected in ((broken, Error), (shell_less, NotARootFileSystem)):
        for mode in (Mode.UPDATE, Mode.REPLACE):
            with pytest.raises(expected):
                await import_image(catalog, "img", source(text, tmp_path), ignore, mode=mode)
    with catalog.locked("img", holder="exec img"), pytest.raises(Locked):
        await import_image(catalog, "img", source(chroot, tmp_path), ignore, mode=Mode.REPLACE)
    assert (catalog.get("img") / "bin/sh").read_text() == "shell"
    assert listed(catalog) == ["img"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "none", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("kind", ["layout", "tar", "folder", "squashfs"])
async def test_full_disk(chroot: Path, tmp_path: Path, small_disk: Path, kind: str) -> None:
    catalog = Catalog(chroots=small_disk / "chroots", provision=tmp_path / "provision")
    await import_image(catalog, "img", source(chroot, tmp_path), ignore)
    (chroot / "big").write_bytes(os.urandom(8 << 20))
    layer = oci.layer([oci.Member("big", os.urandom(8 << 20))])
    text = tmp_path / "source"
    match kind:
        case "layout":
            oci.write_layout(text, oci.build([layer]), "1")
        case "tar":
            text.write_bytes(layer)
        case "folder":
            text = chroot
        case "squashfs":
            pack(chroot, text)
    for mode in (Mode.UPDATE, Mode.REPLACE):
        with pytest.raises(ImportFailed, match="No space left on device") as caught:
            await import_image(catalog, "img", source(text, tmp_path), ignore, mode=mode)
        assert str(catalog.chroots) in caught.value.message
        assert "free some space" in (caught.value.hint or "")
        assert listed(catalog) == ["img"]
    assert (catalog.get("img") / "bin/sh").read_text() == "shell"


def test_read_only_disk(chroot: Path, tmp_path: Path, small_disk: Path) -> None:
    catalog = Catalog(chroots=small_disk / "chroots", provision=small_disk / "provision")
    catalog.chroots.mkdir()
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    with pytest.raises(ImportFailed) as caught:
        asyncio.run(import_image(catalog, "img", source(chroot, tmp_path), ignore))
    assert caught.value.message == f"cannot import 'img': {catalog.chroots}: Read-only file system"
    assert caught.value.hint == f"mount the file system of {catalog.chroots} writable"


def make_tar(tree: Path, target: Path, option: str) -> None:
    subprocess.run(["tar", "-C", tree, option, "-cf", target, "."], check=True)


def pack(tree: Path, target: Path) -> None:
    try:
        command = ["mksquashfs", str(tree), str(target), "-no-progress", "-quiet"]
        subprocess.run(command, check=True, capture_output=True)
    except FileNotFoundError:
        pytest.skip("mksquashfs is missing (Debian package squashfs-tools)")


async def test_full_cache(registry: Registry, tmp_path: Path, small_disk: Path, catalog: Catalog) -> None:
    registry.push("lab/large", "1", oci.build([oci.layer([oci.Member("big", os.urandom(8 << 20))])]))
    archive = tmp_path / "a.tar"
    oci.write_layout(tmp_path / "layout", oci.build([oci.layer([oci.Member("x", os.urandom(8 << 20))])]), "1")
    make_tar(tmp_path / "layout", archive, "--gzip")
    for text in (f"docker://{registry.host}/lab/large:1", f"oci-archive:{archive}"):
        with pytest.raises(CacheFailed, match="No space left on device") as caught:
            await import_image(catalog, "img", source(text, small_disk), ignore)
        assert str(small_disk) in caught.value.message
        assert listed(catalog) == []
    # What a full disk refuses is not kept there.
    assert not list(small_disk.rglob(".*"))


KILLED = """
import asyncio, sys
from pathlib import Path
from images.catalog import Catalog
from images.importer import Mode, import_image
from images.source.scheme import SourceOptions, open_source

folder, text = Path(sys.argv[1]), sys.argv[2]
catalog = Catalog(chroots=folder / "chroots", provision=folder / "provision")
source = open_source(text, SourceOptions(blobs=folder / "cache"))
asyncio.run(import_image(catalog, "img", source, lambda event: None, mode=Mode.REPLACE))
"""


def until_alone(catalog: Catalog, names: list[str]) -> None:
    """What workers of the killed still hold goes as soon as they have died with it."""
    deadline = time.monotonic() + 20
    while listed(catalog) != names and time.monotonic() < deadline:
        catalog.remove_abandoned()
        time.sleep(0.01)
    assert listed(catalog) == names


@pytest.mark.parametrize("kind", ["tar", "squashfs"])
def test_killed(catalog: Catalog, chroot: Path, tmp_path: Path, kind: str) -> None:
    """With more and more of the new tree there: the old image is whole, and the next command leaves nothing but it."""
    for number in range(2000):
        (chroot / f"file{number}").write_bytes(b"%d" % number * 300)
    text = tmp_path / "source"
    if kind == "squashfs":
        pack(chroot, text)
    else:
        make_tar(chroot, text, "--gzip")
    asyncio.run(import_image(catalog, "img", source(chroot, tmp_path), ignore))
    killed = 0
    for entries in (0, 500, 1500):
        process = subprocess.Popen([sys.executable, "-c", KILLED, tmp_path, text])
        wait_for_staging(process, catalog.chroots, entries)
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        assert len(os.listdir(catalog.get("img"))) == 2001
        until_alone(catalog, ["img"])
    assert killed > 1
    asyncio.run(import_image(catalog, "img", source(text, tmp_path), ignore, mode=Mode.REPLACE))
    assert len(os.listdir(catalog.get("img"))) == 2001


def wait_for_staging(process: "subprocess.Popen[bytes]", chroots: Path, entries: int) -> None:
    deadline = time.monotonic() + 60
    while process.poll() is None and time.monotonic() < deadline:
        for rootfs in chroots.glob(".staging-img-*/rootfs"):
            with contextlib.suppress(FileNotFoundError):
                if len(os.listdir(rootfs)) >= entries:
                    return
        time.sleep(0.002)


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ({}, True),
        ({"bin/sh": "dash"}, True),
        ({"bin/sh": "/usr/bin/dash"}, True),
        ({"bin/sh": "../usr/bin/dash"}, True),
        ({"bin/sh": "/bin/../bin/dash"}, True),
        ({"bin/sh": "/etc/passwd"}, False),
        ({"bin/sh": "sh"}, False),
        ({"bin/sh": "../../../../../../bin/sh"}, False),
        ({"bin/sh": "/usr/bin"}, False),
        ({"bin/sh": "missing"}, False),
    ],
)
def test_shell(chroot: Path, links: dict[str, str], expected: bool) -> None:
    """Links are followed within the tree alone; the machine's own shell does not count."""
    (chroot / "usr/bin").mkdir(parents=True)
    for place in ("bin/dash", "usr/bin/dash"):
        (chroot / place).write_text("shell")
        (chroot / place).chmod(0o755)
    for name, target in links.items():
        (chroot / name).unlink()
        (chroot / name).symlink_to(target)
    assert has_shell(chroot) == expected


def test_shell_that_nobody_may_run(chroot: Path) -> None:
    (chroot / "bin/sh").chmod(0o644)
    assert not has_shell(chroot)


@pytest.mark.parametrize("kind", ["link", "folder"])
def test_resolv_conf_that_is_no_file_is_left_alone(chroot: Path, tmp_path: Path, kind: str) -> None:
    (chroot / "etc").mkdir(exist_ok=True)
    host, place = tmp_path / "host", chroot / "etc/resolv.conf"
    host.write_text("nameserver 10.0.0.1")
    if kind == "link":
        place.symlink_to(host)
    else:
        place.mkdir()
    assert not update_resolv_conf(chroot, host)
    assert sorted(path.name for path in (chroot / "etc").iterdir()) == ["resolv.conf"]


async def test_a_reader_that_went_away_is_no_fault_of_the_disk(catalog: Catalog, chroot: Path, tmp_path: Path) -> None:
    def broken(event: object) -> None:
        raise BrokenPipeError(32, "Broken pipe")

    with pytest.raises(BrokenPipeError):
        await import_image(catalog, "img", source(str(chroot), tmp_path), broken)
    assert not catalog.exists("img")


def test_provenance_is_what_older_versions_wrote(catalog: Catalog, chroot: Path) -> None:
    (catalog.chroots / "img/rootfs").mkdir(parents=True)
    (catalog.chroots / "img/source.json").write_text(json.dumps({"reference": "docker://x", "digest": None}))
    assert catalog.provenance("img").reference == "docker://x"


def test_resolv_conf_is_never_written_through_a_link_of_the_image(chroot: Path, tmp_path: Path) -> None:
    host, victim = tmp_path / "host", tmp_path / "victim"
    host.write_text("nameserver 192.0.2.1\n")
    victim.write_text("untouched")
    (chroot / "etc").mkdir(exist_ok=True)
    (chroot / f"etc/.resolv.conf-{os.getpid()}").symlink_to(victim)
    assert update_resolv_conf(chroot, host)
    assert victim.read_text() == "untouched"
    placed = chroot / "etc/resolv.conf"
    assert (placed.read_text(), placed.stat().st_mode & 0o7777) == ("nameserver 192.0.2.1\n", 0o644)


def test_an_image_with_this_servers_resolv_conf_is_the_same_each_time(chroot: Path, tmp_path: Path) -> None:
    host, etc = tmp_path / "host", chroot / "etc"
    host.write_text("nameserver 192.0.2.1\n")
    os.utime(host, ns=(1_000_000_001, 1_000_000_001))
    etc.mkdir()
    os.utime(etc, ns=(2_000_000_002, 2_000_000_002))
    assert update_resolv_conf(chroot, host)
    assert [path.stat().st_mtime_ns for path in (etc / "resolv.conf", etc)] == [1_000_000_001, 2_000_000_002]
