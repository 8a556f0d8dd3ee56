"""Layers applied in order: whiteouts, replacements, attributes; nothing lands outside. umoci is the oracle."""

import asyncio
import bz2
import contextlib
import gzip
import itertools
import lzma
import os
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random

import oci_image as oci
import pytest
import zstandard
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from layered import apply_tars
from oci_image import Member

from images.layers import Layer, Link, MalformedLayer, Move, Opaque, Operation, Put, Whiteout, plan_layer
from images.rootfs import UnsafePath
from images.source.unpacking import unpack_layers
from images.tar import Reader
from images.tree import Tree, UnpackFailed

pytestmark = pytest.mark.root

Unpack = Callable[..., Path]


def _unpack_layers(layers: list[Layer], root: Path) -> None:
    asyncio.run(unpack_layers(layers, root, lambda event: None))


@pytest.fixture
def unpack(tmp_path: Path) -> Unpack:
    """Unpacks layers (members, or a tar's bytes) into a new tree; returns its path."""

    def run(*layers: Sequence[Member] | bytes, pack: Callable[[bytes], bytes] = gzip.compress) -> Path:
        root = tmp_path / f"tree{len(list(tmp_path.iterdir()))}"
        root.mkdir()
        described = []
        for number, layer in enumerate(layers):
            data = layer if isinstance(layer, bytes) else oci.layer(layer)
            blob = tmp_path / f"{root.name}-blob{number}"
            blob.write_bytes(pack(data))
            described.append(Layer(digest=oci.digest(blob.read_bytes()), diff_id=oci.digest(data), path=blob))
        _unpack_layers(described, root)
        return root

    return run


def _names(root: Path) -> list[str]:
    return sorted(str(path.relative_to(root)) for path in root.rglob("*"))


def test_plan_is_data() -> None:
    members = [
        oci.directory("./"),
        oci.Member("./a//b", b"x"),
        oci.hardlink("c", "./a/b"),
        oci.Member("a/.wh.gone"),
        oci.Member(".wh.top"),
        oci.Member("a/.wh..wh..opq"),
        oci.Member(".wh..wh..opq"),
        oci.Member(".wh..wh.plnk/1.2"),
        oci.Member("/etc/absolute"),
    ]
    plan = list(plan_layer(Reader(iter([oci.layer(members)]))))
    assert [type(operation) for operation in plan] == [Put, Put, Link, Whiteout, Whiteout, Opaque, Opaque, Put]
    assert [operation.path for operation in plan] == [b"", b"a/b", b"c", b"a/gone", b"top", b"a", b"", b"etc/absolute"]
    assert plan[2] == Link(path=b"c", target=b"a/b")


def test_attributes(unpack: Unpack) -> None:
    xattrs = {"user.note": "hello"}
    root = unpack(
        [
            oci.directory("./", mode=0o751, uid=7, gid=8, mtime="1500000000.123456789"),
            oci.directory("d", mode=0o3777, uid=1, gid=2, mtime="1500000001.5", xattrs=xattrs),
            oci.Member("d/suid", b"abc", mode=0o6755, uid=1000, gid=1001, mtime="1500000002.000000001", xattrs=xattrs),
            oci.symlink("d/link", "/no/where", uid=5, gid=6, mtime="1500000003.25"),
            oci.hardlink("hard", "d/suid"),
            oci.Member("null", type=tarfile.CHRTYPE, mode=0o666, device=(1, 3), mtime=1500000004),
            oci.Member("disk", type=tarfile.BLKTYPE, mode=0o640, gid=6, device=(259, 70000), mtime=1500000005),
            oci.Member("fifo", type=tarfile.FIFOTYPE, mode=0o600, mtime=1500000006),
        ]
    )
    status = {name: (root / name).lstat() for name in ("", "d", "d/suid", "d/link", "hard", "null", "disk", "fifo")}
    assert {name: (oct(one.st_mode), one.st_uid, one.st_gid, one.st_mtime_ns) for name, one in status.items()} == {
        "": ("0o40751", 7, 8, 1500000000123456789),
        "d": ("0o43777", 1, 2, 1500000001500000000),
        "d/suid": ("0o106755", 1000, 1001, 1500000002000000001),
        "d/link": ("0o120777", 5, 6, 1500000003250000000),
        "hard": ("0o106755", 1000, 1001, 1500000002000000001),
        "null": ("0o20666", 0, 0, 1500000004000000000),
        "disk": ("0o60640", 0, 6, 1500000005000000000),
        "fifo": ("0o10600", 0, 0, 1500000006000000000),
    }
    assert os.readlink(root / "d/link") == "/no/where"
    assert status["hard"].st_ino == status["d/suid"].st_ino
    assert status["null"].st_rdev == os.makedev(1, 3)
    assert status["disk"].st_rdev == os.makedev(259, 70000)
    assert (root / "d/suid").read_bytes() == b"abc"
    assert os.getxattr(root / "d/suid", "user.note") == b"hello"
    assert os.getxattr(root / "d", "user.note") == b"hello"


