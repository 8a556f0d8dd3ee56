"""Which loader a client architecture gets."""

import pytest

from netboot.firmware import find_firmware, loader, with_shims


@pytest.mark.parametrize(
    ("client_arch", "expected"),
    [
        (0x00, "undionly.kpxe"),
        (0x06, "snponly-i386.efi"),
        (0x07, "snponly.efi"),
        (0x09, "snponly.efi"),
        (0x0B, "snponly-arm64.efi"),
        (0x0F, "snponly-i386.efi"),
        (0x10, "snponly.efi"),
        (0x13, "snponly-arm64.efi"),
        (0x02, None),
    ],
)
def test_default_loader(client_arch: int, expected: str | None) -> None:
    assert loader(client_arch, {}) == expected
    assert (find_firmware(client_arch) is None) is (expected is None)


def test_configured_map_replaces_ours_as_a_whole() -> None:
    configured = {"00:07": "shim.efi", "00:0B": "arm.efi"}
    assert [loader(arch, configured) for arch in (0, 7, 0x0B)] == [None, "shim.efi", "arm.efi"]


def test_http_boot_gets_the_loader_of_its_tftp_twin_unless_it_has_its_own() -> None:
    configured = {"00:07": "shim.efi", "00:13": "own.efi"}
    assert [loader(arch, configured) for arch in (0x10, 0x13, 0x0F)] == ["shim.efi", "own.efi", None]


def test_grubboot_gives_uefi_machines_the_signed_shim_and_leaves_the_others() -> None:
    made = with_shims({})
    assert [loader(arch, made) for arch in (0x07, 0x09, 0x0B)] == ["shimx64.efi", "shimx64.efi", "shimaa64.efi"]
    assert [loader(arch, made) for arch in (0x00, 0x06, 0x10)] == ["undionly.kpxe", "snponly-i386.efi", "snponly.efi"]
    assert loader(0x00, with_shims({"00:00": "mine.kpxe"})) == "mine.kpxe"
    assert loader(0x06, with_shims({"00:00": "mine.kpxe"})) is None
