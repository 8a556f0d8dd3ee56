"""A node as templates see it: Go's names for the fields and methods of Warewulf 4.6 and 4.7."""

from collections.abc import Iterable
from ipaddress import IPv4Interface, IPv6Interface

from netboot.gotemplate.sprig_dicts import deep_copy
from netboot.gotemplate.values import GoList, Value
from netboot.gotemplate.views import (
    Struct,
    View,
    address,
    flag,
    key_of,
    listed,
    part,
    parts,
    switch,
    tags,
    text,
    texts,
)
from netboot.reads import KEYS


def _cidr(view: View) -> Value:
    """`10.0.0.1/24`; empty without an address or a netmask."""
    ipaddr, netmask = view.read("ipaddr"), view.read("netmask")
    return "" if ipaddr is None or netmask is None else str(IPv4Interface(f"{ipaddr}/{netmask}"))


def _cidr6(view: View) -> Value:
    ipaddr6, length = view.read("ipaddr6"), view.read("prefixlen6")
    return "" if ipaddr6 is None or not length else str(IPv6Interface(f"{ipaddr6}/{length}"))


def _is_primary(view: View) -> Value:
    return view.parent is not None and _primary(view.parent) == view.key


def _primary(view: View) -> Value:
    """The name of the primary network: as set, else the first."""
    view.trace.paths.add((*view.path, "network_devices", KEYS))
    view.trace.paths.add((*view.path, "primary_network"))
    return view.record.primary_name or ""


NETDEV = Struct(
    "*node.NetDev",
    {
        "Type": text("type"),
        "OnBoot": switch("onboot"),
        "Device": text("device"),
        "Hwaddr": text("hwaddr"),
        "Ipaddr": address("ipaddr"),
        "Netmask": address("netmask"),
        "Gateway": address("gateway"),
        "Ipaddr6": address("ipaddr6"),
        "PrefixLen6": text("prefixlen6"),
        "Gateway6": address("gateway6"),
        "MTU": text("mtu"),
        "Tags": tags("tags"),
        "IpCIDR": _cidr,
        "IpCIDR6": _cidr6,
        "Primary": _is_primary,
    },
)


def _kernel_version(view: View) -> Value:
    """The node's own, else that of the kernel which its image boots; of another node only its own is known here."""
    version = view.read("version")
    node = view.parent
    if version or node is None or node.path != ("node",):
        return str(version)
    return str(node.parent.read("kernel_version")) if node.parent is not None else ""


KERNEL = Struct("*node.KernelConf", {"Version": _kernel_version, "Args": texts("args")})

IPMI = Struct(
    "*node.IpmiConf",
    {
        "UserName": text("username"),
        "Password": text("password"),
        "Ipaddr": address("ipaddr"),
        "Gateway": address("gateway"),
        "Netmask": address("netmask"),
        "Port": text("port"),
        "Interface": text("interface"),
        "EscapeChar": text("escapechar"),
        "Write": switch("write"),
        "Template": text("template"),
        "Tags": tags("tags"),
    },
)

PARTITION = Struct(
    "*node.Partition",
    {
        "Id": key_of,
        "Number": text("number"),
        "SizeMiB": text("size_mib"),
        "StartMiB": text("start_mib"),
        "TypeGuid": text("type_guid"),
        "Guid": text("guid"),
        "WipePartitionEntry": flag("wipe_partition_entry"),
        "ShouldExist": flag("should_exist"),
        "Resize": flag("resize"),
    },
)


def _by_number(partitions: Iterable[View]) -> list[View]:
    """By number; those without one come first, by name."""

    def order(partition: View) -> tuple[int, str]:
        given = partition.read("number")
        return (int(given) if given.isdecimal() else 0, partition.key)

    return sorted(partitions, key=order)


DISK = Struct(
    "*node.Disk",
    {
        "Id": key_of,
        "WipeTable": flag("wipe_table"),
        "Partitions": parts("partitions", PARTITION),
        "PartitionList": listed("partitions", PARTITION, _by_number),
    },
)


def _mount_options(view: View) -> Value:
    """Text as it is; a list between commas."""
    given = view.read("mount_options")
    return given if isinstance(given, str) else ",".join(given)


FILESYSTEM = Struct(
    "*node.FileSystem",
    {
        "Id": key_of,
        "Format": text("format"),
        "Path": text("path"),
        "Label": text("label"),
        "Uuid": text("uuid"),
        "Options": texts("options"),
        "MountOptions": _mount_options,
        "WipeFileSystem": flag("wipe_filesystem"),
    },
)


def _resources(view: View) -> Value:
    """A copy: `set` changes what it is given, and the resources are every node's of the profile."""
    return deep_copy(view.read("resources"))


def _profiles(view: View) -> Value:
    return GoList(view.read("profiles"), "string")


NODE = Struct(
    "*node.Node",
    {
        "Id": text("id"),
        "Discoverable": switch("discoverable"),
        "AssetKey": text("asset_key"),
        "Profiles": _profiles,
        "Comment": text("comment"),
        "ClusterName": text("cluster_name"),
        "ImageName": text("image_name"),
        "ContainerName": text("image_name"),
        "Ipxe": text("ipxe_template"),
        "RuntimeOverlay": texts("runtime_overlay"),
        "SystemOverlay": texts("system_overlay"),
        "Kernel": part("kernel", KERNEL),
        "Ipmi": part("ipmi", IPMI),
        "Init": text("init"),
        "Root": text("root"),
        "NetDevs": parts("network_devices", NETDEV),
        "Tags": tags("tags"),
        "PrimaryNetDev": _primary,
        "Disks": parts("disks", DISK),
        "DiskList": listed("disks", DISK),
        "FileSystems": parts("filesystems", FILESYSTEM),
        "FileSystemList": listed("filesystems", FILESYSTEM),
        "Resources": _resources,
    },
)
