"""What differs between two indexes: every aspect, and nothing that a built image does not hold."""

import msgspec
import pytest

from images.diff import compare
from images.index import Entry

FILE = Entry(
    path=b"etc/f",
    mode=0o100644,
    inode=1,
    uid=0,
    gid=0,
    size=3,
    nlink=1,
    rdev=0,
    mtime_ns=5_000_000_000,
    ctime_ns=7,
    digest=b"x",
)


def test_added_and_removed() -> None:
    other = msgspec.structs.replace(FILE, path=b"etc/g", size=10)
    found = compare([FILE], [other])
    assert [(c.path, c.growth) for c in found.added] == [(b"etc/g", 10)]
    assert [(c.path, c.growth) for c in found.removed] == [(b"etc/f", -3)]
    assert (found.changed, found.times_only, found.empty) == ((), 0, False)


@pytest.mark.parametrize(
    ("change", "aspects"),
    [
        ({"digest": b"y", "size": 5}, ("content",)),
        ({"mode": 0o100600}, ("mode",)),
        ({"uid": 1}, ("owner",)),
        ({"gid": 1}, ("owner",)),
        ({"xattrs": ((b"security.capability", b"v"),)}, ("xattrs",)),
        ({"mode": 0o120777, "target": b"t", "size": 0, "digest": b""}, ("type", "mode")),
        ({"mode": 0o104755, "digest": b"y", "uid": 3}, ("content", "mode", "owner")),
    ],
)
def test_aspects(change: dict[str, object], aspects: tuple[str, ...]) -> None:
    new = msgspec.structs.replace(FILE, **change)
    found = compare([FILE], [new])
    assert [(c.path, c.aspects, c.old, c.new) for c in found.changed] == [(b"etc/f", aspects, FILE, new)]
    assert (found.added, found.removed, found.times_only) == ((), (), 0)


def test_links_and_devices() -> None:
    link = msgspec.structs.replace(FILE, mode=0o120777, target=b"a", size=0, digest=b"")
    device = msgspec.structs.replace(link, mode=0o020644, target=b"", rdev=5)
    assert compare([link], [msgspec.structs.replace(link, target=b"b")]).changed[0].aspects == ("target",)
    assert compare([device], [msgspec.structs.replace(device, rdev=6)]).changed[0].aspects == ("device",)


@pytest.mark.parametrize("change", [{"inode": 9}, {"ctime_ns": 9}, {"nlink": 2}, {"mtime_ns": 5_999_999_999}, {}])
def test_what_an_image_does_not_hold_is_no_difference(change: dict[str, int]) -> None:
    assert compare([FILE], [msgspec.structs.replace(FILE, **change)]).empty


def test_times_are_counted_only() -> None:
    found = compare([FILE], [msgspec.structs.replace(FILE, mtime_ns=6_000_000_000)])
    assert (found.changed, found.times_only, found.empty) == ((), 1, False)
