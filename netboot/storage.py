"""A node's disks and file systems as the tools on the node want them: sfdisk, mkfs, mkswap, systemd and Ignition.

What `disks` and `filesystems` of a node say goes before the resources `sfdisk`, `mkfs`, `mkswap` and `ignition`, which are read
only where the node has no entry of that kind, as in Warewulf.
"""

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from netboot.ignition import configuration, resource_configuration
from netboot.node import Disk, FileSystem
from netboot.sfdisk import Table, resource_table, table
from netboot.storage_values import bad_resource, mount_options, one_line
from netboot.systemd_names import escape_path

SWAP = "swap"
_LABEL_FLAGS = {"vfat": "-n", "fat": "-n", "msdos": "-n", "f2fs": "-l", "ntfs": "-L"}
_UUID_FLAGS = {"xfs": ("-m", "uuid="), "vfat": ("-i", ""), "ext2": ("-U", ""), "ext3": ("-U", ""), "ext4": ("-U", "")}


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
            return [table(device, disk) for device, disk in sorted(self._disks.items())]
        return [resource_table(record) for record in self._records("sfdisk")]

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
            Mount(device=device, path=one.path, format=one.format or "auto", options=mount_options(one.mount_options))
            for device, one in self._filesystems
            if one.path.startswith("/") and one.format != SWAP
        ]
        return sorted(found, key=lambda mount: mount.path)

    @property
    def swap_spaces(self) -> list[Mount]:
        return [
            Mount(device=device, path="none", format=SWAP, options=mount_options(one.mount_options))
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
            return resource_configuration(self._resource("ignition"))
        return configuration(self._disks, self._filesystems)

    def _records(self, name: str) -> Iterator[Mapping[str, Any]]:
        records = self._resource(name) or []
        if not isinstance(records, list):
            raise bad_resource(name, "is no list")
        for record in records:
            if not isinstance(record, Mapping) or not record.get("device"):
                raise bad_resource(name, f"has an entry without a device: {record!r}")
            yield record


def _specifiers(text: str) -> str:
    """A percent sign begins a specifier in a unit (systemd.unit(5)). Raises OverlayError."""
    return one_line(text, "the file system's").replace("%", "%%")


def fstab_field(text: str) -> str:
    """Blanks and backslashes of a field of fstab(5) in octal."""
    return re.sub(r"[\s\\]", lambda found: f"\\{ord(found[0]):03o}", text)


def _format(device: str, one: FileSystem) -> Format:
    arguments = [one_line(option, "the mkfs option") for option in one.options]
    if one.label:
        arguments += [_LABEL_FLAGS.get(one.format, "-L"), one_line(one.label, "the label")]
    if one.uuid:
        flag, prefix = _UUID_FLAGS.get(one.format, ("-U", ""))
        arguments += [flag, prefix + one_line(one.uuid, "the UUID")]
    return Format(
        device=one_line(device, "the device"),
        type=one_line(one.format, "the format"),
        overwrite=bool(one.wipe_filesystem),
        arguments=arguments,
    )


def _resource_format(record: Mapping[str, Any], type_key: str, default: str) -> Format:
    """Of the resource `mkfs` or `mkswap`; `options` are words between blanks, or a list."""
    options = record.get("options") or ()
    arguments = options.split() if isinstance(options, str) else [str(option) for option in options]
    if record.get("label"):
        arguments += ["-L", one_line(record["label"], "the label")]
    size = str(record.get("size") or "")
    return Format(
        device=one_line(record["device"], "the device"),
        type=one_line(record.get(type_key) or default, "the format"),
        overwrite=record.get("overwrite") is True,
        arguments=arguments,
        size="" if size == "0" else one_line(size, "the size"),
    )
