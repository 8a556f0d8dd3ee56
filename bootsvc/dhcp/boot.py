"""The boot part of a reply: the script for iPXE, the loader for a ROM, nothing for an operating system."""

from typing import NamedTuple

from bootsvc.dhcp import options
from bootsvc.dhcp.options_field import join_fields, serialize_fields
from bootsvc.dhcp.request import BootRequest, Client
from bootsvc.dhcp.room import Pair
from bootsvc.dhcp.site import Site
from netboot.firmware import loader
from netboot.node import Node

PXE_NO_DISCOVERY = 8
"""PXE_DISCOVERY_CONTROL bit 3: take the boot file as told, without menu or boot server discovery."""


class Boot(NamedTuple):
    file: str = ""
    pairs: tuple[Pair, ...] = ()
    note: str = ""


NO_BOOT, _OS = Boot(), Client.OS
# Without it iPXE waits for a proxyDHCP server before it uses this answer.
_NO_PXEDHCP = options.ETHERBOOT.pair(join_fields([options.IPXE_NO_PXEDHCP.pair(1)]))
_NO_DISCOVERY = options.PXE_DISCOVERY_CONTROL.pair(PXE_NO_DISCOVERY)
# A ROM takes a boot file only from a server that names its own class (PXE 2.1 §2.2.3, UEFI 2.10 §24.7.3.1).
PXE_CLASS = options.VENDOR_CLASS.pair(Client.PXE.value)
HTTP_CLASS = options.VENDOR_CLASS.pair(Client.HTTP.value)


def boot_of(request: BootRequest, node: Node | None, site: Site) -> Boot:
    """What the machine is to boot next."""
    if request.client is _OS:
        return NO_BOOT
    match request.client:
        case Client.IPXE:
            url = site.urls.discover(request.hwaddr) if node is None else site.urls.ipxe(request.hwaddr)
            return Boot(file=url, pairs=(options.BOOTFILE_NAME.pair(url), _NO_PXEDHCP))
        case Client.PXE:
            return _pxe(request, site)
        case Client.HTTP:
            return _http(request, site)
        case Client.OS:
            return NO_BOOT


def _pxe(request: BootRequest, site: Site) -> Boot:
    arch = request.client_arch or 0
    name = loader(arch, site.loaders)
    if name is None:
        return Boot(note=f"no loader for client architecture {arch:#04x}")
    fields = [_NO_DISCOVERY]
    if request.boot_item is not None:
        fields.append(options.PXE_BOOT_ITEM.pair(request.boot_item))
    return Boot(
        file=name,
        pairs=(
            PXE_CLASS,
            options.VENDOR_SPECIFIC.pair(serialize_fields(fields)),
            options.TFTP_SERVER_NAME.pair(str(site.server)),
            options.BOOTFILE_NAME.pair(name),
        ),
    )


def _http(request: BootRequest, site: Site) -> Boot:
    arch = request.client_arch or 0
    name = loader(arch, site.loaders)
    if name is None:
        return Boot(note=f"no HTTP boot file for client architecture {arch:#04x}")
    url = site.urls.efiboot(name)
    return Boot(file=url, pairs=(HTTP_CLASS, options.BOOTFILE_NAME.pair(url)))
