"""The overlays that are no network's: what they make for a simple, an IPv6 node and one with disks, and what the tools that
read it say."""

import json
import os
import re
import stat
import subprocess
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import msgspec
import pytest
from system_overlays import SYSTEM_OVERLAYS

from netboot import engines
from netboot.engine import Export, RenderContext, Server
from netboot.errors import OverlayError
from netboot.head_files import FileCache, NotedFiles
from netboot.node import Node, to_node
from netboot.overlay import Item, load, shipped
from netboot.overlay_render import render_items
from netboot.reads import Trace
from netboot.systemd_names import escape_path
from netboot.urls import Urls

GOLDEN = Path(__file__).parent.parent / "golden" / "system-overlays"
ADDRESS = IPv4Address("10.0.0.100")
DEVICE = {"hwaddr": "52:54:00:00:00:01", "ipaddr": "10.0.0.1", "netmask": "255.255.255.0", "device": "eth0"}
DEVICE6 = {"hwaddr": "52:54:00:00:00:02", "device": "eth0", "ipaddr6": "fd00::2", "prefixlen6": "64", "gateway6": "fd00::1"}
DISKS = {
    "/dev/sda": {
        "wipe_table": False,
        "partitions": {
            "scratch": {"number": "2", "size_mib": "24", "should_exist": True},
            "swap": {
                "number": "1",
                "size_mib": "16",
                "type_guid": "0657FD6D-A4AB-43C4-84E5-0933C84B4F4F",
                "wipe_partition_entry": True,
            },
            "old": {"number": "3", "should_exist": False, "wipe_partition_entry": True},
        },
    }
}
FILESYSTEMS = {
    "/dev/disk/by-partlabel/scratch": {
        "format": "ext4",
        "path": "/scratch/my data",
        "label": "scratch",
        "options": ["-m", "0"],
        "mount_options": "noatime,nodev",
        "wipe_filesystem": False,
    },
    "/dev/disk/by-partlabel/swap": {"format": "swap", "path": "swap", "label": "swap1", "wipe_filesystem": True},
}
NODES = {
    "simple": to_node(
        "simple",
        {
            "image name": "img",
            "network devices": {"default": DEVICE},
            "resources": {
                "fstab": [{"spec": "warewulf:/home", "file": "/home", "vfstype": "nfs", "mntops": "defaults,nofail"}]
            },
        },
    ),
    "ipv6": to_node(
        "ipv6",
        {
            "image name": "img",
            "network devices": {"default": DEVICE6},
            "ipmi": {"write": "true", "ipaddr": "10.0.1.2", "username": "admin", "password": "se cret", "tags": {"vlan": "42"}},
            "tags": {"localtime": "Europe/Berlin", "ntp_servers": "10.0.0.3,10.0.0.4", "PasswordlessRoot": "true"},
            "asset key": "abc",
        },
    ),
    "disks": to_node(
        "disks",
        {
            "image name": "img",
            "network devices": {"default": DEVICE},
            "disks": DISKS,
            "filesystems": FILESYSTEMS,
            "resources": {
                "localusers": [{"name": "local", "uid": 5000, "gid": 5000, "home": "/scratch"}],
                "localgroups": [{"name": "local", "gid": 5000, "members": ["ada", "local"]}],
            },
        },
    ),
    "resources": to_node(
        "resources",
        {
            "image name": "img",
            "network devices": {"default": DEVICE},
            "resources": {
                "sfdisk": [
                    {
                        "device": "/dev/sdb",
                        "label": "gpt",
                        "partitions": [
                            {"device": "/dev/sdb1", "name": "rootfs", "size": 65536},
                            {"device": "/dev/sdb2", "name": "rest", "type": "linux"},
                        ],
                    }
                ],
                "mkfs": [{"device": "/dev/sdb1", "type": "ext2", "options": "-b 1024", "overwrite": True, "size": 0}],
                "mkswap": [{"device": "/dev/sdb2", "label": "swap"}],
                "ignition": {
                    "storage": {
                        "filesystems": [
                            {"device": "/dev/sdb1", "path": "/scratch", "format": "ext4", "mountOptions": ["noatime", "ro"]}
                        ]
                    }
                },
            },
        },
    ),
}


