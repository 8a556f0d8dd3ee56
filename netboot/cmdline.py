"""Kernel arguments of a single-stage boot."""

from collections.abc import Sequence

from netboot.node import Node

INITRDS = ("image", "system", "runtime", "end")
"""The files of a boot in the order in which the kernel unpacks them; `end` proves that all before it did."""


def cmdline(node: Node, *, hwaddr: str, generation: str, initrds: Sequence[str] = INITRDS) -> str:
    """The arguments as one line.

    UEFI iPXE of 2019 loads only what `initrd=` names. `root=` is left out on purpose: with it the kernel makes rootfs a ramfs,
    which has neither a size limit nor the extended attributes that our init restores.
    """
    words = [f"initrd={name}" for name in initrds]
    words += [f"wwid={hwaddr}", f"bootsvc.generation={generation}"]
    if node.init:
        words.append(f"init={node.init}")
    words += [argument for argument in node.kernel.args if not argument.startswith("root=")]
    return " ".join(words)
