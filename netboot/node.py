"""What a node is: one row per field, with its YAML key, `wwctl` flag and help (Warewulf 4.7's nodes.conf).

A record here is a *merged* node: profiles are already applied (`netboot.merge`). The file's own entries stay plain
mappings, because what the file does not say must not be written back.
"""

from collections.abc import Iterator, Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Interface, IPv6Address
from typing import Annotated, Any

import msgspec
from msgspec import Meta, field


def _flag(help_text: str, name: str | None = None, short: str | None = None, *, boolean: bool = False) -> Meta:
    """Metadata of a field: its help, and the `wwctl node set` flag that sets it (none: only by editing the file).

    A boolean's flag alone means true; in the file it is text too, unless its type here is bool.
    """
    return Meta(description=help_text, extra={"flag": name, "short": short, "boolean": boolean})


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of all node records; a field's encoded name is its key in nodes.conf."""


class Kernel(Record, frozen=True, kw_only=True):
    version: Annotated[str, _flag("kernel version, or the path of a kernel in the image", "kernelversion")] = ""
    args: Annotated[
        tuple[str, ...], _flag("kernel arguments; quote one with a comma: 'quiet,\"console=ttyS0,115200\"'", "kernelargs", "A")
    ] = ()


class NetDev(Record, frozen=True, kw_only=True):
    """One network device of a node; `wwctl` names it with --netname."""

    type: Annotated[str, _flag("device type: ethernet, infiniband, bond, vlan", "type", "T")] = ""
    onboot: Annotated[str, _flag("bring the device up at boot", "onboot", boolean=True)] = ""
    device: Annotated[str, _flag("device name on the node, such as eth0", "netdev", "N")] = ""
    hwaddr: Annotated[str, _flag("hardware (MAC) address", "hwaddr", "H")] = ""
    ipaddr: Annotated[IPv4Address | None, _flag("IPv4 address", "ipaddr", "I")] = None
    ipaddr6: Annotated[IPv6Address | None, _flag("IPv6 address", "ipaddr6")] = None
    prefixlen6: Annotated[str, _flag("IPv6 prefix length", "prefixlen6")] = ""
    netmask: Annotated[IPv4Address | None, _flag("IPv4 netmask", "netmask", "M")] = None
    gateway: Annotated[IPv4Address | None, _flag("IPv4 gateway", "gateway", "G")] = None
    gateway6: Annotated[IPv6Address | None, _flag("IPv6 gateway", "gateway6")] = None
    mtu: Annotated[str, _flag("maximum transmission unit, in bytes", "mtu")] = ""
    tags: Annotated[dict[str, str], _flag("network tags")] = {}

    @property
    def interface(self) -> IPv4Interface | None:
        """The IPv4 address with its netmask, or None when either is missing."""
        if self.ipaddr is None or self.netmask is None:
            return None
        return IPv4Interface(f"{self.ipaddr}/{self.netmask}")

    @property
    def wanted_at_boot(self) -> bool:
        """Empty means yes (Warewulf's BoolDefaultTrue)."""
        return self.onboot.lower() in ("", "true", "yes", "1", "t")


class Ipmi(Record, frozen=True, kw_only=True):
    username: Annotated[str, _flag("BMC user name", "ipmiuser")] = ""
    password: Annotated[str, _flag("BMC password", "ipmipass")] = ""
    ipaddr: Annotated[IPv4Address | None, _flag("BMC address", "ipmiaddr")] = None
    gateway: Annotated[IPv4Address | None, _flag("BMC gateway", "ipmigateway")] = None
    netmask: Annotated[IPv4Address | None, _flag("BMC netmask", "ipminetmask")] = None
    port: Annotated[str, _flag("BMC port", "ipmiport")] = ""
    interface: Annotated[str, _flag("BMC interface, such as lanplus", "ipmiinterface")] = ""
    escapechar: Annotated[str, _flag("escape character of the serial console, kept for Warewulf", "ipmiescapechar")] = ""
    write: Annotated[str, _flag("the node writes its BMC settings at boot", "ipmiwrite", boolean=True)] = ""
    template: Annotated[str, _flag("BMC command template, kept for Warewulf", "ipmitemplate")] = ""
    tags: Annotated[dict[str, str], _flag("BMC tags")] = {}


class Partition(Record, frozen=True, kw_only=True):
    """One partition of a disk; its key is its label, which `wwctl` takes as --partname."""

    number: Annotated[str, _flag("partition number, 0 for the next free one", "partnumber")] = ""
    size_mib: Annotated[str, _flag("partition size in MiB, 0 for all that is left", "partsize")] = ""
    start_mib: Annotated[str, _flag("where the partition begins, in MiB")] = ""
    type_guid: Annotated[str, _flag("GUID of the partition type", "parttype")] = ""
    guid: Annotated[str, _flag("GUID of the partition")] = ""
    wipe_partition_entry: Annotated[bool | None, _flag("replace a partition that does not match", "partwipe", boolean=True)] = (
        None
    )
    should_exist: Annotated[bool | None, _flag("create the partition", "partcreate", boolean=True)] = None
    resize: Annotated[bool | None, _flag("resize the partition", boolean=True)] = None