@pytest.fixture
def head(tmp_path: Path) -> Path:
    """A head node's /etc, and the image `img` beside it."""
    files = {
        "etc/passwd": "root:x:0:0::/root:/bin/bash\nmunge:x:990:990::/:/bin/false\nada:x:1000:1000:Ada:/home/ada:/bin/bash\n",
        "etc/group": "root:x:0:\nmunge:x:990:\nada:x:1000:\nvideo:x:33:ada\n",
        "etc/warewulf/tls/warewulf.crt": "-----BEGIN CERTIFICATE-----\n",
        "chroots/img/rootfs/etc/passwd": "root:x:0:0:root:/root:/bin/sh\nmunge:x:123:124::/:/bin/false\n+nis\n",
        "chroots/img/rootfs/etc/group": "root:x:0:\nmunge:x:124:\nvideo:x:44:\n",
        **{f"etc/warewulf/keys/ssh_host_{kind}_key": f"private {kind}\n" for kind in ("ed25519", "rsa", "ecdsa")},
        **{f"etc/warewulf/keys/ssh_host_{kind}_key.pub": f"public {kind}\n" for kind in ("ed25519", "rsa")},
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    (tmp_path / "etc/localtime").symlink_to("/usr/share/zoneinfo/Europe/Paris")
    return tmp_path


@pytest.fixture
def server(head: Path) -> Server:
    return Server(
        name="head",
        address=ADDRESS,
        network=IPv4Network("10.0.0.0/24"),
        domain="cluster",
        urls=Urls(address=ADDRESS, port=9873),
        authorized_keys=("ssh-ed25519 AAAA root@head",),
        sysconfdir=head / "etc",
        chroots=head / "chroots",
        exports=(
            Export(path="/home", options="rw,sync,no_subtree_check", clients=("10.0.0.0/255.255.255.0", "fd00::/64")),
            Export(path="/my data", options="ro", clients=("10.0.0.0/255.255.255.0",)),
        ),
    )


Render = Callable[..., Mapping[bytes, Item]]


@pytest.fixture
def render(server: Server) -> Render:
    """`render("fstab", NODES["simple"])` is what the overlay puts on the node."""

    def made(name: str, node: Node | str) -> Mapping[bytes, Item]:
        node = NODES[node] if isinstance(node, str) else node
        context = RenderContext(node=node, nodes=list(NODES.values()), server=server)
        return render_items([load(name, [shipped()])], context).items

    return made


def changed(node: str, **values: Any) -> Node:
    return msgspec.structs.replace(NODES[node], **values)


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("name", SYSTEM_OVERLAYS)
def test_golden(name: str, node: str, render: Render, head: Path, golden: Callable[[Path, str], None]) -> None:
    items = render(name, node)
    text = "".join(
        f"==> {path.decode()} {item.mode:o} {item.uid}:{item.gid}\n{item.content.decode()}\n"
        for path, item in sorted(items.items())
    )
    golden(GOLDEN / name / f"{node}.txt", text.replace(str(head), "HEAD"))


def write(items: Mapping[bytes, Item], root: Path) -> Path:
    """The overlay as files below `root`."""
    for path, item in sorted(items.items()):
        place = root / os.fsdecode(path)
        if stat.S_ISDIR(item.mode):
            place.mkdir(parents=True, exist_ok=True)
            continue
        place.parent.mkdir(parents=True, exist_ok=True)
        if stat.S_ISLNK(item.mode):
            place.symlink_to(os.fsdecode(item.content))
        else:
            place.write_bytes(item.content)
            place.chmod(item.mode & 0o7777)
    return root


def run(*command: str | Path, status: int = 0, **options: Any) -> str:
    """What the command says on both streams; it must end with `status`."""
    done: subprocess.CompletedProcess[str]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, **options)
    assert done.returncode == status, done.stdout
    return done.stdout


