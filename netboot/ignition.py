"""A node's disks and file systems as a configuration of Ignition, of what nodes.conf says or of the resource `ignition`."""

from collections.abc import Mapping, Sequence
from typing import Any

from netboot.errors import OverlayError
from netboot.node import Disk, FileSystem, Partition
from netboot.storage_values import bad_resource, in_order, number

VERSION = "3.2.0"
"""The oldest specification with `resize`: what EL 8 has reads it, too."""


def resource_configuration(given: object) -> dict[str, Any]:
    """Of the resource `ignition`, which is such a configuration; empty when the node has none. Raises OverlayError."""
    given = given or {}
    if not isinstance(given, Mapping):
        raise bad_resource("ignition", "is no mapping")
    return {"ignition": {"version": VERSION}, **given} if given else {}


def configuration(disks: Mapping[str, Disk], filesystems: Sequence[tuple[str, FileSystem]]) -> dict[str, Any]:
    """Of what nodes.conf says of disks, and of file systems by their devices. Raises OverlayError."""
    storage = {
        "disks": [_disk(device, disk) for device, disk in sorted(disks.items())],
        "filesystems": [_filesystem(device, one) for device, one in filesystems],
    }
    return {"ignition": {"version": VERSION}, "storage": {kind: records for kind, records in storage.items() if records}}


def _disk(device: str, disk: Disk) -> dict[str, Any]:
    return _said(device=device, wipeTable=disk.wipe_table, partitions=[_partition(*row) for row in in_order(disk)])


def _partition(name: str, partition: Partition) -> dict[str, Any]:
    if partition.should_exist is False:
        # Ignition takes nothing but the number of what is to go.
        if not number(partition.number):
            raise OverlayError(
                f"the partition {name!r} is to go, and has no number, by which Ignition knows it",
                hint="set it with --partnumber",
            )
        gone = {"number": number(partition.number), "shouldExist": False}
        return {**gone, **_said(wipePartitionEntry=partition.wipe_partition_entry)}
    return _said(
        label=name,
        number=number(partition.number),
        sizeMiB=number(partition.size_mib) if partition.size_mib else None,
        startMiB=number(partition.start_mib) if partition.start_mib else None,
        typeGuid=partition.type_guid or None,
        guid=partition.guid or None,
        wipePartitionEntry=partition.wipe_partition_entry,
        shouldExist=partition.should_exist,
        resize=partition.resize,
    )


def _filesystem(device: str, one: FileSystem) -> dict[str, Any]:
    mount_options = one.mount_options.split(",") if isinstance(one.mount_options, str) else list(one.mount_options)
    return _said(
        device=device,
        format=one.format or None,
        path=one.path if one.path.startswith("/") else None,
        label=one.label or None,
        uuid=one.uuid or None,
        options=list(one.options) or None,
        mountOptions=[option for option in mount_options if option] or None,
        wipeFilesystem=one.wipe_filesystem,
    )


def _said(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}
