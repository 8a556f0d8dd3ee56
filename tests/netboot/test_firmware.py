"""Which loader a client architecture gets."""

import pytest

from netboot.firmware import find_firmware, loader


@pytest.mark.parametrize(
    ("client_arch", "expected"), [(0, "undionly.kpxe"), (7, "snponly.efi"), (9, "snponly.efi"), (6, None), (0x0B, None)]
)
def test_default_loader(client_arch: int, expected: str | None) -> None:
    assert loader(client_arch, {}) == expected
    assert (find_firmware(client_arch) is None) is (expected is None)


def test_configured_map_replaces_ours_as_a_whole() -> None:
    configured = {"00:07": "shim.efi", "00:0B": "arm.efi"}
    assert [loader(arch, configured) for arch in (0, 7, 0x0B)] == [None, "shim.efi", "arm.efi"]