def test_file_capabilities_survive_chown(unpack: Unpack) -> None:
    value = bytes.fromhex("0100000200200000000000000000000000000000")
    members = [oci.Member("ping", b"x", uid=1, mode=0o755, xattrs={"security.capability": value.decode("latin-1")})]
    root = unpack(members)
    assert os.getxattr(root / "ping", "security.capability") == value


def test_missing_parents_get_the_time_of_what_needed_them(unpack: Unpack) -> None:
    root = unpack([oci.Member("a/b/c", mtime=1500000000)])
    for name in ("a", "a/b"):
        status = (root / name).stat()
        assert (stat.S_IMODE(status.st_mode), status.st_mtime) == (0o755, 1500000000)


def test_directory_times_survive_later_layers(unpack: Unpack) -> None:
    root = unpack(
        [oci.directory("d", mtime=1000), oci.Member("d/old"), oci.directory("e", mtime=2000)],
        [oci.Member("d/.wh.old"), oci.Member("d/new"), oci.directory("e", mtime=3000), oci.Member("e/x")],
    )
    assert ((root / "d").stat().st_mtime, (root / "e").stat().st_mtime) == (1000, 3000)
    assert _names(root) == ["d", "d/new", "e", "e/x"]


LOWER = ["keep", "d", "d/a", "d/b", "d/sub", "d/sub/c"]


@pytest.mark.parametrize(
    ("upper", "expected"),
    [
        ([".wh.keep"], ["d", "d/a", "d/b", "d/sub", "d/sub/c"]),
        ([".wh.d"], ["keep"]),
        (["d/.wh.sub"], ["d", "d/a", "d/b", "keep"]),
        (["d/.wh..wh..opq"], ["d", "keep"]),
        (["d/.wh..wh..opq", "d/new"], ["d", "d/new", "keep"]),
        (["d/new", "d/.wh..wh..opq"], ["d", "d/new", "keep"]),
        (["d/a", "d/.wh..wh..opq"], ["d", "d/a", "keep"]),
        (["d/sub/new", "d/.wh..wh..opq"], ["d", "d/sub", "d/sub/new", "keep"]),
        (["d/sub/c", "d/.wh.sub"], ["d", "d/a", "d/b", "d/sub", "d/sub/c", "keep"]),
        (["d/sub/new", "d/.wh.sub"], ["d", "d/a", "d/b", "d/sub", "d/sub/new", "keep"]),
        (["d/.wh.sub", "d/sub/new"], ["d", "d/a", "d/b", "d/sub", "d/sub/new", "keep"]),
        ([".wh.d", "d/new"], ["d", "d/new", "keep"]),
        (["keep", ".wh.keep"], ["d", "d/a", "d/b", "d/sub", "d/sub/c", "keep"]),
        ([".wh..wh..opq", "only"], ["only"]),
        ([".wh.missing", "missing/.wh.x", "missing/.wh..wh..opq"], ["d", "d/a", "d/b", "d/sub", "d/sub/c", "keep"]),
        ([".wh..wh.aufs", ".wh..wh.plnk/1.1"], ["d", "d/a", "d/b", "d/sub", "d/sub/c", "keep"]),
    ],
)
def test_whiteouts(unpack: Unpack, upper: list[str], expected: list[str]) -> None:
    lower = [oci.directory(name) if name in ("d", "d/sub") else oci.Member(name) for name in LOWER]
    assert _names(unpack(lower, [oci.Member(name) for name in upper])) == expected


