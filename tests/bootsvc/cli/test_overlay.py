"""`wwctl overlay`: what Warewulf's administrators type, and bad input, which changes nothing."""

import contextlib
import io
import json
import os
import random
import shutil
import signal
import stat
import subprocess
from pathlib import Path

import pytest
from head_node import WWCTL, HeadNode

from bootsvc.cli.main import run
from netboot.overlay import shipped

pytestmark = pytest.mark.root

NODES = """\
nodeprofiles:
  default:
    runtime overlay: [hosts]
nodes:
  n1:
    profiles: [default]
    system overlay: [hostname]
    network devices: {default: {ipaddr: 10.0.0.11, hwaddr: "52:54:00:00:00:01", device: eth0}}
  n2:
    profiles: [default]
    system overlay: [hostname, mine]
    network devices: {default: {ipaddr: 10.0.0.12, hwaddr: "52:54:00:00:00:02", device: eth0}}
"""


class Site(HeadNode):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        (root / "etc/warewulf").mkdir(parents=True)
        (root / "etc/warewulf/nodes.conf").write_text(NODES)
        self.overlays = root / "lib/warewulf/overlays"
        self.built = root / "lib/warewulf/provision/overlays"

    def ok(self, *args: str, **variables: str) -> str:
        """What a command that succeeds prints."""
        done = self.wwctl("overlay", *args, **variables)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def fail(self, *args: str) -> str:
        """What a command that fails says, and it has changed nothing; in this process, for there are many."""
        before, said = self.state(), io.StringIO()
        with contextlib.redirect_stderr(said), pytest.MonkeyPatch.context() as patch:
            patch.setenv("WAREWULFCONF", str(self.conf))
            status = run(["overlay", *args])
        assert (status, self.state()) == (1, before), said.getvalue()
        return said.getvalue()

    def state(self) -> dict[str, tuple[int, int, bytes]]:
        return {
            str(path): (path.lstat().st_mode, path.lstat().st_uid, path.read_bytes() if path.is_file() else b"")
            for path in sorted(self.overlays.rglob("*"))
        }

    def make_mine(self) -> None:
        """An overlay with one template."""
        (self.overlays / "mine/rootfs/etc").mkdir(parents=True)
        (self.overlays / "mine/rootfs/etc/motd.j2").write_text("I am {{ node.id }}\n")

    def editor(self, script: str) -> str:
        """An $EDITOR that runs a shell script on the file."""
        path = self.root / "editor"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
        return str(path)


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


@pytest.fixture
def mine(site: Site) -> Site:
    site.make_mine()
    return site


def test_list(mine: Site) -> None:
    assert mine.ok("list", "mine", "hostname") == (
        "OVERLAY NAME  FILES/DIRS  SITE\n"
        "------------  ----------  ----\n"
        "mine          2           true\n"
        "hostname      2           false\n"
    )
    assert mine.ok("ls", "-a", "mine").splitlines()[2:] == [
        "mine          etc/         true",
        "mine          etc/motd.j2  true",
    ]
    assert mine.ok("list", "-l", "mine").splitlines()[2:] == [
        "drwxr-xr-x  0    0    mine     etc/         true",
        "-rw-r--r--  0    0    mine     etc/motd.j2  true",
    ]
    assert json.loads(mine.ok("list", "-p", "mine", "--json")) == [
        {"overlay name": "mine", "files/dirs": "2", "path": str(mine.overlays / "mine")}
    ]
    assert "wwclient" in mine.ok("list", "--yaml")


def test_show(mine: Site) -> None:
    assert mine.ok("show", "mine", "/etc/motd.j2") == "I am {{ node.id }}\n"
    head = "backupFile: true\nwriteFile: true\nFilename: etc/motd\n"
    assert mine.ok("cat", "mine", "etc/motd", "--render", "n2") == head + "I am n2\n"
    assert mine.ok("show", "mine", "etc/motd", "-q", "-r", "n1") == "I am n1\n"
    (mine.overlays / "mine/rootfs/etc/motd.j2").write_text("one{{ nobackup() }}{{ abort() }}two")
    assert mine.ok("show", "mine", "etc/motd", "-r", "n1") == (
        "backupFile: false\nwriteFile: false\nFilename: etc/motd\noneAborted\n"
    )
    (mine.overlays / "mine/rootfs/etc/motd.j2").write_text("{{ softlink('x') }}")
    assert "Symlink: x\n" in mine.ok("show", "mine", "etc/motd", "-r", "n1")