@pytest.mark.parametrize("node", NODES)
def test_no_secret_can_be_read_by_others(node: str, render: Render) -> None:
    for name in SYSTEM_OVERLAYS:
        for path, item in render(name, node).items():
            if re.search(rb"se cret|private ", item.content):
                assert item.mode & 0o077 == 0, path


def test_debug_shows_no_secret(render: Render) -> None:
    resources = {"x": {"api_token": "se cret", "plain": "shown"}}
    text = render("debug", changed("ipv6", resources=resources))[b"warewulf/tstruct.md"].content
    assert b"se cret" not in text
    assert b"| `node.resources['x']['plain']` | shown |" in text


def test_a_bmc_password_comes_to_a_node_that_writes_it_only(render: Render) -> None:
    quiet = changed("ipv6", ipmi=msgspec.structs.replace(NODES["ipv6"].ipmi, write="false"))
    items = render("wwinit", quiet)
    assert b"warewulf/init.d/50-ipmi" not in items
    assert b"se cret" not in items[b"warewulf/config"].content


@pytest.mark.parametrize("node", NODES)
def test_shell_scripts(node: str, render: Render, tmp_path: Path, require_tool: Callable[..., Path]) -> None:
    """What a shell will run is right for dash, and shellcheck has nothing to say."""
    shellcheck = require_tool("shellcheck")
    for name in SYSTEM_OVERLAYS:
        for path in sorted(write(render(name, node), tmp_path / name).rglob("*")):
            if path.is_file() and path.read_bytes().startswith(b"#!/bin/sh"):
                assert path.stat().st_mode & 0o111, path
                run("sh", "-n", path)
                run(shellcheck, "--norc", "--exclude=SC2317", path)  # functions that this node has no use for
    run(shellcheck, "--norc", "--shell=sh", tmp_path / "host/etc/profile.d/ssh_setup.sh")
    assert run("sh", "-ec", f'. {tmp_path}/wwinit/warewulf/config; echo "$WWIMAGE $WWHOSTNAME"') == f"img {node}\n"
    run(require_tool("tcsh"), "-n", tmp_path / "host/etc/profile.d/ssh_setup.csh")


@pytest.mark.parametrize("node", ["simple", "disks"])
def test_fstab(node: str, render: Render, tmp_path: Path, require_tool: Callable[..., Path]) -> None:
    fstab = write(render("fstab", node), tmp_path / "node") / "etc/fstab"
    said = run(require_tool("findmnt", package="util-linux"), "--verify", "--verbose", "--tab-file", fstab, status=0)
    assert said.endswith("Success, no errors or warnings detected\n") or "0 parse errors, 0 errors" in said, said


def test_fstab_of_an_entry_without_the_optional_fields(render: Render) -> None:
    node = changed("simple", resources={"fstab": [{"spec": "head:/a b", "file": "/a"}]})
    assert render("fstab", node)[b"etc/fstab"].content.endswith(b"\nhead:/a\\040b /a auto defaults 0 0\n")


