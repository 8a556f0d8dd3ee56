"""`wwctl container exec` and `shell` beyond the seed page: copies, a node's view, read-only images, the exit script."""

import os
import pty
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from head_node import WWCTL, HeadNode

pytestmark = pytest.mark.root


class Site(HeadNode):
    """A head node with one image."""

    def __init__(self, root: Path, busybox: Path) -> None:
        super().__init__(root)
        self.folder = self.chroots / "img"
        self.rootfs = self.folder / "rootfs"
        self.environment = {key: value for key, value in self.environment.items() if not key.startswith("WW_")}
        self.environment |= {"SHELL": "/bin/sh"}
        for name in ("bin", "boot", "etc/warewulf", "mnt", "root", "tmp"):
            (self.rootfs / name).mkdir(parents=True)
        (root / "etc").mkdir()
        shutil.copy(busybox, self.rootfs / "bin/busybox")
        for name in ("cat", "ls", "sh", "touch", "true"):
            (self.rootfs / "bin" / name).symlink_to("busybox")
        (self.rootfs / "boot/vmlinuz-6.1.0").write_text("kernel")

    def exec(self, *args: str) -> "subprocess.CompletedProcess[str]":
        """Without the build that would follow."""
        return self.wwctl("image", "exec", "--build=false", *args)

    def add_node(self, name: str = "n1", **fields: str) -> None:
        done = self.wwctl("node", "add", name, "--image", "img", *(f"--{key}={value}" for key, value in fields.items()))
        assert done.returncode == 0, done.stderr

    def add_overlay(self, name: str, path: str, content: str) -> None:
        place = self.root / "lib/warewulf/overlays" / name / "rootfs" / path
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(content)

    def tree(self) -> dict[str, tuple[int, bytes]]:
        paths = sorted(self.rootfs.rglob("*"))
        return {
            str(path): (path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
            for path in [self.rootfs, *paths]
        }


@pytest.fixture
def site(tmp_path: Path, require_tool: Callable[..., Path]) -> Site:
    return Site(tmp_path, require_tool("busybox", package="busybox-static"))


def test_a_copied_file_is_gone_afterwards_unless_it_was_changed(site: Site, tmp_path: Path) -> None:
    (tmp_path / "credentials").write_text("secret\n")
    before = site.tree()
    bind = f"--bind={tmp_path}/credentials:/etc/zypp/credentials:copy"
    assert site.exec(bind, "img", "cat", "/etc/zypp/credentials").stdout == "secret\n"
    assert site.tree() == before
    assert site.exec(bind, "img", "sh", "-c", "echo registered >> /etc/zypp/credentials").returncode == 0
    assert (site.rootfs / "etc/zypp/credentials").read_text() == "secret\nregistered\n"
    done = site.exec(bind, "img", "cat", "/etc/zypp/credentials")
    assert done.stdout == "secret\nregistered\n"
    assert done.stderr.splitlines() == [
        "wwctl: warning: /etc/zypp/credentials is not copied, for the image has a file of that name",
        "(remove it from the image first)",
    ]


def test_mounts_of_warewulf_conf_come_after_the_command_lines(site: Site, tmp_path: Path) -> None:
    for name in ("one", "two", "three"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "name").write_text(name)
    mounts = [
        "image mounts:",
        *("- source: /etc/resolv.conf", "  dest: /etc/resolv.conf"),
        *(f"- source: {tmp_path}/one", "  dest: /srv/one", "  readonly: true"),
        *(f"- source: {tmp_path}/two", "  dest: /mnt"),
        *(f"- source: {tmp_path}/two/name", "  dest: /etc/copied", "  copy: true"),
        "- source: /no/such/file",
    ]
    site.conf.write_text(site.conf.read_text() + "\n".join(mounts) + "\n")
    before = site.tree()
    script = "cat /srv/one/name /mnt/name /etc/copied; touch /mnt/new; touch /srv/one/new; echo x > /etc/resolv.conf"
    done = site.exec(f"--bind={tmp_path}/three:/mnt", "img", "sh", "-c", script)
    assert (done.returncode, done.stdout) == (1, "onethreetwo")
    assert done.stderr.splitlines() == [
        "wwctl: warning: /no/such/file of `image mounts` does not exist",
        f"(correct {site.conf})",
        "touch: /srv/one/new: Read-only file system",
        "sh: can't create /etc/resolv.conf: Read-only file system",
    ]
    assert (tmp_path / "three/new").exists()
    assert site.tree() == before


def test_a_node_sees_its_overlays_above_the_image(site: Site) -> None:
    site.add_overlay("system1", "etc/shared", "the system overlay's\n")
    site.add_overlay("system1", "etc/motd.j2", "this is {{ node.id }} of {{ server.address }}\n")
    site.add_overlay("runtime1", "etc/warewulf/shared", "the runtime overlay's\n")
    (site.root / "lib/warewulf/overlays/runtime1/rootfs/etc/shared").write_text("the runtime overlay's\n")
    (site.rootfs / "etc/motd").write_text("the image's\n")
    (site.rootfs / "etc/keep").write_text("kept\n")
    site.add_node(**{"system-overlays": "wwinit,system1,missing", "runtime-overlays": "runtime1"})
    before = site.tree()
    script = "cat /etc/motd /etc/shared /etc/keep; touch /root/new /etc/motd; ls /root"
    done = site.wwctl("image", "exec", "-n", "n1", "img", "sh", "-c", script)
    assert done.stdout == "this is n1 of 10.0.0.1\nthe runtime overlay's\nkept\nnew\n"
    assert "wwctl: warning: there is no overlay 'missing'" in done.stderr
    assert site.tree() == before
    assert not (site.root / "lib/warewulf/provision").exists(), "it is not built"


def test_a_node_does_not_see_what_its_overlays_remove(site: Site) -> None:
    (site.rootfs / "etc/motd").write_text("the image's\n")
    (site.rootfs / "etc/keep").write_text("kept\n")
    site.add_overlay("less", "etc/.wh.motd", "")
    site.add_node(**{"system-overlays": "less"})
    before = site.tree()
    done = site.wwctl("image", "exec", "-n", "n1", "img", "sh", "-c", "ls /etc/motd; cat /etc/keep")
    assert done.stdout == "kept\n"
    assert "/etc/motd: No such file" in done.stderr
    assert site.tree() == before


def test_a_node_of_another_image_is_said(site: Site) -> None:
    assert site.wwctl("node", "add", "n2").returncode == 0
    done = site.exec("--node", "n2", "img", "true")
    assert (done.returncode, done.stderr) == (0, "wwctl: warning: node n2 boots no image, not img\n")


def test_build_as_a_flag_takes_no_word_away(site: Site) -> None:
    for line in ("--build img cat --build", "img --build cat --build", "--bind /etc:/mnt --build=true img cat --build"):
        done = site.wwctl("image", "exec", *line.split())
        assert "--build" in done.stderr.splitlines()[0], "it is the command's"
        assert done.returncode == 1
    assert not (site.root / "lib/warewulf/provision/images").exists()
    for line in ("--build img true", "img --build true true"):
        assert "Building image: img" in site.wwctl("image", "exec", *line.split()).stdout
    assert site.wwctl("image", "exec", "--build", "false", "img", "true").stdout == ""


def test_root_without_its_capabilities_is_told(site: Site, require_tool: Callable[..., Path]) -> None:
    setpriv = require_tool("setpriv", package="util-linux")
    command: list[str | Path] = [setpriv, "--bounding-set", "-sys_admin", WWCTL, "image", "exec", "img", "true"]
    done = subprocess.run(command, env=site.environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        f"wwctl: cannot prepare {site.rootfs}: Operation not permitted",
        "(mount points and namespaces need root with all capabilities; a container has not all)",
    ]
    assert not (site.rootfs / "dev").exists()


def test_a_read_only_image_is_not_changed(site: Site) -> None:
    (site.folder / "readonly").touch()
    (site.rootfs / "etc/warewulf/image_exit.sh").write_text("exit 5\n")
    before = site.tree()
    done = site.exec("img", "touch", "/etc/x")
    assert (done.returncode, done.stderr) == (1, "touch: /etc/x: Read-only file system\n")
    assert site.exec("img", "sh", "-c", "touch /tmp/x /run/x").returncode == 0
    assert site.tree() == before


def test_the_exit_script_runs_after_success_and_before_the_build(site: Site) -> None:
    (site.rootfs / "etc/warewulf/container_exit.sh").write_text("echo older\n")
    assert site.exec("img", "true").stdout == "older\n"
    (site.rootfs / "etc/warewulf/image_exit.sh").write_text("echo cleaning; echo x > /etc/cleaned\n")
    done = site.wwctl("image", "exec", "img", "true")
    assert (done.returncode, done.stdout) == (0, "cleaning\nBuilding image: img\n")
    assert (site.rootfs / "etc/cleaned").exists()
    assert site.exec("img", "sh", "-c", "exit 3").stdout == ""


def test_an_exit_script_that_fails_prevents_the_build(site: Site) -> None:
    (site.rootfs / "etc/warewulf/image_exit.sh").write_text("exit 4\n")
    done = site.wwctl("container", "exec", "img", "true")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines() == [
        "wwctl: /etc/warewulf/image_exit.sh of 'img' ended with status 4, so img is not built",
        "(correct the script, then run `wwctl container build img`)",
    ]
    assert not (site.root / "lib/warewulf/provision").exists()


def test_an_exit_script_that_leads_out_of_the_image_is_none(site: Site, tmp_path: Path) -> None:
    (tmp_path / "evil.sh").write_text("echo evil\n")
    (site.rootfs / "etc/warewulf/image_exit.sh").symlink_to(f"{'../' * 20}{tmp_path}/evil.sh")
    assert site.exec("img", "true").stdout == ""


@pytest.mark.parametrize(
    ("noun", "readonly", "variables", "prompt"),
    [
        ("container", False, {}, "[img] Warewulf> "),
        ("container", True, {"WW_PS1": "x"}, "[img] Warewulf> "),
        ("image", False, {}, "[warewulf:img] /# "),
        ("image", False, {"WW_PS1": r"\w in {it}: "}, "[warewulf:img] / in {it}: "),
        ("image", True, {}, "[warewulf:img(ro)] /# "),
    ],
)
def test_prompts(site: Site, noun: str, readonly: bool, variables: dict[str, str], prompt: str) -> None:
    if readonly:
        (site.folder / "readonly").touch()
    master, slave = pty.openpty()
    with subprocess.Popen(
        [WWCTL, noun, "shell", "--build=false", "img"], stdin=slave, stdout=slave, stderr=slave,
        env=site.environment | variables, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(slave)
        text = read_until(master, re.escape(prompt) + "$")
        os.write(master, b"exit\n")
        assert process.wait(30) == 0, text
    os.close(master)


def read_until(master: int, pattern: str) -> str:
    text = ""
    while not re.search(pattern, text):
        # busybox asks the terminal where its cursor is.
        text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text + os.read(master, 4096).decode())
    return text


@pytest.fixture
def other_shell(site: Site) -> str:
    (site.rootfs / "bin/ash").symlink_to("/bin/busybox")
    return "/bin/ash"


@pytest.mark.parametrize(("wanted", "found"), [("/bin/ash", "/bin/ash"), ("/bin/zsh", "/bin/sh"), ("bin", "/bin/sh")])
def test_the_shell_is_the_callers_if_the_image_has_it(site: Site, other_shell: str, wanted: str, found: str) -> None:
    done = subprocess.run(
        [WWCTL, "image", "shell", "--build=false", "img"],
        env=site.environment | {"SHELL": wanted}, input="echo $0\n", capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert done.stdout == f"{found}\n"


@pytest.mark.parametrize(
    "args",
    [
        ("--bind={root}/etc:/mnt", "img", "sh", "-c", "echo : $0 $1", "-n", "--bind"),
        ("img", "--bind={root}/etc:/mnt", "sh", "-c", "echo : $0 $1", "-n", "--bind"),
        ("img", "--bind", "{root}/etc:/mnt", "--", "sh", "-c", "echo : $0 $1", "-n", "--bind"),
        ("--", "img", "sh", "-c", "echo : $0 $1", "-n", "--bind"),
    ],
)
def test_flags_after_the_command_are_the_commands(site: Site, args: tuple[str, ...]) -> None:
    done = site.exec(*(arg.format(root=site.root) for arg in args))
    assert (done.returncode, done.stdout, done.stderr) == (0, ": -n --bind\n", "")


@pytest.mark.parametrize(
    ("args", "status", "message", "hint"),
    [
        ("--bnd x img true", 2, "`wwctl image exec` has no flag --bnd", "did you mean --bind?"),
        ("img --bnd=x true", 2, "`wwctl image exec` has no flag --bnd", "did you mean --bind?"),
        ("img --bind", 2, "option '--bind' requires an argument", "`wwctl --help` shows how it is used"),
        ("--bind a:b:c:d img true", 1, "'a:b:c:d' is not a bind", "write --bind SRC[:DST[:ro|copy]]"),
        ("--bind /etc:/mnt/x:copy img true", 1, "'/etc' cannot be copied into the image, for it is not a file",
         "bind it with `ro` instead"),
        ("--node n11 img true", 1, "there is no node 'n11'", "did you mean 'n1'?"),
        ("--node n1 nosuch true", 1, "there is no image 'nosuch'", "`wwctl image list` shows the images that exist"),
    ],
)  # fmt: skip
def test_bad_input_is_a_sentence_and_changes_nothing(site: Site, args: str, status: int, message: str, hint: str) -> None:
    site.add_node()
    before = site.tree()
    done = site.exec(*args.format(root=site.root).split())
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr.splitlines() == [f"wwctl: {message.format(root=site.root)}", f"({hint})"]
    assert site.tree() == before


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("image mounts: yes", "expected a list"),
        ("image mounts:\n- dest: /x", "one of them has no source"),
        ("image mounts:\n- {source: /x, dest: /}", "the dest / is no place in an image"),
        ("image mounts:\n- {source: x}", "'x' cannot be used"),
    ],
)
def test_mounts_that_cannot_be(site: Site, text: str, words: str) -> None:
    site.conf.write_text(site.conf.read_text() + text + "\n")
    done = site.exec("img", "true")
    assert done.returncode == 1
    assert words in done.stderr


def test_an_unknown_key_of_a_mount_is_warned_about(site: Site) -> None:
    site.conf.write_text(site.conf.read_text() + "image mounts:\n- {source: /etc/hostname, dst: /x}\n")
    done: Any = site.exec("img", "true")
    assert "unknown key 'image mounts: dst' (did you mean 'dest'?)" in done.stderr
