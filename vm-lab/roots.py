"""Root file systems to boot: a real Debian 12 as a tar (mmdebstrap), and a tiny one of busybox and a kernel as a directory.

Both are cached under `.cache`, named after the hash of how they are made. They are made before the lab goes into its own
network namespace, because packages come from the distribution's mirrors.
"""

import os
import re
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from keeping import digest, execute, staging
from places import CACHE, CHECKOUT

from images.compress import Compression
from images.errors import Error

SUITE = "bookworm"
KERNEL_PACKAGE = "linux-image-cloud-amd64"
"""Small and quick to start; it has virtio drivers only, which is all that the lab's machines need."""

DEBIAN_PACKAGES = ("systemd", "systemd-sysv", "dbus", "udev", "openssh-server", "iproute2", KERNEL_PACKAGE)
DEBIAN_OPTIONS = (
    "--variant=minbase",
    "--dpkgopt=path-exclude=/usr/share/doc/*",
    "--dpkgopt=path-exclude=/usr/share/man/*",
    "--dpkgopt=path-exclude=/usr/share/locale/*",
    '--customize-hook=chroot "$1" systemctl enable systemd-networkd',
    # Its search for snapshots of LVM costs a diskless machine seconds at each boot.
    '--customize-hook=chroot "$1" systemctl disable e2scrub_reap',
    '--customize-hook=chroot "$1" passwd --lock root',
    '--customize-hook=rm -f "$1"/etc/apt/apt.conf.d/99mmdebstrap "$1"/etc/dpkg/dpkg.cfg.d/99mmdebstrap "$1"/etc/hostname',
)
IFUPDOWN_PACKAGES = (*DEBIAN_PACKAGES, "ifupdown")
IFUPDOWN_OPTIONS = tuple(option for option in DEBIAN_OPTIONS if "systemd-networkd" not in option)
TINY_MODULES = ("virtio_pci", "virtio_net")
GETFATTR_FILES = {
    "attr": ("usr/bin/getfattr",),
    "libc6": ("lib/x86_64-linux-gnu/libc.so.6", "lib64/ld-linux-x86-64.so.2"),
}
"""What of which package the tiny image needs for getfattr, which busybox lacks: the program, its library, its loader."""
PE_OFFSET = 0x3C
"""Where a program for UEFI says where its PE header stands."""
PE_CERTIFICATES = 24 + 112 + 4 * 8
"""The fifth data directory of a 64-bit PE header: where the certificates lie."""
TINY_FILES = CHECKOUT / "vm-lab" / "tiny"


def debian_root(packages: Sequence[str] = DEBIAN_PACKAGES, options: Sequence[str] = DEBIAN_OPTIONS) -> Path:
    """A Debian 12 root as a tar, unless told otherwise with systemd, sshd and a kernel; made once in about a minute."""
    recipe = (*options, *packages, SUITE)
    tar = CACHE / f"debian-root-{digest(recipe)}.tar"
    if not tar.exists():
        with staging(tar) as staged:
            include = f"--include={','.join(packages)}"
            # No mirror is named: mmdebstrap knows the distribution's own.
            execute("mmdebstrap", "--quiet", *options, *_apt_settings(), include, "--format=tar", SUITE, str(staged))
    return tar


def ifupdown_root() -> Path:
    """The same Debian with ifupdown for its network stack."""
    return debian_root(IFUPDOWN_PACKAGES, IFUPDOWN_OPTIONS)


def debian_kernel(root: Path) -> Path:
    """The kernel of a root tar, beside it."""
    kernel = root.with_suffix(".vmlinuz")
    if not kernel.exists():
        with tarfile.open(root) as tar, staging(kernel) as staged:
            found = next(member for member in tar if re.match(r"\./boot/vmlinuz-", member.name))
            content = tar.extractfile(found)
            assert content is not None
            staged.write_bytes(content.read())
    return kernel


def tiny_root() -> Path:
    """A root of busybox, a kernel and its virtio modules; it boots to a shell on the serial console in a few seconds."""
    sources = [path.read_bytes() for path in sorted(TINY_FILES.rglob("*")) if path.is_file()]
    root = CACHE / f"tiny-root-{digest((Path(__file__).read_bytes(), *sources))}"
    if not root.exists():
        with staging(root) as staged, _unpacked(_kernel_package()) as kernel:
            _assemble_tiny(staged, static_busybox(), kernel)
            _add_getfattr(staged)
    return root


def static_busybox() -> Path:
    """A busybox that needs nothing else."""
    path = CACHE / "busybox-static"
    if not path.exists():
        with staging(path) as staged, _unpacked("busybox-static") as folder:
            shutil.copy2(folder / "bin/busybox", staged)
    return path


