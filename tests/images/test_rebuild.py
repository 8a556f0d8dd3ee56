"""Rebuild and catalog: the same tree gives the same generation, a change touches its segment, nothing is ever half there."""

import gzip
import os
import random
import signal
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from images import cpio, index
from images.catalog import BadImageName, Catalog, ImageExists, ImageNotFound
from images.cpio import CpioError
from images.generation import Generation
from images.provenance import Provenance
from images.rebuild import Build, BuildContext, BuildFailed, rebuild
from images.segment_archive import ChangedWhileRead
from images.segments import OwnFile

OWN = [OwnFile(path=b"init", mode=0o755, content=b"#!/bin/sh\n")]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = Catalog(chroots=tmp_path / "chroots", provision=tmp_path / "provision")
    fill(made.chroots / "img" / "rootfs")
    return made


def fill(rootfs: Path) -> None:
    """Some thirty megabytes in files that do not compress to nothing."""
    content = random.Random(1)
    for folder in range(6):
        (rootfs / f"usr/d{folder}").mkdir(parents=True)
        for number in range(100):
            (rootfs / f"usr/d{folder}/f{number}").write_bytes(content.randbytes(25_000) * 2)
    (rootfs / "bin").mkdir()
    (rootfs / "bin/sh").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + b"\x3e\x00")
    (rootfs / "boot").mkdir()
    (rootfs / "boot/vmlinuz-6.1.0").write_bytes(b"kernel")
    age(rootfs)


def age(rootfs: Path) -> None:
    """Wait until the file system's clock has moved on: what is as young as a scan counts as changed."""
    newest = max(path.lstat().st_ctime_ns for path in rootfs.rglob("*"))
    probe = rootfs.parent / "probe"
    while True:
        probe.touch()
        if probe.stat().st_ctime_ns > newest:
            break
    probe.unlink()


def build(catalog: Catalog, **options: bool) -> Build:
    return rebuild(catalog, "img", BuildContext(own=OWN, built_by="test", now=1.0, processes=2, **options))


def image(done: Build) -> bytes:
    return b"".join(path.read_bytes() for path, _ in done.generation.image_files())


def content(done: Build) -> dict[bytes, bytes]:
    return {entry.path: bytes(data) for entry, data in cpio.parse(gzip.decompress(image(done)))}


def test_first_build_then_nothing_to_do(catalog: Catalog) -> None:
    first = build(catalog)
    assert not first.unchanged
    assert first.segments_written == len(first.generation.manifest.segments) > 2
    again = build(catalog)
    assert (again.unchanged, again.segments_written) == (True, 0)
    assert again.generation.digest == first.generation.digest


def test_the_concatenation_holds_the_tree(catalog: Catalog) -> None:
    found = content(build(catalog))
    rootfs = catalog.get("img")
    for path in rootfs.rglob("*"):
        name = os.fsencode(path.relative_to(rootfs))
        assert found[name] == (path.read_bytes() if path.is_file() else b"")
    assert found[b"init"] == OWN[0].content


def test_one_changed_file_writes_one_segment(catalog: Catalog) -> None:
    first = build(catalog)
    (catalog.get("img") / "usr/d3/f7").write_bytes(b"new")
    changed = build(catalog)
    assert changed.segments_written == 1
    assert content(changed)[b"usr/d3/f7"] == b"new"
    assert changed.generation.digest != first.generation.digest


