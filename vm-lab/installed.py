"""A head node to boot without a disk: Debian 12 with systemd, and this checkout's wheel in a virtual environment.

Two initramfs segments: Debian and the Python packages that ours needs, made once and kept; our own wheel and the files of
`head/`, made anew for each run. pip runs on this machine, for Debian's own Python.
"""

import shutil
import sys
import tempfile
import tomllib
from pathlib import Path

import roots
from keeping import digest, execute, staging
from places import CACHE, CHECKOUT

FILES = CHECKOUT / "vm-lab" / "head"
PREFIX = Path("opt/bootsvc")
"""Where the virtual environment lies on the head node."""
PYTHON = "/usr/bin/python3"
PACKAGES = (
    *("systemd", "systemd-sysv", "systemd-resolved", "dbus", "iproute2", "busybox", "curl", "tftp-hpa", "ipxe"),
    *("python3", "libmagic1", roots.KERNEL_PACKAGE),
)
OPTIONS = (
    "--variant=minbase",
    # The client's end of a cable, and what systemd asks for at boot; the machine has no other devices.
    "--dpkgopt=path-exclude=/lib/modules/*/kernel/*",
    "--dpkgopt=path-include=/lib/modules/*/kernel/drivers/net/veth.ko",
    "--dpkgopt=path-include=/lib/modules/*/kernel/fs/autofs/*",
    "--dpkgopt=path-exclude=/usr/lib/ipxe/*",
    "--dpkgopt=path-include=/usr/lib/ipxe/snponly.efi",
    "--dpkgopt=path-include=/usr/lib/ipxe/undionly.kpxe",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    '--customize-hook=chroot "$1" systemctl mask getty@tty1 serial-getty@ttyS0 systemd-logind systemd-networkd e2scrub_reap',
    '--customize-hook=chroot "$1" systemctl mask apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer fstrim.timer',
    '--customize-hook=rm -rf "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/boot/initrd* "$1"/boot/ipxe* "$1"/var/lib/apt/lists',
)


def head_root() -> tuple[Path, Path]:
    """Debian with the Python packages, as an initramfs, and its kernel; needs the mirrors the first time."""
    debian = roots.debian_root(PACKAGES, OPTIONS)
    needed = tomllib.loads((CHECKOUT / "pyproject.toml").read_text())["project"]["dependencies"]
    root = CACHE / f"head-root-{digest((debian.name, *needed))}.cpio.zst"
    if not root.exists():
        with staging(root) as staged, tempfile.TemporaryDirectory(prefix="lab-head-", dir=CACHE) as name:
            tree = Path(name)
            execute("tar", "--extract", "--numeric-owner", "--file", str(debian), "--directory", name)
            execute(PYTHON, "-m", "venv", "--without-pip", str(tree / PREFIX))
            _install(tree / PREFIX, *needed)
            pack(tree, staged)
    return root, roots.debian_kernel(debian)


def our_segment(folder: Path) -> Path:
    """This checkout's wheel as installed, and the files of `head/`, as an initramfs in `folder`."""
    tree = folder / "head"
    shutil.copytree(FILES, tree, symlinks=True)
    build = (sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(CHECKOUT))
    execute(*build)
    (wheel,) = folder.glob("bootsvc-*.whl")
    execute(PYTHON, "-m", "venv", "--without-pip", str(tree / PREFIX))
    _install(tree / PREFIX, "--no-index", "--no-deps", str(wheel))
    wwctl = tree / PREFIX / "bin/wwctl"
    # pip names the Python that it installs for by where that lies now.
    _, _, script = wwctl.read_text().partition("\n")
    wwctl.write_text(f"#!/{PREFIX}/bin/python\n{script}")
    return pack(tree, folder / "head.cpio.zst")


def _install(environment: Path, *what: str) -> None:
    python = str(environment / "bin/python")
    execute(sys.executable, "-m", "pip", "--quiet", "--python", python, "install", *what)


def pack(tree: Path, target: Path) -> Path:
    """The tree as an initramfs, root's all of it that is not somebody's on this machine."""
    script = 'cd "$1" && find . -mindepth 1 -print0 | cpio --null --create --format=newc --quiet | zstd -q -3 -T0 -o "$2"'
    execute("bash", "-o", "pipefail", "-c", script, "bash", str(tree), str(target))
    return target
