"""Every check on a healthy image, which has nothing but its memory told, and on the same image with one thing wrong."""

import stat
import struct
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from images.catalog import Catalog
from images.doctor.cost import MIB, PAGE, memory_needed, unpacked_memory
from images.doctor.subject import Host, Severity, Subject, shown
from images.doctor.table import CHECKS, Named, examine, subject_of, worst
from images.index import Entry
from images.kernel import find_kernels
from images.syncuser import AccountFiles
from images.view import ImageView

DOCS = Path(__file__).parents[3] / "docs" / "images.md"
RELEASE = "6.1.0-1-amd64"
MODULES = f"usr/lib/modules/{RELEASE}"
UNITS = "usr/lib/systemd/system"
PASSWD = "root:x:0:0:root:/root:/bin/sh\nmunge:x:115:115::/:/bin/sh\n"
GROUP = "root:x:0:\nmunge:x:115:\n"


class Link(str):
    """A symbolic link's target."""


class Special(int):
    """An entry of this mode, without content."""


class Sized(int):
    """A file of so many bytes, whose content does not matter."""


Tree = Mapping[str, "bytes | str | Link | Special | Sized | None"]


def kernel(machine: int = 0x8664) -> bytes:
    """The head of a kernel with a PE header for this machine."""
    return b"MZ" + b"\0" * 0x3A + struct.pack("<I", 0x80) + b"\0" * 0x40 + b"PE\0\0" + struct.pack("<H", machine) + b"\0" * 64


HEALTHY: Tree = {
    "bin": Link("usr/bin"),
    "sbin": Link("usr/sbin"),
    "lib": Link("usr/lib"),
    **dict.fromkeys(("usr", "usr/bin", "usr/sbin", "usr/lib", "usr/lib/systemd", UNITS, "etc", "boot"), Special(stat.S_IFDIR)),
    **{f"usr/bin/{name}": "x" for name in ("sh", "mount", "setfattr", "curl", "cpio", "zstd", "ip", "switch_root", "modprobe")},
    **{f"usr/sbin/{name}": "x" for name in ("sshd", "agetty", "ifup")},
    "usr/sbin/init": Link("../lib/systemd/systemd"),
    "usr/lib/systemd/systemd": "x",
    f"{UNITS}/default.target": "x",
    **{
        f"{UNITS}/{target}.wants/{unit}": Link(f"../{unit}")
        for unit, target in (
            ("systemd-udevd.service", "sysinit.target"),
            ("systemd-udev-trigger.service", "sysinit.target"),
            ("systemd-tmpfiles-setup-dev.service", "sysinit.target"),
            ("systemd-journald.service", "sysinit.target"),
            ("getty.target", "multi-user.target"),
        )
    },
    f"boot/vmlinuz-{RELEASE}": kernel(),
    f"{MODULES}/modules.builtin": "kernel/fs/ext4/ext4.ko\n",
    f"{MODULES}/kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko.xz": "x",
    "etc/os-release": 'NAME="Debian GNU/Linux"\nID=debian\n',
    "etc/passwd": PASSWD,
    "etc/group": GROUP,
    "etc/shadow": "root:*:19000::::::\nmunge:!:19000::::::\n",
    "etc/machine-id": "",
    "etc/resolv.conf": "nameserver 10.0.0.1\n",
    "etc/fstab": "# nothing\nproc /proc proc defaults 0 0\n",
}  # fmt: skip
HOST = Host(architecture="amd64", accounts=AccountFiles(passwd=PASSWD, group=GROUP), root_keys=True)


def subject(tree: Tree, host: Host = HOST, *, architecture: str = "amd64", compressed: int | None = 100 * MIB) -> Subject:
    """An image of these paths; None takes one away."""
    present = {path: content for path, content in tree.items() if content is not None}
    view = ImageView(entry(path, content) for path, content in present.items())

    def read(path: bytes, limit: int) -> bytes | None:
        found = view.find_file(path)
        content = present[found.path.decode()] if found else None
        data = content.encode() if isinstance(content, str) else content
        return data[:limit] if isinstance(data, bytes) else None

    return Subject(
        name="deb",
        view=view,
        read=read,
        xattrs=lambda entry: entry.xattrs,
        architecture=architecture,
        host=host,
        kernels=find_kernels(view),
        compressed=compressed,
    )


