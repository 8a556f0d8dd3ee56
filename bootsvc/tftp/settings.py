"""What warewulf.conf says of TFTP: its record, and its keys below `bootsvc: tftp:`."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Network

from bootsvc.keytable import ListOf, Settings, Table, given, ipv4_network
from netboot.firmware import with_shims

KEYS: Table = {"networks": ListOf(ipv4_network)}
"""Below `bootsvc: tftp:`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TftpConfig:
    enabled: bool = True
    ipxe: dict[str, str] = field(default_factory=dict)
    """Client architecture (`00:07`) to loader file, as in Warewulf; empty: `netboot.firmware`'s table."""
    grub: bool = False
    """UEFI machines get the distribution's signed shim and GRUB (`warewulf: grubboot`)."""
    networks: tuple[IPv4Network, ...] = ()
    """Who may ask besides the boot network, the subnets, and nodes and their networks."""

    @property
    def loaders(self) -> Mapping[str, str]:
        """As `ipxe`, with what `grub` makes of it."""
        return with_shims(self.ipxe) if self.grub else self.ipxe


def tftp_config(settings: Settings) -> TftpConfig:
    return TftpConfig(
        **given(
            enabled=settings.get("tftp", "enabled"),
            ipxe=settings.get("tftp", "ipxe"),
            grub=settings.get("warewulf", "grubboot"),
            networks=settings.get("bootsvc", "tftp", "networks"),
        )
    )