def test_only_metadata_or_xattr_counts_too(catalog: Catalog) -> None:
    build(catalog)
    (catalog.get("img") / "usr/d3/f7").chmod(0o600)
    assert build(catalog).segments_written == 1
    os.setxattr(catalog.get("img") / "usr/d3/f7", "security.capability", b"\x01\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
    again = build(catalog)
    assert again.generation.manifest.xattrs.entries == 1
    found = content(again)
    assert found[b".bootsvc/xattrs"].startswith(b"/usr/d3/f7\0security.capability\0\x14\0\0\0\x01\0\0\2")
    assert found[b".bootsvc/restore-xattrs"].startswith(b"\x7fELF")


def test_a_change_with_its_times_set_back_is_noticed(catalog: Catalog) -> None:
    build(catalog)
    path = catalog.get("img") / "usr/d3/f7"
    before = path.stat()
    path.write_bytes(b"x" * before.st_size)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert content(build(catalog))[b"usr/d3/f7"] == b"x" * before.st_size


def test_what_changed_in_the_tick_of_the_last_scan_is_looked_at_again(catalog: Catalog) -> None:
    path = catalog.get("img") / "usr/d3/f7"
    os.setxattr(path, "security.capability", b"\x01\0\0\2\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0")
    age(catalog.get("img"))
    place = build(catalog).generation.index_path
    built = index.parse(place.read_bytes())
    assert built is not None
    # As if the attribute had been set right after the scan, before the file system's clock moved on.
    unseen = tuple(msgspec.structs.replace(e, xattrs=()) if e.path == b"usr/d3/f7" else e for e in built.entries)
    place.write_bytes(index.serialize(msgspec.structs.replace(built, entries=unseen, clock=path.stat().st_ctime_ns)))
    assert build(catalog).generation.manifest.xattrs.entries == 1


def test_the_same_tree_elsewhere_gives_the_same_generation(catalog: Catalog, tmp_path: Path) -> None:
    other = Catalog(chroots=tmp_path / "c2", provision=tmp_path / "p2")
    (other.chroots / "img").mkdir(parents=True)
    subprocess.run(["cp", "-a", catalog.get("img"), other.chroots / "img/rootfs"], check=True)
    for made in (catalog, other):  # what the manifest says of the source must agree as well
        (made.chroots / "img/source.json").write_bytes(b'{"reference":"x"}')
    first, second = build(catalog), build(other)
    assert first.generation.digest == second.generation.digest
    assert image(first) == image(second)


def test_going_back_gives_the_old_generation_back(catalog: Catalog) -> None:
    path = catalog.get("img") / "usr/d3/f7"
    old, times = path.read_bytes(), path.stat()
    first = build(catalog)
    path.write_bytes(b"new")
    build(catalog)
    path.write_bytes(old)
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert build(catalog).generation.digest == first.generation.digest


def test_a_lost_or_short_segment_is_written_again(catalog: Catalog) -> None:
    first = build(catalog)
    paths = [path for path, _ in first.generation.image_files()]
    paths[1].unlink()
    os.truncate(paths[2], 5)
    assert len(first.generation.missing()) == 2
    again = build(catalog)
    assert again.segments_written == 2
    assert again.generation.missing() == []
    assert again.generation.digest == first.generation.digest


def test_force_mends_a_spoilt_segment(catalog: Catalog) -> None:
    first = build(catalog)
    path = [path for path, _ in first.generation.image_files()][1]
    good = path.read_bytes()
    path.write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    build(catalog, force=True)
    assert path.read_bytes() == good


def test_a_damaged_index_builds_everything(catalog: Catalog) -> None:
    first = build(catalog)
    first.generation.index_path.write_bytes(b"garbage")
    again = build(catalog)
    assert again.segments_written == len(first.generation.manifest.segments)
    assert again.unchanged


def test_force_writes_everything_and_finds_the_same(catalog: Catalog) -> None:
    first = build(catalog)
    forced = build(catalog, force=True)
    assert forced.segments_written == first.segments_written
    assert forced.generation.digest == first.generation.digest


def test_manifest_says_what_is_in_it(catalog: Catalog) -> None:
    manifest = build(catalog).generation.manifest
    assert (manifest.image, manifest.architecture, manifest.compression) == ("img", "amd64", "gzip")
    assert [(kernel.path, kernel.version) for kernel in manifest.kernels] == [("/boot/vmlinuz-6.1.0", "6.1.0")]
    assert manifest.unpacked_size == sum(segment.unpacked_size for segment in manifest.segments)
    for path, segment in zip((p for p, _ in build(catalog).generation.image_files()), manifest.segments, strict=True):
        assert len(gzip.decompress(path.read_bytes())) == segment.unpacked_size


def test_concatenation_ends_on_a_multiple_of_four(catalog: Catalog) -> None:
    generation = build(catalog).generation
    assert generation.image_size % 4 == 0
    assert 0 <= generation.image_size - sum(size for _, size in generation.image_files()) < 4


def test_index_has_every_digest(catalog: Catalog) -> None:
    build(catalog)
    (catalog.get("img") / "usr/d3/f7").write_bytes(b"new")
    parsed = index.parse(build(catalog).generation.index_path.read_bytes())
    assert parsed is not None
    assert all(len(entry.digest) == (32 if entry.is_regular else 0) for entry in parsed.entries)


def test_excluded_paths_stay_out(catalog: Catalog) -> None:
    rootfs = catalog.get("img")
    (rootfs / "etc/warewulf").mkdir(parents=True)
    (rootfs / "etc/warewulf/excludes").write_text("usr/d1\nboot/*\n")
    found = content(build(catalog))
    assert b"usr/d2/f1" in found
    assert not [path for path in found if path.startswith((b"usr/d1", b"boot/"))]


def test_only_root_reads_what_was_built(catalog: Catalog) -> None:
    generation = build(catalog).generation
    for path in [*(p for p, _ in generation.image_files()), generation.manifest_path, generation.index_path]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0


def test_a_file_that_newc_cannot_hold_changes_nothing(catalog: Catalog) -> None:
    first = build(catalog)
    with (catalog.get("img") / "huge").open("wb") as file:
        file.truncate(1 << 32)
    with pytest.raises(CpioError, match="huge"):
        build(catalog)
    current = catalog.current("img")
    assert current is not None
    assert current.digest == first.generation.digest


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.root
def test_a_full_disk_is_a_sentence(catalog: Catalog, small_disk: Path) -> None:
    cramped = Catalog(chroots=catalog.chroots, provision=small_disk)
    with pytest.raises(BuildFailed, match="No space left"):
        build(cramped)
    assert cramped.current("img") is None
    assert [path for path in (small_disk / "segments").iterdir() if path.name.startswith(".new-")] == []


def test_nodes_get_kernels_that_the_image_leaves_out(catalog: Catalog) -> None:
    root = catalog.get("img")
    (root / "etc/warewulf").mkdir(parents=True, exist_ok=True)
    (root / "etc/warewulf/excludes").write_text("/boot/\n")
    (root / "boot").mkdir(exist_ok=True)
    (root / "boot/vmlinuz-6.9.0").write_text("kernel")
    (root / "boot/config-6.9.0").write_text("#\nCONFIG_RD_ZSTD=y\n")
    first = build(catalog).generation
    assert [path for path in content_names(first) if path.startswith(b"boot")] == []
    assert "/boot/vmlinuz-6.9.0" in [kernel.path for kernel in first.manifest.kernels]
    assert build(catalog).unchanged
    (root / "boot/vmlinuz-6.9.0").write_text("another kernel")
    second = build(catalog)
    assert not second.unchanged
    (kernel,) = [kernel for kernel in second.generation.manifest.kernels if kernel.path == "/boot/vmlinuz-6.9.0"]
    assert catalog.kernels.path(kernel.digest).read_text() == "another kernel"


def content_names(generation: Generation) -> list[bytes]:
    found = index.parse(generation.index_path.read_bytes())
    assert found is not None
    return [entry.path for entry in found.entries]


def test_progress_counts_the_bytes_of_what_is_written(catalog: Catalog) -> None:
    told: list[tuple[int, int]] = []

    def built() -> None:
        told.clear()
        context = BuildContext(own=OWN, built_by="test", now=1.0)
        rebuild(catalog, "img", context, lambda done, total: told.append((done, total)))

    built()
    size = sum(path.lstat().st_size for path in catalog.get("img").rglob("*") if path.is_file() and not path.is_symlink())
    assert told[-1] == (size, size)
    assert told == sorted(told)
    built()
    assert told == []


KILLED = """
import os, signal, sys
from pathlib import Path
from images.catalog import Catalog
from images.rebuild import BuildContext, rebuild
catalog = Catalog(chroots=Path(sys.argv[1]), provision=Path(sys.argv[2]))
told = []
def progress(done, total):
    told.append(done)
    if len(told) == int(sys.argv[3]):
        os.kill(os.getpid(), signal.SIGKILL)
rebuild(catalog, "img", BuildContext(own=[], built_by="test", now=1.0, processes=2), progress)
"""


@pytest.mark.parametrize("after", [1, 2])
def test_kill_9_leaves_the_old_generation(catalog: Catalog, after: int) -> None:
    first = build(catalog)
    for number in range(6):
        (catalog.get("img") / f"usr/d{number}/f7").write_bytes(b"new")
    command = [sys.executable, "-c", KILLED, str(catalog.chroots), str(catalog.provision), str(after)]
    assert subprocess.run(command, check=False).returncode == -signal.SIGKILL
    current = catalog.current("img")
    assert current is not None
    assert (current.digest, current.missing()) == (first.generation.digest, [])
    assert content(build(catalog))[b"usr/d1/f7"] == b"new"


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "a b", "x" * 200])
def test_bad_names_are_refused(catalog: Catalog, name: str) -> None:
    with pytest.raises(BadImageName), catalog.stage(name):
        pass


