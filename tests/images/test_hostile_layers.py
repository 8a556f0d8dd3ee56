"""Layers that try to harm: each gives a stated tree or a stated error, and never touches anything outside of its root.

tests/images/test_layers.py has the simpler ones (`_hostile`), tests/images/test_tar.py broken headers.
"""

import asyncio
import gzip
import io
import os
import resource
import stat
import subprocess
import tarfile
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import oci_image as oci
import pytest
import zstandard
from layered import read_blob

from images.catalog import Catalog
from images.errors import Error
from images.excludes import Excludes
from images.importer import Mode, import_image
from images.layers import Layer, MalformedLayer
from images.pax import MAX_EXTENSION, MalformedTar
from images.provenance import Provenance
from images.rootfs import UnsafePath, remove_tree
from images.scan import scan
from images.source.unpacking import unpack_layers
from images.tree import UnpackFailed

pytestmark = pytest.mark.root

PLACES = {"mode": 100, "uid": 108, "gid": 116, "size": 124, "mtime": 136, "linkname": 157, "major": 329, "minor": 337}


def header(name: bytes, kind: bytes = b"0", size: int = 0, **fields: bytes) -> bytes:
    """A ustar header that says exactly this, whatever sense it makes."""
    block = bytearray(512)
    block[: len(name)] = name
    for field, value in ({"mode": b"0000644", "size": b"%011o" % size} | fields).items():
        block[PLACES[field] : PLACES[field] + len(value)] = value
    block[156:157] = kind
    block[257:265] = b"ustar\00000"
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def extension(kind: bytes, text: bytes) -> bytes:
    return header(b"extension", kind, len(text)) + padded(text)


def pax(**records: bytes) -> bytes:
    """An extended header; `__` in a key stands for a dot."""
    text = b""
    for key, value in records.items():
        record = b" %s=%s\n" % (key.replace("__", ".").encode(), value)
        length = len(record) + 1
        while len(b"%d" % length) + len(record) != length:
            length += 1
        text += b"%d%s" % (length, record)
    return extension(b"x", text)


