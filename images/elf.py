"""ELF (gABI): the architecture of an image from the header of its shell, and the smallest executable around some code."""

import struct
from pathlib import Path

from images.view import ImageView

_MACHINES = {0x3E: "amd64", 0xB7: "arm64", 0x03: "386", 0xF3: "riscv64", 0x15: "ppc64le", 0x16: "s390x"}


def architecture(rootfs: Path, view: ImageView) -> str:
    """OCI's name for what `/bin/sh` runs on, or `unknown`."""
    shell = view.find_file(b"bin/sh")
    if shell is None:
        return "unknown"
    with (rootfs / shell.path.decode(errors="surrogateescape")).open("rb") as file:
        head = file.read(20)
    if len(head) < 20 or head[:4] != b"\x7fELF":
        return "unknown"
    order = "<" if head[5] == 1 else ">"
    (machine,) = struct.unpack_from(order + "H", head, 18)
    return _MACHINES.get(machine, "unknown")


def executable(architecture: str, code: bytes) -> bytes:
    """A static executable of one read-only segment that begins with `code`, for a 64-bit little-endian machine."""
    machine = next(number for number, name in _MACHINES.items() if name == architecture)
    base, headers = 0x400000, 64 + 56
    size = headers + len(code)
    identification = b"\x7fELF" + bytes([2, 1, 1]) + bytes(9)
    header = struct.pack("<HHIQQQIHHHHHH", 2, machine, 1, base + headers, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000)
    return identification + header + segment + code
