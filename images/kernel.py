"""The kernels of an image: where they lie, their versions, and what they can unpack (Warewulf 4.7's search order)."""

import re
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Protocol, TypeVar

import msgspec

from images.compress import Compression
from images.view import ImageView

PATTERNS = (
    "boot/Image-*",
    "boot/vmlinuz-linux*",
    "boot/vmlinuz-*",
    "lib/modules/*/vmlinuz",
    "lib/modules/*/vmlinuz.gz",
)
_VERSION = re.compile(r"\d+\.\d+\.\d+(?:-[\d.]*\d)?")


class Named(Protocol):
    """A kernel as far as choosing one goes: an image's, or a generation's."""

    @property
    def path(self) -> str: ...
    @property
    def version(self) -> str: ...
    @property
    def release(self) -> str: ...


K = TypeVar("K", bound=Named)


class ImageKernel(msgspec.Struct, frozen=True, kw_only=True):
    """`path` as an administrator names it, `real` with links followed, `release` as `uname -r` says it."""

    path: str
    real: str
    version: str
    release: str


def find_kernels(view: ImageView) -> list[ImageKernel]:
    """Every kernel, in search order; what has a name that is no line of text, which no nodes.conf could say, is none."""
    modules = view.resolve(b"lib/modules").decode(errors="surrogateescape")
    patterns = [pattern.replace("lib/modules", modules) for pattern in PATTERNS]
    candidates = [
        (number, path)
        for entry in view
        if (b"vmlinuz" in entry.path or b"boot/Image-" in entry.path) and not entry.is_directory
        for number, pattern in enumerate(patterns)
        if fnmatchcase(path := entry.path.decode(errors="surrogateescape"), pattern) and path.count("/") == pattern.count("/")
    ]
    found = []
    for path in dict.fromkeys(path for _, path in sorted(candidates)):
        file = view.find_file(path.encode(errors="surrogateescape"))
        if file is not None and path.isprintable():
            real = file.path.decode(errors="surrogateescape")
            found.append(ImageKernel(path="/" + path, real=real, version=_version(path), release=_release(path)))
    return found


def default_kernel(kernels: Sequence[K]) -> K | None:
    """The highest version that is neither a debug nor a rescue kernel; ties keep the search order."""
    usable = [kernel for kernel in kernels if "+debug" not in kernel.path and "-rescue" not in kernel.path]
    return max(usable, key=lambda kernel: _order(kernel.version), default=None)


def choose_kernel(kernels: Sequence[K], wanted: str) -> K | None:
    """The kernel that a node's `kernel version` names: a path in the image, or a version prefix; empty means the default."""
    if not wanted:
        return default_kernel(kernels)
    for kernel in kernels:
        if wanted == kernel.path or ("/" not in wanted and kernel.release.startswith(wanted)):
            return kernel
    return None


def supported_compression(rootfs: Path, view: ImageView, kernels: Sequence[ImageKernel]) -> Compression:
    """zstd when every kernel's own config says CONFIG_RD_ZSTD=y; gzip, which all kernels unpack, otherwise."""
    if kernels and all(_has_zstd(rootfs, view, kernel) for kernel in kernels):
        return Compression.ZSTD
    return Compression.GZIP


def _has_zstd(rootfs: Path, view: ImageView, kernel: ImageKernel) -> bool:
    for path in (f"boot/config-{kernel.release}", f"lib/modules/{kernel.release}/config"):
        file = view.find_file(path.encode(errors="surrogateescape"))
        if file is not None:
            config = (rootfs / file.path.decode(errors="surrogateescape")).read_text(errors="replace")
            return "\nCONFIG_RD_ZSTD=y" in config
    return False


def _version(path: str) -> str:
    found = _VERSION.search(path)
    return found.group() if found else ""


def _release(path: str) -> str:
    """`/boot/vmlinuz-6.1.0-56-amd64` and `/lib/modules/6.1.0-56-amd64/vmlinuz` → `6.1.0-56-amd64`."""
    folder, name = path.rsplit("/", 1)
    if name in ("vmlinuz", "vmlinuz.gz"):
        return folder.rsplit("/", 1)[-1]
    return name.split("-", 1)[-1]


def _order(version: str) -> tuple[tuple[int, ...], bool, tuple[int, ...]]:
    """Versions compare by numbers; what follows `-` is a pre-release, so 5.10.0 is above 5.10.0-999."""
    base, _, build = version.partition("-")
    return _numbers(base), not build, _numbers(build)


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", text))
