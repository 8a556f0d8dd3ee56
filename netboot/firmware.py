"""How to talk to a machine's ROM: client architecture (RFC 4578 §2.1, IANA registry) → firmware and its loader."""

from collections.abc import Mapping
from enum import Enum

import msgspec


class Arch(Enum):
    """What is booted, in Warewulf's and OCI's words for it."""

    X86 = "386"
    X86_64 = "amd64"
    ARM64 = "arm64"


class Firmware(msgspec.Struct, frozen=True, kw_only=True):
    """One kind of ROM: the loader it is given, and what that loader boots."""

    name: str
    arch: Arch
    loader: str
    http: bool = False
    """UEFI HTTP Boot: the boot file is a URL, and not a name for TFTP."""
    tftp_twin: int | None = None
    """Of HTTP Boot: the architecture that the same machine sends when it boots by TFTP, whose loader it can be given."""


_X86, _X86_64, _ARM64 = "snponly-i386.efi", "snponly.efi", "snponly-arm64.efi"

FIRMWARES: Mapping[int, Firmware] = {
    0x00: Firmware(name="BIOS", arch=Arch.X86_64, loader="undionly.kpxe"),
    0x06: Firmware(name="UEFI x86", arch=Arch.X86, loader=_X86),
    # EFI BC (7) and EFI x86-64 (9) were swapped in RFC 4578's first text; ROMs send either for x86-64.
    0x07: Firmware(name="UEFI x86-64", arch=Arch.X86_64, loader=_X86_64),
    0x09: Firmware(name="UEFI x86-64", arch=Arch.X86_64, loader=_X86_64),
    0x0B: Firmware(name="UEFI arm64", arch=Arch.ARM64, loader=_ARM64),
    0x0F: Firmware(name="UEFI x86 HTTP", arch=Arch.X86, loader=_X86, http=True, tftp_twin=0x06),
    0x10: Firmware(name="UEFI x86-64 HTTP", arch=Arch.X86_64, loader=_X86_64, http=True, tftp_twin=0x07),
    0x13: Firmware(name="UEFI arm64 HTTP", arch=Arch.ARM64, loader=_ARM64, http=True, tftp_twin=0x0B),
}


SHIMS: Mapping[int, str] = {0x07: "shimx64.efi", 0x09: "shimx64.efi", 0x0B: "shimaa64.efi"}
"""The distribution's signed loaders; each of them loads GRUB from beside itself."""


def find_firmware(client_arch: int) -> Firmware | None:
    """The firmware behind a CLIENT_ARCH value, or None when no loader of ours fits it."""
    return FIRMWARES.get(client_arch)


def loader(client_arch: int, configured: Mapping[str, str]) -> str | None:
    """The loader's file name; `configured` is warewulf.conf's `tftp: ipxe:` map, which replaces ours as a whole.

    Its keys are Warewulf's spelling of the architecture: `00:07`. A map that does not know HTTP Boot's own numbers means
    the same loader for it.
    """
    firmware = find_firmware(client_arch)
    if not configured:
        return None if firmware is None else firmware.loader
    found = configured.get(_spelled(client_arch))
    if found is None and firmware is not None and firmware.tftp_twin is not None:
        found = configured.get(_spelled(firmware.tftp_twin))
    return found


def with_shims(configured: Mapping[str, str]) -> Mapping[str, str]:
    """The map for `warewulf: grubboot`: signed shim and GRUB instead of iPXE where there is a shim, all else as without it."""
    plain = {_spelled(number): name for number in FIRMWARES if (name := loader(number, configured)) is not None}
    return {**plain, **{_spelled(number): shim for number, shim in SHIMS.items()}}


def _spelled(client_arch: int) -> str:
    return f"{client_arch >> 8:02X}:{client_arch & 0xFF:02X}"
