"""Partition tables as sfdisk(8) reads them, of `disks` or of the resource `sfdisk`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netboot.errors import OverlayError
from netboot.node import Disk, Partition
from netboot.storage_values import bad_resource, in_order, number, one_line

_UNQUOTED = frozenset(("start", "size", "type", "uuid", "attrs"))
"""Fields of sfdisk(8) whose values are no free text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PartitionLine:
    """One partition for sfdisk(8): its name, the line that makes it, and whether it is to go instead."""

    name: str
    line: str
    remove: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Table:
    """The partition table of one disk; `wipe` writes it anew at every boot, `headers` stand before the partitions."""

    device: str
    wipe: bool
    headers: Sequence[str]
    partitions: Sequence[PartitionLine]


def table(device: str, disk: Disk) -> Table:
    """What nodes.conf says of a disk."""
    return Table(
        device=one_line(device, "the disk"),
        wipe=bool(disk.wipe_table),
        headers=("label: gpt",),
        partitions=[_partition_line(one_line(name, "the partition"), partition) for name, partition in in_order(disk)],
    )


def _partition_line(name: str, partition: Partition) -> PartitionLine:
    place = number(partition.number)
    fields = {
        "start": f"{partition.start_mib}MiB" if number(partition.start_mib) else "",
        "size": f"{partition.size_mib}MiB" if number(partition.size_mib) else "",
        "type": partition.type_guid,
        "uuid": partition.guid,
        "name": _quoted(name),
    }
    said = ", ".join(f"{key}={value}" for key, value in fields.items() if value)
    line = f"{place} : {said}" if place else said
    return PartitionLine(name=name, line=line, remove=partition.should_exist is False)


def _quoted(name: str) -> str:
    if '"' in name:
        raise OverlayError(f"the partition {name!r} has a quote in its name", hint="sfdisk cannot write such a name")
    return f'"{name}"'


def resource_table(record: Mapping[str, Any]) -> Table:
    """Of the resource `sfdisk`: every header and field that sfdisk(8) knows goes through."""
    headers = {"label": "gpt", **{key: value for key, value in record.items() if key not in ("device", "partitions", "wipe")}}
    return Table(
        device=one_line(record["device"], "the disk"),
        wipe=record.get("wipe") is True,
        headers=[one_line(f"{key}: {value}", "the header") for key, value in headers.items()],
        partitions=[_resource_partition(one) for one in record.get("partitions") or ()],
    )


def _resource_partition(record: object) -> PartitionLine:
    if not isinstance(record, Mapping):
        raise bad_resource("sfdisk", f"has a partition that is no mapping: {record!r}")
    fields = []
    for key, value in record.items():
        if key == "bootable":
            fields += [key] if value is True else []
        elif key != "device":
            text = one_line(value, f"the partition's {key}")
            fields.append(f"{key}={text if key in _UNQUOTED else _quoted(text)}")
    device = f"{one_line(record['device'], 'the partition')} : " if record.get("device") else ""
    return PartitionLine(name=str(record.get("name") or ""), line=device + ", ".join(fields))