def test_info(mine: Site) -> None:
    (mine.overlays / "mine/rootfs/etc/motd.j2").write_text(
        "{# node.tags.color: the colour #}{{ node.tags.color }}"
        "{% for name, device in node.network_devices | dictsort %}{{ device.ipaddr }}{% endfor %}"
    )
    assert json.loads(mine.ok("info", "mine", "etc/motd.j2", "-j")) == [
        {"variable": "node.network_devices", "option": "", "type": "dict[str, NetDev]", "help": ""},
        {"variable": "node.network_devices[].ipaddr", "option": "--ipaddr", "type": "IPv4Address", "help": "IPv4 address"},
        {"variable": "node.tags.color", "option": "", "type": "str", "help": "the colour"},
    ]
    assert "no template" in mine.fail("vars", "wwclient", "etc/systemd/system/wwclient.service")


def test_create(site: Site) -> None:
    assert site.ok("create", "a.b-c_d:1") == "Created new overlay: a.b-c_d:1\n"
    assert (site.overlays / "a.b-c_d:1/rootfs").is_dir()
    assert "did you mean 'hostname'" in site.fail("list", "hostnam")
    assert "there is an overlay 'hosts' already" in site.fail("create", "hosts")


@pytest.mark.parametrize("name", ["..", ".", "", "a/b", "../x", ".hidden", "a b", "a\nb", "ä", "x" * 200])
def test_names_that_cannot_be(site: Site, name: str) -> None:
    assert "cannot be an overlay's name" in site.fail("create", "--", name)
    assert "there is no overlay" in site.fail("delete", "-f", "--", name)


@pytest.mark.parametrize("path", ["..", "../x", "etc/../../x", "/", "", "etc/\nx"])
@pytest.mark.parametrize("verb", ["show", "edit", "mkdir", "delete", "chmod", "chown", "import"])
def test_paths_that_leave_the_overlay(mine: Site, verb: str, path: str) -> None:
    rest = {"chmod": ["0644"], "chown": ["0"]}.get(verb, [])
    args = [verb, "mine", "/etc/hostname", path] if verb == "import" else [verb, "mine", path, *rest]
    if verb == "import" and path == "/":
        path = "/etc/.."
        args[-1] = path
    assert "is no path in overlay 'mine'" in mine.fail(*args)


@pytest.mark.parametrize("verb", ["show", "edit", "delete"])
def test_links_that_leave_the_overlay(mine: Site, tmp_path: Path, verb: str) -> None:
    (tmp_path / "secret").write_text("x")
    (mine.overlays / "mine/rootfs/out").symlink_to(tmp_path)
    assert "leads out of overlay 'mine'" in mine.fail(verb, "mine", "out/secret")
    assert (tmp_path / "secret").read_text() == "x"


def test_import(mine: Site, tmp_path: Path) -> None:
    source = tmp_path / "source"
    (source / "deep").mkdir(parents=True)
    (source / "deep/secret").write_text("s")
    (source / "deep/secret").chmod(0o600)
    os.chown(source / "deep/secret", 7, 8)
    (source / "link").symlink_to("deep/secret")
    assert "--parents makes it" in mine.fail("import", "mine", str(source / "deep/secret"), "no/such/secret")
    mine.ok("import", "mine", str(source), "etc/dir")
    tree = mine.overlays / "mine/rootfs/etc/dir"
    info = (tree / "deep/secret").stat()
    assert (stat.S_IMODE(info.st_mode), info.st_uid, info.st_gid) == (0o600, 7, 8)
    assert os.readlink(tree / "link") == "deep/secret"
    assert "--overwrite" in mine.fail("import", "mine", str(source), "etc/dir")
    (source / "deep/secret").write_text("t")
    mine.ok("cp", "-o", "mine", str(source / "deep/secret"), "etc/dir/deep/")
    assert (tree / "deep/secret").read_text() == "t"
    mine.ok("import", "-p", "mine", str(source / "deep/secret"))
    assert (mine.overlays / f"mine/rootfs{source}/deep/secret").read_text() == "t"
    assert "No such file" in mine.fail("import", "mine", str(source / "nothing"))
    os.mkfifo(source / "pipe")
    assert "neither a file" in mine.fail("import", "mine", str(source), "etc/other")


