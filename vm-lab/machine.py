"""What a virtual machine is made of, and the QEMU command line for it (pure)."""

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

OVMF = Path("/usr/share/OVMF")


class Firmware(Enum):
    """How the machine comes to its first packet."""

    BIOS = "bios"
    """SeaBIOS and the network card's own iPXE."""
    BIOS_PXE = "bios-pxe"
    """The same, but the card's ROM does not tell that it is iPXE: any PXE ROM, which gets a loader (`ordinary_rom`)."""
    UEFI = "uefi"
    """OVMF's own PXE: it fetches our loader over TFTP."""
    UEFI_ROM = "uefi-rom"
    """OVMF with the network card's own iPXE."""
    UEFI_HTTP = "uefi-http"
    """OVMF's HTTP Boot: it fetches our loader from a URL."""
    UEFI_SECURE = "uefi-secure"
    """OVMF's own PXE with Secure Boot, and the certificates that machines are sold with."""

    @property
    def is_bios(self) -> bool:
        return self in (Firmware.BIOS, Firmware.BIOS_PXE)

    @property
    def code(self) -> Path:
        """OVMF's program."""
        return OVMF / ("OVMF_CODE_4M.secboot.fd" if self is Firmware.UEFI_SECURE else "OVMF_CODE_4M.fd")

    @property
    def variables(self) -> Path:
        """OVMF's variables as they are sold, for a machine to have a copy of."""
        return OVMF / ("OVMF_VARS_4M.ms.fd" if self is Firmware.UEFI_SECURE else "OVMF_VARS_4M.fd")


class Accel(Enum):
    TCG = "tcg"
    KVM = "kvm"

    @property
    def arguments(self) -> list[str]:
        if self is Accel.KVM:
            return ["-accel", "kvm", "-cpu", "host"]
        # A translation cache of the default size (a gigabyte) keeps what ran before a reset, and unpacking an initramfs over
        # that takes four times as long as the first time.
        return ["-accel", "tcg,thread=multi,tb-size=64", "-cpu", "max"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """One diskless machine on a bridge of the lab."""

    name: str
    hwaddr: str
    firmware: Firmware = Firmware.BIOS
    memory: int = 1024
    """MiB."""
    nic: str = "virtio-net-pci"
    accel: Accel = Accel.TCG


@dataclass(frozen=True, slots=True, kw_only=True)
class Wiring:
    """What the lab made for one machine: its tap, its copy of the firmware's variables, and the ends of two sockets."""

    tap: str
    variables: Path
    console_log: Path
    console_fd: int
    qmp_fd: int


def command(machine: Machine, wiring: Wiring) -> list[str]:
    """The QEMU command line of a machine."""
    nic = f"{machine.nic},netdev=n0,mac={machine.hwaddr},bootindex=1"
    if not machine.firmware.is_bios and machine.firmware is not Firmware.UEFI_ROM:
        nic += ",romfile="
    return [
        "qemu-system-x86_64",
        *machine.accel.arguments,
        *_firmware(machine, wiring),
        *("-name", machine.name, "-m", str(machine.memory), "-smp", "1"),
        *("-nodefaults", "-display", "none"),
        *("-netdev", f"tap,id=n0,ifname={wiring.tap},script=no,downscript=no"),
        *("-device", nic),
        *console(wiring.console_fd, wiring.console_log),
        *("-chardev", f"socket,id=qmp0,fd={wiring.qmp_fd}", "-mon", "chardev=qmp0,mode=control"),
    ]


def console(fd: int, log: Path) -> list[str]:
    """A serial port on one end of a socket pair; QEMU also writes it to `log`."""
    return ["-chardev", f"socket,id=ser0,fd={fd},logfile={log}", "-serial", "chardev:ser0"]


def _firmware(machine: Machine, wiring: Wiring) -> list[str]:
    firmware = machine.firmware
    if firmware.is_bios:
        # graphics=off puts SeaBIOS and iPXE on the serial console.
        return ["-machine", "pc,graphics=off", "-boot", "n"]
    arguments = [
        *("-machine", "q35,smm=on" if firmware is Firmware.UEFI_SECURE else "q35"),
        *("-drive", f"if=pflash,format=raw,unit=0,readonly=on,file={firmware.code}"),
        *("-drive", f"if=pflash,format=raw,unit=1,file={wiring.variables}"),
    ]
    if firmware is Firmware.UEFI_SECURE:
        # Only firmware in system management mode may write the variables.
        arguments += ["-global", "driver=cfi.pflash01,property=secure,value=on", "-global", "ICH9-LPC.disable_s3=1"]
    # OVMF waits a minute for each protocol that nobody answers, and tries PXE before HTTP, IPv4 before IPv6.
    without = ["IPv4PXESupport", "IPv6PXESupport"] if firmware is Firmware.UEFI_HTTP else ["IPv6PXESupport"]
    for name in without:
        arguments += ["-fw_cfg", f"name=opt/org.tianocore/{name},string=no"]
    return arguments
