"""A node's disks and file systems as the tools on the node want them: sfdisk, mkfs, mkswap, systemd and Ignition.

What `disks` and `filesystems` of a node say goes before the resources `sfdisk`, `mkfs`, `mkswap` and `ignition`, which are read
only where the node has no entry of that kind, as in Warewulf.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netboot.errors import OverlayError
from netboot.node import Disk, FileSystem, Partition
from netboot.systemd_names import escape_path

IGNITION_VERSION = "3.2.0"
"""The oldest specification with `resize`: what EL 8 has reads it, too."""
SWAP = "swap"
_UNQUOTED = frozenset(("start", "size", "type", "uuid", "attrs"))
"""Fields of sfdisk(8) whose values are no free text."""
_LABEL_FLAGS = {"vfat": "-n", "fat": "-n", "msdos": "-n", "f2fs": "-l", "ntfs": "-L"}
_UUID_FLAGS = {"xfs": ("-m", "uuid="), "vfat": ("-i", ""), "ext2": ("-U", ""), "ext3": ("-U", ""), "ext4": ("-U", "")}


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Format:
    """A device to format, when it is blank or `overwrite` is set; `size` is mkfs's last argument, in its own unit."""

    device: str
    type: str
    overwrite: bool
    arguments: Sequence[str]
    size: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Mount:
    """A file system (or, with the format `swap`, a swap space) that the node uses."""

    device: str
    path: str
    format: str
    options: str

    @property
    def unit(self) -> str:
        """The name that systemd.mount(5) or systemd.swap(5) demands."""
        return f"{escape_path(self.device)}.swap" if self.format == SWAP else f"{escape_path(self.path)}.mount"

    @property
    def unit_text(self) -> str:
        """The unit's file; it is wanted by its target, not required: a node with a broken disk comes up, too."""
        if self.format == SWAP:
            target, lines = "swap.target", [f"[Swap]\nWhat={_specifiers(self.device)}"]
        else:
            what, where = _specifiers(self.device), _specifiers(self.path)
            target, lines = "local-fs.target", [f"[Mount]\nWhat={what}\nWhere={where}\nType={_specifiers(self.format)}"]
        lines += [f"Options={_specifiers(self.options)}"] if self.options != "defaults" else []
        return f"[Unit]\nBefore={target}\n\n" + "\n".join(lines) + "\n"

    @property
    def fstab(self) -> str:
        """The line of fstab(5); `noauto`, because the units mount it, and a blank disk must not stop the boot."""
        options = "noauto" if self.options == "defaults" else f"noauto,{self.options}"
        return " ".join([*map(fstab_field, (self.device, self.path, self.format, options)), "0 0"])


