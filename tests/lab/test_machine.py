"""The QEMU command line of each firmware."""

from pathlib import Path

import pytest
from machine import Accel, Firmware, Machine, Wiring, command

WIRING = Wiring(tap="tap-n1", variables=Path("/run/n1.vars.fd"), console_log=Path("/run/n1.log"), console_fd=7, qmp_fd=8)


def line(firmware: Firmware, accel: Accel = Accel.TCG) -> str:
    return " ".join(command(Machine(name="n1", hwaddr="52:54:00:00:00:01", firmware=firmware, accel=accel), WIRING))


@pytest.mark.parametrize("firmware", list(Firmware))
def test_every_machine(firmware: Firmware) -> None:
    text = line(firmware)
    assert "-netdev tap,id=n0,ifname=tap-n1,script=no,downscript=no" in text
    assert "mac=52:54:00:00:00:01,bootindex=1" in text
    assert "socket,id=ser0,fd=7,logfile=/run/n1.log" in text
    assert "socket,id=qmp0,fd=8" in text
    assert "-nodefaults" in text
    # A reset must boot again.
    assert "-no-reboot" not in text


@pytest.mark.parametrize("firmware", [Firmware.BIOS, Firmware.BIOS_PXE])
def test_bios_shows_its_text_on_the_serial_console(firmware: Firmware) -> None:
    assert "-machine pc,graphics=off" in line(firmware)
    assert "pflash" not in line(firmware)
    assert "romfile" not in line(firmware)


@pytest.mark.parametrize("firmware", [firmware for firmware in Firmware if not firmware.is_bios])
def test_uefi_has_variables_of_its_own(firmware: Firmware) -> None:
    assert "if=pflash,format=raw,unit=1,file=/run/n1.vars.fd" in line(firmware)
    assert "name=opt/org.tianocore/IPv6PXESupport,string=no" in line(firmware)


def test_ovmf_speaks_for_itself_without_the_cards_rom() -> None:
    without = [firmware for firmware in Firmware if ",romfile= " in line(firmware)]
    assert without == [Firmware.UEFI, Firmware.UEFI_HTTP, Firmware.UEFI_SECURE]


def test_http_boot_does_not_try_pxe_first() -> None:
    assert [firmware for firmware in Firmware if "IPv4PXESupport,string=no" in line(firmware)] == [Firmware.UEFI_HTTP]


def test_secure_boot_has_its_firmware_and_its_certificates() -> None:
    assert "OVMF_CODE_4M.secboot.fd" in line(Firmware.UEFI_SECURE)
    assert "-machine q35,smm=on" in line(Firmware.UEFI_SECURE)
    assert Firmware.UEFI_SECURE.variables.name == "OVMF_VARS_4M.ms.fd"
    assert Firmware.UEFI.variables.name == "OVMF_VARS_4M.fd"


def test_accelerators() -> None:
    assert "-accel kvm" in line(Firmware.BIOS, Accel.KVM)
    assert "-accel tcg,thread=multi,tb-size=64 -cpu max" in line(Firmware.BIOS)
