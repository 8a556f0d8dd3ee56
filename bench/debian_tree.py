"""The trees that are measured: a Debian root of a plain compute node, and very many small files."""

import os
import shutil
import subprocess
from pathlib import Path

import roots
from provenance import file_system

PACKAGES = (
    *roots.DEBIAN_PACKAGES,
    "bash-completion",
    "chrony",
    "curl",
    "environment-modules",
    "ethtool",
    "git",
    "hwloc",
    "less",
    "lldpd",
    "locales",
    "lsof",
    "munge",
    "nfs-common",
    "numactl",
    "pciutils",
    "python3",
    "rsync",
    "strace",
    "sudo",
    "tcpdump",
)
# With documentation and translations, as a site's image has them: they are most of its small files.
OPTIONS = tuple(option for option in roots.DEBIAN_OPTIONS if "path-exclude" not in option)
FILES_IN_A_FOLDER = 1000


def debian_tar() -> Path:
    """About 550 MB in 18 000 entries; made once, by mmdebstrap."""
    return roots.debian_root(PACKAGES, OPTIONS)


def unpack(tar: Path, rootfs: Path) -> None:
    """Unpack into a new folder, and have every file in the page cache."""
    rootfs.mkdir(parents=True)
    options = ["--numeric-owner", "--xattrs", "--xattrs-include=*"]
    subprocess.run(["tar", "--extract", *options, "--file", str(tar), "--directory", str(rootfs)], check=True)
    read_all(rootfs)


def empty(folder: Path) -> None:
    """Make it an empty folder; for few and large files."""
    if folder.exists():
        shutil.rmtree(folder)
    folder.mkdir(parents=True)


def set_aside(folder: Path) -> None:
    """Make it an empty folder; a tree that was there is kept under another name, until the bench ends.

    After many files were deleted, ext4 was seen to make new ones up to forty times slower (probably because it passes over
    inodes that were freed just now): the next tree would be unpacked that much slower, whoever unpacks it. In memory (tmpfs)
    the tree is removed, and its pages serve the next run: else each run, ours and the peer's, would measure how fast the host
    of a virtual machine gives it memory that it never had.
    """
    if folder.exists():
        if file_system(folder) == "tmpfs":
            shutil.rmtree(folder)
        else:
            aside = folder.with_name(f"{folder.name}.aside")
            aside.mkdir(exist_ok=True)
            folder.rename(aside / str(len(list(aside.iterdir()))))
    folder.mkdir(parents=True)


def copy(rootfs: Path, other: Path) -> None:
    other.parent.mkdir(parents=True)
    subprocess.run(["cp", "--archive", str(rootfs), str(other)], check=True)


def read_all(rootfs: Path) -> None:
    for folder, _, names in os.walk(rootfs):
        for name in names:
            path = os.path.join(folder, name)
            if os.path.isfile(path) and not os.path.islink(path):
                with open(path, "rb") as file:
                    while file.read(1 << 20):
                        pass


def count(rootfs: Path) -> int:
    """Entries below the root."""
    return sum(len(folders) + len(names) for _, folders, names in os.walk(rootfs))


def drop_kernel_option(rootfs: Path, option: str) -> None:
    """Take an option out of every kernel's config, as if that kernel had been built without it."""
    for config in rootfs.glob("boot/config-*"):
        lines = config.read_text().splitlines(keepends=True)
        config.write_text("".join(line for line in lines if not line.startswith(f"{option}=")))


def many_files(rootfs: Path, number: int) -> None:
    """`number` small files, a thousand in a folder."""
    for folder in range(number // FILES_IN_A_FOLDER):
        place = rootfs / f"folder-{folder:04}"
        place.mkdir(parents=True)
        for file in range(FILES_IN_A_FOLDER):
            (place / f"file-{file:04}.txt").write_text(f"{folder}/{file}\n")
