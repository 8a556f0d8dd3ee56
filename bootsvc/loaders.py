"""Boot loaders. The signed ones, shim and GRUB, come out of the node's own image, else this machine's packages.

A kernel of the image passes only a shim and a GRUB that trust its vendor, so the image's own come first.
"""

import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from bootsvc.artifacts import Artifact
from bootsvc.tftp.files import find_file
from images.errors import Error
from images.rootfs import Rootfs, UnsafePath

SHIM_DIRS = ("usr/lib/shim", "usr/share/efi/*", "usr/lib64/efi", "boot/efi/EFI/*")
GRUB_DIRS = ("usr/lib/grub/*-efi-signed", "usr/lib64/efi", "usr/share/grub2/*-efi", "usr/share/efi/*", "boot/efi/EFI/*")

_X86_SHIMS = ("shimx64.efi.signed", "shim.efi", "shim-sles.efi", "shimx64.efi", "shim-susesigned.efi")
_X86_GRUBS = ("grubnetx64.efi.signed", "grubx64.efi.signed", "grub-tpm.efi", "grub.efi", "grubx64.efi")
_ARM_SHIMS = ("shimaa64.efi.signed", "shimaa64.efi")
_ARM_GRUBS = ("grubnetaa64.efi.signed", "grubaa64.efi.signed", "grubaa64.efi")


@dataclass(frozen=True, slots=True, kw_only=True)
class Kind:
    """Where one kind of loader lies: the first name wins, in the first directory that has it."""

    dirs: Sequence[str]
    names: Sequence[str]


_SHIM_X64, _SHIM_AA64 = Kind(dirs=SHIM_DIRS, names=_X86_SHIMS), Kind(dirs=SHIM_DIRS, names=_ARM_SHIMS)
_GRUB_X64, _GRUB_AA64 = Kind(dirs=GRUB_DIRS, names=_X86_GRUBS), Kind(dirs=GRUB_DIRS, names=_ARM_GRUBS)
LOADERS: Mapping[str, Kind] = {
    "shim.efi": _SHIM_X64,
    "shimx64.efi": _SHIM_X64,
    "shimaa64.efi": _SHIM_AA64,
    "grub.efi": _GRUB_X64,
    "grub-tpm.efi": _GRUB_X64,
    "grubx64.efi": _GRUB_X64,
    "grubnetx64.efi": _GRUB_X64,
    "grubaa64.efi": _GRUB_AA64,
    "mmx64.efi": Kind(dirs=SHIM_DIRS, names=("mmx64.efi.signed", "MokManager.efi", "mmx64.efi")),
}
"""By the name that firmware, shim and Warewulf's URLs ask for."""


def find_loader(name: str, roots: Sequence[Path]) -> Artifact | None:
    """The loader of this name below the first of the roots that has it."""
    kind = LOADERS.get(name)
    if kind is None:
        return None
    for root in roots:
        found = _find(kind, root)
        if found is not None:
            return found
    return None


def served_loader(name: str, directories: Iterable[Path]) -> Artifact | None:
    """iPXE, and whatever else TFTP serves out of these directories, for firmware that fetches it over HTTP."""
    try:
        return _artifact(find_file(directories, name))
    except Error:
        return None


def find_initramfs(version: str, root: Path) -> Artifact | None:
    """The initramfs of a kernel version in an image's tree (Warewulf's two-stage boot)."""
    kind = Kind(dirs=("boot",), names=[f"{stem}-{version}*" for stem in ("initramfs", "initrd", "initrd.img")])
    return _find(kind, root)


def _find(kind: Kind, root: Path) -> Artifact | None:
    try:
        with Rootfs(root) as rootfs:
            for name in kind.names:
                for folder in kind.dirs:
                    for path in _matches(rootfs, f"{folder}/{name}"):
                        found = _regular(root, path)
                        if found is not None:
                            return found
    except (OSError, UnsafePath):
        return None
    return None


def _matches(rootfs: Rootfs, pattern: str) -> Iterator[bytes]:
    """Paths below the root, without a link in them."""
    folders = [b""]
    *parents, name = pattern.split("/")
    for part in parents:
        folders = [path for folder in folders for path in _expand(rootfs, folder, part)]
    for folder in folders:
        yield from _expand(rootfs, folder, name)


def _expand(rootfs: Rootfs, folder: bytes, part: str) -> Iterator[bytes]:
    directory = rootfs.find_directory(folder)
    if directory is None:
        return
    if "*" not in part:
        yield directory.child(part.encode())
        return
    for name in sorted(os.listdir(directory.fd)):
        if fnmatchcase(name, part):
            yield directory.child(os.fsencode(name))


def _regular(root: Path, path: bytes) -> Artifact | None:
    return _artifact(root / os.fsdecode(path))


def _artifact(full: Path) -> Artifact | None:
    try:
        info = full.lstat()
    except OSError:
        return None
    if not stat.S_ISREG(info.st_mode):
        return None
    etag = f"{info.st_ino:x}-{info.st_size:x}-{info.st_mtime_ns:x}"
    return Artifact(parts=((full, info.st_size),), size=info.st_size, etag=etag)
