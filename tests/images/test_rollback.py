"""Back to an earlier generation, with its pin, and its release."""

from pathlib import Path

import pytest
from built_images import NOW, build, catalog_of, change, current

from images.catalog import Catalog
from images.errors import Error
from images.generations import GenerationBroken
from images.rollback import NotPinned, release, roll_back


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return catalog_of(tmp_path)


def test_rollback_pins_and_unpin_goes_to_the_newest(catalog: Catalog) -> None:
    first, second = change(catalog, "a"), change(catalog, "b")
    generations = catalog.generations
    assert (first.pin, second.pin) == (None, None)
    roll_back(generations, "img", generations.before_current("img").digest, by="me", now=NOW)
    assert current(catalog).digest == first.generation.digest
    pin = generations.pin("img")
    assert pin is not None
    assert (pin.generation, pin.since, pin.by) == (first.generation.digest, NOW, "me")
    third = change(catalog, "c")
    assert third.pin == pin
    assert current(catalog).digest == first.generation.digest
    again = build(catalog)
    assert (again.unchanged, again.pin, again.generation.digest) == (True, pin, third.generation.digest)
    assert release(generations, "img").digest == third.generation.digest
    assert current(catalog).digest == third.generation.digest
    assert change(catalog, "d").pin is None
    with pytest.raises(NotPinned):
        release(generations, "img")


def test_a_release_that_was_cut_short_is_completed_by_the_next_build(catalog: Catalog) -> None:
    first, second = change(catalog, "a"), change(catalog, "b")
    roll_back(catalog.generations, "img", first.generation.digest, by="me", now=NOW)
    (catalog.provision / "images/img/pin").unlink()
    assert build(catalog).generation.digest == second.generation.digest
    assert current(catalog).digest == second.generation.digest


def test_rollback_refuses_what_is_not_whole(catalog: Catalog) -> None:
    first, second = change(catalog, "a"), change(catalog, "b")
    lost = [p for p, _ in first.generation.image_files() if p not in {q for q, _ in second.generation.image_files()}]
    lost[0].unlink()
    with pytest.raises(GenerationBroken, match=lost[0].name):
        roll_back(catalog.generations, "img", first.generation.digest, by="me", now=NOW)
    assert catalog.generations.pin("img") is None
    assert current(catalog).digest == second.generation.digest


def test_a_damaged_pin_is_said_and_can_be_released(catalog: Catalog) -> None:
    build(catalog)
    (catalog.provision / "images/img/pin").write_text("{")
    with pytest.raises(Error, match="damaged"):
        change(catalog, "b")
    release(catalog.generations, "img")
    assert change(catalog, "c").pin is None