@pytest.mark.parametrize("name", ["_old", "9", "rocky:9.5-x_y"])
def test_names_that_warewulf_takes_too(catalog: Catalog, name: str) -> None:
    (catalog.chroots / name / "rootfs").mkdir(parents=True)
    assert name in catalog.names()


def test_unknown_name_gets_the_closest(catalog: Catalog) -> None:
    with pytest.raises(ImageNotFound) as caught:
        catalog.get("imgg")
    assert caught.value.hint == "did you mean 'img'?"


def test_swap_and_what_it_leaves(catalog: Catalog) -> None:
    with catalog.stage("new") as staging:
        (staging.rootfs / "file").touch()
        catalog.swap(staging, "new", Provenance(reference="r"), replace=False)
    assert catalog.names() == ["img", "new"]
    assert catalog.provenance("new").reference == "r"
    with pytest.raises(ImageExists), catalog.stage("new") as staging:
        catalog.swap(staging, "new", Provenance(reference="s"), replace=False)
    with catalog.stage("new") as staging:
        (staging.rootfs / "other").touch()
        catalog.swap(staging, "new", Provenance(reference="t"), replace=True)
    new = catalog.chroots / "new"
    assert sorted(str(path.relative_to(new)) for path in new.rglob("*")) == ["rootfs", "rootfs/other", "source.json"]
    assert sorted(path.name for path in catalog.chroots.iterdir()) == ["img", "new"]


