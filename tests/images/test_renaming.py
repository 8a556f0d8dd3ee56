"""Copies and renames of whole images; a rename that is killed anywhere leaves nobody without an image, and is completed."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from killed_step import killed_at

from images.atomic import write_whole
from images.catalog import BadImageName, Catalog, ImageNotFound, InTheWay
from images.errors import Error
from images.locks import Locked
from images.progress import Event
from images.rebuild import BuildContext, rebuild
from images.renaming import NameTaken, SameName, copy_image, rename_image

pytestmark = pytest.mark.root

CONTEXT = BuildContext(own=[], built_by="test", now=0.0)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog(chroots=tmp_path / "chroots", provision=tmp_path / "provision")
    make(catalog, "old")
    return catalog


def make(catalog: Catalog, name: str, *, build: bool = True) -> None:
    root = catalog.chroots / name / "rootfs"
    (root / "bin").mkdir(parents=True)
    (root / "bin/sh").write_text("shell")
    if build:
        rebuild(catalog, name, CONTEXT)


def copy(catalog: Catalog, name: str, new: str) -> list[Event]:
    events: list[Event] = []
    asyncio.run(copy_image(catalog, name, new, events.append))
    return events


def test_a_copy_is_an_image_of_its_own(catalog: Catalog, snapshot: Callable[[Path], object]) -> None:
    os.chmod(catalog.get("old"), 0o751)
    os.link(catalog.get("old") / "bin/sh", catalog.get("old") / "bin/bash")
    copy(catalog, "old", "new")
    assert snapshot(catalog.get("new")) == snapshot(catalog.get("old"))
    assert catalog.current("new") is None
    assert catalog.provenance("new") == catalog.provenance("old")
    (catalog.get("new") / "bin/sh").write_text("changed")
    assert (catalog.get("old") / "bin/sh").read_text() == "shell"


def test_a_copy_takes_nothing_over_from_an_earlier_image_of_that_name(catalog: Catalog) -> None:
    make(catalog, "gone")
    (catalog.chroots / "gone").rename(catalog.chroots.parent / "elsewhere")
    assert catalog.current("gone") is not None
    copy(catalog, "old", "gone")
    assert catalog.current("gone") is None


@pytest.mark.parametrize(
    ("name", "new", "error"),
    [
        ("nosuch", "new", ImageNotFound),
        ("old", "a/b", BadImageName),
        ("old", "old", SameName),
        ("old", "taken", NameTaken),
        ("old", "notes", InTheWay),
        ("old", "folder", InTheWay),
    ],
)
def test_bad_names_change_nothing(catalog: Catalog, name: str, new: str, error: type[Error]) -> None:
    make(catalog, "taken", build=False)
    (catalog.chroots / "notes").write_text("dear to somebody")
    (catalog.chroots / "folder").mkdir()
    before = sorted(path.name for path in catalog.chroots.iterdir())
    with pytest.raises(error):
        copy(catalog, name, new)
    with pytest.raises(error):
        rename_image(catalog, name, new, move_users=lambda: pytest.fail("called"))
    assert sorted(path.name for path in catalog.chroots.iterdir()) == before


@pytest.mark.parametrize("busy", ["old", "new"])
def test_both_names_are_locked(catalog: Catalog, busy: str) -> None:
    with catalog.locked(busy, holder="exec it"):
        with pytest.raises(Locked, match="exec it"):
            copy(catalog, "old", "new")
        with pytest.raises(Locked, match="exec it"):
            rename_image(catalog, "old", "new", move_users=lambda: None)


def test_a_rename_takes_along_what_was_built(catalog: Catalog) -> None:
    before = catalog.current("old")
    history = catalog.generations.history("old")
    seen: list[tuple[bool, bool]] = []

    def move_users() -> None:
        seen.append((catalog.current("old") is not None, catalog.current("new") is not None))

    rename_image(catalog, "old", "new", move_users=move_users)
    after = catalog.current("new")
    assert seen == [(True, True)], "while users move, both names lead somewhere"
    assert before is not None
    assert after is not None
    assert after.digest == before.digest
    assert catalog.generations.history("new") == history
    assert (catalog.names(), catalog.current("old")) == (["new"], None)
    assert not catalog.lock_path("old").exists()


def test_users_that_cannot_follow_undo_it(catalog: Catalog) -> None:
    def refuse() -> None:
        raise Error("nodes.conf is broken")

    with pytest.raises(Error, match="broken"):
        rename_image(catalog, "old", "new", move_users=refuse)
    assert (catalog.names(), catalog.current("new")) == (["old"], None)
    assert catalog.current("old") is not None


def test_an_image_that_was_never_built(catalog: Catalog) -> None:
    make(catalog, "raw", build=False)
    rename_image(catalog, "raw", "new", move_users=lambda: None)
    assert catalog.names() == ["new", "old"]
    assert catalog.current("new") is None


def test_killed_at_any_step_a_rename_is_completed(tmp_path: Path) -> None:
    """The node's file says which image it boots: whatever it says leads to what was built."""
    step = 0
    while True:
        step += 1
        assert step < 1000
        folder = tmp_path / str(step)
        catalog = Catalog(chroots=folder / "chroots", provision=folder / "provision")
        make(catalog, "old")
        built = catalog.current("old")
        node = folder / "node"
        node.write_text("old")

        def work(catalog: Catalog = catalog, node: Path = node) -> None:
            rename_image(catalog, "old", "new", move_users=lambda: write_whole(node, b"new"))

        killed = killed_at(step, work)
        boots = catalog.current(node.read_text())
        assert built is not None
        assert boots is not None, f"killed at step {step}, the node boots {node.read_text()}"
        assert boots.digest == built.digest
        if not killed:
            break
        try:
            work()
        except ImageNotFound:
            catalog.remove_abandoned()  # all was done but the last bit of tidying
        assert (catalog.names(), node.read_text()) == (["new"], "new")
        assert catalog.current("old") is None
        assert [path.name for path in (catalog.provision / "images").iterdir()] == ["new"]
        assert sorted(path.name for path in (catalog.provision / "images/new").iterdir()) == ["current", "history"]
    assert step > 15