def test_whiteouts_in_the_first_layer_hide_nothing(unpack: Unpack) -> None:
    root = unpack([oci.Member("d/a"), oci.Member("d/.wh..wh..opq"), oci.Member("d/.wh.a")])
    assert _names(root) == ["d", "d/a"]


def test_whiteout_of_a_link_spares_its_target(unpack: Unpack) -> None:
    root = unpack([oci.Member("d/a"), oci.symlink("l", "d")], [oci.Member(".wh.l")])
    assert _names(root) == ["d", "d/a"]


KINDS: dict[str, Callable[[str], list[Member]]] = {
    "file": lambda name: [oci.Member(name, b"new")],
    "directory": lambda name: [oci.directory(name), oci.Member(f"{name}/in", b"1")],
    "link": lambda name: [oci.symlink(name, "other")],
    "hard": lambda name: [oci.hardlink(name, "other/x")],
    "fifo": lambda name: [oci.Member(name, type=tarfile.FIFOTYPE)],
    "device": lambda name: [oci.Member(name, type=tarfile.CHRTYPE, device=(1, 3))],
}


@pytest.mark.parametrize("old", KINDS)
@pytest.mark.parametrize("new", KINDS)
@pytest.mark.parametrize("layers", [1, 2])
def test_replacements(unpack: Unpack, old: str, new: str, layers: int) -> None:
    base = [oci.directory("other"), oci.Member("other/x", b"safe"), *KINDS[old]("n")]
    root = unpack(base, KINDS[new]("n")) if layers == 2 else unpack([*base, *KINDS[new]("n")])
    alone = unpack([oci.directory("other"), oci.Member("other/x", b"safe"), *KINDS[new]("n")])
    assert stat.S_IFMT((root / "n").lstat().st_mode) == stat.S_IFMT((alone / "n").lstat().st_mode)
    assert _names(root) == _names(alone)
    assert (root / "other/x").read_bytes() == b"safe"


def test_writing_over_a_hard_link_breaks_it(unpack: Unpack) -> None:
    root = unpack([oci.Member("a", b"old"), oci.hardlink("b", "a")], [oci.Member("b", b"new")])
    assert ((root / "a").read_bytes(), (root / "b").read_bytes()) == (b"old", b"new")


def test_a_directory_of_an_upper_layer_replaces_attributes(unpack: Unpack) -> None:
    root = unpack(
        [oci.directory("d", mode=0o700, uid=1, xattrs={"user.a": "1", "user.b": "2"}), oci.Member("d/x")],
        [oci.directory("d", mode=0o755, uid=2, xattrs={"user.b": "3"})],
    )
    status = (root / "d").stat()
    assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o755, 2)
    assert {name: os.getxattr(root / "d", name) for name in os.listxattr(root / "d")} == {"user.b": b"3"}
    assert _names(root) == ["d", "d/x"]


def test_parents_go_through_links_within(unpack: Unpack) -> None:
    root = unpack(
        [oci.directory("usr/lib"), oci.symlink("lib", "usr/lib"), oci.directory("run"), oci.symlink("var/run", "/run")],
        [oci.Member("lib/a/b", b"1"), oci.Member("var/run/pid", b"2"), oci.hardlink("hard", "lib/a/b")],
    )
    assert _names(root) == ["hard", "lib", "run", "run/pid", "usr", "usr/lib", "usr/lib/a", "usr/lib/a/b", "var", "var/run"]
    assert (root / "lib").is_symlink()
    assert (root / "hard").read_bytes() == b"1"


def test_a_link_entry_that_becomes_a_directory_again(unpack: Unpack) -> None:
    root = unpack(
        [oci.directory("a"), oci.Member("a/1"), oci.symlink("l", "a"), oci.Member("l/2")],
        [oci.directory("l"), oci.Member("l/3")],
        [oci.symlink("l", "a"), oci.Member("l/4")],
    )
    assert _names(root) == ["a", "a/1", "a/2", "a/4", "l"]


