"""What killed commands left is cleared away, what living ones use is not; and nothing that is mounted is ever emptied."""

import os
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from images import store_lock
from images.catalog import Catalog
from images.errors import Error
from images.leftovers import clear
from images.provenance import Provenance
from images.rootfs import remove_tree
from images.sandbox import mountpoints

pytestmark = pytest.mark.root


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = Catalog(chroots=tmp_path / "chroots", provision=tmp_path / "provision")
    (made.chroots / "img/rootfs/etc").mkdir(parents=True)
    (made.provision / "images/img/history").mkdir(parents=True)
    return made


def everything(catalog: Catalog) -> list[str]:
    places = (catalog.chroots, catalog.provision)
    return sorted(str(path.relative_to(place)) for place in places for path in place.rglob("*") if ".lock" not in path.name)


def test_staging_that_nobody_holds(catalog: Catalog) -> None:
    before = everything(catalog)
    for folder in (catalog.chroots, catalog.provision / "images"):
        (folder / ".staging-x/rootfs/deep").mkdir(parents=True)
    clear(catalog)
    assert everything(catalog) == before


def test_staging_that_is_in_use(catalog: Catalog) -> None:
    with catalog.stage("new") as staging:
        clear(catalog)
        assert staging.rootfs.is_dir()
        catalog.swap(staging, "new", Provenance(reference="test"), replace=False)
        clear(catalog)
    assert catalog.names() == ["img", "new"]


def test_unfinished_files_of_the_store(catalog: Catalog) -> None:
    before = everything(catalog)
    for place in ("segments", "kernels", "generations", "images/img", "images/img/history"):
        (catalog.provision / place).mkdir(exist_ok=True)
        (catalog.provision / place / ".new-1").touch()
    (catalog.provision / "generations/.new-2/x").mkdir(parents=True)
    with store_lock.in_use(catalog.provision):
        clear(catalog)
        assert (catalog.provision / "segments/.new-1").exists(), "a build may be writing it"
    clear(catalog)
    assert [name for name in everything(catalog) if name not in before] == ["generations", "kernels", "segments"]


def test_mount_points_of_a_sandbox_that_is_gone(catalog: Catalog) -> None:
    before = everything(catalog)
    mountpoints.create(str(catalog.get("img")), [("a/b", True, "")])
    with catalog.locked("img", holder="exec img"):
        clear(catalog)
        assert (catalog.get("img") / "a/b").is_dir(), "it may be running"
    clear(catalog)
    assert everything(catalog) == before


def test_an_image_whose_tree_is_a_link_is_locked_only_when_there_is_something_to_tidy(catalog: Catalog, tmp_path: Path) -> None:
    """Else a command that works with it in that moment would be told that somebody else does."""
    tree = tmp_path / "elsewhere/tree"
    tree.mkdir(parents=True)
    (catalog.chroots / "linked").mkdir()
    (catalog.chroots / "linked/rootfs").symlink_to(tree)
    os.utime(catalog.chroots, ns=(0, 0))
    clear(catalog)
    assert catalog.chroots.stat().st_mtime_ns == 0, "no lock was made"
    mountpoints.create(str(tree), [("a/b", True, "")])
    clear(catalog)
    assert list(tree.parent.iterdir()) == [tree]
    assert list(tree.iterdir()) == []


def test_an_image_that_is_a_link_is_deleted_and_replaced_as_a_link(catalog: Catalog, tmp_path: Path) -> None:
    kept = tmp_path / "elsewhere/rootfs/file"
    kept.parent.mkdir(parents=True)
    kept.write_text("not ours")
    (catalog.chroots / "linked").symlink_to(tmp_path / "elsewhere")
    catalog.delete("linked")
    (catalog.chroots / ".staging-replaced-linked-1").symlink_to(tmp_path / "elsewhere")
    catalog.remove_abandoned()
    assert not list(catalog.chroots.glob(".staging-*"))
    assert not catalog.exists("linked")
    assert kept.read_text() == "not ours"


def test_where_there_is_nothing_yet(tmp_path: Path) -> None:
    clear(Catalog(chroots=tmp_path / "chroots", provision=tmp_path / "provision"))
    assert os.listdir(tmp_path) == []


@pytest.fixture
def precious(catalog: Catalog, tmp_path: Path) -> Iterator[Path]:
    """A folder of the host that somebody has bound into the image and forgotten there."""
    (tmp_path / "home").mkdir()
    (tmp_path / "home/thesis").touch()
    place = catalog.get("img") / "a home"
    place.mkdir()
    subprocess.run(["mount", "--bind", tmp_path / "home", place], check=True)
    yield tmp_path / "home/thesis"
    for folder in catalog.chroots.rglob("a home"):
        subprocess.run(["umount", folder], check=True)


def test_an_image_with_immutable_files_is_deleted(catalog: Catalog, require_tool: Callable[..., Path]) -> None:
    rootfs = catalog.get("img")
    (rootfs / "log/old").mkdir(parents=True)
    (rootfs / "empty").mkdir()
    for path in ("etc/resolv.conf", "log/messages", "log/old/messages"):
        (rootfs / path).write_text("x")
    protected = {"+i": ("etc/resolv.conf", "etc", "empty", "log/old"), "+a": ("log/messages", "log")}
    chattr = require_tool("chattr")
    try:
        for attribute, paths in protected.items():
            marked = subprocess.run([chattr, attribute, *(rootfs / path for path in paths)], check=False)
            if marked.returncode:
                pytest.skip("this file system has no such attributes")
        with pytest.raises(PermissionError):
            (rootfs / "etc/resolv.conf").unlink()
        catalog.delete("img")
        assert everything(catalog) == ["images"]
    finally:
        subprocess.run([chattr, "-R", "-f", "-ia", catalog.chroots], check=False)


def test_an_image_with_a_mount_is_not_deleted(catalog: Catalog, precious: Path) -> None:
    before = everything(catalog)
    with pytest.raises(Error, match=r"something is mounted in image 'img', at .*/img/rootfs/a home") as caught:
        catalog.delete("img")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("unmount it first")
    assert everything(catalog) == before
    assert precious.exists()


def test_an_image_with_a_mount_is_not_replaced(catalog: Catalog, precious: Path) -> None:
    def replace() -> None:
        with catalog.stage("img") as staging:
            catalog.swap(staging, "img", Provenance(reference="test"), replace=True)

    with pytest.raises(Error, match="something is mounted in image 'img'"):
        replace()
    assert precious.exists()
    assert sorted(os.listdir(catalog.get("img"))) == ["a home", "etc"]


def test_a_mount_is_never_emptied(catalog: Catalog, precious: Path) -> None:
    with pytest.raises(OSError, match="something is mounted in it"):
        remove_tree(catalog.chroots / "img")
    assert precious.exists()
    (catalog.chroots / "img").rename(catalog.chroots / ".staging-abandoned")
    clear(catalog)
    assert precious.exists()
