"""A built image as one file: the gzip rendition for `gzip -d | cpio -i`, and the export that boots without our boot script."""

import errno
import os
import random
import stat
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images import cpio
from images.catalog import Catalog
from images.decompress import Interrupted, decompress
from images.export import ExportExists, ExportFailed, export, initramfs
from images.generation import Generation
from images.generations import GenerationBroken
from images.rebuild import BuildContext, rebuild
from images.rendition import RenditionFailed, find_or_make, rendition_path
from images.segments import OwnFile

pytestmark = pytest.mark.root
OWN = [OwnFile(path=b"init", mode=0o755, content=b"#!/bin/sh\n")]


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = Catalog(chroots=tmp_path / "chroots", provision=tmp_path / "provision")
    fill(made.chroots / "img/rootfs")
    return made


def fill(rootfs: Path) -> None:
    """Thirty megabytes in several segments, with all that an archive has to get right."""
    content = random.Random(2)
    for folder in range(4):
        (rootfs / f"usr/d{folder}").mkdir(parents=True)
        for number in range(100):
            (rootfs / f"usr/d{folder}/f{number}").write_bytes(content.randbytes(35_000) * 2)
        first = rootfs / f"usr/d{folder}/linked"
        first.write_bytes(b"linked %d" % folder)
        os.link(first, rootfs / f"usr/d{folder}/again")
        os.link(first, rootfs / f"usr/zz{folder}")
    (rootfs / "bin").mkdir()
    (rootfs / "bin/sh").write_bytes(b"\x7fELF\x02\x01\x01" + bytes(11) + b"\x3e\x00")
    (rootfs / "bin/sh").chmod(0o4755)
    (rootfs / "usr/link").symlink_to("d1/f1")
    os.mkfifo(rootfs / "usr/fifo", 0o640)
    os.mknod(rootfs / "usr/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    (rootfs / "usr/two\nlines \\").write_text("odd")
    Path(os.fsdecode(os.fsencode(rootfs) + b"/usr/\xff\xfe")).write_text("no UTF-8")
    with (rootfs / "usr/sparse").open("wb") as file:
        file.truncate(3_000_001)
    os.chown(rootfs / "usr/d1", 7, 8)
    os.chown(rootfs / "usr/d1/f1", 12345, 54321)


@pytest.fixture
def generation(catalog: Catalog) -> Generation:
    made = rebuild(catalog, "img", BuildContext(own=OWN, built_by="test", now=1.0)).generation
    assert len(made.manifest.segments) > 2
    return made


def listing(root: Path) -> dict[str, tuple[object, ...]]:
    """All that an archive carries of each path; names of one file show the smallest of them."""
    found: dict[str, tuple[object, ...]] = {}
    names: dict[int, str] = {}
    for path in sorted(root.rglob("*")):
        info, name = path.lstat(), str(path.relative_to(root))
        content: object = path.read_bytes() if stat.S_ISREG(info.st_mode) else None
        content = os.readlink(path) if path.is_symlink() else content
        same = names.setdefault(info.st_ino, name)
        times = int(info.st_mtime) if stat.S_ISREG(info.st_mode) else None
        found[name] = (oct(info.st_mode), info.st_uid, info.st_gid, info.st_rdev, same, times, content)
    return found


def without_ours(found: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    return {name: entry for name, entry in found.items() if not name.startswith(".bootsvc") and name != "init"}


def test_the_rendition_is_what_gzip_and_cpio_unpack(
    catalog: Catalog, generation: Generation, tmp_path: Path, require_tool: Callable[[str], str]
) -> None:
    require_tool("cpio")
    path = find_or_make(catalog.generations, generation)
    target = tmp_path / "unpacked"
    target.mkdir()
    command = f'gzip -dc "{path}" | cpio --quiet -idm -D "{target}"'
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert without_ours(listing(target)) == listing(catalog.get("img"))
    assert (target / "init").read_bytes() == OWN[0].content
    for name in ("expected", "generation"):
        assert (target / ".bootsvc" / name).read_text() == generation.digest + "\n"


def test_the_rendition_is_one_stream_and_one_archive(catalog: Catalog, generation: Generation) -> None:
    with find_or_make(catalog.generations, generation).open("rb") as file:
        data = b"".join(decompress(file))
    assert data.count(cpio.TRAILER[110:120]) == 1
    assert data.endswith(cpio.TRAILER)


def test_the_rendition_is_made_once(catalog: Catalog, generation: Generation) -> None:
    first = find_or_make(catalog.generations, generation)
    made = first.stat()
    assert find_or_make(catalog.generations, generation) == first
    assert first.stat() == made
    assert stat.S_IMODE(made.st_mode) == 0o600


def test_a_rendition_that_is_told_to_stop_leaves_nothing(catalog: Catalog, generation: Generation) -> None:
    with pytest.raises(Interrupted):
        find_or_make(catalog.generations, generation, lambda: True)
    assert list((catalog.provision / "renditions").iterdir()) == []


def test_no_rendition_of_a_damaged_generation(catalog: Catalog, generation: Generation) -> None:
    path = next(path for path, _ in list(generation.image_files())[1:])
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(RenditionFailed):
        find_or_make(catalog.generations, generation)
    assert list((catalog.provision / "renditions").iterdir()) == []


def test_an_export_tells_how_far_it_is(generation: Generation, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    size = export(generation, tmp_path / "file", report=lambda done, total: told.append((done, total)))
    total = sum(segment.size for segment in generation.manifest.segments)
    assert {whole for _, whole in told} == {total}
    assert [done for done, _ in told] == sorted({done for done, _ in told})
    assert told[-1][0] == total < size


def archives(path: Path) -> list[tuple[bytes, bytes]]:
    """Entries with their contents, as the kernel reads the file: archives compressed or not, zeros between them."""
    unpacked = subprocess.run(["gzip", "-dc", path], capture_output=True).stdout
    return [(entry.path, bytes(content)) for entry, content in cpio.parse(unpacked)]


def test_export_begins_and_ends_with_the_generation(generation: Generation, tmp_path: Path) -> None:
    target = tmp_path / "image.initramfs"
    size = export(generation, target)
    data = target.read_bytes()
    assert (len(data), len(data) % 4) == (size, 0)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    end = data[-512:]
    end = end[end.index(b"070701") :]
    assert [(e.path, bytes(c)) for e, c in cpio.parse(end)][-1] == (b".bootsvc/generation", generation.digest.encode() + b"\n")
    found = archives(target)
    assert found[1] == (b".bootsvc/expected", generation.digest.encode() + b"\n")
    assert dict(found)[b"bin/sh"].startswith(b"\x7fELF")
    segments = b"".join(path.read_bytes() for path, _ in generation.image_files())
    assert segments in data
    assert (len(data) - len(end)) % 4 == 0
    assert b"".join(initramfs(generation)) == data


def test_export_replaces_nothing_without_force(generation: Generation, tmp_path: Path) -> None:
    target = tmp_path / "image"
    target.write_text("mine")
    with pytest.raises(ExportExists):
        export(generation, target)
    assert target.read_text() == "mine"
    (tmp_path / ".new-image").write_text("left by an export that was killed")
    export(generation, target, force=True)
    assert target.stat().st_size > 1_000_000
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chroots", "image", "provision"]


def test_export_never_replaces_what_is_no_file(generation: Generation, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    for target in (tmp_path / "fifo", tmp_path, Path("/dev/null")):
        with pytest.raises(Exception, match="no file"):
            export(generation, target, force=True)
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    with pytest.raises(ExportFailed, match="No such file"):
        export(generation, tmp_path / "missing/image")


def test_export_through_a_link_replaces_the_file_and_not_the_link(generation: Generation, tmp_path: Path) -> None:
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    export(generation, tmp_path / "link", force=True)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_size > 1_000_000


def test_export_checks_what_it_copies(generation: Generation, tmp_path: Path) -> None:
    path = [path for path, _ in generation.image_files()][1]
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises(GenerationBroken, match=path.name):
        export(generation, tmp_path / "image")
    assert not (tmp_path / "image").exists()


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


def test_a_full_disk_leaves_what_was_there(generation: Generation, small_disk: Path) -> None:
    target = small_disk / "image"
    target.write_text("old")
    with pytest.raises(ExportFailed, match=os.strerror(errno.ENOSPC)):
        export(generation, target, force=True)
    assert target.read_text() == "old"
    assert [path.name for path in small_disk.iterdir()] == ["image"]


def test_a_rendition_on_a_full_disk(catalog: Catalog, generation: Generation, small_disk: Path) -> None:
    folder = rendition_path(catalog.provision, generation.digest).parent
    folder.mkdir(mode=0o700)
    subprocess.run(["mount", "--bind", small_disk, folder], check=True)
    try:
        with pytest.raises(RenditionFailed, match=os.strerror(errno.ENOSPC)):
            find_or_make(catalog.generations, generation)
        assert list(folder.iterdir()) == []
    finally:
        subprocess.run(["umount", folder], check=True)