END = bytes(1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """Layers (members, or the tar's bytes) and what comes of them: a tree as `describe` shows it, or an error."""

    layers: Sequence[Sequence[oci.Member] | bytes]
    tree: dict[str, str] | None = None
    error: type[Error] | None = None
    sentence: str = ""


def describe(root: Path) -> dict[str, str]:
    """Every entry but plain directories 0755 as `d`, files as mode and contents, links as their target."""
    found = {}
    entries = [Path(folder, name) for folder, folders, names in os.walk(root) for name in (*folders, *names)]
    for path in sorted(entries):
        status = path.lstat()
        name = os.fsencode(path.relative_to(root)).decode("latin-1")
        mode = f"{stat.S_IMODE(status.st_mode):o}"
        match stat.S_IFMT(status.st_mode):
            case stat.S_IFDIR:
                found[name] = "d" if mode == "755" else f"d {mode}"
            case stat.S_IFLNK:
                found[name] = f"-> {os.readlink(path)}"
            case stat.S_IFREG:
                found[name] = f"{mode} {path.read_bytes()[:40].decode('latin-1')}"
            case stat.S_IFCHR:
                found[name] = f"c {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
            case stat.S_IFBLK:
                found[name] = f"b {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"
            case _:
                found[name] = "other"
    return found


def device(name: str, major: int, minor: int, kind: bytes = tarfile.CHRTYPE) -> oci.Member:
    return oci.Member(name, type=kind, device=(major, minor))


def links(outside: str) -> dict[str, Case]:
    far = "../" * 30 + outside.lstrip("/")
    return {
        "a chain of absolute links within": Case(
            layers=[[oci.directory("c"), oci.symlink("b", "/c"), oci.symlink("a", "/b/../b"), oci.Member("a/x", b"1")]],
            tree={"a": "-> /b/../b", "b": "-> /c", "c": "d", "c/x": "644 1"},
        ),
        "a link to the root": Case(
            layers=[[oci.symlink("l", "/"), oci.Member("l/etc/passwd", b"1")]],
            tree={"l": "-> /", "etc": "d", "etc/passwd": "644 1"},
        ),
        "a link replaces the parent in the middle of a layer": Case(
            layers=[[oci.Member("d/a"), oci.symlink("d", outside), oci.Member("d/precious", b"evil")]],
            error=UnsafePath,
            sentence="entry 'd/precious' goes through the link 'd' to '.*', which points at nothing in the image",
        ),
        "a link replaces the grandparent in the middle of a layer": Case(
            layers=[[oci.Member("a/b/c/1"), oci.symlink("a/b", far), oci.Member("a/b/c/2")]],
            error=UnsafePath,
            sentence="entry 'a/b/c/2' goes through the link 'a/b' to '.*', which points outside the image",
        ),
        "a link of a lower layer": Case(
            layers=[[oci.symlink("d", far)], [oci.Member("d/precious", b"evil")]],
            error=UnsafePath,
            sentence="entry 'd/precious' goes through the link 'd' to '.*', which points outside the image",
        ),
        "a link of a lower layer becomes a directory": Case(
            layers=[[oci.symlink("d", far)], [oci.directory("d"), oci.Member("d/precious", b"1")]],
            tree={"d": "d", "d/precious": "644 1"},
        ),
        "a file over a link": Case(
            layers=[[oci.symlink("f", f"{far}/precious"), oci.Member("f", b"evil")]], tree={"f": "644 evil"}
        ),
        "a link to a link is not followed when written over": Case(
            layers=[[oci.symlink("f", f"{far}/precious"), oci.hardlink("h", "f"), oci.Member("h", b"evil")]],
            tree={"f": f"-> {far}/precious", "h": "644 evil"},
        ),
        "a hard link to a link that leads out": Case(
            layers=[[oci.symlink("f", f"{far}/precious"), oci.hardlink("h", "f")]],
            tree={"f": f"-> {far}/precious", "h": f"-> {far}/precious"},
        ),
        "a hard link to itself": Case(
            layers=[[oci.Member("f", b"1"), oci.hardlink("f", "f"), oci.hardlink("./f", "/f")]], tree={"f": "644 1"}
        ),
        "links that multiply": Case(
            layers=[
                [
                    oci.directory("l0"),
                    *(oci.symlink(f"l{n}", f"l{n - 1}/../l{n - 1}") for n in range(1, 30)),
                    oci.Member("l29/x"),
                ]
            ],
            error=UnsafePath,
            sentence="too many other links",
        ),
        "the kernel's own links": Case(
            layers=[[oci.symlink("l", "/proc/self/root"), oci.Member("l/etc/passwd")]],
            error=UnsafePath,
            sentence="which points at nothing in the image",
        ),
        "below a device": Case(
            layers=[[device("n", 1, 3), oci.Member("n/x")]], error=UnsafePath, sentence="lies below 'n', which is no directory"
        ),
        "a link with a target of 4095 bytes": Case(layers=[[oci.symlink("l", "t" * 4095)]], tree={"l": "-> " + "t" * 4095}),
        "a link with a target of 4096 bytes": Case(
            layers=[[oci.symlink("l", "t" * 4096)]],
            error=UnpackFailed,
            sentence="cannot write 'l' into the image: File name too long",
        ),
    }


def whiteouts(outside: str) -> dict[str, Case]:
    lower = [oci.directory("d"), oci.Member("d/a", b"1"), oci.Member("d/b", b"2"), oci.Member("f", b"3")]
    everything = {"d": "d", "d/a": "644 1", "d/b": "644 2", "f": "644 3"}
    linked = [oci.directory("usr/lib"), oci.Member("usr/lib/x", b"1"), oci.symlink("lib", "usr/lib")]
    kinds = {
        "a directory": oci.directory("d/.wh..wh..opq"),
        "a link": oci.symlink("d/.wh..wh..opq", outside),
        "a hard link": oci.hardlink("d/.wh..wh..opq", "f"),
        "a device": device("d/.wh..wh..opq", 0, 0),
    }
    return {
        **{
            f"the opaque mark is {kind}": Case(layers=[lower, [member]], tree={"d": "d", "f": "644 3"})
            for kind, member in kinds.items()
        },
        "the whiteout is a directory": Case(
            layers=[lower, [oci.directory("d/.wh.a")]], tree={"d": "d", "d/b": "644 2", "f": "644 3"}
        ),
        "the whiteout is a hard link": Case(
            layers=[lower, [oci.hardlink("d/.wh.a", ".wh..wh.aufs")]], tree={"d": "d", "d/b": "644 2", "f": "644 3"}
        ),
        "the whole root is hidden": Case(
            layers=[lower, [oci.Member("/.wh..wh..opq"), oci.Member("new")]], tree={"new": "644 "}
        ),
        "the whole root is hidden after what is new": Case(
            layers=[lower, [oci.Member("new"), oci.Member("./.wh..wh..opq")]], tree={"new": "644 "}
        ),
        "a whiteout of the root": Case(
            layers=[lower, [oci.Member("/.wh.")]], error=UnsafePath, sentence="entry '.wh.' is a whiteout of nothing"
        ),
        "a whiteout of the parent": Case(
            layers=[lower, [oci.Member("d/.wh...")]], error=UnsafePath, sentence="entry 'd/.wh...' is a whiteout of nothing"
        ),
        "a whiteout below an opaque mark": Case(
            layers=[lower, [oci.Member("d/.wh..wh..opq/.wh.a")]], error=UnsafePath, sentence="lies below a whiteout"
        ),
        "a file below an opaque mark": Case(
            layers=[lower, [oci.Member("d/.wh..wh..opq/x")]], error=UnsafePath, sentence="lies below a whiteout"
        ),
        "names that only look like whiteouts": Case(
            layers=[[oci.Member("a.wh.b"), oci.Member(".whx"), oci.Member("x/.wh")], [oci.Member(".wh.a.wh.b")]],
            tree={".whx": "644 ", "x": "d", "x/.wh": "644 "},
        ),
        "through a link within": Case(
            layers=[linked, [oci.Member("lib/.wh.x")]], tree={"usr": "d", "usr/lib": "d", "lib": "-> usr/lib"}
        ),
        "opaque through a link within": Case(
            layers=[linked, [oci.Member("lib/.wh..wh..opq")]], tree={"usr": "d", "usr/lib": "d", "lib": "-> usr/lib"}
        ),
        "through a link within, and there again": Case(
            layers=[linked, [oci.Member("lib/.wh.x"), oci.Member("usr/lib/x", b"2")]],
            tree={"usr": "d", "usr/lib": "d", "usr/lib/x": "644 2", "lib": "-> usr/lib"},
        ),
        "of a link that leads out": Case(
            layers=[[oci.symlink("l", outside), oci.Member("f", b"3")], [oci.Member(".wh.l")]], tree={"f": "644 3"}
        ),
        "hidden, there again, hidden again": Case(
            layers=[lower, [oci.Member("d/.wh.a")], [oci.Member("d/a", b"4")], [oci.Member("d/.wh.a")]],
            tree={"d": "d", "d/b": "644 2", "f": "644 3"},
        ),
        "a directory is hidden, then a link, then below it": Case(
            layers=[lower, [oci.Member(".wh.d"), oci.symlink("d", outside), oci.Member("d/precious")]],
            error=UnsafePath,
            sentence="which points at nothing in the image",
        ),
        "the same whiteout a thousand times": Case(
            layers=[lower, [oci.Member(".wh.gone") for _ in range(1000)]], tree=everything
        ),
    }


def entries() -> dict[str, Case]:
    return {
        "a device over a file": Case(layers=[[oci.Member("f", b"1")], [device("f", 1, 3)]], tree={"f": "c 1:3"}),
        "a file over a device is not written into it": Case(
            layers=[[device("f", 1, 3), device("g", 7, 0, tarfile.BLKTYPE)], [oci.Member("f", b"1"), oci.Member("g", b"2")]],
            tree={"f": "644 1", "g": "644 2"},
        ),
        "a file over a second name of a device": Case(
            layers=[[device("f", 1, 3), oci.hardlink("h", "f"), oci.Member("h", b"1")]], tree={"f": "c 1:3", "h": "644 1"}
        ),
        "overlayfs's own mark for nothing": Case(layers=[[oci.Member("f", b"1")], [device("f", 0, 0)]], tree={"f": "c 0:0"}),
        "one name, many times": Case(
            layers=[
                [
                    oci.Member("n", b"1"),
                    oci.directory("n", mode=0o700),
                    oci.Member("n/x", b"2"),
                    oci.symlink("n", "n"),
                    oci.Member("n", b"3"),
                    oci.Member("n", b"4", mode=0o600),
                ]
            ],
            tree={"n": "600 4"},
        ),
        "one directory, many times": Case(
            layers=[
                [oci.directory("d", mode=0), oci.Member("d/x", b"1"), oci.directory("d", mode=0o1777), oci.directory("./d//")]
            ],
            tree={"d": "d", "d/x": "644 1"},
        ),
        "set-ID bits": Case(
            layers=[[oci.Member("s", b"1", mode=0o6755, uid=5, gid=6), oci.directory("t", mode=0o3777)]],
            tree={"s": "6755 1", "t": "d 3777"},
        ),
        "the root in all its names": Case(
            layers=[[oci.directory("."), oci.directory("./"), oci.directory("/"), oci.directory("./."), oci.Member("/./f")]],
            tree={"f": "644 "},
        ),
        "the root as a file": Case(
            layers=[header(b"/", size=1) + padded(b"x") + END], error=UnsafePath, sentence="makes the root a file"
        ),
        "no name": Case(layers=[header(b"") + END], error=MalformedLayer, sentence="has no usable name"),
        "a socket": Case(layers=[header(b"s", b"s") + END], error=MalformedLayer, sentence="unknown type b's'"),
        "odd bytes in names": Case(
            layers=[pax(path=b"a\nb\\\x1b[31m/\xff\xfe") + header(b"x") + END],
            tree={"a\nb\\\x1b[31m": "d", "a\nb\\\x1b[31m/\xff\xfe": "644 "},
        ),
        "one name of 255 bytes": Case(layers=[[oci.Member("n" * 255)]], tree={"n" * 255: "644 "}),
        "one name of 4096 bytes": Case(
            layers=[[oci.Member("n" * 4096)]], error=UnsafePath, sentence=r"entry 'n+\.\.\.n+' has too long a path"
        ),
        "GNU's name of 4096 bytes": Case(
            layers=[extension(b"L", b"n/" * 2048) + header(b"x") + END], error=UnsafePath, sentence="has too long a path"
        ),
        "10 000 nested directories in one name": Case(
            layers=[[oci.directory("d/" * 10_000)]], error=UnsafePath, sentence="has too long a path"
        ),
        "10 000 nested directories, one by one": Case(
            layers=[[oci.directory("/".join(["d"] * depth)) for depth in range(1, 10_001, 97)]],
            error=UnsafePath,
            sentence="lies below more than 512 directories",
        ),
        "10 000 nested directories through links": Case(
            layers=[
                [
                    oci.directory("/".join(["d"] * 500)),
                    *(oci.symlink(f"l{n}", "/".join([f"l{n - 1}" if n else "d", *["d"] * 499])) for n in range(20)),
                    *(oci.directory(f"l{n}/" + "/".join(["d"] * 500)) for n in range(20)),
                ]
            ],
            error=UnsafePath,
            sentence="lies below more than 512 directories",
        ),
    }


def pax_oddities() -> dict[str, Case]:
    file = header(b"f", size=3) + padded(b"abc")
    many = extension(b"x", b"".join(b"%d %07d=%s\n" % (1000, n, b"v" * 986) for n in range(1000)))
    return {
        "unknown records": Case(
            layers=[pax(whatever=b"\0\xff", RHT__security__selinux=b"x") + file + END], tree={"f": "644 abc"}
        ),
        "an empty path": Case(layers=[pax(path=b"") + file + END], tree={"f": "644 abc"}),
        "a path of dots": Case(layers=[pax(path=b"a/../../f") + file + END], error=UnsafePath, sentence="'..' in its path"),
        "a path that is absolute": Case(layers=[pax(path=b"//f") + file + END], tree={"f": "644 abc"}),
        "a path with a NUL": Case(layers=[pax(path=b"f\0g") + file + END], error=MalformedLayer, sentence="no usable name"),
        "a target with a NUL": Case(
            layers=[pax(linkpath=b"a\0b") + header(b"l", b"2") + END],
            error=MalformedLayer,
            sentence="no usable name or link target",
        ),
        "a negative size": Case(layers=[pax(size=b"-3") + file + END], error=MalformedLayer, sentence="is not a number"),
        "a size that no archive has": Case(
            layers=[pax(size=b"9223372036854775807") + file + END],
            error=MalformedLayer,
            sentence="ends in the middle of an entry",
        ),
        "a size beyond 64 bits": Case(
            layers=[pax(size=b"18446744073709551616") + file + END], error=MalformedLayer, sentence="is not a number"
        ),
        "another size than the header's": Case(
            layers=[pax(size=b"3") + header(b"f", size=512) + padded(b"abc") + header(b"g") + END],
            tree={"f": "644 abc", "g": "644 "},
        ),
        "a smaller size, so that contents are read as headers": Case(
            layers=[pax(size=b"0") + header(b"f", size=512) + header(b"../evil") + END],
            error=UnsafePath,
            sentence="'..' in its path",
        ),
        "a time beyond all file systems": Case(
            layers=[pax(mtime=b"9" * 18) + header(b"f", mtime=b"77777777777") + END], tree={"f": "644 "}
        ),
        "an attribute larger than any": Case(
            layers=[pax(SCHILY__xattr__user__big=b"v" * 70_000) + file + END],
            error=UnpackFailed,
            sentence="cannot write 'f' into the image: Argument list too long",
        ),
        "an attribute of a name that none has": Case(
            layers=[pax(**{"SCHILY__xattr__" + "n" * 300: b"v"}) + file + END],
            error=UnpackFailed,
            sentence="cannot write 'f' into the image: ",
        ),
        "a sparse file of 4 exbibytes": Case(
            layers=[
                pax(GNU__sparse__major=b"1", GNU__sparse__minor=b"0", GNU__sparse__realsize=b"%d" % (1 << 62))
                + header(b"f", size=512)
                + padded(b"0\n")
                + END
            ],
            error=UnpackFailed,
            sentence="cannot write 'f' into the image: File too large",
        ),
        "extended headers without end": Case(
            layers=[many * 40 + file + END], error=MalformedLayer, sentence="extension headers of more than"
        ),
        "an extended header that is too large": Case(
            layers=[header(b"x", b"x", MAX_EXTENSION + 1) + END], error=MalformedLayer, sentence="an extension header of"
        ),
        "long names without end": Case(
            layers=[extension(b"L", b"n" * 2000) * 2000 + extension(b"L", b"f") + file + END], tree={"f": "644 abc"}
        ),
    }


OUTSIDE = "/hostile-layers-outside"
"""Stands for the folder beside the root in the cases' names; each test replaces it."""
CASES = {**links(OUTSIDE), **whiteouts(OUTSIDE), **entries(), **pax_oddities()}


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """A root to unpack into, and beside it what must stay as it is."""

    root: Path
    outside: Path
    blobs: Path

    def unpack(self, layers: Sequence[Any], pack: Callable[[bytes], bytes] = gzip.compress) -> None:
        asyncio.run(self.unpack_here(layers, pack))

    async def unpack_here(self, layers: Sequence[Any], pack: Callable[[bytes], bytes] = gzip.compress) -> None:
        described = []
        for number, layer in enumerate(layers):
            data = layer if isinstance(layer, bytes) else oci.layer(layer)
            blob = self.blobs / f"blob{number}"
            blob.write_bytes(pack(data))
            described.append(Layer(digest=oci.digest(blob.read_bytes()), diff_id=oci.digest(data), path=blob))
        await unpack_layers(described, self.root, lambda event: None)


@pytest.fixture
def stage(tmp_path: Path, snapshot: Callable[..., object]) -> Iterator[Stage]:
    """Afterwards the sentinel is as it was: bytes, modes, owners, times, and no entry more."""
    made = Stage(root=tmp_path / "stage/rootfs", outside=tmp_path / "outside", blobs=tmp_path / "blobs")
    made.root.mkdir(parents=True)
    made.blobs.mkdir()
    (made.outside / "sub").mkdir(parents=True)
    (made.outside / "precious").write_bytes(b"gold")
    (made.outside / "precious").chmod(0o400)
    before = snapshot(made.outside)
    listing = sorted(os.listdir(tmp_path))
    root_of_host = sorted(os.listdir("/"))
    yield made
    assert snapshot(made.outside) == before
    assert sorted(os.listdir(tmp_path)) == listing
    assert os.listdir(tmp_path / "stage") in (["rootfs"], [])
    assert sorted(os.listdir("/")) == root_of_host


@pytest.mark.parametrize("name", CASES)
def test_hostile_layers(stage: Stage, name: str) -> None:
    outside = str(stage.outside)
    case = (links(outside) | whiteouts(outside) | entries() | pax_oddities())[name]
    if case.error is None:
        stage.unpack(case.layers)
        assert describe(stage.root) == case.tree
        return
    with pytest.raises(case.error, match=case.sentence) as caught:
        stage.unpack(case.layers)
    assert type(caught.value) is case.error
    assert caught.value.hint
    assert "\n" not in caught.value.message
    assert len(caught.value.message) < 600


def test_every_tree_that_is_unpacked_can_be_read_and_removed(stage: Stage) -> None:
    stage.unpack([[oci.Member("/".join(["d"] * 512) + "/f", b"x", mtime=7)]])
    entries = scan(stage.root, excludes=Excludes([]))
    assert len(entries) == 514
    assert {entry.mtime_ns for entry in entries if entry.path != b"."} == {7 * 10**9}
    remove_tree(stage.root)
    assert not stage.root.exists()


def test_a_tree_deeper_than_the_stack_and_the_descriptors_can_be_removed(tmp_path: Path) -> None:
    """As a command in an image may leave it behind."""
    (tmp_path / "tree").mkdir()
    below = os.open(tmp_path / "tree", os.O_RDONLY)
    for _ in range(3000):
        above = below
        os.mkdir("dddddddd", dir_fd=above)
        below = os.open("dddddddd", os.O_RDONLY, dir_fd=above)
        os.close(above)
    os.close(below)
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (256, limit[1]))
    try:
        remove_tree(tmp_path / "tree")
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
    assert os.listdir(tmp_path) == []