def _hostile(outside: str) -> dict[str, tuple[list[Member], str]]:
    far = "../" * 30
    return {
        "dots": ([oci.Member("../evil")], "'..' in its path"),
        "inner dots": ([oci.Member("a/../../evil")], "'..' in its path"),
        "harmless dots": ([oci.Member("a/../evil")], "'..' in its path"),
        "dots at the end": ([oci.directory("a/..")], "'..' in its path"),
        "relative link": ([oci.symlink("l", far + outside), oci.Member("l/evil")], "outside the image"),
        "absolute link": ([oci.symlink("l", outside), oci.Member("l/evil")], "nothing in the image"),
        "climbing absolute link": ([oci.symlink("l", "/.." + outside), oci.Member("l/evil")], "outside the image"),
        "link of links": ([oci.symlink("m", ".."), oci.symlink("l", "m/.."), oci.Member("l/evil")], "outside the image"),
        "directory below a link": ([oci.symlink("l", outside), oci.directory("l/evil")], "nothing in the image"),
        "hard link up": ([oci.hardlink("h", "../precious")], "'..' in it"),
        "hard link through a link": ([oci.symlink("l", far + outside), oci.hardlink("h", "l/precious")], "outside"),
        "hard link through an absolute link": (
            [oci.symlink("l", outside), oci.hardlink("h", "l/precious")],
            "does not have",
        ),
        "hard link to nothing": ([oci.hardlink("h", "nothing")], "does not have"),
        "hard link to a directory": ([oci.directory("d"), oci.hardlink("h", "d")], "the directory 'd'"),
        "hard link to itself": ([oci.hardlink("h", "h")], "does not have"),
        "hard link below itself": ([oci.Member("d/x"), oci.hardlink("d", "d/x")], "replaces itself"),
        "hard link to the root": ([oci.hardlink("h", "/")], "does not have"),
        "root becomes a file": ([oci.Member("./", b"x", type=tarfile.SYMTYPE, linkname=outside)], "makes the root a"),
        "root becomes a hard link": ([oci.Member("x"), oci.hardlink(".", "x")], "does not have"),
        "whiteout of dots": ([oci.Member("a/.wh...")], "whiteout of nothing"),
        "whiteout of a dot": ([oci.Member(".wh..")], "whiteout of nothing"),
        "whiteout of nothing": ([oci.Member(".wh.")], "whiteout of nothing"),
        "below a whiteout": ([oci.Member(".wh.a/b")], "below a whiteout"),
        "whiteout through a link": ([oci.symlink("l", far + outside), oci.Member("l/.wh.precious")], "outside the image"),
        "opaque through a link": ([oci.symlink("l", far + outside), oci.Member("l/.wh..wh..opq")], "outside the image"),
        "below a file": ([oci.Member("f"), oci.Member("f/evil")], "no directory"),
        "links in a circle": ([oci.symlink("l", "m"), oci.symlink("m", "l"), oci.Member("l/evil")], "too many"),
        "long path": ([oci.Member("x/" * 3000)], "too long"),
    }


@pytest.mark.parametrize("layers", [1, 2])
def test_nothing_lands_outside(unpack: Unpack, tmp_path: Path, snapshot: Callable[[Path], object], layers: int) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"gold")
    before = snapshot(outside)
    refused = set()
    cases = _hostile(str(outside))
    for name, (members, reason) in cases.items():
        # Whiteouts do nothing in a first layer.
        split = (
            [members]
            if layers == 1 and ".wh..wh..opq" not in members[-1].name and ".wh.p" not in members[-1].name
            else [
                members[:-1],
                members[-1:],
            ]
        )
        with pytest.raises(UnsafePath, match=reason) as caught:
            unpack(*split)
        assert caught.value.hint
        assert caught.value.message.count("\n") == 0
        refused.add(name)
    assert refused == set(cases)
    assert snapshot(outside) == before
    assert not (tmp_path / "evil").exists()


def test_error_names_the_entry(unpack: Unpack) -> None:
    with pytest.raises(UnsafePath) as caught:
        unpack([oci.symlink("out", "../../tmp"), oci.Member("out/d/file")])
    assert caught.value.message == (
        "entry 'out/d/file' goes through the link 'out' to '../../tmp', which points outside the image"
    )


def test_system_errors_name_the_entry(unpack: Unpack) -> None:
    with pytest.raises(UnpackFailed, match=r"cannot write 'n+\.\.\..*File name too long"):
        unpack([oci.Member("n" * 300)])


