"""Generations on disk: history, what is damaged, and the store's lock."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from built_images import NOW, build, catalog_of, change, current, digests

from images import store_lock
from images.catalog import Catalog
from images.generation import end_archive
from images.generations import AmbiguousGeneration, GenerationNotFound, ImageNotBuilt, NothingBefore, short
from images.rebuild import BuildFailed
from images.rendition import find_or_make
from images.rollback import roll_back
from images.store_lock import StoreBusy, StoreClosed


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return catalog_of(tmp_path)


def test_history_is_newest_first(catalog: Catalog) -> None:
    made = [change(catalog, text).generation.digest for text in "abc"]
    assert digests(catalog) == made[::-1]
    assert current(catalog).digest == made[-1]


def test_an_old_tree_again_is_the_newest_build(catalog: Catalog) -> None:
    first = change(catalog, "a")
    times = (catalog.get("img") / "file").stat().st_mtime_ns
    folder = catalog.get("img").stat().st_mtime_ns
    second = change(catalog, "b")
    (catalog.get("img") / "file").write_text("a")
    os.utime(catalog.get("img") / "file", ns=(times, times))
    os.utime(catalog.get("img"), ns=(folder, folder))
    assert build(catalog).generation.digest == first.generation.digest
    assert digests(catalog) == [first.generation.digest, second.generation.digest]


def test_a_store_without_history_has_the_current_generation(catalog: Catalog) -> None:
    made = build(catalog)
    for path in (catalog.provision / "images/img/history").iterdir():
        path.unlink()
    assert [(b.digest, b.built_by, b.created) for b in catalog.generations.history("img")] == [
        (made.generation.digest, "test", NOW)
    ]
    change(catalog, "b")
    assert len(digests(catalog)) == 1  # what has no line is history no more once it is not current


def test_find_by_prefix(catalog: Catalog) -> None:
    first, second = change(catalog, "a").generation.digest, change(catalog, "b").generation.digest
    find = catalog.generations.find
    assert find("img", first).digest == first
    assert find("img", short(second)).digest == second
    assert find("img", short(second).upper()).digest == second
    for wanted in ("", "sha256:", "zz", first + "0"):
        with pytest.raises(GenerationNotFound):
            find("img", wanted)
    number = 0
    while first[7] != second[7]:
        number += 1
        first, second = second, change(catalog, f"c{number}").generation.digest
    with pytest.raises(AmbiguousGeneration, match=re.escape(short(second))):
        find("img", second[7])


def test_nothing_before_and_nothing_built(catalog: Catalog) -> None:
    with pytest.raises(ImageNotBuilt):
        catalog.generations.before_current("img")
    build(catalog)
    with pytest.raises(NothingBefore):
        catalog.generations.before_current("img")


@pytest.mark.parametrize("damage", ["garbage", "gone"])
def test_a_build_mends_a_damaged_generation(catalog: Catalog, damage: str) -> None:
    generation = build(catalog).generation
    for path in (generation.manifest_path, generation.folder / "end"):
        path.unlink()
        if damage == "garbage":
            path.write_text("garbage")
    assert catalog.current("img") is None
    assert build(catalog).generation.digest == generation.digest
    assert current(catalog).manifest == generation.manifest
    assert (generation.folder / "end").read_bytes() == end_archive(generation.digest)


def test_current_that_is_no_link_is_an_image_that_is_not_built(catalog: Catalog) -> None:
    generation = build(catalog).generation
    place = catalog.provision / "images/img/current"
    place.unlink()
    place.mkdir()
    assert catalog.current("img") is None
    with pytest.raises(BuildFailed, match="Is a directory"):
        build(catalog)
    place.rmdir()
    assert build(catalog).generation.digest == generation.digest
    assert current(catalog).digest == generation.digest


def test_a_store_that_cannot_be_locked_is_said(catalog: Catalog, tmp_path: Path) -> None:
    catalog.provision.write_text("a file")
    assert catalog.current("img") is None
    with pytest.raises(StoreClosed, match="cannot open the lock"), store_lock.alone(catalog.provision):
        raise AssertionError


def test_prune_waits_for_no_build_for_ever(catalog: Catalog) -> None:
    build(catalog)
    code = "import sys; from pathlib import Path; from images import store_lock\n"
    code += "with store_lock.in_use(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(catalog.provision)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        assert holder.stdin is not None
        holder.stdout.readline()
        with store_lock.in_use(catalog.provision, wait=0):
            pass
        with pytest.raises(StoreBusy) as caught, store_lock.alone(catalog.provision, wait=0):
            pass
        holder.stdin.close()
    assert f"(process {holder.pid})" in caught.value.message
    with store_lock.alone(catalog.provision, wait=0), pytest.raises(StoreBusy), store_lock.in_use(catalog.provision, wait=0):
        pass


def test_only_root_reads_what_was_built(catalog: Catalog) -> None:
    generation = build(catalog).generation
    find_or_make(catalog.generations, generation)
    catalog.generations.mark_handed(generation.digest, NOW)
    roll_back(catalog.generations, "img", generation.digest, by="me", now=NOW)
    files = [path for path in catalog.provision.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 8
    assert [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    for folder in ("generations", "images", "segments", "kernels", "renditions"):
        assert stat.S_IMODE((catalog.provision / folder).stat().st_mode) == 0o700