def test_removing_follows_no_link(stage: Stage) -> None:
    stage.unpack([[oci.symlink("l", str(stage.outside)), oci.symlink("d/m", str(stage.outside))]])
    remove_tree(stage.root)
    assert not stage.root.exists()


def test_a_staging_folder_as_deep_as_can_be_vanishes(tmp_path: Path) -> None:
    catalog = Catalog(chroots=tmp_path / "chroots", provision=tmp_path / "provision")
    (tmp_path / "blobs").mkdir()
    layers = [[oci.directory("/".join(["d"] * 500)), oci.Member("../evil")]]

    def unpack() -> None:
        with catalog.stage("img") as staging:
            Stage(root=staging.rootfs, outside=tmp_path, blobs=tmp_path / "blobs").unpack(layers)

    with pytest.raises(UnsafePath):
        unpack()
    assert [path for path in (tmp_path / "chroots").iterdir() if path.is_dir()] == []


def bomb(size: int) -> bytes:
    """A gzip layer with one file of so many zeros, made without having them in memory."""
    packed = io.BytesIO()
    with gzip.GzipFile(fileobj=packed, mode="wb", compresslevel=9, mtime=0) as stream:
        stream.write(header(b"zeros", size=size))
        for _ in range(size >> 20):
            stream.write(bytes(1 << 20))
        stream.write(END)
    return packed.getvalue()


