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


def test_bios_shows_its_text_on_the_serial_console() -> None:
    assert "-machine pc,graphics=off" in line(Firmware.BIOS)
    assert "pflash" not in line(Firmware.BIOS)


@pytest.mark.parametrize("firmware", [Firmware.UEFI, Firmware.UEFI_ROM])
def test_uefi_has_variables_of_its_own(firmware: Firmware) -> None:
    assert "if=pflash,format=raw,unit=1,file=/run/n1.vars.fd" in line(firmware)
    assert "name=opt/org.tianocore/IPv6PXESupport,string=no" in line(firmware)


def test_only_ovmf_pxe_goes_without_the_cards_rom() -> None:
    assert [firmware for firmware in Firmware if ",romfile= " in line(firmware)] == [Firmware.UEFI]


def test_accelerators() -> None:
    assert "-accel kvm" in line(Firmware.BIOS, Accel.KVM)
    assert "-accel tcg,thread=multi,tb-size=64 -cpu max" in line(Firmware.BIOS)