@pytest.mark.parametrize("overlay", ["systemd.mount", "systemd.swap", "ignition", "wwclient"])
def test_units(overlay: str, render: Render, tmp_path: Path, require_tool: Callable[..., Path]) -> None:
    root = write(render(overlay, "disks"), tmp_path / "node")
    units = [path for path in (root / "etc/systemd/system").iterdir() if path.is_file()]
    assert units
    links = [path for path in (root / "etc/systemd/system").rglob("*") if path.is_symlink()]
    assert [link.resolve(strict=True).name for link in links] == [unit.name for unit in units]
    names = ["local-fs.target", "swap.target", "multi-user.target", "network-online.target", "shutdown.target", "umount.target"]
    for name in [*names, "basic.target", "sysinit.target", "system.slice", "-.slice", "-.mount", "local-fs-pre.target"]:
        (root / "etc/systemd/system" / name).write_text("[Mount]\nWhat=/\nWhere=/\n" if name == "-.mount" else "[Unit]\n")
    (root / "bin").mkdir()
    (root / "bin/kill").write_text("#!/bin/sh\n")
    (root / "bin/kill").chmod(0o755)
    said = run(
        require_tool("systemd-analyze", package="systemd"), "verify", f"--root={root}", "--man=no", *(u.name for u in units)
    )
    assert said == ""


@pytest.mark.parametrize("zone", ["../../etc/shadow", "/etc/shadow", "a b", "Europe/"])
def test_a_time_zone_that_is_none(zone: str, render: Render) -> None:
    with pytest.raises(OverlayError, match="is no time zone"):
        render("localtime", changed("simple", tags={"localtime": zone}))


@pytest.mark.parametrize("field", ["path", "mount_options", "format"])
def test_a_value_is_no_second_line(field: str, render: Render) -> None:
    one = {"format": "ext4", "path": "/a", "mount_options": "ro", field: "/x\nExecStart=y"}
    node = to_node("n", {"filesystems": {"/dev/sda1": one}})
    with pytest.raises(OverlayError):
        render("systemd.mount", node)
    assert len(render("fstab", node)[b"etc/fstab"].content.splitlines()) == 6


def test_unit_names_are_as_systemd_escapes_them(require_tool: Callable[..., Path]) -> None:
    paths = ["/", "/scratch", "//a/b/", "/a-b/c d", "/.hidden/x", "/dev/disk/by-id/x:1_2", "/ü"]
    tool = require_tool("systemd-escape", package="systemd")
    assert [escape_path(path) for path in paths] == [run(tool, "--path", path).strip() for path in paths]


def test_chrony(render: Render, tmp_path: Path, require_tool: Callable[..., Path]) -> None:
    conf = write(render("chrony", "ipv6"), tmp_path / "node") / "etc/chrony.conf"
    said = run(require_tool("chronyd", package="chrony"), "-p", "-f", conf)
    assert said.splitlines()[:2] == ["server 10.0.0.3 iburst", "server 10.0.0.4 iburst"]


@pytest.mark.parametrize("node", ["disks", "resources"])
def test_ignition(node: str, render: Render, tmp_path: Path, require_tool: Callable[..., Path]) -> None:
    config = write(render("ignition", node), tmp_path / "node") / "warewulf/ignition.json"
    run(require_tool("ignition-validate", package="ignition"), config)


def test_ignition_has_whole_mount_options_and_the_start_of_partitions(render: Render) -> None:
    partition = {"number": "1", "start_mib": "4", "size_mib": "0"}
    node = to_node("n", {"disks": {"/dev/sda": {"partitions": {"a": partition}}}, "filesystems": FILESYSTEMS})
    config = json.loads(render("ignition", node)[b"warewulf/ignition.json"].content)
    assert config["storage"]["disks"][0]["partitions"] == [{"label": "a", "number": 1, "startMiB": 4, "sizeMiB": 0}]
    assert config["storage"]["filesystems"][0]["mountOptions"] == ["noatime", "nodev"]


def test_ignition_needs_the_number_of_a_partition_that_is_to_go(render: Render) -> None:
    node = to_node("n", {"disks": {"/dev/sda": {"partitions": {"a": {"should_exist": "false"}}}}})
    with pytest.raises(OverlayError, match=r"the partition 'a' is to go, and has no number"):
        render("ignition", node)


def test_nodes_without_disks_get_no_scripts_for_them(render: Render) -> None:
    for name in ("ignition", "mkfs", "mkswap", "sfdisk", "systemd.mount", "systemd.swap"):
        assert {stat.S_IFMT(item.mode) for item in render(name, "simple").values()} <= {stat.S_IFDIR}


