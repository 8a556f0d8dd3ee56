"""Generations on disk: history, rollback with its pin, leases, and pruning that removes what nobody needs and nothing else."""

import os
import re
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from images import prune, store_lock
from images.catalog import Catalog
from images.errors import Error
from images.generation import Generation, end_archive
from images.generations import (
    AmbiguousGeneration,
    GenerationBroken,
    GenerationNotFound,
    ImageNotBuilt,
    NothingBefore,
    NotPinned,
    short,
)
from images.prune import LEASE_SECONDS, DamagedGeneration
from images.rebuild import Build, BuildContext, BuildFailed, rebuild
from images.rendition import find_or_make, rendition_path
from images.store_lock import StoreBusy, StoreClosed

NOW = 1_000_000_000.0


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = Catalog(chroots=tmp_path / "chroots", provision=tmp_path / "provision")
    add_image(made, "img")
    return made


def add_image(catalog: Catalog, name: str) -> None:
    rootfs = catalog.chroots / name / "rootfs"
    (rootfs / "bin").mkdir(parents=True)
    (rootfs / "boot").mkdir()
    (rootfs / "boot/vmlinuz-6.1.0").write_text("kernel")
    (rootfs / "bin/sh").write_text(f"shell of {name}")


def build(catalog: Catalog, name: str = "img", *, now: float = NOW) -> Build:
    return rebuild(catalog, name, BuildContext(own=[], built_by="test", now=now))


def change(catalog: Catalog, content: str, name: str = "img") -> Build:
    (catalog.get(name) / "file").write_text(content)
    return build(catalog, name)


def current(catalog: Catalog, name: str = "img") -> Generation:
    found = catalog.current(name)
    assert found is not None
    assert found.missing() == []
    return found


def digests(catalog: Catalog, name: str = "img") -> list[str]:
    return [built.digest for built in catalog.generations.history(name)]


def prune_all(catalog: Catalog, *names: str, keep: int = 1, now: float = NOW) -> prune.Plan:
    with store_lock.alone(catalog.provision):
        return prune.apply(catalog.generations, prune.plan(catalog.generations, names, keep=keep, now=now), now=now)


def objects(catalog: Catalog) -> set[str]:
    return {digest for store in (catalog.segments, catalog.kernels) for digest, _ in store.objects()}


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


def test_rollback_pins_and_unpin_goes_to_the_newest(catalog: Catalog) -> None:
    first, second = change(catalog, "a"), change(catalog, "b")
    generations = catalog.generations
    assert (first.pin, second.pin) == (None, None)
    generations.rollback("img", generations.before_current("img").digest, by="me", now=NOW)
    assert current(catalog).digest == first.generation.digest
    pin = generations.pin("img")
    assert pin is not None
    assert (pin.generation, pin.since, pin.by) == (first.generation.digest, NOW, "me")
    third = change(catalog, "c")
    assert third.pin == pin
    assert current(catalog).digest == first.generation.digest
    again = build(catalog)
    assert (again.unchanged, again.pin, again.generation.digest) == (True, pin, third.generation.digest)
    assert generations.unpin("img").digest == third.generation.digest
    assert current(catalog).digest == third.generation.digest
    assert change(catalog, "d").pin is None
    with pytest.raises(NotPinned):
        generations.unpin("img")


def test_a_release_that_was_cut_short_is_completed_by_the_next_build(catalog: Catalog) -> None:
    first, second = change(catalog, "a"), change(catalog, "b")
    catalog.generations.rollback("img", first.generation.digest, by="me", now=NOW)
    (catalog.provision / "images/img/pin").unlink()
    assert build(catalog).generation.digest == second.generation.digest
    assert current(catalog).digest == second.generation.digest


def test_rollback_refuses_what_is_not_whole(catalog: Catalog) -> None:
    first, second = change(catalog, "a"), change(catalog, "b")
    lost = [p for p, _ in first.generation.image_files() if p not in {q for q, _ in second.generation.image_files()}]
    lost[0].unlink()
    with pytest.raises(GenerationBroken, match=lost[0].name):
        catalog.generations.rollback("img", first.generation.digest, by="me", now=NOW)
    assert catalog.generations.pin("img") is None
    assert current(catalog).digest == second.generation.digest


def test_nothing_before_and_nothing_built(catalog: Catalog) -> None:
    with pytest.raises(ImageNotBuilt):
        catalog.generations.before_current("img")
    build(catalog)
    with pytest.raises(NothingBefore):
        catalog.generations.before_current("img")


def test_a_damaged_pin_is_said_and_can_be_released(catalog: Catalog) -> None:
    build(catalog)
    (catalog.provision / "images/img/pin").write_text("{")
    with pytest.raises(Error, match="damaged"):
        change(catalog, "b")
    catalog.generations.unpin("img")
    assert change(catalog, "c").pin is None