def test_a_bomb_ends_with_the_disk_and_takes_no_memory(stage: Stage) -> None:
    """There is no limit but the disk: a layer of nothing but zeros may be what somebody wants."""
    packed = bomb(256 << 20)
    assert len(packed) < 1 << 20, "it is one"
    blob = stage.blobs / "bomb"
    blob.write_bytes(packed)
    described = Layer(digest=oci.digest(packed), diff_id="sha256:" + "0" * 64, path=blob)
    mounted = stage.root.parent
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "bomb", mounted], check=True)
    tracemalloc.start()
    try:
        stage.root.mkdir()
        with pytest.raises(UnpackFailed) as caught:
            asyncio.run(unpack_layers([described], stage.root, lambda event: None))
        assert os.listdir(mounted) == ["rootfs"]
        with pytest.raises(UnpackFailed):
            read_blob(blob, stage.root)
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()
        subprocess.run(["umount", mounted], check=True)
    assert caught.value.message == "cannot write 'zeros' into the image: No space left on device"
    assert caught.value.hint == "free some space on the file system of the images"


def test_extension_headers_take_no_memory(stage: Stage) -> None:
    case = pax_oddities()["extended headers without end"]
    packed = [gzip.compress(layer) for layer in case.layers if isinstance(layer, bytes)]
    del case
    (stage.blobs / "blob").write_bytes(packed[0])
    described = Layer(digest=oci.digest(packed[0]), diff_id="sha256:" + "0" * 64, path=stage.blobs / "blob")
    tracemalloc.start()
    try:
        with pytest.raises(MalformedLayer):
            asyncio.run(unpack_layers([described], stage.root, lambda event: None))
        with pytest.raises(MalformedTar):
            read_blob(described.path, stage.root)
        assert tracemalloc.get_traced_memory()[1] < 24 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("pack", "sentence"),
    [
        (lambda data: gzip.compress(gzip.compress(data)), "this is no header|checksum"),
        (lambda data: b"\x28\xb5\x2f\xfd\x00\xa0\x01\x00\x00", "cannot be decompressed"),
        (lambda data: zstandard.compress(data)[:-3] + b"\x00\x00\x00", "cannot be decompressed|middle of an entry|digest"),
        (lambda data: b"", "the image says"),
    ],
    ids=["packed twice", "a window of 1 GiB", "zstd cut", "nothing"],
)
def test_packings_that_are_none(stage: Stage, pack: Callable[[bytes], bytes], sentence: str) -> None:
    with pytest.raises(MalformedLayer, match=sentence):
        stage.unpack([[oci.Member("f", os.urandom(5000))]], pack=pack)