def test_import_keeps_set_user_id(mine: Site, tmp_path: Path) -> None:
    (tmp_path / "su").touch()
    os.chown(tmp_path / "su", 1, 2)
    (tmp_path / "su").chmod(0o6755)
    mine.ok("import", "mine", str(tmp_path / "su"), "su")
    assert stat.S_IMODE((mine.overlays / "mine/rootfs/su").stat().st_mode) == 0o6755


def test_what_no_overlay_can_hold_is_named_and_can_go(mine: Site) -> None:
    os.mkfifo(mine.overlays / "mine/rootfs/etc/pipe")
    assert "neither a file" in mine.fail("show", "mine", "etc/pipe")
    mine.ok("delete", "mine", "etc/pipe")
    mine.ok("chmod", "mine", "etc/motd", "0600")


def test_files_that_an_archive_cannot_hold(mine: Site, tmp_path: Path) -> None:
    with (mine.overlays / "mine/rootfs/huge").open("wb") as file:
        file.truncate(1 << 32)
    with pytest.MonkeyPatch.context() as patch:
        # Nothing may be compared with what is in a file of this size.
        patch.setattr(mine, "state", dict)
        assert "huge has 4294967296 bytes; an overlay holds files below 4 GiB" in mine.fail("build", "n2")
        assert "below 4 GiB" in mine.fail("import", "mine", str(mine.overlays / "mine/rootfs/huge"), "other")
    assert mine.ok("list").startswith("OVERLAY NAME")


def test_a_link_has_no_mode(mine: Site) -> None:
    (mine.overlays / "mine/rootfs/link").symlink_to("etc")
    assert "is a symbolic link" in mine.fail("chmod", "mine", "link", "0600")
    mine.ok("chown", "mine", "link", "7")
    assert "is a symbolic link" in mine.fail(
        "chown", "wwclient", "etc/systemd/system/multi-user.target.wants/wwclient.service", "7"
    )


def test_show_the_host_overlay_for_the_head_node(mine: Site) -> None:
    assert "10.0.0.11 n1" in mine.ok("show", "host", "etc/hosts", "-r", os.uname().nodename)
    assert "there is no node 'elsewhere'" in mine.fail("show", "host", "etc/hosts", "-r", "elsewhere")


def test_the_first_change_of_ours_copies_it(site: Site) -> None:
    before = {path: path.read_bytes() for path in shipped().rglob("*") if path.is_file()}
    done = site.wwctl("overlay", "chmod", "wwclient", "warewulf/wwclient", "0700")
    assert done.returncode == 0
    assert "is copied to" in done.stderr
    assert site.ok("diff") == "wwclient: warewulf/wwclient.j2: mode 0755, now 0700\n"
    site.ok("chown", "wwclient", "/warewulf/wwclient.j2", "5:6")
    script = (site.overlays / "wwclient/rootfs/warewulf/wwclient.j2").stat()
    assert (stat.S_IMODE(script.st_mode), script.st_uid, script.st_gid) == (0o700, 5, 6)
    assert json.loads(site.ok("diff", "wwclient", "--json"))[1]["change"] == "owner 0:0, now 5:6"
    link = "etc/systemd/system/multi-user.target.wants/wwclient.service"
    site.ok("delete", "wwclient", link)
    assert f"wwclient: {link}: deleted\n" in site.ok("diff")
    assert {path: path.read_bytes() for path in shipped().rglob("*") if path.is_file()} == before
    # A site's copy may go: its nodes have ours again.
    site.ok("delete", "-f", "wwclient")
    assert site.ok("diff") == ""


@pytest.mark.parametrize("mode", ["9", "rwx", "07777777", "-1"])
def test_modes_that_cannot_be(mine: Site, mode: str) -> None:
    assert "is no mode" in mine.fail("chmod", "--", "mine", "etc/motd.j2", mode)


@pytest.mark.parametrize("owner", ["root", "1:root", ":1", "1:", "-1", "4294967295", "1:99999999999"])
def test_owners_that_cannot_be(mine: Site, owner: str) -> None:
    assert "is no owner" in mine.fail("chown", "--", "mine", "etc/motd.j2", owner)


def test_delete(mine: Site) -> None:
    assert "'mine' is used by n2" in mine.fail("delete", "-f", "mine")
    assert "comes with bootsvc" in mine.fail("delete", "-f", "hosts")
    assert "did you mean 'etc/motd.j2'" in mine.fail("delete", "mine", "etc/motd.j")
    assert "folder with files" in mine.fail("delete", "mine", "etc")
    mine.ok("delete", "-p", "mine", "etc/motd.j2")
    assert list((mine.overlays / "mine/rootfs").iterdir()) == []
    assert mine.wwctl("node", "set", "n2", "-O", "~mine", "-y").returncode == 0
    mine.ok("mkdir", "mine", "x")
    assert "is not empty" in mine.fail("delete", "mine")
    assert mine.ok("rm", "-f", "mine") == "Deleted overlay: mine\n"
    assert list(mine.overlays.iterdir()) == []