def _assemble_tiny(root: Path, busybox: Path, kernel: Path) -> None:
    for name in ("bin", "boot", "dev", "etc", "proc", "root", "run", "sys", "tmp", "usr/bin", "var"):
        (root / name).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "root").chmod(0o700)
    (root / "sbin").symlink_to("bin")
    shutil.copy2(busybox, root / "bin/busybox")
    shutil.copytree(TINY_FILES, root, dirs_exist_ok=True)
    for applet in execute(str(busybox), "--list").split():
        if not (root / "bin" / applet).exists():
            (root / "bin" / applet).symlink_to("busybox")
    for name in ("vmlinuz-*", "config-*"):
        shutil.copy2(next((kernel / "boot").glob(name)), root / "boot")
    release = next((kernel / "lib/modules").iterdir())
    modules = root / "lib/modules" / release.name
    modules.mkdir(parents=True)
    order = list(_with_dependencies(TINY_MODULES, release))
    for module in order:
        shutil.copy2(module, modules / module.name)
    (modules / "load-order").write_text("".join(f"{module.name}\n" for module in order))


def _add_getfattr(root: Path) -> None:
    for package, names in GETFATTR_FILES.items():
        with _unpacked(package) as folder:
            for name in names:
                # The loader's link leads to an absolute path, which means one in the package.
                source = folder / name
                source = folder / source.readlink().relative_to("/") if source.is_symlink() else source
                (root / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, root / name)


def copy_tiny(tiny: Path, target: Path, compression: Compression) -> Path:
    """A tiny root of one's own to change, whose kernel says that it unpacks `compression`; returns `target`."""
    shutil.copytree(tiny, target, symlinks=True)
    if compression is Compression.GZIP:
        (config,) = target.glob("boot/config-*")
        config.write_text(config.read_text().replace("CONFIG_RD_ZSTD=y", "# CONFIG_RD_ZSTD is not set"))
    return target


def fill(root: Path, mib: int) -> None:
    """Add files of 10 MiB that no compression makes smaller."""
    folder = root / "usr/filling"
    folder.mkdir()
    for number in range(mib // 10):
        (folder / f"{number:03}").write_bytes(os.urandom(10 << 20))


def take_signature(kernel: Path) -> None:
    """Make an unsigned kernel of a signed one: cut off the certificates at its end (PE format, certificate table)."""
    image = bytearray(kernel.read_bytes())
    header = int.from_bytes(image[PE_OFFSET : PE_OFFSET + 4], "little")
    entry = header + PE_CERTIFICATES
    offset = int.from_bytes(image[entry : entry + 4], "little")
    if image[header : header + 4] != b"PE\0\0" or not 0 < offset < len(image):
        raise Error(f"{kernel} has no signature", hint="the lab needs one of Debian's signed kernels")
    image[entry : entry + 8] = bytes(8)
    kernel.write_bytes(image[:offset])


def _with_dependencies(names: Iterable[str], release: Path) -> Iterator[Path]:
    """The modules' files in the order of loading: what a module's own `depends=` names comes first.

    Modules that the kernel has built in have no file.
    """
    files = {path.name.split(".")[0].replace("-", "_"): path for path in release.rglob("*.ko*")}
    done: set[str] = set()

    def visit(name: str) -> Iterator[Path]:
        if name in done or name not in files:
            return
        done.add(name)
        found = re.search(rb"\0depends=([^\0]*)\0", files[name].read_bytes())
        for needed in found[1].decode().split(",") if found else ():
            yield from visit(needed.replace("-", "_"))
        yield files[name]

    for name in names:
        yield from visit(name)


def _kernel_package() -> str:
    """The package behind the kernel's meta package, such as linux-image-6.1.0-40-cloud-amd64."""
    text = execute("apt-cache", "depends", "--no-recommends", "--no-suggests", KERNEL_PACKAGE)
    found = re.search(r"Depends: (linux-image-\S+)", text)
    if found is None:
        execute("apt-get", "update")
        found = re.search(r"Depends: (linux-image-\S+)", execute("apt-cache", "depends", KERNEL_PACKAGE))
    if found is None:
        raise Error(f"apt knows no package {KERNEL_PACKAGE}", hint="the lab needs the package lists of Debian 12")
    return found[1]


@contextmanager
def _unpacked(package: str) -> Iterator[Path]:
    """A folder with the files of a package, which is downloaded but not installed."""
    with tempfile.TemporaryDirectory(prefix=f"lab-{package}-") as name:
        folder = Path(name)
        command = ("apt-get", "download", "-o", "APT::Sandbox::User=root", package)
        try:
            execute(*command, cwd=folder)
        except Error:
            # The lists may be older than the mirror.
            execute("apt-get", "update")
            execute(*command, cwd=folder)
        execute("dpkg-deb", "--extract", str(next(folder.glob("*.deb"))), str(folder / "files"))
        yield folder / "files"


def _apt_settings() -> list[str]:
    """This machine's own ways of reaching its mirrors (proxies, checks), for mmdebstrap, which does not read them."""
    settings = []
    for line in execute("apt-config", "dump", "--no-empty").splitlines():
        if re.match(r"Acquire::(Check-|https?::|ftp::|Retries|Max-)", line, re.IGNORECASE):
            settings.append(f"--aptopt={line.removesuffix(';')}")
    return settings