def entry(path: str, content: "bytes | str | Link | Special | Sized") -> Entry:
    mode, size, target = stat.S_IFREG | 0o644, 0, b""
    match content:
        case Link():
            mode, target = stat.S_IFLNK | 0o777, content.encode()
        case Special():
            mode = int(content)
        case Sized():
            size = int(content)
        case _:
            size = len(content)
    return Entry(
        path=path.encode(), mode=mode, inode=1, uid=0, gid=0, size=size, nlink=1, rdev=0, mtime_ns=0, ctime_ns=0, target=target
    )


def told(found: list[Named]) -> dict[str, list[Severity]]:
    result: dict[str, list[Severity]] = {}
    for named in found:
        result.setdefault(named.check, []).append(named.finding.severity)
    return result


def test_a_healthy_image_has_only_its_memory_told() -> None:
    assert told(examine(subject(HEALTHY))) == {"memory": [Severity.NOTE]}


E, W, N = Severity
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret\n"
CUT = dict.fromkeys([path for path in HEALTHY if ".wants/" in path])
NO_NIC = {f"{MODULES}/kernel/drivers/net/ethernet/intel/e1000e/e1000e.ko.xz": None}


@pytest.mark.parametrize(
    ("check", "severity", "changes", "words", "fix"),
    [
        ("kernel", E, {f"boot/vmlinuz-{RELEASE}": None}, "no kernel", "apt-get install -y linux-image-amd64"),
        (
            "kernel",
            E,
            {f"boot/vmlinuz-{RELEASE}": None, "etc/os-release": 'ID_LIKE="rhel centos fedora"'},
            "no kernel",
            "dnf install -y kernel",
        ),
        (
            "kernel",
            E,
            {f"boot/vmlinuz-{RELEASE}": None, "boot/vmlinuz-0-rescue-x": "x", "etc/os-release": ""},
            "no kernel",
            "install a kernel",
        ),
        ("init", E, {"usr/sbin/init": None}, "no /sbin/init", "systemd-sysv"),
        ("init", E, {"usr/lib/systemd/systemd": None}, "no /sbin/init", "systemd-sysv"),
        ("own-init", E, {"usr/bin/mount": None}, "no mount", "apt-get install -y mount"),
        (
            "kernel",
            E,
            {f"boot/vmlinuz-{RELEASE}": None, "etc/os-release": "ID=ubuntu\nID_LIKE=debian\n"},
            "no kernel",
            '/bin/sh -c "apt-get update && apt-get install -y linux-image-generic"',
        ),
        ("own-init", E, {"usr/bin/sh": None}, "no sh", "wwctl image import --force SOURCE deb"),
        ("systemd", E, CUT, "systemd-udevd.service", "--reinstall systemd"),
        (
            "systemd",
            E,
            {"etc/systemd/system/systemd-udevd.service": Link("/dev/null")},
            "masked",
            "systemctl unmask systemd-udevd.service",
        ),
        ("systemd", E, {f"{UNITS}/default.target": None}, "default.target", "set-default"),
        ("network-drivers", E, NO_NIC, "no driver of any network card", "linux-image-amd64"),
        ("network-drivers", E, dict.fromkeys(p for p in HEALTHY if p.startswith(MODULES)), "no modules", "linux-image-amd64"),
        (
            "network-drivers",
            W,
            {**NO_NIC, f"{MODULES}/kernel/drivers/net/virtio_net.ko": "x"},
            "only virtio_net",
            "linux-image-amd64",
        ),
        (
            "architecture",
            E,
            {f"boot/vmlinuz-{RELEASE}": kernel(0xAA64)},
            "for arm64, but its programs are for amd64",
            "--platform",
        ),
        ("merged-usr", E, {"lib64": Link("usr/lib64")}, "/lib64 is a link to nothing", "import --force"),
        ("merged-usr", W, {"bin": Special(stat.S_IFDIR | 0o755)}, "merged by half", "ln -s usr/bin"),
        ("fstab", E, {"etc/fstab": "UUID=12 / ext4 defaults 0 1\n/dev/sda2 /var xfs defaults\n"}, "/, /var", "sed"),
        ("fstab", W, {"etc/fstab": "/dev/sda1 none swap sw 0 0\n"}, "swap on /dev/sda1", "sed"),
        ("large-files", E, {"srv": Special(stat.S_IFDIR), "srv/disk.img": Sized(1 << 32)}, "/srv/disk.img", "excludes"),
        ("root-login", W, {"etc/shadow": "root::::::::\n"}, "root has no password", "passwd -l root"),
        ("machine-id", W, {"etc/machine-id": "0123456789abcdef\n"}, "machine-id 01234567…", "truncate"),
        ("machine-id", W, {"var/lib/dbus/machine-id": "0123456789abcdef\n"}, "/var/lib/dbus", "rm"),
        (
            "host-keys",
            W,
            {"etc/ssh/ssh_host_rsa_key": KEY, "etc/ssh/ssh_host_ed25519_key": KEY},
            "2 SSH host keys",
            "ssh_host_*",
        ),
        ("private-keys", W, {"root/.ssh/id_ed25519": KEY}, "/root/.ssh/id_ed25519", "overlay"),
        ("private-keys", W, {"etc/ssl/private/site.pem": "cert\n" + KEY}, "/etc/ssl/private/site.pem", "rm"),
        ("secrets", W, {"etc/munge/munge.key": "x" * 128}, "/etc/munge/munge.key", "overlay"),
        ("secrets", W, {"root/.docker/config.json": "{}"}, "/root/.docker/config.json", "rm"),
        (
            "password-hashes",
            W,
            {"usr/sbin/usermod": "x", "etc/shadow": "root:*::\nalice:$6$a$b:1::\nbob:!$y$x:1::\n"},
            "alice, bob",
            "usermod -p '*' alice",
        ),
        (
            "password-hashes",
            W,
            {"etc/passwd": "root:x:0:0::/:/bin/sh\nold:AbCdEfGhIjKlM:115:0::/:/bin/sh\n"},
            "of old",
            "sed",
        ),
        (
            "uid-drift",
            W,
            {"etc/passwd": PASSWD.replace("munge:x:115", "munge:x:116")},
            "munge (116, here 115)",
            "wwctl image syncuser deb",
        ),
        ("uid-drift", W, {"etc/passwd": PASSWD.replace("munge", "other")}, "uid 115 (other; here munge)", "useradd"),
        ("network", W, {"usr/sbin/ifup": None}, "nothing in it configures a network", "ifupdown"),
        ("network", W, {"usr/sbin/ifup": None, "usr/lib/systemd/systemd-networkd": "x"}, "not enabled", "systemctl enable"),
        (
            "network",
            W,
            {
                "usr/sbin/ifup": None,
                "usr/lib/systemd/systemd-networkd": "x",
                "etc/systemd/system/systemd-networkd.service": Link("/dev/null"),
            },
            "not enabled",
            "systemctl unmask systemd-networkd.service && systemctl enable",
        ),
        (
            "name-resolution",
            W,
            {"etc/resolv.conf": Link("../run/systemd/resolve/stub-resolv.conf")},
            "systemd-resolved",
            "touch",
        ),
        ("name-resolution", W, {"etc/resolv.conf": "nameserver 127.0.0.53\n"}, "systemd-resolved", "resolv.conf"),
        ("console", W, {"usr/sbin/agetty": None}, "no agetty", "util-linux"),
        ("selinux", W, {"etc/selinux/config": "SELINUX=enforcing\n"}, "SELinux", "permissive"),
        (
            "units",
            W,
            {"etc/systemd/system/multi-user.target.wants/cloud-init.service": Link("x")},
            "cloud-init",
            "disable cloud-init",
        ),
        ("units", N, {"etc/systemd/system/timers.target.wants/fstrim.timer": Link("x")}, "fstrim.timer", "systemctl disable"),
        ("units", N, {f"{UNITS}/timers.target.wants/dnf-makecache.timer": Link("x")}, "dnf-makecache.timer", "systemctl mask"),
        ("ssh-server", N, {"usr/sbin/sshd": None}, "no SSH server", "openssh-server"),
        ("journal", N, {"var/log/journal": Special(stat.S_IFDIR)}, "journal", "rm"),
        ("boot-files", N, {"boot/initrd.img-6": Sized(50 * MIB)}, "50 MiB", "/etc/warewulf/excludes"),
        ("caches", N, {"var/cache/apt/archives/a.deb": Sized(20 * MIB)}, "20 MiB", "apt-get clean"),
        ("caches", N, {"var/cache/dnf/x": Sized(20 * MIB)}, "20 MiB", "dnf clean all"),
        ("documentation", N, {"usr/share/doc/a": Sized(40 * MIB)}, "/usr/share/doc", "/etc/warewulf/excludes"),
        ("sparse-logs", N, {"var/log/lastlog": Sized(1 << 40)}, "/var/log/lastlog", "truncate"),
        ("stage1-tools", N, {"usr/bin/curl": None, "usr/bin/cpio": None}, "curl or wget, cpio", "apt-get install -y curl cpio"),
    ],
)
def test_one_thing_wrong(check: str, severity: Severity, changes: Tree, words: str, fix: str) -> None:
    found = examine(subject({**HEALTHY, **changes}))
    (named, *_) = [named for named in found if named.check == check]
    assert named.finding.severity is severity
    assert words in named.finding.message
    assert fix in named.finding.fix