def test_edit(mine: Site) -> None:
    path = mine.overlays / "mine/rootfs/etc/motd.j2"
    path.chmod(0o600)
    mine.ok("edit", "mine", "etc/motd.j2", EDITOR=mine.editor('echo "{{ node.id }}!" >"$1"'))
    assert (path.read_text(), stat.S_IMODE(path.stat().st_mode)) == ("{{ node.id }}!\n", 0o600)
    assert mine.ok("edit", "mine", "etc/motd.j2", EDITOR="true") == "No changes made!\n"
    mine.ok("edit", "-p", "mine", "new/deep/file", EDITOR=mine.editor('echo x >"$1"'))
    assert (mine.overlays / "mine/rootfs/new/deep/file").read_text() == "x\n"


@pytest.mark.parametrize("text", ["{% if %}", "{{ node.nonsense }}", "{{ file('../x') }}x"])
def test_a_mistake_in_the_editor_changes_nothing(mine: Site, text: str) -> None:
    before = mine.state()
    done = mine.wwctl("overlay", "edit", "mine", "etc/motd.j2", EDITOR=mine.editor(f'echo "{text}" >"$1"'))
    assert "overlay mine" in done.stderr
    assert done.stdout.endswith("No changes made!\n")
    assert mine.state() == before


def test_edits_at_once_lose_nothing(mine: Site) -> None:
    path = mine.overlays / "mine/rootfs/etc/motd.j2"
    done = mine.wwctl("overlay", "edit", "mine", "etc/motd.j2", EDITOR=mine.editor(f'echo a >"$1"; echo b >{path}'))
    assert "was changed while" in done.stderr
    assert path.read_text() == "b\n"


def test_build(mine: Site) -> None:
    first = mine.ok("build")
    assert first.count("Created image for") == 4
    assert first.endswith("4 overlay image(s) built, 0 current\n")
    assert mine.ok("build").endswith("0 overlay image(s) built, 4 current\n")
    assert mine.wwctl("node", "set", "n1", "--comment", "x", "-y").returncode == 0
    assert mine.ok("build", "-w", "2").endswith("0 overlay image(s) built, 4 current\n")
    (mine.overlays / "mine/rootfs/etc/motd.j2").write_text("new")
    assert mine.ok("build", "n1").endswith("0 overlay image(s) built, 2 current\n")
    assert mine.ok("build", "-O", "mine").endswith("1 overlay image(s) built, 1 current\n")
    assert "there is no node 'n3'" in mine.fail("build", "n[1-9]")
    assert "there is no overlay 'mien'" in mine.fail("build", "-O", "mien")


def test_one_nodes_error_does_not_stop_the_others(mine: Site) -> None:
    (mine.overlays / "mine/rootfs/etc/motd.j2").write_text("\n{{ node.nonsense }}")
    done = mine.wwctl("overlay", "build")
    assert done.returncode == 1
    assert "overlay mine, etc/motd.j2:2: " in done.stderr
    assert "wwctl: 1 of 2 nodes failed: n2\n" in done.stderr
    assert done.stdout.endswith("3 overlay image(s) built, 0 current\n")
    check = mine.wwctl("overlay", "check")
    assert check.returncode == 1
    assert "overlay mine, etc/motd.j2:2: " in check.stdout
    assert "(node n2)\n" in check.stdout


def test_several_processes_build_what_one_does(mine: Site) -> None:
    nodes = "".join(f"  m{number}:\n    profiles: [default]\n    system overlay: [hostname]\n" for number in range(70))
    with (mine.root / "etc/warewulf/nodes.conf").open("a") as file:
        file.write(nodes)
    assert mine.ok("build", "-w", "2").endswith("144 overlay image(s) built, 0 current\n")
    several = {path.name: path.read_bytes() for path in mine.built.rglob("*.img")}
    shutil.rmtree(mine.built)
    assert mine.ok("build", "-w", "1").endswith("144 overlay image(s) built, 0 current\n")
    assert {path.name: path.read_bytes() for path in mine.built.rglob("*.img")} == several