def test_packings(unpack: Unpack) -> None:
    members = [oci.Member(f"f{number}", os.urandom(300_000)) for number in range(20)]
    whole = oci.layer(members)
    third = len(whole) // 3
    pieces = [whole[:third], whole[third : 2 * third], whole[2 * third :]]
    skippable = b"\x50\x2a\x4d\x18\x05\x00\x00\x00hello"
    packings: dict[str, Callable[[bytes], bytes]] = {
        "plain": lambda data: data,
        "gzip": gzip.compress,
        "gzip members": lambda data: b"".join(gzip.compress(piece) for piece in pieces),
        "gzip padded": lambda data: gzip.compress(data) + bytes(2000),
        "gzip tiny members": lambda data: gzip.compress(b"") + gzip.compress(data) + gzip.compress(b""),
        "zstd": zstandard.compress,
        "zstd frames": lambda data: b"".join(zstandard.compress(piece) for piece in pieces),
        "zstd skippable": lambda data: skippable + zstandard.compress(data) + skippable,
    }
    for pack in packings.values():
        root = unpack(whole, pack=pack)
        assert {path.name: path.read_bytes() for path in root.iterdir()} == {one.name: one.data for one in members}


def test_broken_layers(tmp_path: Path) -> None:
    data = oci.layer([oci.Member("a", os.urandom(3_000_000))])
    good = gzip.compress(data)
    flipped = bytearray(good)
    flipped[-6] ^= 1
    cases = {
        "gzip cut": (good[:-20], "too early"),
        "gzip cut in half": (good[: len(good) // 2], "too early"),
        "gzip checksum": (bytes(flipped), "cannot be decompressed"),
        "gzip garbage": (good[:100] + bytes(range(256)) * 10, "cannot be decompressed|broken tar archive"),
        "gzip trailing garbage": (good + b"garbage", "something that is not compressed follows its end"),
        "bzip2 trailing garbage": (bz2.compress(data) + b"garbage", "something that is not compressed follows its end"),
        "xz trailing garbage": (lzma.compress(data) + b"garbage", "something that is not compressed follows its end"),
        "zstd cut": (zstandard.compress(data)[:-20], "too early"),
        "tar cut": (data[:1_000_000], "middle of an entry"),
        "other contents": (gzip.compress(oci.layer([oci.Member("b")])), "the image says"),
        "no tar": (b"hello world" * 100, "no header"),
    }
    for number, (blob, reason) in enumerate(cases.values()):
        path = tmp_path / f"blob{number}"
        path.write_bytes(blob)
        root = tmp_path / f"root{number}"
        root.mkdir()
        layer = Layer(digest=oci.digest(blob), diff_id=oci.digest(data), path=path)
        with pytest.raises(MalformedLayer, match=reason) as caught:
            _unpack_layers([layer], root)
        assert layer.digest in caught.value.message


def test_xattr_that_does_not_fit_is_noted(tmp_path: Path) -> None:
    data = oci.layer(
        [oci.Member("fifo", type=tarfile.FIFOTYPE, xattrs={"user.x": "1"}), oci.Member("f", xattrs={"odd.y": "1"})]
    )
    (tmp_path / "root").mkdir()
    assert apply_tars(tmp_path / "root", [data]) == {"user.x": "fifo", "odd.y": "f"}


def test_sparse_stays_sparse(unpack: Unpack, tmp_path: Path, require_tool: Callable[..., Path]) -> None:
    require_tool("tar")
    (tmp_path / "in").mkdir()
    with (tmp_path / "in" / "log").open("wb") as stream:
        stream.truncate(50_000_000)
        stream.seek(20_000_000)
        stream.write(b"here")
    command = ["tar", "-C", str(tmp_path / "in"), "--sparse", "--format=pax", "-c", "log"]
    root = unpack(subprocess.run(command, check=True, capture_output=True).stdout)
    assert (root / "log").read_bytes() == (tmp_path / "in" / "log").read_bytes()
    assert (root / "log").stat().st_blocks * 512 < 1_000_000


def _umoci(layers: list[bytes], directory: Path) -> Path:
    oci.write_layout(directory / "layout", oci.build(layers), "t")
    command = ["umoci", "unpack", "--image", f"{directory}/layout:t", str(directory / "bundle")]
    subprocess.run(command, check=True, capture_output=True)
    return directory / "bundle" / "rootfs"


def test_as_umoci(
    unpack: Unpack,
    tmp_path: Path,
    snapshot: Callable[[Path], dict[bytes, tuple[object, ...]]],
    require_tool: Callable[..., Path],
) -> None:
    require_tool("umoci")
    layers = [
        [
            oci.directory("./", mode=0o755, mtime="1400000000.25"),
            oci.directory("usr", mtime="1400000001.123456789"),
            oci.directory("usr/bin"),
            oci.directory("usr/lib", mode=0o2775, gid=50),
            oci.symlink("bin", "usr/bin"),
            oci.symlink("lib", "/usr/lib"),
            *(oci.Member(f"usr/bin/tool{number}", b"%d" % number * 999, mode=0o755) for number in range(50)),
            oci.Member("usr/bin/su", b"su", mode=0o4755, uid=0, gid=4),
            oci.hardlink("usr/bin/su2", "usr/bin/su"),
            oci.Member("usr/bin/ping", b"ping", xattrs={"user.who": "me"}),
            oci.directory("var/cache/old"),
            oci.Member("var/cache/old/1", b"1"),
            oci.Member("var/cache/old/2", b"2"),
            oci.Member("dev/null", type=tarfile.CHRTYPE, device=(1, 3), mode=0o666),
            oci.Member("run/pipe", type=tarfile.FIFOTYPE, mode=0o640),
            oci.directory("opt/x"),
            oci.Member("opt/x/y", b"y"),
        ],
        [
            oci.directory("usr/bin", mtime=1400000100),
            oci.Member("usr/bin/.wh.tool7"),
            oci.Member("usr/bin/tool8", b"changed", uid=33, gid=33),
            oci.directory("var/cache/old", mtime=1400000200),
            oci.Member("var/cache/old/.wh..wh..opq"),
            oci.Member("var/cache/old/3", b"3"),
            oci.Member("opt/x", b"now a file"),
        ],
        [
            oci.directory("opt/x", mode=0o700),
            oci.Member("opt/x/z", b"z"),
            oci.hardlink("opt/x/su3", "usr/bin/su"),
            oci.symlink("usr/bin/tool9", "tool8"),
        ],
    ]
    tars = [oci.layer(members) for members in layers]
    expected = snapshot(_umoci(tars, tmp_path / "umoci"))
    actual = snapshot(unpack(*tars))
    # Parents that no layer describes: umoci gives them, and the root, the current time; we the time of what needed them.
    implied = [b"", b"var", b"var/cache", b"dev", b"run", b"opt"]
    assert actual.keys() == expected.keys()
    for path in actual:
        if path in implied:
            assert actual[path][:3] == expected[path][:3], path
        else:
            assert actual[path] == expected[path], path


_names_strategy = st.sampled_from(
    ["a", "b", "a/b", "a/b/c", "b/a", "a/.wh.b", ".wh.a", "a/.wh..wh..opq", "b/c", "./", "c", "../x"]
)
_targets = st.sampled_from(["a", "b", "/a", "../x", "/outside", "..", "a/b", "."])


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    layers=st.lists(
        st.lists(st.tuples(st.sampled_from(["file", "dir", "link", "hard", "fifo"]), _names_strategy, _targets), max_size=8),
        min_size=1,
        max_size=3,
    )
)
def test_any_layers(tmp_path: Path, layers: list[list[tuple[str, str, str]]]) -> None:
    makers: dict[str, Callable[[str, str], Member]] = {
        "file": lambda name, target: oci.Member(name, b"x"),
        "dir": lambda name, target: oci.directory(name),
        "link": oci.symlink,
        "hard": oci.hardlink,
        "fifo": lambda name, target: oci.Member(name, type=tarfile.FIFOTYPE),
    }
    shutil.rmtree(tmp_path, ignore_errors=True)
    root = tmp_path / "root"
    root.mkdir(parents=True)
    with contextlib.suppress(UnsafePath):
        apply_tars(root, [oci.layer([makers[kind](name, target) for kind, name, target in layer]) for layer in layers])
    assert os.listdir(tmp_path) == ["root"]
    assert not any(path.name.startswith(".wh.") for path in root.rglob("*"))


def _odd_layer(random: Random) -> bytes:
    """Directories with much in them, as layers are; now and then something comes twice, or where another thing was."""
    folders, leaves = ["a", "a/b", "a/b/c", "b", "l/d", "l/d/e"], ["a/x", "a/b/x", "a/b/c/x", "b/x", "l/d/x", "z"]
    members = [oci.directory("a"), oci.Member("a/x", b"x"), oci.symlink("l", "a")][: random.randrange(2, 5)]
    for number in range(random.randrange(12)):
        folder = random.choice(folders)
        mode, gid, mtime = random.choice([0o755, 0o1777, 0o2775]), random.choice([0, 0, 50]), 1_500_000_000 + number
        if random.random() < 0.8:
            members.append(oci.directory(folder, mode=mode, gid=gid, mtime=mtime))
        for leaf in random.sample("xyz", random.randrange(4)):
            name = f"{folder}/{leaf}" if random.random() < 0.9 else random.choice(folders + leaves)
            match random.choice(["file"] * 6 + ["link", "pipe", "hard", "gone", "opaque"]):
                case "file":
                    members.append(oci.Member(name, b"%d" % number, mode=random.choice([0o644, 0o4755]), gid=gid, mtime=mtime))
                case "link":
                    members.append(oci.symlink(name, random.choice(["/a", "/a/b"]), mtime=mtime))
                case "pipe":
                    members.append(oci.Member(name, type=tarfile.FIFOTYPE, mtime=mtime))
                case "hard":
                    members.append(oci.hardlink(name, "a/x"))
                case "gone":
                    members.append(oci.Member(f"{folder}/.wh.{leaf}"))
                case "opaque":
                    members.append(oci.Member(f"{folder}/.wh..wh..opq"))
    return oci.layer(members)


def test_what_is_staged_together_makes_no_difference(
    tmp_path: Path, snapshot: Callable[..., dict[bytes, tuple[object, ...]]]
) -> None:
    whole = 0
    for seed in range(200):
        random = Random(seed)
        tars = [_odd_layer(random) for _ in range(random.randrange(1, 4))]
        results = []
        for together in (1, random.randrange(2, 9), 1 << 20):
            root = tmp_path / f"{seed}-{together}"
            root.mkdir()
            os.utime(root, (0, 0))
            try:
                apply_tars(root, tars, together=together)
                results.append(("", snapshot(root)))
            except UnsafePath as exc:
                results.append((exc.message, {}))
            shutil.rmtree(root)
        assert results[0] == results[1] == results[2], f"seed {seed}"
        whole += len(results[0][1]) > 5
    assert whole > 60


def test_a_directory_takes_its_place_with_all_that_is_in_it(tmp_path: Path) -> None:
    root = tmp_path / "root"
    root.mkdir()
    members = [oci.directory("d"), *(oci.Member(f"d/{number}", b"x") for number in range(9)), oci.symlink("d/l", "0")]
    inodes: list[int] = []

    def apply(operations: list[Operation], tree: Tree, contents: int) -> None:
        staged = [operation.staged for operation in operations if isinstance(operation, Put | Move)]
        inodes.append(os.stat(staged[0], dir_fd=contents).st_ino)
        assert all(name.startswith(staged[0] + b"/") for name in staged[1:])
        tree.apply(operations)

    apply_tars(root, [oci.layer(members)], apply=apply)
    assert [(root / "d").stat().st_ino] == inodes
    assert len(os.listdir(root / "d")) == 10


def test_a_directory_that_gives_its_group_gives_nothing_else(unpack: Unpack) -> None:
    root = unpack([oci.directory("d", mode=0o2775), oci.directory("d/e"), oci.Member("d/e/f", b"x"), oci.Member("d/g", gid=50)])
    modes = {name: oct((root / name).stat().st_mode) for name in ("d", "d/e", "d/e/f", "d/g")}
    assert modes == {"d": "0o42775", "d/e": "0o40755", "d/e/f": "0o100644", "d/g": "0o100644"}


def _plain(name: str) -> list[str]:
    return [part for part in name.split("/") if part not in ("", ".")]


@pytest.mark.parametrize("length", [1, 2, 3, 4, 5, 6])
def test_a_path_is_what_the_name_means_however_it_is_written(length: int) -> None:
    names = ["".join(pieces) for pieces in itertools.product("/.a", repeat=length)]
    for name in names:
        reader = Reader(iter([oci.layer([Member(name, b"x")], tar_format=tarfile.GNU_FORMAT)]))
        if ".." in _plain(name):
            with pytest.raises(UnsafePath):
                list(plan_layer(reader))
        else:
            assert [operation.path for operation in plan_layer(reader)] == ["/".join(_plain(name)).encode()], name
