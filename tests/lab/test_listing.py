"""Comparing a node's tree with the image: everything that is odd arrives in the comparison, and nothing altered passes."""

import os
import subprocess
import tarfile
from dataclasses import replace
from io import BytesIO
from pathlib import Path

import pytest
from listing import LISTING, BadListing, Entry, differences, parse, scan
from odd_tree import NAMES, add_odd_tree, capability
from roots import copy_tiny

from images.compress import Compression

pytestmark = [pytest.mark.lab, pytest.mark.root]

Tree = dict[bytes, Entry]
LOG = b"/var/log/lastlog"


@pytest.fixture(scope="module")
def odd(tiny_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = copy_tiny(tiny_root, tmp_path_factory.mktemp("lab") / "odd", Compression.ZSTD)
    add_odd_tree(root)
    return root


@pytest.fixture(scope="module")
def sent(odd: Path) -> bytes:
    """What the node's own script says of the odd tree, with the node's own programs; here in a chroot."""
    done = subprocess.run(
        ["chroot", odd, "/bin/sh", "-c", LISTING], env={"PATH": "/usr/sbin:/bin:/usr/bin"}, capture_output=True
    )
    assert done.returncode == 0
    assert done.stderr == b""
    return done.stdout


@pytest.fixture(scope="module")
def arrived(sent: bytes, expected: Tree) -> Tree:
    """With the sparse log as it is built: empty."""
    tree = parse(sent)
    assert tree[LOG].size == 300_000_000
    return {**tree, LOG: replace(tree[LOG], size=0, digest=expected[LOG].digest)}


@pytest.fixture(scope="module")
def expected(odd: Path) -> Tree:
    return scan(odd)


def test_the_nodes_own_listing_is_what_scan_finds(expected: Tree, arrived: Tree) -> None:
    assert list(differences(expected, arrived)) == []
    assert len(expected) > 3000


def test_the_odd_tree_is_odd(expected: Tree) -> None:
    """Else "no difference" would say nothing."""
    tree, odd = expected, b"/odd/attributes/"
    assert tree[odd + b"ping"].xattrs == ((b"security.capability", capability(13)),)
    assert tree[odd + b"new\nline \\ \xff"].same_as == odd + b"linked to it"
    assert [name for name, _ in tree[odd + b"shared"].xattrs] == [
        *(b"security.odd", b"system.posix_acl_access", b"system.posix_acl_default")
    ]
    assert tree[odd + b"high ids"].uid == 0xFFFFFFFE
    assert tree[odd + b"setuid"].mode == 0o104755
    assert tree[b"/odd/special/disk"].rdev == (259, 1_000_000)
    assert tree[b"/odd/z/below/3"].links == 4
    assert tree[b"/odd/bulk/19/link"].same_as == b"/odd/bulk/00/file-000"
    assert tree[b"/odd/z/fifo"].same_as == b"/odd/links/fifo"
    assert len(tree[b"/odd/symlinks/10"].target) > 4000
    assert all(b"/odd/names/files/" + name in tree for name in NAMES)
    assert max(map(len, tree)) > 1900
    assert sum(path.startswith(b"/odd/large/") for path in tree) == 2000
    assert len({entry.mtime for entry in tree.values()}) > 2500
    assert sum(entry.size for path, entry in tree.items() if path.startswith(b"/odd/bulk/")) > 40_000_000


@pytest.mark.parametrize(
    ("path", "change", "words"),
    [
        (b"/odd/large/entry-0000", {"mode": 0o100600}, "mode is 0o100600 on the node and 0o100644 in the image"),
        (b"/odd/attributes/ping", {"xattrs": ()}, "xattrs is () on the node"),
        (b"/odd/attributes/shared", {"xattrs": ((b"security.odd", b""),)}, "xattrs is"),
        (b"/odd/attributes/high ids", {"uid": 0xFFFE}, "uid is 65534 on the node"),
        (b"/odd/attributes/high ids", {"gid": 0}, "gid is 0 on the node"),
        (b"/odd/special/zero", {"rdev": (1, 3)}, "rdev is (1, 3) on the node"),
        (b"/odd/z/fifo", {"links": 1, "same_as": b""}, "links is 1 on the node and 2 in the image, same_as is"),
        (b"/odd/symlinks/00", {"target": b"/bin/sh"}, "target is"),
        (b"/odd/bulk/07/file-140", {"digest": "0" * 64}, "digest is"),
        (b"/odd/sparse", {"size": 5}, "size is 5 on the node"),
        (b"/odd/empty folder", {"mtime": 0}, "mtime is 0 on the node"),
        (b"/odd/names/files/new\nline", {"mtime": 0}, "/odd/names/files/new\\nline: mtime is"),
    ],
)
def test_each_altered_field_is_told(expected: Tree, path: bytes, change: dict[str, object], words: str) -> None:
    altered = {**expected, path: replace(expected[path], **change)}  # type: ignore[arg-type]
    (line,) = differences(expected, altered)
    assert words in line


def test_what_is_missing_or_besides_is_told(expected: Tree) -> None:
    more = {**expected, b"/new": expected[LOG], b"/.bootsvc/generation": expected[LOG]}
    del more[b"/odd/deep/d"]
    assert list(differences(expected, more)) == [
        "/new is on the node, and not in the image",
        "/odd/deep/d is missing on the node",
    ]
    assert list(differences(expected, more, (b"/new", b"/odd/deep"))) == []


def _write(path: Path) -> None:
    before = path.stat()
    path.write_bytes(path.read_bytes()[:-1] + b"?")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _unlink(path: Path) -> None:
    before, folder = path.stat(), path.parent.stat()
    content = path.read_bytes()
    path.unlink()
    path.write_bytes(content)
    os.chown(path, before.st_uid, before.st_gid)
    path.chmod(before.st_mode & 0o7777)
    os.utime(path, ns=(0, before.st_mtime_ns))
    os.utime(path.parent, ns=(0, folder.st_mtime_ns))


def test_a_real_alteration_is_told(odd: Path, arrived: Tree) -> None:
    top = odd / "odd"
    _write(top / "large/entry-0001")
    (top / "large/entry-0002").chmod(0o4644)
    os.removexattr(top / "attributes/ping", "security.capability")
    _unlink(top / "a/1")
    found = dict(line.split(": ", 1) for line in differences(scan(odd), arrived))
    assert found.pop("/odd/large/entry-0001").startswith("digest is")
    assert found.pop("/odd/large/entry-0002") == "mode is 0o100644 on the node and 0o104644 in the image"
    assert found.pop("/odd/attributes/ping").endswith("in the image")
    assert found.pop("/odd/a/1").startswith("links is 4 on the node and 1 in the image, same_as is")
    # The other names have a link less, and another first path.
    assert found.keys() == {"/odd/links/four names", "/odd/z/2", "/odd/z/below/3"}


def _tar(files: dict[str, bytes]) -> bytes:
    buffer = BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, BytesIO(content))
    return buffer.getvalue()