def test_build_one_archive(mine: Site, tmp_path: Path) -> None:
    mine.ok("build", "n2", "-o", str(tmp_path / "out"), "-O", "mine,hostname")
    listed = subprocess.run(["cpio", "-t", "--quiet"], input=(tmp_path / "out").read_bytes(), capture_output=True, check=True)
    assert listed.stdout.split() == [b"etc", b"etc/hostname", b"etc/motd"]
    assert mine.wwctl("overlay", "build", "-o", str(tmp_path / "out")).returncode == 2
    assert stat.S_IMODE((tmp_path / "out").stat().st_mode) == 0o600
    assert "no folder" in mine.fail("build", "n1", "-o", str(tmp_path / "no/such"))
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for name in ("pipe", "link", "."):
        assert "is no file" in mine.fail("build", "n1", "-o", str(tmp_path / name))
    assert (tmp_path / "pipe").is_fifo()
    assert (tmp_path / "link").is_symlink()


def test_check_names_overlays_that_do_not_exist(site: Site) -> None:
    done = site.wwctl("overlay", "check")
    assert (done.returncode, "there is no overlay 'mine' (node n2)\n" in done.stdout) == (1, True)
    site.ok("create", "mine")
    assert site.ok("check").endswith("0 problem(s)\n")


def test_kill_9_leaves_whole_overlays(site: Site) -> None:
    """Copies of ours are made whole or not at all; the next command takes away what was left."""
    for moment in (0.15, 0.2, 0.25, 0.3):
        process = subprocess.Popen(
            [WWCTL, "overlay", "chmod", "wwclient", "warewulf/wwclient.j2", "0700"],
            env=site.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
        if (site.overlays / "wwclient").exists():
            assert {line for line in site.ok("diff").splitlines() if "mode" not in line} == set()
    site.ok("create", "other")
    assert [path.name for path in site.overlays.iterdir() if path.name.startswith(".")] == []


def describe(overlay: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every path of an overlay with mode, owner and content."""
    found = {}
    for path in sorted(overlay.rglob("*")):
        info = path.lstat()
        content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[str(path.relative_to(overlay))] = (info.st_mode, info.st_uid, content)
    return found


def make_folder(root: Path, files: int) -> Path:
    (root / "folder/deep").mkdir(parents=True)
    for number in range(files):
        (root / f"folder/deep/{number}").write_text(f"new {number}")
    (root / "folder/deep/0").chmod(0o600)
    (root / "folder/link").symlink_to("deep/0")
    return root / "folder"


def test_kill_9_of_an_import_leaves_the_overlay_as_it_was_or_as_it_shall_be(mine: Site, tmp_path: Path) -> None:
    """At seeded moments between the first staged file and the end."""
    seed = int(os.environ.get("BOOTSVC_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
    moments = random.Random(seed)
    folder = make_folder(tmp_path, 100)
    overlay = mine.overlays / "mine"
    (overlay / "rootfs/etc/folder/deep").mkdir(parents=True)
    (overlay / "rootfs/etc/folder/deep/7").write_text("old")
    before = describe(overlay)
    whole = {f"rootfs/etc/folder{key}": value for key, value in ((f"/{key}", value) for key, value in describe(folder).items())}
    shutil.copytree(overlay, tmp_path / "kept", symlinks=True)
    outcomes = set()
    for number in range(4):
        shutil.rmtree(overlay)
        shutil.copytree(tmp_path / "kept", overlay, symlinks=True)
        process = subprocess.Popen(
            [WWCTL, "overlay", "import", "-o", "mine", str(folder), "etc/folder"],
            env=mine.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        # The last one is let alone; of the others, as many files are staged as chance will have it.
        goal = moments.randrange(100) if number < 3 else 1 << 30
        while process.poll() is None:
            if sum(1 for _ in mine.overlays.glob(".bootsvc-new-*/mine/rootfs/etc/folder/deep/*")) > goal:
                process.kill()
                process.wait()
        found = describe(overlay)
        assert found in (before, before | whole), f"seed {seed}, round {number}: neither as it was nor as it shall be"
        outcomes.add(found == before)
    assert outcomes == {True, False}
    mine.ok("create", "other")
    assert [path.name for path in mine.overlays.iterdir() if path.name.startswith(".")] == []


def test_import_of_a_folder_makes_the_sites_copy_of_ours(site: Site, tmp_path: Path) -> None:
    site.ok("import", "hosts", str(make_folder(tmp_path, 2)), "etc/folder")
    assert (site.overlays / "hosts/rootfs/etc/hosts.j2").exists()
    assert (site.overlays / "hosts/rootfs/etc/folder/link").read_text() == "new 0"
    assert [path.name for path in site.overlays.iterdir()] == ["hosts"]


def test_import_of_a_folder_into_an_overlay_that_is_a_link(mine: Site, tmp_path: Path) -> None:
    """Such as one in a checkout of version control."""
    (tmp_path / "checkout").mkdir()
    (mine.overlays / "mine").rename(tmp_path / "checkout/ours")
    (mine.overlays / "mine").symlink_to(tmp_path / "checkout/ours")
    mine.ok("import", "mine", str(make_folder(tmp_path, 2)), "etc/folder")
    assert (mine.overlays / "mine").is_symlink()
    assert (tmp_path / "checkout/ours/rootfs/etc/folder/deep/1").read_text() == "new 1"
    assert [path.name for path in (tmp_path / "checkout").iterdir()] == ["ours"]


def test_an_overlay_that_is_a_link_to_another_file_system_is_changed_there(mine: Site, tmp_path: Path) -> None:
    checkout, folder = tmp_path / "checkout", make_folder(tmp_path, 2)
    checkout.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "checkout", checkout], check=True)
    try:
        shutil.move(mine.overlays / "mine", checkout / "ours")
        (mine.overlays / "mine").symlink_to(checkout / "ours")
        (checkout / "ours/overlay.toml").write_text('description = "ours"\n')
        (checkout / ".bootsvc-new-killed").mkdir()
        mine.ok("import", "mine", str(folder / "deep/0"), "etc/one")
        mine.ok("import", "mine", str(folder), "etc/folder")
        mine.ok("chmod", "mine", "etc/one", "0640")
        mine.ok("mkdir", "mine", "etc/new")
        mine.ok("delete", "mine", "etc/folder", "--force")
        assert (checkout / "ours/rootfs/etc/one").read_text() == "new 0"
        assert "0640" in (checkout / "ours/overlay.toml").read_text()
        assert sorted(path.name for path in (checkout / "ours/rootfs/etc").iterdir()) == ["motd.j2", "new", "one"]
        assert [path.name for path in checkout.iterdir()] == ["ours"]
        assert (mine.overlays / "mine").is_symlink()
    finally:
        subprocess.run(["umount", checkout], check=True)


def test_import_of_a_folder_that_does_not_fit_changes_nothing(mine: Site, tmp_path: Path) -> None:
    folder = make_folder(tmp_path, 30)
    (folder / "deep/zz").write_bytes(b"x" * 300_000)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "small", mine.overlays], check=True)
    try:
        mine.make_mine()
        assert "No space left on device" in mine.fail("import", "mine", str(folder), "etc/folder")
        (mine.overlays / "mine/rootfs/mnt").mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "other", mine.overlays / "mine/rootfs/mnt"], check=True)
        assert "something is mounted in an overlay" in mine.fail("import", "mine", str(folder), "etc/folder")
    finally:
        subprocess.run(["umount", "-R", mine.overlays], check=True)


def test_a_full_disk_is_named_and_leaves_what_was_there(mine: Site, tmp_path: Path) -> None:
    motd = mine.overlays / "mine/rootfs/etc/motd.j2"
    mine.ok("build", "n2")
    whole = {path: path.read_bytes() for path in mine.built.rglob("*") if path.is_file()}
    (tmp_path / "big").write_bytes(b"x" * 300_000)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "small", mine.overlays], check=True)
    try:
        mine.make_mine()
        said = mine.fail("import", "-o", "mine", str(tmp_path / "big"), "etc/motd.j2")
        assert (said.count(str(mine.overlays)), "No space left on device" in said) == (1, True)
        assert motd.read_text() == "I am {{ node.id }}\n"
    finally:
        subprocess.run(["umount", mine.overlays], check=True)
    assert {path: path.read_bytes() for path in mine.built.rglob("*") if path.is_file()} == whole


@pytest.mark.parametrize(
    ("words", "offered"),
    [("wwctl overlay show hostn", "hostname"), ("wwctl overlay show hosts etc/", "etc/hosts.j2")],
)
def test_completion(site: Site, words: str, offered: str) -> None:
    variables = {"_WWCTL_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    assert f"plain,{offered}" in site.wwctl(**variables).stdout.splitlines()