def test_an_abandoned_staging_folder_goes_with_the_next(catalog: Catalog) -> None:
    with catalog.stage("live") as live:
        (catalog.chroots / ".staging-dead-1").mkdir()
        with catalog.stage("other"):
            assert not (catalog.chroots / ".staging-dead-1").exists()
            assert live.folder.exists()


def test_delete_takes_the_built_image_along(catalog: Catalog) -> None:
    build(catalog)
    catalog.delete("img")
    assert catalog.names() == []
    assert catalog.current("img") is None
    with pytest.raises(ImageNotFound):
        catalog.delete("img")


@pytest.mark.parametrize("change", ["write", "truncate", "fifo", "remove"])
def test_a_tree_that_changes_under_the_build_is_a_sentence(catalog: Catalog, change: str) -> None:
    """The first segment that is done changes a file of the last one, before that is read by the one thread."""
    first = build(catalog)
    victim = catalog.get("img") / "usr/d5/f99"
    size = victim.stat().st_size

    told: list[int] = []

    def interfere(done: int, total: int) -> None:
        told.append(done)
        if len(told) == 1:
            match change:
                case "write":
                    victim.write_bytes(bytes(size))
                case "truncate":
                    os.truncate(victim, 5)
                case _:
                    victim.unlink()
                    if change == "fifo":
                        os.mkfifo(victim)

    context = BuildContext(own=OWN, built_by="test", now=1.0, processes=1, force=True)
    with pytest.raises((BuildFailed, ChangedWhileRead), match="f99"):
        rebuild(catalog, "img", context, interfere)
    current = catalog.current("img")
    assert current is not None
    assert (current.digest, current.missing()) == (first.generation.digest, [])


def test_a_path_that_the_kernel_would_leave_out() -> None:
    with pytest.raises(CpioError, match="too long"):
        cpio.header(cpio.Entry(path=b"x" * 4096, mode=0o100644))
    assert cpio.header(cpio.Entry(path=b"x" * 4095, mode=0o100644)).startswith(cpio.MAGIC)


def test_an_upgrade_of_our_own_files_is_a_change(catalog: Catalog) -> None:
    build(catalog)
    context = BuildContext(own=[OwnFile(path=b"init", mode=0o755, content=b"#!/bin/ash\n")], built_by="test", now=1.0)
    assert rebuild(catalog, "img", context).segments_written == 1
