"""What the doctor says to type, typed: the finding is gone afterwards. What installs packages is not, for want of a network."""

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from head_node import WWCTL, HeadNode

pytestmark = pytest.mark.root
APPLETS = ("cat", "cp", "grep", "init", "ln", "mkdir", "mount", "mv", "rm", "sed", "sh", "touch", "truncate", "udhcpc")
KEY = "-----BEGIN OPENSSH PRIVATE KEY-----\nc2VjcmV0\n"
MIB = 1 << 20
COMMAND = re.compile(r"(?:.*?: )?((?:wwctl|cd|rm) .+)")
"""A fix is a command, or words, a colon and a command."""


class SickHead(HeadNode):
    """A head node with the image `img`, in which much is wrong."""

    def __init__(self, root: Path, busybox: Path) -> None:
        super().__init__(root)
        self.environment |= {"PATH": f"{WWCTL.parent}:{self.environment['PATH']}"}
        self.rootfs = self.chroots / "img/rootfs"
        for name in (
            "bin",
            "boot",
            "etc/ssh",
            "etc/munge",
            "etc/selinux",
            "root/.ssh",
            "sbin",
            "tmp",
            "usr/lib",
            "var/log/journal",
        ):
            (self.rootfs / name).mkdir(parents=True)
        (self.rootfs / "lib").symlink_to("usr/lib")
        shutil.copy(busybox, self.rootfs / "bin/busybox")
        for name in APPLETS:
            (self.rootfs / "bin" / name).symlink_to("busybox")
        (self.rootfs / "sbin/init").symlink_to("/bin/busybox")
        for path, content in {
            "boot/vmlinuz-6.1.0": "kernel",
            "etc/passwd": "root:x:0:0:root:/root:/bin/sh\nold:AbCdEfGhIjKlM:115:0::/:/bin/sh\n",
            "etc/group": "root:x:0:\n",
            "etc/shadow": "root:$6$salt$hash:19000::::::\n",
            "etc/machine-id": "0123456789abcdef0123456789abcdef\n",
            "etc/ssh/ssh_host_rsa_key": KEY,
            "etc/munge/munge.key": "x" * 128,
            "root/.ssh/id_rsa": KEY,
            "root/.ssh/with 'quote'_key": KEY,
            "etc/fstab": "  /dev/sda1 /data ext4 defaults 0 0\nLABEL=swap none swap sw 0 0\n",
            "etc/resolv.conf": "nameserver 127.0.0.53\n",
            "etc/inittab": "::sysinit:/etc/rc\n",
            "etc/selinux/config": "SELINUX=enforcing\n",
        }.items():
            (self.rootfs / path).write_text(content)
        for path, size in {
            "boot/initrd.img-6.1.0": 2 * MIB,
            "srv/disk.img": 1 << 32,
            "usr/share/doc/much": 33 * MIB,
            "var/cache/apk/one.apk": 9 * MIB,
            "var/log/lastlog": 1 << 33,
        }.items():
            (self.rootfs / path).parent.mkdir(parents=True, exist_ok=True)
            with (self.rootfs / path).open("wb") as file:
                file.truncate(size)

    def findings(self) -> list[tuple[str, str]]:
        """The check and the fix of each."""
        done = self.wwctl("image", "check", "--json", "img")
        return [(row["check"], row["fix"]) for row in json.loads(done.stdout)]

    def type(self, fix: str) -> None:
        found = COMMAND.fullmatch(fix)
        assert found is not None, fix
        done = subprocess.run(
            ["/bin/bash", "-c", found[1]], env=self.environment, capture_output=True, text=True, timeout=60, check=False
        )
        assert done.returncode == 0, f"{found[1]}: {done.stderr}"


@pytest.fixture
def head(tmp_path: Path, require_tool: Callable[..., Path]) -> SickHead:
    return SickHead(tmp_path, require_tool("busybox", package="busybox-static"))


TYPED = {
    "boot-files", "caches", "console", "documentation", "fstab", "host-keys", "journal", "large-files", "machine-id",
    "merged-usr", "name-resolution", "password-hashes", "private-keys", "secrets", "selinux", "sparse-logs",
}  # fmt: skip


def test_a_fix_that_is_typed_mends_what_was_found(head: SickHead) -> None:
    found = head.findings()
    assert {check for check, _ in found} >= TYPED
    # The build that ends each of the others cannot hold such a file.
    for check, fix in sorted(found, key=lambda row: row[0] != "large-files"):
        if check in TYPED:
            head.type(fix)
    assert {check for check, _ in head.findings()} & TYPED == set()
    assert (head.rootfs / "bin/sh").exists(), "the image still works"


def test_a_resolv_conf_that_waits_for_a_missing_resolver_is_replaced(head: SickHead) -> None:
    (head.rootfs / "etc/resolv.conf").unlink()
    (head.rootfs / "etc/resolv.conf").symlink_to("../run/systemd/resolve/stub-resolv.conf")
    ((_, fix),) = [row for row in head.findings() if row[0] == "name-resolution"]
    (head.rootfs / "srv/disk.img").unlink()
    head.type(fix)
    assert "name-resolution" not in {check for check, _ in head.findings()}
    assert (head.rootfs / "etc/resolv.conf").read_text() == ""
