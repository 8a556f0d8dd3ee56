"""Overlay archives on top of an image: links followed, directories kept, hard links broken; GNU cpio unpacks them."""

import stat
from collections.abc import Mapping

import pytest

from images import cpio
from images.index import Entry
from images.view import ImageView
from netboot.errors import OverlayError
from netboot.overlay import Item
from netboot.overlay_archive import archive as make
from netboot.overlay_render import Placed


def entry(path: str, kind: int, *, target: str = "", nlink: int = 1) -> Entry:
    return Entry(
        path=path.encode(), mode=kind | 0o755, inode=1, uid=0, gid=0, size=0, nlink=nlink, rdev=0, mtime_ns=0, ctime_ns=0,
        target=target.encode(),
    )  # fmt: skip


IMAGE = ImageView(
    [
        entry("etc", stat.S_IFDIR),
        entry("etc/hostname", stat.S_IFREG),
        entry("etc/linked", stat.S_IFREG, nlink=2),
        entry("etc/resolv.conf", stat.S_IFLNK, target="../run/resolv.conf"),
        entry("usr", stat.S_IFDIR),
        entry("usr/lib", stat.S_IFDIR),
        entry("lib", stat.S_IFLNK, target="usr/lib"),
    ]
)


def items(*made: Item) -> Mapping[bytes, Item]:
    return {item.path: item for item in made}


def file(path: bytes, content: bytes = b"x") -> Item:
    return Item(path=path, mode=stat.S_IFREG | 0o644, content=content)


def folder(path: bytes, *, set_mode: bool = False) -> Item:
    return Item(path=path, mode=stat.S_IFDIR | 0o700, set_mode=set_mode)


def archive(overlay: Mapping[bytes, Item], image: ImageView, *removals: bytes) -> bytes:
    return make(Placed(items=overlay, removals=removals), image, "system")


def entries(overlay: Mapping[bytes, Item]) -> list[tuple[bytes, int]]:
    return [(found.path, stat.S_IFMT(found.mode)) for found, _ in cpio.parse(archive(overlay, IMAGE))]


def test_parents_are_resolved_through_the_images_links() -> None:
    assert entries(items(file(b"lib/firmware/x"))) == [
        (b"usr/lib/firmware", stat.S_IFDIR),
        (b"usr/lib/firmware/x", stat.S_IFREG),
    ]


def test_a_linked_directory_is_not_replaced_by_a_directory() -> None:
    assert entries(items(folder(b"lib"), file(b"lib/x"))) == [(b"usr/lib/x", stat.S_IFREG)]


def test_directories_of_the_image_keep_their_mode_unless_one_is_stated() -> None:
    assert entries(items(folder(b"etc"))) == []
    stated = archive(items(folder(b"etc", set_mode=True)), IMAGE)
    assert [(found.path, found.mode & 0o7777) for found, _ in cpio.parse(stated)] == [(b"etc", 0o700)]


def test_a_hard_linked_file_is_replaced_not_written_through() -> None:
    assert entries(items(file(b"etc/linked"))) == [(b"etc/linked", stat.S_IFLNK), (b"etc/linked", stat.S_IFREG)]


def test_a_file_replaces_the_images_link_of_that_name() -> None:
    assert entries(items(file(b"etc/resolv.conf"))) == [(b"etc/resolv.conf", stat.S_IFREG)]


def test_parents_come_first() -> None:
    assert [path for path, _ in entries(items(file(b"a/b/c"), file(b"a.d")))] == [b"a", b"a.d", b"a/b", b"a/b/c"]


@pytest.mark.parametrize(
    "overlay",
    [
        items(file(b"etc/hostname/x")),
        items(file(b"etc")),
        items(file(b"new"), file(b"new/x")),
    ],
)
def test_what_the_kernel_would_lose_is_an_error(overlay: Mapping[bytes, Item]) -> None:
    with pytest.raises(OverlayError):
        archive(overlay, IMAGE)


def test_the_same_items_give_the_same_bytes() -> None:
    one, two = items(file(b"a"), file(b"b")), items(file(b"b"), file(b"a"))
    assert archive(one, IMAGE) == archive(two, IMAGE)


def test_what_is_removed_is_replaced_by_a_whiteout_and_listed() -> None:
    found = {entry.path: (entry.mode, bytes(text)) for entry, text in cpio.parse(archive({}, IMAGE, b"etc/hostname", b"lib/x"))}
    assert found[b"etc/hostname"] == found[b"usr/lib/x"] == (stat.S_IFCHR, b"")
    assert found[b".bootsvc/removals/system"][1] == b"etc/hostname\nusr/lib/x\n"


def test_a_removed_folder_loses_all_that_is_in_it_the_deepest_first() -> None:
    found = {entry.path: (entry.mode, bytes(text)) for entry, text in cpio.parse(archive({}, IMAGE, b"usr"))}
    assert found[b".bootsvc/removals/system"][1] == b"usr/lib\nusr\n"
    found = {entry.path: (entry.mode, bytes(text)) for entry, text in cpio.parse(archive({}, IMAGE, b"etc"))}
    assert {path for path, (mode, _) in found.items() if mode == stat.S_IFCHR} == {
        b"etc/hostname", b"etc/linked", b"etc/resolv.conf",
    }  # fmt: skip
    assert found[b".bootsvc/removals/system"][1] == b"etc/resolv.conf\netc/linked\netc/hostname\netc\n"


def test_what_lies_nowhere_needs_no_whiteout() -> None:
    assert (b"no/such", stat.S_IFCHR) not in [
        (entry.path, stat.S_IFMT(entry.mode)) for entry, _ in cpio.parse(archive({}, IMAGE, b"no/such"))
    ]


def test_a_file_in_a_removed_folder_comes_after_its_whiteout() -> None:
    made = archive(items(file(b"etc/hostname")), IMAGE, b"etc")
    assert [stat.S_IFMT(entry.mode) for entry, _ in cpio.parse(made) if entry.path == b"etc/hostname"] == [
        stat.S_IFCHR, stat.S_IFREG,
    ]  # fmt: skip


@pytest.mark.parametrize("path", [b"loop/init", b"loop/.bootsvc/generation"])
def test_a_link_of_the_image_does_not_lead_to_our_init(path: bytes) -> None:
    image = ImageView([entry("loop", stat.S_IFLNK, target="/")])
    for made in (Placed(items=items(file(path))), Placed(items={}, removals=[path])):
        with pytest.raises(OverlayError, match="may not replace"):
            make(made, image, "system")


def test_a_name_with_a_line_end_cannot_be_removed() -> None:
    image = ImageView([entry("etc", stat.S_IFDIR), entry("etc/a\nb", stat.S_IFREG)])
    with pytest.raises(OverlayError, match="cannot be removed"):
        archive({}, image, b"etc")
