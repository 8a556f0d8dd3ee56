"""`wwctl image history`, `rollback`, `unpin`, `diff`, `prune` and `export`; and bad input, which changes nothing."""

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from head_node import WWCTL, HeadNode

from images import cpio
from images.catalog import Catalog
from images.rebuild import BuildContext, rebuild
from netboot.init_files import own_files

pytestmark = pytest.mark.root


class Site(HeadNode):
    """A head node with an image `img` of which three generations were built."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.rootfs = self.chroots / "img/rootfs"
        self.environment |= {"SUDO_USER": "admin"}
        for folder in ("bin", "boot", "etc"):
            (self.rootfs / folder).mkdir(parents=True)
        (self.rootfs / "bin/sh").write_text("sh")
        (self.rootfs / "boot/vmlinuz-6.1.0").write_text("kernel")
        self.built = []
        catalog = Catalog(chroots=self.rootfs.parent.parent, provision=root / "lib/warewulf/provision")
        for text in ("one", "two, longer", "three"):
            (self.rootfs / "etc/file").write_text(text)
            context = BuildContext(own=own_files(), built_by="admin", now=time.time())
            self.built.append(rebuild(catalog, "img", context).generation.digest)

    def run(self, *args: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [WWCTL, "image", *args], env=self.environment, capture_output=True, timeout=60, stdin=subprocess.DEVNULL
        )

    def ok(self, *args: str) -> str:
        done = self.run(*args)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode()

    def build(self) -> str:
        return self.ok("build", "img")

    def generations(self) -> list[dict[str, object]]:
        found: list[dict[str, object]] = json.loads(self.ok("history", "img", "--json"))
        return found

    def current(self) -> list[object]:
        return [row["generation"] for row in self.generations() if row["current"]]

    def state(self) -> list[tuple[str, int]]:
        places = sorted((self.root / "lib").rglob("*"))
        return [(str(path), path.lstat().st_mtime_ns) for path in places if not path.name.endswith(".lock")]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture(scope="module")
def untouched(tmp_path_factory: pytest.TempPathFactory) -> Site:
    """One for all tests that change nothing."""
    return Site(tmp_path_factory.mktemp("site"))


def short(digest: object) -> str:
    return str(digest)[7:19]


def test_history_table(untouched: Site) -> None:
    lines = untouched.ok("history", "img").splitlines()
    assert lines[0].split() == ["GENERATION", "CREATED", "SIZE", "BUILT", "BY", "SOURCE", "HANDED", "OUT", "MARKS"]
    assert [line.split()[0] for line in lines[2:]] == [short(digest) for digest in untouched.built[::-1]]
    assert lines[2].split()[-1] == "current"
    assert all(" admin " in line and str(untouched.rootfs) in line for line in lines[2:])


def test_rollback_build_unpin(site: Site) -> None:
    said = site.ok("rollback", "img")
    assert short(site.built[1]) in said
    assert "wwctl image unpin img" in said
    assert site.current() == [site.built[1]]
    assert site.ok("history", "img").splitlines()[3].endswith("current, pinned")
    (site.rootfs / "etc/file").write_text("four")
    said = site.build()
    newest = site.generations()[0]["generation"]
    assert said.splitlines()[1:] == [
        f"img is pinned: nodes still get generation {short(site.built[1])}, not {short(newest)}, until `wwctl image unpin img`"
    ]
    assert site.current() == [site.built[1]]
    assert "until `wwctl container unpin img`" in site.wwctl("container", "build", "img").stdout
    assert short(newest) in site.ok("unpin", "img")
    assert site.current() == [newest]


def test_rollback_to_a_prefix(site: Site) -> None:
    site.ok("rollback", "img", short(site.built[0]))
    assert site.current() == [site.built[0]]


def test_diff(site: Site) -> None:
    (site.rootfs / "etc/new\nline").write_bytes(bytes(2048))
    (site.rootfs / "bin/sh").chmod(0o700)
    (site.rootfs / "etc/file").unlink()
    site.build()
    lines = site.ok("diff", "img").splitlines()
    assert lines[:3] == [
        "~          0 B  /bin/sh  (mode 0644 -> 0700)",
        "-         -5 B  /etc/file",
        "+     +2.0 KiB  /etc/new\\x0aline",
    ]
    newest = site.generations()[0]["generation"]
    assert lines[3] == f"{short(site.built[2])} -> {short(newest)}: 1 added (+2.0 KiB), 1 removed (-5 B), 1 changed (0 B)"
    found = json.loads(site.ok("diff", "img", short(site.built[0]), short(site.built[1]), "--json"))
    assert (found["before"], found["after"]) == (site.built[0], site.built[1])
    assert found["changed"] == [{"path": "/etc/file", "aspects": ["content"], "size_before": 3, "size": 11}]
    assert (found["added"], found["removed"]) == ([], [])


def test_prune(site: Site) -> None:
    would = site.ok("prune", "--keep", "2", "--dry-run").splitlines()
    assert would[0] == f"Would remove generation {short(site.built[0])} of img"
    assert len(site.generations()) == 3
    said = site.ok("prune", "--keep", "2").splitlines()
    assert said[0] == f"Removed generation {short(site.built[0])} of img"
    assert said[1].replace("freed", "would be free") == would[1].replace("Would remove", "Removed")
    assert [row["generation"] for row in site.generations()] == site.built[:0:-1]
    assert site.ok("prune", "img") == "Removed 0 generations and 0 files; 0 B freed\n"


def test_export(site: Site, tmp_path: Path) -> None:
    target = tmp_path / "out.img"
    assert f"Exported generation {short(site.built[2])} of img to {target}" in site.ok("export", "img", str(target))
    done = site.run("export", "img", "-")
    assert (done.returncode, done.stdout) == (0, target.read_bytes())
    end = cpio.archive(
        [(e, bytes(c)) for e, c in cpio.parse(done.stdout[done.stdout.rindex(b"070701" + b"0" * 8 + b"000041ED") :])]
    )
    assert str(site.built[2]).encode() in end
    old = site.run("export", "img", "-", "--generation", short(site.built[0])).stdout
    assert str(site.built[0]).encode() in old


@pytest.mark.parametrize(
    ("args", "status", "says"),
    [
        (["history", "nope"], 1, "there is no image 'nope'"),
        (["history", "../etc"], 1, "cannot be an image's name"),
        (["history"], 2, "missing argument"),
        (["rollback", "img", "fffffffff"], 1, "has no generation 'fffffffff'"),
        (["rollback", "img", ""], 1, "has no generation ''"),
        (["rollback", "nope"], 1, "there is no image 'nope'"),
        (["unpin", "img"], 1, "is not pinned"),
        (["diff", "img", "xyz"], 1, "has no generation 'xyz'"),
        (["diff", "img", ""], 1, "has no generation ''"),
        (["prune", "--keep", "0"], 2, "--keep"),
        (["prune", "--keep", "x"], 2, "'x' is not a whole number"),
        (["prune", "nope"], 1, "there is no image 'nope'"),
        (["export", "img"], 2, "missing argument"),
        (["export", "img", "-", "--generation="], 1, "has no generation ''"),
        (["export", "nope", "-"], 1, "there is no image 'nope'"),
        (["export", "img", "/dev/null", "--force"], 1, "no file"),
        (["export", "img", "/nowhere/file"], 1, "/nowhere/file was not written: No such file or directory"),
    ],
)
def test_bad_input_changes_nothing(untouched: Site, args: list[str], status: int, says: str) -> None:
    before = untouched.state()
    done = untouched.run(*args)
    sentence, hint = done.stderr.decode().splitlines()
    assert done.returncode == status
    assert says in sentence
    assert hint.startswith("(")
    assert done.stdout == b""
    assert untouched.state() == before


def test_an_image_that_was_never_built(site: Site) -> None:
    (site.rootfs.parent.parent / "raw/rootfs").mkdir(parents=True)
    for args in (["history", "raw"], ["rollback", "raw"], ["unpin", "raw"], ["diff", "raw"], ["export", "raw", "-"]):
        done = site.run(*args)
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"'raw' has not been built" in done.stderr


def test_a_build_imports_no_http_client(site: Site) -> None:
    code = "import sys; from bootsvc.cli.main import run; run(sys.argv[1:]); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "image", "build", "img"], env=site.environment, capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "images.rebuild" in loaded
    assert loaded & {"aiohttp", "asyncio", "rich", "jinja2", "pyroute2", "urllib.request"} == set()