def test_the_rows_cover_every_check() -> None:
    marks = test_one_thing_wrong.pytestmark  # type: ignore[attr-defined]
    covered = {row[0] for row in marks[0].args[1]} | {"memory", "extended-attributes"}
    assert covered == set(CHECKS)


@pytest.mark.parametrize(
    "changes",
    [
        {**NO_NIC, f"{MODULES}/modules.builtin": "kernel/drivers/net/ethernet/broadcom/tg3.ko\n"},
        {"etc/fstab": "UUID=1 /scratch ext4 nofail 0 0\n/dev/sdb /data xfs noauto\nserver:/x /x nfs _netdev\n"},
        {"etc/machine-id": "uninitialized\n"},
        {
            f"{UNITS}/timers.target.wants/fstrim.timer": Link("../fstrim.timer"),
            "etc/systemd/system/fstrim.timer": Link("/dev/null"),
        },
        {"var/lib/dbus/machine-id": Link("/etc/machine-id")},
        {"root/.ssh/id_ed25519.pub": "ssh-ed25519 AAAA", "etc/ssl/cert.pem": "-----BEGIN CERTIFICATE-----" * 3},
        {"usr/share/doc/x/test.key": KEY},
        {"bin": Special(stat.S_IFDIR), "lib": Special(stat.S_IFDIR), "sbin": Special(stat.S_IFDIR),
         "bin/sh": "x", "bin/mount": "x", "sbin/init": "x", f"lib/modules/{RELEASE}/kernel/drivers/net/ethernet/a/igb.ko": "x"},
        {"etc/shadow": "root:!:19000::::::\nmunge:!!:::::::\n"},
        {"usr/bin/curl": None, "usr/bin/wget": "x"},
        {"usr/bin/curl": None, "usr/bin/cpio": None, "usr/bin/ip": None, "usr/bin/busybox": "x"},
    ],
)  # fmt: skip
def test_what_only_looks_wrong(changes: Tree) -> None:
    assert set(told(examine(subject({**HEALTHY, **changes})))) == {"memory"}


