"""Pruning removes what no node and no rollback needs, and nothing else."""

import os
import time
from pathlib import Path

import pytest
from built_images import NOW, add_image, build, catalog_of, change, current, digests

from images import prune, store_lock
from images.catalog import Catalog
from images.leftovers import clear
from images.prune import LEASE_SECONDS, DamagedGeneration
from images.rendition import find_or_make, rendition_path
from images.rollback import roll_back


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return catalog_of(tmp_path)


def prune_all(catalog: Catalog, *names: str, keep: int = 1, now: float = NOW) -> prune.Plan:
    with store_lock.alone(catalog.provision):
        return prune.apply(catalog.generations, prune.plan(catalog.generations, names, keep=keep, now=now), now=now)


def objects(catalog: Catalog) -> set[str]:
    return {digest for store in (catalog.segments, catalog.kernels) for digest, _ in store.objects()}


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


def test_a_removal_that_was_killed_is_finished_or_undone_by_the_next_command(catalog: Catalog) -> None:
    """Killed just after the rename: a node may have been given the generation in that moment."""
    made = [change(catalog, text).generation.digest for text in "abc"]
    catalog.generations.mark_handed(made[0], time.time())
    catalog.generations.mark_handed(made[1], time.time() - LEASE_SECONDS)
    for digest in made[:2]:
        folder = catalog.generations.folder(digest)
        folder.rename(folder.with_name(f".old-{folder.name}"))
    with store_lock.in_use(catalog.provision):
        clear(catalog)
    assert len(list((catalog.provision / "generations").glob(".old-*"))) == 2, "a pruning may be at work"
    clear(catalog)
    assert sorted(catalog.generations.digests()) == sorted([made[0], made[2]])
    assert list((catalog.provision / "generations").glob(".*")) == []
    assert digests(catalog) == [made[2], made[0]]
    found = catalog.generations.get(made[0])
    assert found is not None
    assert found.missing() == []


def test_prune_keeps_current_pinned_and_handed_out(catalog: Catalog) -> None:
    made = [change(catalog, text).generation.digest for text in "abcde"]
    roll_back(catalog.generations, "img", made[0], by="me", now=NOW)
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