def test_prune_keeps_the_last_ones_and_all_that_they_need(catalog: Catalog) -> None:
    made = [change(catalog, text).generation for text in "abcd"]
    done = prune_all(catalog, keep=2)
    assert {doomed.digest for doomed in done.generations} == {made[0].digest, made[1].digest}
    assert digests(catalog) == [made[3].digest, made[2].digest]
    assert made[2].missing() == made[3].missing() == []
    assert catalog.generations.get(made[0].digest) is None
    needed = {s.digest for g in made[2:] for s in g.manifest.segments} | {k.digest for k in made[3].manifest.kernels}
    assert objects(catalog) == needed
    assert prune_all(catalog, keep=2) == prune.Plan(generations=(), strays=())


def test_prune_keeps_current_pinned_and_handed_out(catalog: Catalog) -> None:
    made = [change(catalog, text).generation.digest for text in "abcde"]
    catalog.generations.rollback("img", made[0], by="me", now=NOW)
    catalog.generations.mark_handed(made[1], NOW - 3600)
    catalog.generations.mark_handed(made[2], NOW - LEASE_SECONDS)
    prune_all(catalog)
    assert digests(catalog) == [made[4], made[1], made[0]]
    current(catalog)
    assert all(found is not None and not found.missing() for found in map(catalog.generation, digests(catalog)))


def test_prune_of_one_image_leaves_the_others_alone(catalog: Catalog) -> None:
    add_image(catalog, "other")
    for text in "abc":
        change(catalog, text)
        change(catalog, text, "other")
    prune_all(catalog, "img")
    assert (len(digests(catalog)), len(digests(catalog, "other"))) == (1, 3)
    assert all(found is not None and not found.missing() for found in map(catalog.generation, digests(catalog, "other")))


def test_prune_takes_what_is_left_of_a_deleted_image(catalog: Catalog) -> None:
    add_image(catalog, "other")
    build(catalog)
    kept = objects(catalog)
    build(catalog, "other")
    catalog.delete("other")
    prune_all(catalog)
    assert objects(catalog) == kept
    current(catalog)


def test_prune_removes_renditions_and_what_dead_processes_left(catalog: Catalog) -> None:
    first = change(catalog, "a").generation
    find_or_make(catalog.generations, first)
    second = change(catalog, "b").generation
    kept = find_or_make(catalog.generations, second)
    strays = [
        *(catalog.provision / place / ".new-x" for place in ("segments", "kernels", "renditions", "generations")),
        catalog.provision / "generations/.old-x",
        catalog.provision / "images/.staging-delete-x",
    ]
    for stray in strays:
        stray.mkdir()
        (stray / "file").touch()
    overlays = catalog.provision / "overlays/n1"
    overlays.mkdir(parents=True)
    strays.append(catalog.provision / "images/img/.new-x")
    strays[-1].mkdir()
    aged, fresh = overlays / ".new-aged", overlays / ".new-fresh"
    for path, when in ((aged, NOW - 7200), (fresh, NOW)):
        path.touch()
        os.utime(path, (when, when))
    prune_all(catalog)
    assert [path for path in (*strays, aged) if path.exists()] == []
    assert fresh.exists()
    assert kept.exists()
    assert not rendition_path(catalog.provision, first.digest).exists()


def test_a_plan_says_what_goes_and_removes_nothing(catalog: Catalog) -> None:
    for text in "abc":
        change(catalog, text)
    before = sorted(catalog.provision.rglob("*"))
    planned = prune.plan(catalog.generations, (), keep=1, now=NOW)
    assert sorted(catalog.provision.rglob("*")) == before
    done = prune_all(catalog)
    assert set(done.generations) == set(planned.generations)
    assert {s.path for s in done.strays} == {s.path for s in planned.strays}
    assert planned.size == done.size > 0


def test_a_node_that_comes_in_between_keeps_its_generation(catalog: Catalog) -> None:
    made = [change(catalog, text).generation for text in "ab"]
    planned = prune.plan(catalog.generations, (), keep=1, now=NOW)
    catalog.generations.mark_handed(made[0].digest, NOW)
    done = prune.apply(catalog.generations, planned, now=NOW)
    assert done.generations == ()
    assert made[0].missing() == []
    assert digests(catalog) == [made[1].digest, made[0].digest]


def test_prune_stops_before_it_removes_what_a_damaged_generation_may_need(catalog: Catalog) -> None:
    made = [change(catalog, text).generation for text in "ab"]
    made[1].manifest_path.write_text("{")
    before = objects(catalog)
    with pytest.raises(DamagedGeneration):
        prune_all(catalog)
    assert objects(catalog) == before
    assert catalog.generations.get(made[0].digest) is not None


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
    catalog.generations.rollback("img", generation.digest, by="me", now=NOW)
    files = [path for path in catalog.provision.rglob("*") if path.is_file() and not path.is_symlink()]
    assert len(files) > 8
    assert [path for path in files if stat.S_IMODE(path.stat().st_mode) & 0o077] == []
    for folder in ("generations", "images", "segments", "kernels", "renditions"):
        assert stat.S_IMODE((catalog.provision / folder).stat().st_mode) == 0o700
