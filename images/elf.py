"""The architecture of an image, from the ELF header of its shell (gABI, e_machine)."""

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
