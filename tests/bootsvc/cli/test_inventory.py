"""`wwctl image list`, `show`, `kernels`, `copy`, `rename`, `delete`, `syncuser` and `check`, in both vocabularies."""

import json
import os
import re
from pathlib import Path
from typing import NamedTuple

import pytest
import yaml
from head_node import CONF

from bootsvc.cli.image.formats import size_text
from bootsvc.cli.main import run

pytestmark = pytest.mark.root

KERNELS = ("6.1.0-10-amd64", "5.10.0-3-amd64")


class Done(NamedTuple):
    status: int
    out: str
    err: str


class Site:
    """A head node of its own below a folder."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root = root
        self.chroots = root / "lib/warewulf/chroots"
        self._capsys = capsys
        (root / "warewulf.conf").write_text(CONF.format(root=root))
        (root / "etc/warewulf").mkdir(parents=True)
        (root / "etc/passwd").write_text(
            "root:x:0:0::/root:/bin/sh\nmunge:x:120:121::/:/bin/false\nalice:x:1000:1000::/:/bin/sh\n"
        )
        (root / "etc/group").write_text("root:x:0:\nmunge:x:121:\nalice:x:1000:\n")

    def __call__(self, *args: str) -> Done:
        self._capsys.readouterr()
        status = run(args)
        return Done(status, *self._capsys.readouterr())

    def ok(self, *args: str) -> str:
        done = self(*args)
        assert (done.status, done.err) == (0, "")
        return done.out

    def image(self, name: str, *, build: bool = True) -> Path:
        rootfs = self.chroots / name / "rootfs"
        for folder in ("bin", "boot", "etc", "home"):
            (rootfs / folder).mkdir(parents=True)
        (rootfs / "bin/sh").write_text("shell")
        for release in KERNELS:
            (rootfs / f"boot/vmlinuz-{release}").write_bytes(release.encode())
        (rootfs / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nmunge:x:115:116::/:/bin/false\n")
        (rootfs / "etc/group").write_text("root:x:0:\nmunge:x:116:\n")
        (rootfs / "home/key").write_text("k")
        if build:
            assert self("image", "build", name).status == 0
        return rootfs

    def nodes_conf(self) -> dict[str, dict[str, dict[str, object]]]:
        loaded: dict[str, dict[str, dict[str, object]]] = yaml.safe_load((self.root / "etc/warewulf/nodes.conf").read_text())
        return loaded


@pytest.fixture
def site(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Site:
    monkeypatch.setenv("WAREWULFCONF", str(tmp_path / "warewulf.conf"))
    return Site(tmp_path, capsys)


@pytest.fixture
def used(site: Site) -> Site:
    """Images `deb`, built, with the nodes n1 and n2, and `raw`, never built."""
    site.image("deb")
    site.image("raw", build=False)
    site.ok("node", "add", "n1", "--image", "deb")
    site.ok("node", "add", "n2", "--image", "deb", "--kernelversion", "5.10")
    return site


def columns(text: str) -> list[list[str]]:
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


def test_list_speaks_two_vocabularies(used: Site) -> None:
    assert used.ok("image", "list") == "IMAGE NAME\n----------\ndeb\nraw\n"
    assert used.ok("container", "list").splitlines() == [
        "CONTAINER NAME                      BUILT  NODES ",
        "deb                                 true   2     ",
        "raw                                 false  0     ",
    ]
    assert used.ok("vnfs", "ls", "raw") == "IMAGE NAME\n----------\nraw\n"


def test_list_with_columns(used: Site) -> None:
    assert columns(used.ok("image", "list", "-k"))[2:] == [["deb", "2", "6.1.0-10"], ["raw", "0", "6.1.0-10"]]
    long = columns(used.ok("image", "list", "--long", "deb"))
    assert long[0] == ["IMAGE NAME", "NODES", "KERNEL VERSION", "CREATION TIME", "MODIFICATION TIME", "SIZE"]
    assert re.fullmatch(r"\d\d \w{3} \d\d \d\d:\d\d \w+", long[2][3])
    assert re.fullmatch(r"[\d.]+ (B|KiB)", long[2][5])
    assert columns(used.ok("image", "list", "-s"))[3] == ["raw", "0"], "what was never built has no size"
    assert columns(used.ok("container", "list", "-c"))[0] == ["CONTAINER NAME", "NODES", "SIZE"]
    sizes = [columns(used.ok("image", "list", flag, "deb"))[2][2] for flag in ("-s", "-c", "--compressed")]
    assert len(set(sizes)) == 3


def test_list_for_programs(used: Site) -> None:
    (deb, raw) = json.loads(used.ok("image", "list", "--json"))
    assert (deb["name"], deb["built"], deb["nodes"], deb["kernel"]) == ("deb", True, ["n1", "n2"], "6.1.0-10")
    assert (raw["built"], raw["modified"], raw["size"]) == (False, None, None)
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ", deb["modified"])
    assert yaml.safe_load(used.ok("container", "list", "--yaml", "deb"))[0]["name"] == "deb"


def test_show(used: Site) -> None:
    rootfs = str(used.chroots / "deb/rootfs")
    assert used.ok("image", "show", "deb") == f"{rootfs}\n"
    assert used.ok("image", "show", "-a", "deb").splitlines() == [
        "Name: deb", "KernelVersion: 6.1.0-10", f"Rootfs: {rootfs}", "Nr nodes: 2", "Nodes: [n1 n2]",
    ]  # fmt: skip
    for release in KERNELS:
        (used.chroots / f"raw/rootfs/boot/vmlinuz-{release}").unlink()
    assert "KernelVersion: not found" in used.ok("image", "show", "--all", "raw")
    assert json.loads(used.ok("image", "show", "deb", "--json"))["rootfs"] == rootfs


def test_kernels_and_who_boots_them(used: Site) -> None:
    assert columns(used.ok("image", "kernels"))[2:] == [
        ["deb", "/boot/vmlinuz-5.10.0-3-amd64", "5.10.0-3", "false", "1"],
        ["deb", "/boot/vmlinuz-6.1.0-10-amd64", "6.1.0-10", "true", "1"],
        ["raw", "/boot/vmlinuz-5.10.0-3-amd64", "5.10.0-3", "false", "0"],
        ["raw", "/boot/vmlinuz-6.1.0-10-amd64", "6.1.0-10", "true", "0"],
    ]
    (used.chroots / f"deb/rootfs/boot/vmlinuz-{KERNELS[0]}").unlink()
    assert len(json.loads(used.ok("image", "kernel", "deb", "-j"))) == 2, "nodes get what was built"


def test_copy_with_build(used: Site) -> None:
    out = used.ok("container", "cp", "-b", "deb", "other").splitlines()
    assert out[1:] == ["Container deb successfully duplicated as other", "Building container: other"]
    assert (used.chroots / "other/rootfs/bin/sh").read_text() == "shell"
    assert "other                               true   0" in used.ok("container", "list")


def test_rename_and_all_that_follows(used: Site) -> None:
    text = (used.root / "etc/warewulf/nodes.conf").read_text()
    (used.root / "etc/warewulf/nodes.conf").write_text(text.replace("nodes:", "  gpu: {image name: deb}  # mine\nnodes:"))
    generation = (used.root / "lib/warewulf/provision/images/deb/current").readlink()
    assert used.ok("image", "mv", "deb", "debian-12") == "Image deb successfully renamed as debian-12\n"
    conf = used.nodes_conf()
    assert {entry.get("image name") for entry in conf["nodes"].values()} == {"debian-12"}
    assert conf["nodeprofiles"]["gpu"]["image name"] == "debian-12"
    assert "# mine" in (used.root / "etc/warewulf/nodes.conf").read_text()
    assert (used.root / "lib/warewulf/provision/images/debian-12/current").readlink() == generation
    assert columns(used.ok("image", "list", "-k"))[2] == ["debian-12", "2", "6.1.0-10"]


def test_a_rename_that_nodes_conf_cannot_follow_changes_nothing(used: Site) -> None:
    conf = used.root / "etc/warewulf/nodes.conf"
    conf.write_text(conf.read_text() + "  broken: [\n")
    done = used("image", "rename", "deb", "new")
    assert (done.status, done.out) == (1, "")
    assert sorted(path.name for path in used.chroots.iterdir() if not path.name.startswith(".")) == ["deb", "raw"]
    assert [path.name for path in (used.root / "lib/warewulf/provision/images").iterdir()] == ["deb"]


def test_delete_says_who_uses_it(used: Site) -> None:
    refused = used("image", "delete", "-y", "raw", "deb")
    assert (refused.status, refused.out) == (1, "")
    assert "image 'deb' is used by n1, n2" in refused.err
    assert (used.chroots / "raw").exists(), "all are looked at before the first is deleted"
    conf = used.root / "etc/warewulf/nodes.conf"
    conf.write_text("nodeprofiles:\n  p:\n    image name: raw\n")
    refused = used("container", "rm", "-y", "raw")
    assert "container 'raw' is used by profile p" in refused.err
    assert "wwctl profile set p" in refused.err
    assert used.ok("image", "del", "-y", "deb") == "Deleted image: deb\n"


def test_delete_names_a_few_of_many_users(used: Site) -> None:
    used.ok("node", "add", "c[1-200]", "--image", "raw")
    refused = used("image", "delete", "-y", "raw")
    assert refused.err.splitlines() == [
        "wwctl: image 'raw' is used by c1, c10, c100, c101, c102, c103, c104, c105 (192 more)",
        "(give them another image first: wwctl node set NODES --image NAME)",
    ]


def test_syncuser(used: Site) -> None:
    rootfs = used.chroots / "deb/rootfs"
    key = rootfs / "home/key"
    os.chown(key, 115, 116)
    report = [
        "user munge: 115 → 120",
        "group munge: 116 → 121",
        "added: user alice (1000), group alice (1000)",
        "files and folders that change hands: 1",
    ]
    assert used.ok("image", "syncuser", "--write=false", "deb").splitlines() == [
        *report,
        "uid/gid not synced: run `wwctl image syncuser --write=true deb` to synchronize",
    ]
    assert key.stat().st_uid == 115
    assert used.ok("image", "syncuser", "deb").splitlines() == [*report, "uid/gid synced for image deb"]
    assert (key.stat().st_uid, key.stat().st_gid) == (120, 121)
    for args in (("deb", "--write=false"), ("--write", "deb"), ("--write", "false", "deb"), ("--build=false", "deb")):
        assert used.ok("container", "syncuser", *args) == "uid/gid already synced\n"
    assert used.ok("image", "build", "--syncuser", "deb").splitlines() == ["Building image: deb", "uid/gid already synced"]


def test_syncuser_collision(used: Site) -> None:
    (used.root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\npostgres:x:115:0::/:/bin/sh\n")
    done = used("image", "syncuser", "deb")
    assert (done.status, done.out) == (1, "")
    assert "uid 115 (munge; here postgres); nothing is changed" in done.err
    assert "useradd --system --no-create-home --no-user-group munge" in done.err


def test_check(used: Site) -> None:
    done = used("image", "check", "deb")
    assert done.status == 1
    assert "error: it has no /sbin/init, so nothing would start on a node [init]\n" in done.out
    assert "    wwctl image syncuser deb\n" in done.out
    assert re.search(r"\nImage deb cannot boot as a stateless node: \d+ errors, \d+ warnings?, \d+ notes?\n$", done.out)
    rows = json.loads(used("container", "check", "deb", "--json").out)
    assert rows[0]["severity"] == "error"
    assert all(set(row) == {"image", "check", "severity", "message", "fix"} for row in rows)
    assert any(row["fix"] == "wwctl container syncuser deb" for row in rows)


def test_check_of_an_image_that_boots(used: Site) -> None:
    rootfs = used.chroots / "deb/rootfs"
    for path in ("sbin/init", "bin/mount", "lib/modules/6.1.0-10-amd64/kernel/drivers/net/ethernet/intel/igb.ko"):
        (rootfs / path).parent.mkdir(parents=True, exist_ok=True)
        (rootfs / path).write_text("x")
    done = used("image", "check", "deb")
    assert (done.status, "Image deb can boot as a stateless node" in done.out) == (0, True)


@pytest.mark.parametrize(
    ("command", "status", "words"),
    [
        ("list debb", 1, "did you mean 'deb'?"),
        ("show nosuch", 1, "no image 'nosuch'"),
        ("show", 2, "NAME"),
        ("kernels debb", 1, "did you mean 'deb'?"),
        ("copy deb raw", 1, "image 'raw' exists already"),
        ("copy deb a/b", 1, "cannot be an image's name"),
        ("copy nosuch new", 1, "no image 'nosuch'"),
        ("copy deb", 2, "NEW"),
        ("rename deb raw", 1, "image 'raw' exists already"),
        ("rename deb deb", 1, "has that name already"),
        ("rename nosuch new", 1, "no image 'nosuch'"),
        ("delete -y nosuch", 1, "no image 'nosuch'"),
        ("syncuser nosuch", 1, "no image 'nosuch'"),
        ("check", 2, "NAMES"),
        ("check deb nosuch", 1, "no image 'nosuch'"),
    ],
)
def test_bad_input_is_a_sentence_and_changes_nothing(used: Site, command: str, status: int, words: str) -> None:
    before = sorted(str(path) for path in (used.root / "lib").rglob("*"))
    done = used("image", *command.split())
    lines = done.err.splitlines()
    assert (done.status, done.out) == (status, "")
    assert words in done.err
    assert len(lines) == 2
    assert lines[0].startswith("wwctl: ")
    assert sorted(str(path) for path in (used.root / "lib").rglob("*")) == before


@pytest.mark.parametrize(
    ("size", "text"), [(0, "0 B"), (512, "512 B"), (1024, "1.0 KiB"), (1_503_238_553, "1.4 GiB"), (1 << 62, "4.0 EiB")]
)
def test_sizes_are_in_powers_of_1024(size: int, text: str) -> None:
    assert size_text(size) == text