@dataclass(frozen=True, slots=True, kw_only=True)
class HostileSource:
    """Gives these layers as a registry would."""

    stage: Stage
    layers: Sequence[Any]
    default_name: str = "hostile"

    async def find_digest(self) -> str | None:
        return None

    async def unpack(self, rootfs: Path, progress: object) -> Provenance:
        await Stage(root=rootfs, outside=self.stage.outside, blobs=self.stage.blobs).unpack_here(self.layers)
        return Provenance(reference="test:hostile")


@pytest.mark.parametrize("name", [name for name, case in CASES.items() if case.error is not None])
async def test_a_hostile_import_leaves_the_image_that_was_there(
    stage: Stage, snapshot: Callable[..., object], name: str
) -> None:
    catalog = Catalog(chroots=stage.root / "chroots", provision=stage.root / "provision")
    (catalog.chroots / "img/rootfs/bin").mkdir(parents=True)
    (catalog.chroots / "img/rootfs/bin/sh").write_text("the old one")
    before = snapshot(catalog.chroots / "img")
    source = HostileSource(stage=stage, layers=CASES[name].layers)
    with pytest.raises(Error):
        await import_image(catalog, "img", source, lambda event: None, mode=Mode.REPLACE)
    assert snapshot(catalog.chroots / "img") == before
    assert sorted(path.name for path in catalog.chroots.iterdir()) == ["img"]
