"""How to talk to a machine's ROM: client architecture (RFC 4578 §2.1, IANA registry) → firmware and its loader."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum


class Arch(Enum):
    """What is booted, in Warewulf's and OCI's words for it."""

    X86_64 = "amd64"
    ARM64 = "arm64"


@dataclass(frozen=True, slots=True, kw_only=True)
class Firmware:
    """One kind of ROM: the loader it is given over TFTP, and what that loader boots."""

    name: str
    arch: Arch
    loader: str


FIRMWARES: Mapping[int, Firmware] = {
    0x00: Firmware(name="BIOS", arch=Arch.X86_64, loader="undionly.kpxe"),
    # EFI BC (7) and EFI x86-64 (9) were swapped in RFC 4578's first text; ROMs send either for x86-64.
    0x07: Firmware(name="UEFI x86-64", arch=Arch.X86_64, loader="snponly.efi"),
    0x09: Firmware(name="UEFI x86-64", arch=Arch.X86_64, loader="snponly.efi"),
}


def find_firmware(client_arch: int) -> Firmware | None:
    """The firmware behind a CLIENT_ARCH value, or None when no loader of ours fits it."""
    return FIRMWARES.get(client_arch)


def loader(client_arch: int, configured: Mapping[str, str]) -> str | None:
    """The loader's file name; `configured` is warewulf.conf's `tftp: ipxe:` map, which replaces ours as a whole.

    Its keys are Warewulf's spelling of the architecture: `00:07`.
    """
    if configured:
        return configured.get(f"{client_arch >> 8:02X}:{client_arch & 0xFF:02X}")
    firmware = find_firmware(client_arch)
    return None if firmware is None else firmware.loader