def test_what_an_image_says_does_not_move_the_cursor() -> None:
    changes: Tree = {"etc/machine-id": "\x1b[2J\x1b[Hxy\n", "etc/ssl/x\r.key": KEY}
    found = examine(subject({**HEALTHY, **changes}))
    assert {"machine-id", "private-keys"} <= {named.check for named in found}
    assert all(named.finding.message.isprintable() for named in found)


def test_nothing_can_be_installed_without_a_shell() -> None:
    bare = {
        f"boot/vmlinuz-{RELEASE}": None,
        "usr/bin/sh": None,
        "usr/bin/mount": None,
        "usr/bin/zstd": None,
        "usr/sbin/sshd": None,
    }
    found = examine(subject({**HEALTHY, **bare}))
    fixes = {named.finding.fix for named in found if named.check in ("kernel", "own-init", "ssh-server", "stage1-tools")}
    assert fixes == {"import a whole system instead: wwctl image import --force SOURCE deb"}


def test_root_without_a_key_and_who_brings_one() -> None:
    without = replace(HOST, root_keys=False)
    assert told(examine(subject(HEALTHY, without)))["root-login"] == [W]
    keys = {**HEALTHY, "root/.ssh/authorized_keys": "ssh-ed25519 AAAA me\n"}
    assert "root-login" not in told(examine(subject(keys, without)))


def test_another_architecture_than_this_servers_is_a_warning() -> None:
    tree = {**HEALTHY, f"boot/vmlinuz-{RELEASE}": kernel(0xAA64)}
    assert told(examine(subject(tree, architecture="arm64")))["architecture"] == [W]
    assert "architecture" not in told(examine(subject(tree, replace(HOST, architecture="arm64"), architecture="arm64")))


def test_xattrs_need_an_architecture_that_our_tool_knows() -> None:
    capable = Entry(
        path=b"usr/bin/ping", mode=stat.S_IFREG | 0o755, inode=9, uid=0, gid=0, size=1, nlink=1, rdev=0, mtime_ns=0, ctime_ns=0,
        xattrs=((b"security.capability", b"x"),),
    )  # fmt: skip
    for architecture, expected in (("amd64", None), ("arm64", None), ("s390x", [W])):
        healthy = subject(HEALTHY, architecture=architecture)
        found = examine(replace(healthy, view=ImageView([*healthy.view, capable])))
        assert told(found).get("extended-attributes") == expected
    assert "extended-attributes" not in told(examine(subject(HEALTHY, architecture="s390x")))