class Storage:
    """Everything about one node's disks; each property is worked out when it is asked for. They raise OverlayError.

    `resource` gives the node's resource of a name, None when it has none.
    """

    def __init__(
        self, disks: Mapping[str, Disk], filesystems: Mapping[str, FileSystem], resource: Callable[[str], object]
    ) -> None:
        self._disks, self._filesystems, self._resource = disks, sorted(filesystems.items()), resource

    @property
    def tables(self) -> list[Table]:
        if self._disks:
            return [_table(device, disk) for device, disk in sorted(self._disks.items())]
        return [_resource_table(record) for record in self._records("sfdisk")]

    @property
    def formats(self) -> list[Format]:
        """What mkfs makes."""
        if self._filesystems:
            return [_format(device, one) for device, one in self._filesystems if one.format and one.format != SWAP]
        return [_resource_format(record, "type", "ext4") for record in self._records("mkfs")]

    @property
    def swaps(self) -> list[Format]:
        """What mkswap makes."""
        if self._filesystems:
            return [_format(device, one) for device, one in self._filesystems if one.format == SWAP]
        return [_resource_format(record, "", SWAP) for record in self._records("mkswap")]

    @property
    def mounts(self) -> list[Mount]:
        """File systems with a place, the outer before the inner."""
        found = [
            Mount(device=device, path=one.path, format=one.format or "auto", options=_options(one.mount_options))
            for device, one in self._filesystems
            if one.path.startswith("/") and one.format != SWAP
        ]
        return sorted(found, key=lambda mount: mount.path)

    @property
    def swap_spaces(self) -> list[Mount]:
        return [
            Mount(device=device, path="none", format=SWAP, options=_options(one.mount_options))
            for device, one in self._filesystems
            if one.format == SWAP
        ]

    @property
    def ignition(self) -> str:
        """The Ignition configuration as JSON text; empty when the node has no disks."""
        config = self._ignition()
        return json.dumps(config, indent=2, sort_keys=True, default=str) + "\n" if config else ""

    @property
    def ignition_mounts(self) -> list[Mount]:
        """The file systems with a place in the Ignition configuration, whichever it was made from."""
        records = self._ignition().get("storage", {}).get("filesystems", [])
        found = [
            Mount(
                device=str(one["device"]),
                path=str(one["path"]),
                format=str(one.get("format") or "auto"),
                options=",".join(map(str, one.get("mountOptions") or ())) or "defaults",
            )
            for one in records
            if str(one.get("path") or "").startswith("/")
        ]
        return sorted(found, key=lambda mount: mount.path)

    def _ignition(self) -> dict[str, Any]:
        if not self._disks and not self._filesystems:
            given = self._resource("ignition") or {}
            if not isinstance(given, Mapping):
                raise _bad("ignition", "is no mapping")
            return {"ignition": {"version": IGNITION_VERSION}, **given} if given else {}
        storage = {
            "disks": [_ignition_disk(device, disk) for device, disk in sorted(self._disks.items())],
            "filesystems": [_ignition_filesystem(device, one) for device, one in self._filesystems],
        }
        return {
            "ignition": {"version": IGNITION_VERSION},
            "storage": {kind: records for kind, records in storage.items() if records},
        }

    def _records(self, name: str) -> Iterator[Mapping[str, Any]]:
        records = self._resource(name) or []
        if not isinstance(records, list):
            raise _bad(name, "is no list")
        for record in records:
            if not isinstance(record, Mapping) or not record.get("device"):
                raise _bad(name, f"has an entry without a device: {record!r}")
            yield record


def _specifiers(text: str) -> str:
    """A percent sign begins a specifier in a unit (systemd.unit(5)). Raises OverlayError."""
    return _one_line(text, "the file system's").replace("%", "%%")


def fstab_field(text: str) -> str:
    """Blanks and backslashes of a field of fstab(5) in octal."""
    return re.sub(r"[\s\\]", lambda found: f"\\{ord(found[0]):03o}", text)


def _bad(resource: str, what: str) -> OverlayError:
    return OverlayError(f"the resource {resource} {what}", hint="docs/system-overlays.md shows what each resource holds")


def _one_line(value: object, what: str) -> str:
    text = str(value)
    if not text.isprintable():
        raise OverlayError(f"{what} {text!r} has a character that no device or label can have", hint="correct it in nodes.conf")
    return text


def _options(given: str | Sequence[str]) -> str:
    """Mount options between commas, whether nodes.conf has text or a list."""
    return (given if isinstance(given, str) else ",".join(given)) or "defaults"


def _number(text: str) -> int:
    return int(text) if text.isdecimal() else 0


def _table(device: str, disk: Disk) -> Table:
    """The partitions with a number in its order, then the others, which sfdisk numbers."""
    rows = sorted(disk.partitions.items(), key=lambda row: (_number(row[1].number) or 1000, row[0]))
    return Table(
        device=_one_line(device, "the disk"),
        wipe=bool(disk.wipe_table),
        headers=("label: gpt",),
        partitions=[_partition_line(_one_line(name, "the partition"), partition) for name, partition in rows],
    )


def _partition_line(name: str, partition: Partition) -> PartitionLine:
    number = _number(partition.number)
    fields = {
        "start": f"{partition.start_mib}MiB" if _number(partition.start_mib) else "",
        "size": f"{partition.size_mib}MiB" if _number(partition.size_mib) else "",
        "type": partition.type_guid,
        "uuid": partition.guid,
        "name": _quoted(name),
    }
    said = ", ".join(f"{key}={value}" for key, value in fields.items() if value)
    line = f"{number} : {said}" if number else said
    return PartitionLine(name=name, line=line, remove=partition.should_exist is False)