class Disk(Record, frozen=True, kw_only=True):
    """One disk of a node; its key is its device, which `wwctl` takes as --diskname."""

    wipe_table: Annotated[bool | None, _flag("write a new partition table", "diskwipe", boolean=True)] = None
    partitions: dict[str, Partition] = {}


class FileSystem(Record, frozen=True, kw_only=True):
    """One file system; its key is its block device, which `wwctl` takes as --fsname."""

    format: Annotated[str, _flag("file system format: ext4, xfs, swap, …", "fsformat")] = ""
    path: Annotated[str, _flag("mount point", "fspath")] = ""
    label: Annotated[str, _flag("file system label")] = ""
    uuid: Annotated[str, _flag("file system UUID")] = ""
    options: Annotated[tuple[str, ...], _flag("options of mkfs")] = ()
    mount_options: Annotated[str | tuple[str, ...], _flag("mount options")] = ""
    wipe_filesystem: Annotated[bool | None, _flag("format the device anew at every boot", "fswipe", boolean=True)] = None


class Profile(Record, frozen=True, kw_only=True):
    """Everything a profile may set for its nodes."""

    profiles: Annotated[tuple[str, ...], _flag("profiles, in order; ~name removes one", "profile", "P")] = ()
    comment: Annotated[str, _flag("a comment", "comment")] = ""
    cluster_name: Annotated[str, _flag("cluster name", "cluster", "c")] = field(name="cluster name", default="")
    image_name: Annotated[str, _flag("image to boot", "image")] = field(name="image name", default="")
    ipxe_template: Annotated[str, _flag("iPXE template, kept for Warewulf: the boot script is bootsvc's own", "ipxe")] = field(
        name="ipxe template", default=""
    )
    runtime_overlay: Annotated[tuple[str, ...], _flag("runtime overlays", "runtime-overlays", "R")] = field(
        name="runtime overlay", default=()
    )
    system_overlay: Annotated[tuple[str, ...], _flag("system overlays", "system-overlays", "O")] = field(
        name="system overlay", default=()
    )
    init: Annotated[str, _flag("the image's init", "init", "i")] = ""
    root: Annotated[str, _flag("root file system: initramfs or tmpfs", "root")] = ""
    primary_network: Annotated[str, _flag("name of the primary network", "primarynet", "p")] = field(
        name="primary network", default=""
    )
    kernel: Kernel = Kernel()
    ipmi: Ipmi = Ipmi()
    network_devices: dict[str, NetDev] = field(name="network devices", default_factory=dict)
    tags: Annotated[dict[str, str], _flag("tags")] = {}
    disks: dict[str, Disk] = {}
    filesystems: dict[str, FileSystem] = {}
    resources: dict[str, Any] = {}


class Node(Profile, frozen=True, kw_only=True):
    """A node with its profiles applied; `id` is its name, which the file holds as the key of the entry."""

    id: str = ""
    discoverable: Annotated[
        str, _flag("take the hardware address of the next unknown machine", "discoverable", "e", boolean=True)
    ] = ""
    asset_key: Annotated[str, _flag("asset key the machine must present", "asset")] = field(name="asset key", default="")

    @property
    def primary_name(self) -> str | None:
        """The name of the primary network: as set, else the alphabetically first."""
        if self.primary_network in self.network_devices:
            return self.primary_network
        return min(self.network_devices, default=None)

    @property
    def primary(self) -> NetDev | None:
        """The primary network device, or None when the node has none."""
        name = self.primary_name
        return None if name is None else self.network_devices[name]

    def hwaddrs(self) -> Iterator[tuple[str, NetDev]]:
        """Every hardware address in lower case with colons, and its device."""
        for device in self.network_devices.values():
            if device.hwaddr:
                yield device.hwaddr.lower().replace("-", ":"), device


_OCTETS = {str(octet): octet for octet in range(256)}


@lru_cache(maxsize=100_000)
def ipv4(text: str) -> IPv4Address:
    """As IPv4Address, several times as fast: masks and gateways repeat, and every reload sees the same addresses."""
    try:
        first, second, third, fourth = text.split(".")
        return IPv4Address(_OCTETS[first] << 24 | _OCTETS[second] << 16 | _OCTETS[third] << 8 | _OCTETS[fourth])
    except (KeyError, ValueError):
        # The usual constructor says what is wrong.
        return IPv4Address(text)


def _decode(expected: type, value: Any) -> object:
    """msgspec hook: the address types that it does not know."""
    if expected is IPv4Address:
        return ipv4(value) if isinstance(value, str) else IPv4Address(value)
    if expected is IPv6Address:
        return IPv6Address(value)
    raise NotImplementedError(expected)


def to_node(name: str, merged: Mapping[str, Any]) -> Node:
    """Turn a merged entry into a Node; raises msgspec.ValidationError with the path of the bad field."""
    return msgspec.convert({**merged, "id": name}, Node, dec_hook=_decode, strict=False)