def test_a_driver_outside_the_usual_folders_counts() -> None:
    modules = {**NO_NIC, f"usr/lib/modules/{RELEASE}/igb.ko.xz": "x", f"usr/lib/modules/{RELEASE}/dummy.ko": "x"}
    assert "network-drivers" not in told(examine(subject({**HEALTHY, **modules})))


def test_without_the_head_nodes_accounts_nothing_is_compared() -> None:
    changed = {**HEALTHY, "etc/passwd": PASSWD.replace("115", "116")}
    assert "uid-drift" not in told(examine(subject(changed, replace(HOST, accounts=None))))


@pytest.mark.parametrize(
    ("unpacked", "compressed", "fails", "boots"),
    [
        # Measured on virtual machines: pages of the root, what was downloaded, a size that failed and the least that booted.
        (410, 89, 960, 1088),
        (280, 63, 640, 704),
    ],
)
def test_memory_agrees_with_what_was_measured(unpacked: int, compressed: int, fails: int, boots: int) -> None:
    assert fails < memory_needed(unpacked * MIB, compressed * MIB) / MIB <= boots


@pytest.mark.parametrize(
    ("unpacked", "compressed", "least"),
    [
        # Looked for in steps of 8 MiB with QEMU and the cloud kernel of Debian 12 (tests/lab/test_memory.py): MiB of pages, of
        # what was fetched, and the least that boots.
        (168.07, 164.06, 560),
        (214.41, 33.82, 520),
        (118.07, 31.66, 320),
        (368.07, 364.07, 1168),
    ],
)
def test_the_figure_is_enough_and_not_much_more(unpacked: float, compressed: float, least: int) -> None:
    assert least <= memory_needed(round(unpacked * MIB), round(compressed * MIB)) / MIB <= least * 1.15


def test_files_count_in_pages_and_hard_links_once() -> None:
    one = entry("a", Sized(1))
    name = msgspec.structs.replace(one, path=b"b", nlink=2, inode=5, size=PAGE)
    links = [name, msgspec.structs.replace(name, path=b"c")]
    log = entry("var/log/lastlog", Sized(1 << 40))
    assert unpacked_memory([one, *links, log, entry("d", Special(stat.S_IFDIR)), entry("e", Sized(PAGE + 1))]) == 4 * PAGE


def test_memory_of_an_image_that_was_never_built_is_a_guess() -> None:
    (named,) = examine(subject(HEALTHY, compressed=None))
    assert "guess" in named.finding.message
    (named,) = examine(subject(HEALTHY))
    assert "guess" not in named.finding.message


def test_the_worst_comes_first_and_notes_are_not_told_unasked() -> None:
    found = examine(subject({**HEALTHY, "usr/sbin/sshd": None, "etc/machine-id": "1234", "usr/sbin/init": None}))
    assert [named.finding.severity for named in found] == [E, W, N, N]
    assert [named.check for named in worst(found)] == ["init", "machine-id"]


def test_hostile_names_move_no_cursor() -> None:
    assert shown(b"a\x1b[2J\xff\nb") == "/a\\x1b[2J\\xff\\nb"


def test_a_tree_on_disk(tmp_path: Path) -> None:
    catalog = Catalog(chroots=tmp_path / "chroots", provision=tmp_path / "provision")
    root = catalog.chroots / "deb/rootfs"
    (root / "etc/warewulf").mkdir(parents=True)
    (root / "etc/machine-id").symlink_to("/etc/hostname")
    (root / "etc/warewulf/excludes").write_text("/root/*\n")
    (root / "root/.ssh").mkdir(parents=True)
    (root / "root/.ssh/id_rsa").write_text(KEY)
    (tmp_path / "outside").write_text("PRIVATE")
    (root / "etc/os-release").symlink_to(tmp_path / "outside")
    made = subject_of(catalog, "deb", HOST)
    assert made.text(b"etc/os-release") is None, "links lead nowhere outside the image"
    assert {"kernel", "init"} <= set(told(examine(made)))
    assert "private-keys" not in told(examine(made)), "what is excluded does not reach a node"
    assert made.read(b"etc/warewulf/excludes", 3) == b"/ro"


def test_the_documentation_lists_every_check() -> None:
    text = DOCS.read_text()
    assert [name for name in CHECKS if f"| `{name}` |" not in text] == []