def _quoted(name: str) -> str:
    if '"' in name:
        raise OverlayError(f"the partition {name!r} has a quote in its name", hint="sfdisk cannot write such a name")
    return f'"{name}"'


def _resource_table(record: Mapping[str, Any]) -> Table:
    """Of the resource `sfdisk`: every header and field that sfdisk(8) knows goes through."""
    headers = {"label": "gpt", **{key: value for key, value in record.items() if key not in ("device", "partitions", "wipe")}}
    return Table(
        device=_one_line(record["device"], "the disk"),
        wipe=record.get("wipe") is True,
        headers=[_one_line(f"{key}: {value}", "the header") for key, value in headers.items()],
        partitions=[_resource_partition(one) for one in record.get("partitions") or ()],
    )


def _resource_partition(record: object) -> PartitionLine:
    if not isinstance(record, Mapping):
        raise _bad("sfdisk", f"has a partition that is no mapping: {record!r}")
    fields = []
    for key, value in record.items():
        if key == "bootable":
            fields += [key] if value is True else []
        elif key != "device":
            text = _one_line(value, f"the partition's {key}")
            fields.append(f"{key}={text if key in _UNQUOTED else _quoted(text)}")
    device = f"{_one_line(record['device'], 'the partition')} : " if record.get("device") else ""
    return PartitionLine(name=str(record.get("name") or ""), line=device + ", ".join(fields))


def _format(device: str, one: FileSystem) -> Format:
    arguments = [_one_line(option, "the mkfs option") for option in one.options]
    if one.label:
        arguments += [_LABEL_FLAGS.get(one.format, "-L"), _one_line(one.label, "the label")]
    if one.uuid:
        flag, prefix = _UUID_FLAGS.get(one.format, ("-U", ""))
        arguments += [flag, prefix + _one_line(one.uuid, "the UUID")]
    return Format(
        device=_one_line(device, "the device"),
        type=_one_line(one.format, "the format"),
        overwrite=bool(one.wipe_filesystem),
        arguments=arguments,
    )


def _resource_format(record: Mapping[str, Any], type_key: str, default: str) -> Format:
    """Of the resource `mkfs` or `mkswap`; `options` are words between blanks, or a list."""
    options = record.get("options") or ()
    arguments = options.split() if isinstance(options, str) else [str(option) for option in options]
    if record.get("label"):
        arguments += ["-L", _one_line(record["label"], "the label")]
    size = str(record.get("size") or "")
    return Format(
        device=_one_line(record["device"], "the device"),
        type=_one_line(record.get(type_key) or default, "the format"),
        overwrite=record.get("overwrite") is True,
        arguments=arguments,
        size="" if size == "0" else _one_line(size, "the size"),
    )


def _ignition_disk(device: str, disk: Disk) -> dict[str, Any]:
    rows = sorted(disk.partitions.items(), key=lambda row: (_number(row[1].number) or 1000, row[0]))
    return _said(device=device, wipeTable=disk.wipe_table, partitions=[_ignition_partition(*row) for row in rows])


def _ignition_partition(name: str, partition: Partition) -> dict[str, Any]:
    if partition.should_exist is False:
        # Ignition takes nothing but the number of what is to go.
        if not _number(partition.number):
            raise OverlayError(
                f"the partition {name!r} is to go, and has no number, by which Ignition knows it",
                hint="set it with --partnumber",
            )
        gone = {"number": _number(partition.number), "shouldExist": False}
        return {**gone, **_said(wipePartitionEntry=partition.wipe_partition_entry)}
    return _said(
        label=name,
        number=_number(partition.number),
        sizeMiB=_number(partition.size_mib) if partition.size_mib else None,
        startMiB=_number(partition.start_mib) if partition.start_mib else None,
        typeGuid=partition.type_guid or None,
        guid=partition.guid or None,
        wipePartitionEntry=partition.wipe_partition_entry,
        shouldExist=partition.should_exist,
        resize=partition.resize,
    )


def _ignition_filesystem(device: str, one: FileSystem) -> dict[str, Any]:
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