FIFO = b"11a4 0 0 1 0 5 0 0 1:7 /x\n"


@pytest.mark.parametrize(
    ("files", "sentence"),
    [
        ({"names": b""}, "cannot be read"),
        ({"names": b"/x", "stats": FIFO, "digests": b"", "xattrs": b""}, "breaks off"),
        ({"names": b"/x\0", "stats": b"", "digests": b"", "xattrs": b""}, "stat of b'/x' cannot be read"),
        ({"names": b"/y\0", "stats": FIFO, "digests": b"", "xattrs": b""}, "of another path"),
        ({"names": b"/x\0", "stats": FIFO * 2, "digests": b"", "xattrs": b""}, "more lines than paths"),
        ({"names": b"/x\0", "stats": FIFO, "digests": b"0" * 64 + b"  /x\n", "xattrs": b""}, "more lines than files"),
        ({"names": b"/x\0", "stats": b"8" + FIFO[1:], "digests": b"", "xattrs": b""}, "sha256 of b'/x' cannot be read"),
        ({"names": b"/x\0", "stats": FIFO, "digests": b"", "xattrs": b"# file: /y\na.b=0x00\n\n"}, "an unknown path: b'/y'"),
        (
            {"names": b"/x\0", "stats": FIFO, "digests": b"", "xattrs": b"# file: /x\na.b=broken\n\n"},
            "attributes cannot be read",
        ),
    ],
)
def test_a_listing_that_is_not_whole_is_refused(files: dict[str, bytes], sentence: str) -> None:
    with pytest.raises(BadListing, match=sentence):
        parse(_tar(files))


def test_a_cut_listing_is_refused(sent: bytes) -> None:
    for part in (0.1, 0.5, 0.9):
        with pytest.raises(BadListing):
            parse(sent[: int(len(sent) * part)])
