"""Who works in an image is alone with its name and with its tree, and leaves no lock behind."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from images.catalog import Catalog
from images.leftovers import clear
from images.locks import Locked
from images.sandbox import mountpoints

pytestmark = pytest.mark.root


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = Catalog(chroots=tmp_path / "chroots", provision=tmp_path / "provision")
    (made.chroots / "img/rootfs/etc").mkdir(parents=True)
    return made


def link_folder(catalog: Catalog, request: pytest.FixtureRequest) -> None:
    (catalog.chroots / "same").symlink_to("img")


def link_rootfs(catalog: Catalog, request: pytest.FixtureRequest) -> None:
    (catalog.chroots / "same").mkdir()
    (catalog.chroots / "same/rootfs").symlink_to("../img/rootfs")


def both_elsewhere(catalog: Catalog, request: pytest.FixtureRequest) -> None:
    (catalog.chroots / "img").rename(catalog.chroots.parent / "elsewhere")
    for name in ("img", "same"):
        (catalog.chroots / name).symlink_to("../elsewhere")


def bind(catalog: Catalog, request: pytest.FixtureRequest) -> None:
    place = catalog.chroots / "same/rootfs"
    place.mkdir(parents=True)
    subprocess.run(["mount", "--bind", catalog.get("img"), place], check=True)
    request.addfinalizer(lambda: subprocess.run(["umount", place], check=True))


@pytest.mark.parametrize("alias", [link_folder, link_rootfs, both_elsewhere, bind])
def test_two_names_of_one_tree_are_one_place_to_work_in(
    catalog: Catalog, request: pytest.FixtureRequest, alias: Callable[[Catalog, pytest.FixtureRequest], None]
) -> None:
    alias(catalog, request)
    for mine, yours in (("img", "same"), ("same", "img")):
        with catalog.locked(mine, holder=f"exec {mine}"):
            with pytest.raises(Locked) as caught, catalog.locked(yours, holder=f"exec {yours}"):
                pass
            assert caught.value.message.startswith("`")
            assert (
                f"(process {os.getpid()}) holds the tree of image {yours!r}, {catalog.get(yours).resolve()}"
                in caught.value.message
            )
            assert caught.value.hint == "wait until it has ended, then try again"
            with pytest.raises(Locked, match=f"`exec {mine}`"), catalog.locked(mine, holder="build"):
                pass
        with catalog.locked(yours, holder=f"exec {yours}"):
            pass
    assert sorted(path.name for path in catalog.chroots.iterdir()) == ["img", "same"]


def test_other_images_are_free(catalog: Catalog) -> None:
    (catalog.chroots / "other/rootfs").mkdir(parents=True)
    with catalog.locked("img", holder="exec img"), catalog.locked("other", holder="exec other"):
        pass


def test_the_tree_is_kept_by_a_child_that_outlives_us(catalog: Catalog) -> None:
    with catalog.locked("img", holder="exec img") as lock:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(lock.descriptor,))
    with child, pytest.raises(Locked, match="holds the tree of image 'img'"), catalog.locked("img", holder="build img"):
        pass
    with catalog.locked("img", holder="build img"):
        pass


def test_locks_of_the_dead_are_cleared_away_and_those_of_the_living_are_not(catalog: Catalog) -> None:
    for name in ("img", "gone"):
        catalog.lock_path(name).write_text("1 exec of somebody who was killed\n")
    with catalog.locked("img", holder="exec img"):
        clear(catalog)
        assert [path.name for path in catalog.chroots.glob(".*")] == [".img.lock"]
        assert catalog.lock_path("img").read_text() == f"{os.getpid()} exec img\n"
    assert list(catalog.chroots.glob(".*")) == []


def test_mount_points_in_a_tree_that_is_linked_to_are_removed(catalog: Catalog) -> None:
    tree = catalog.chroots.parent / "tree"
    catalog.get("img").rename(tree)
    (catalog.chroots / "img/rootfs").symlink_to(tree)
    mountpoints.create(str(tree), [("a/b", True, "")])
    clear(catalog)
    assert os.listdir(tree) == ["etc"]
    assert sorted(os.listdir(tree.parent)) == ["chroots", "tree"]