def test_host_keys_are_sshds(server: Server, render: Render, tmp_path: Path, require_tool: Callable[..., Path]) -> None:
    sshd, keygen = require_tool("sshd", package="openssh-server"), require_tool("ssh-keygen", package="openssh-client")
    key = server.sysconfdir / "warewulf/keys/ssh_host_ed25519_key"
    key.unlink()
    run(keygen, "-q", "-t", "ed25519", "-N", "", "-f", key, input="y\n")
    (key.parent / "ssh_host_rsa_key").unlink()
    ssh = write(render("ssh.host_keys", "simple"), tmp_path / "node") / "etc/ssh"
    assert sorted(path.name for path in ssh.iterdir()) == ["ssh_host_ed25519_key", "ssh_host_ed25519_key.pub"]
    (tmp_path / "sshd_config").write_text(f"HostKey {ssh}/ssh_host_ed25519_key\nUsePAM no\n")
    Path("/run/sshd").mkdir(exist_ok=True)
    run(sshd, "-t", "-f", tmp_path / "sshd_config")


def test_two_names_with_one_id_are_an_error(render: Render, head: Path) -> None:
    (head / "chroots/img/rootfs/etc/passwd").write_text("root:x:0:0::/root:/bin/sh\nslurm:x:1000:1000::/:/bin/false\n")
    with pytest.raises(OverlayError, match=r"overlay syncuser, etc/.*: uid 1000 is 'slurm' in image 'img' and 'ada' on"):
        render("syncuser", "simple")


@pytest.mark.parametrize("user", [{"name": "x"}, {"name": "a:b", "uid": 1, "gid": 1}, 7, {"name": "x", "uid": -1, "gid": 1}])
def test_a_local_user_that_is_none(user: object, render: Render) -> None:
    with pytest.raises(OverlayError, match="the resource localusers has an entry that is no account"):
        render("syncuser", changed("simple", resources={"localusers": [user]}))


def test_a_local_user_with_an_id_that_is_taken(render: Render) -> None:
    with pytest.raises(OverlayError, match="'x' of the node's resources has the id 1000, which is 'ada'"):
        render("syncuser", changed("simple", resources={"localusers": [{"name": "x", "uid": 1000, "gid": 1}]}))


def test_syncuser_without_an_image(render: Render) -> None:
    assert set(render("syncuser", changed("simple", image_name=""))) == {b"etc"}
    with pytest.raises(OverlayError, match=r"cannot read .*/chroots/none/rootfs/etc/passwd"):
        render("syncuser", changed("simple", image_name="none"))


@pytest.mark.parametrize("resources", [{"mkfs": {"device": "x"}}, {"mkfs": [{"type": "ext4"}]}, {"sfdisk": ["x"]}])
def test_a_resource_of_another_shape(resources: dict[str, Any], render: Render) -> None:
    name = next(iter(resources))
    with pytest.raises(OverlayError, match=f"overlay {name}, .*: the resource {name} .* \\(node simple\\)"):
        render(name, changed("simple", resources=resources))


def test_what_was_read_is_noted(server: Server) -> None:
    """So that an overlay is built anew when a key, a link or an account changes."""
    read: set[str] = set()
    for name in ("ssh.host_keys", "localtime", "syncuser"):
        for item in load(name, [shipped()]).items:
            path = os.fsdecode(item.path)
            if path.endswith(".j2"):
                files = NotedFiles(FileCache())
                context = RenderContext(node=NODES["simple"], nodes=[], server=server, overlay=name)
                engines.render(item.content, context, Trace(), files, path=path)
                read |= {Path(one.path).name for one in files.reads}
    assert {"ssh_host_rsa_key", "ssh_host_ecdsa_key.pub", "localtime", "passwd", "group"} <= read
