"""ImageView: links are followed within the image, never above its root."""

import stat

from images.index import Entry
from images.view import ImageView


def entry(path: str, kind: int, target: str = "") -> Entry:
    return Entry(
        path=path.encode(), mode=kind | 0o755, inode=1, uid=0, gid=0, size=0, nlink=1, rdev=0, mtime_ns=0, ctime_ns=0,
        target=target.encode(),
    )  # fmt: skip


VIEW = ImageView(
    [
        entry("usr", stat.S_IFDIR),
        entry("usr/lib", stat.S_IFDIR),
        entry("usr/lib/x", stat.S_IFREG),
        entry("lib", stat.S_IFLNK, "usr/lib"),
        entry("up", stat.S_IFLNK, "../../../usr"),
        entry("absolute", stat.S_IFLNK, "/lib/x"),
        entry("loop", stat.S_IFLNK, "loop"),
    ]
)


def test_parents_are_followed_but_not_the_last_component() -> None:
    assert VIEW.resolve_parent(b"lib/new") == b"usr/lib/new"
    assert VIEW.resolve_parent(b"lib") == b"lib"


def test_links_never_leave_the_root() -> None:
    assert VIEW.resolve(b"up/lib/x") == b"usr/lib/x"
    assert VIEW.resolve(b"../../lib/x") == b"usr/lib/x"


def test_absolute_links_start_at_the_image_root() -> None:
    found = VIEW.find_file(b"absolute")
    assert found is not None
    assert found.path == b"usr/lib/x"


def test_a_loop_ends() -> None:
    assert VIEW.find_file(b"loop") is None


def test_what_is_missing_stays_as_it_is() -> None:
    assert VIEW.resolve(b"lib/a/../b") == b"usr/lib/b"
    assert VIEW.find(b"nothing") is None


def test_below_is_what_begins_with_the_folder_and_a_slash() -> None:
    view = ImageView(entry(path, stat.S_IFREG) for path in (".", "a", "a-b", "a/b", "a/b/c", "a/~", "a0", "b"))
    assert [found.path for found in view.below(b"a")] == [b"a/b", b"a/b/c", b"a/~"]
    assert list(view.below(b"a/b/c")) == []


def test_what_is_added_is_found() -> None:
    view = ImageView([entry("a", stat.S_IFDIR)])
    assert list(view.below(b"a")) == []
    view.add(entry("a/b", stat.S_IFLNK, "c"))
    assert [found.path for found in view.below(b"a")] == [b"a/b"]
    assert view.resolve(b"a/b") == b"a/c"
