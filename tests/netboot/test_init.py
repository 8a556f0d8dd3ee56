"""Our init in a root of its own: it runs what overlays bring in wwinit.d and init.d, then the image's init."""

import os
import subprocess
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import pytest

pytestmark = pytest.mark.root

APPLETS = ("sh", "mount", "umount", "sleep", "mkdir", "cat", "ls", "echo")
REAL_INIT = "#!/bin/sh\necho real init\n"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    busybox = Path("/bin/busybox")
    if not busybox.exists():
        pytest.skip("/bin/busybox is missing (Debian package busybox-static)")
    for folder in ("bin", "sbin", "proc", "sys", "dev", "run", "warewulf/wwinit.d", "warewulf/init.d"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "bin/busybox").write_bytes(busybox.read_bytes())
    (tmp_path / "bin/busybox").chmod(0o755)
    for applet in APPLETS:
        (tmp_path / "bin" / applet).symlink_to("busybox")
    put(tmp_path, "init", (files("netboot") / "init/init").read_text())
    put(tmp_path, "sbin/init", REAL_INIT)
    return tmp_path


def put(root: Path, path: str, text: str, mode: int = 0o755) -> None:
    (root / path).write_text(text)
    (root / path).chmod(mode)


@pytest.fixture
def boot(root: Path, require_tool: Callable[..., Path]) -> Callable[[], list[str]]:
    """Run /init as PID 1 of its own namespaces, and give its lines."""
    unshare, chroot = require_tool("unshare", package="util-linux"), require_tool("chroot", package="coreutils")

    def run() -> list[str]:
        command: list[str | Path] = [unshare, "--mount", "--pid", "--fork", "--uts", chroot, root, "/init"]
        done = subprocess.run(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60, env={}, check=False
        )
        assert done.returncode == 0, done.stdout
        return done.stdout.splitlines()

    return run


def test_without_scripts(boot: Callable[[], list[str]], root: Path) -> None:
    assert boot() == ["bootsvc init: starting /sbin/init", "real init"]
    assert os.listdir(root / "dev") == []


def test_scripts_run_in_order_with_the_config(boot: Callable[[], list[str]], root: Path) -> None:
    put(root, "warewulf/config", "WWHOSTNAME='n 1'\n", 0o600)
    put(root, "warewulf/init.d/50-b", 'echo "b of $WWHOSTNAME"; exit 3\n', 0o644)
    put(root, "warewulf/init.d/60-c", "#!/bin/sh\n[ -c /dev/null ] && [ -d /sys/kernel ] && : >/run/x && echo mounted\n")
    put(root, "warewulf/wwinit.d/90-a", "#!/bin/sh\necho a\n")
    assert boot() == [
        "bootsvc init: running /warewulf/wwinit.d/90-a",
        "a",
        "bootsvc init: running /warewulf/init.d/50-b",
        "b of n 1",
        "bootsvc init: /warewulf/init.d/50-b FAILED with status 3",
        "bootsvc init: running /warewulf/init.d/60-c",
        "mounted",
        "bootsvc init: starting /sbin/init",
        "real init",
    ]


def test_udev_runs_for_the_disks_only(boot: Callable[[], list[str]], root: Path) -> None:
    (root / "usr/lib/systemd").mkdir(parents=True)
    put(root, "usr/lib/systemd/systemd-udevd", '#!/bin/sh\necho "udevd $*"\n')
    put(root, "bin/udevadm", '#!/bin/sh\necho "udevadm $1"\n')
    put(root, "warewulf/init.d/50-b", "echo b\n")
    assert not any(line.startswith("udev") for line in boot())
    put(root, "warewulf/wwinit.d/10-a", "echo a\n")
    said = [line for line in boot() if not line.startswith("bootsvc")]
    assert said == [
        "udevd --daemon",
        "udevadm trigger",
        "udevadm trigger",
        "udevadm settle",
        "a",
        "udevadm control",
        "b",
        "real init",
    ]
