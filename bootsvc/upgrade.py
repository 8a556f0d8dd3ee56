"""Older Warewulf's nodes.conf and warewulf.conf in the words of 4.7. Values only; `rewrite` keeps the text around them.

Whatever is not known here stays as it is.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Interface, IPv6Interface
from pathlib import Path
from typing import Any

from bootsvc.entries import NODES, PROFILES, read_entries
from bootsvc.store import DEFAULT_PROFILE
from bootsvc.yamlfile import compose, core_scalar, items, value
from bootsvc.yamlpatch import patch
from images.errors import Error
from netboot.fields import NETWORKS

Data = dict[str, Any]

_IPMI = ("username", "password", "ipaddr", "netmask", "port", "gateway", "interface", "escapechar", "write")
_SPLIT_OVERLAYS: Mapping[str, tuple[str, ...]] = {
    "wwinit": (
        "wwinit",
        "wwclient",
        "fstab",
        "hostname",
        "ssh.host_keys",
        "issue",
        "resolv",
        "udev.netname",
        "systemd.netname",
        "systemd.networkd",
        "ifcfg",
        "ifupdown",
        "NetworkManager",
        "ignition",
    ),
    "generic": ("hosts", "ssh.authorized_keys", "syncuser"),
}
"""What the two overlays of 4.5 were split into."""


_RENAMED = {
    "container name": "image name",
    "container mounts": "image mounts",
    "override": "version",
    "keys": "tags",
    "ip6addr": "ipaddr6",
}
"""Keys that only have another name now: their lines, with what is said beside them, stay where they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodesOptions:
    """`mounts`: what the nfs section of the old warewulf.conf had the nodes mount, as fstab entries."""

    add_defaults: bool = False
    replace_overlays: bool = False
    mounts: tuple[Mapping[str, Any], ...] = ()


def rewrite(text: str, source: Path, change: Callable[[Data], Data], *, nodes: bool) -> str:
    """`text` with its values changed; comments and order of what stays are kept. Raises YamlError and Error."""
    before = _values(text, source, nodes)
    after = change(before)
    if after == before:
        return text
    document = compose(text, source)
    for depth in (None, 3, 2, 1):
        new = patch(text, document, before, after, source, depth=depth, renames=_RENAMED)
        if _values(new, source, nodes) == after:
            return new
    raise Error(f"{source} is written in a way that cannot be upgraded", hint="write out what its aliases stand for")


def _values(text: str, source: Path, nodes: bool) -> Data:
    document = compose(text, source)
    found: Data = {}
    for item in items(document, source) if document else []:
        if nodes and item.key in (NODES, PROFILES):
            found[item.key] = dict(read_entries(item.value, source, item.key))
        else:
            found[item.key] = value(item.value, source, typing=core_scalar)
    return found


def upgrade_nodes(data: Data, options: NodesOptions) -> Data:
    """nodes.conf of any Warewulf 4."""
    new = {key: dict(section) if key in (NODES, PROFILES) and section else section for key, section in data.items()}
    for section in (PROFILES, NODES):
        for name, entry in (new.get(section) or {}).items():
            new[section][name] = _entry(dict(entry), options)
    if options.add_defaults:
        profiles = new.setdefault(PROFILES, {})
        default = profiles.get("default", {})
        profiles["default"] = {**default, **{key: part for key, part in DEFAULT_PROFILE.items() if key not in default}}
    if options.mounts:
        default = dict(new.setdefault(PROFILES, {}).get("default", {}))
        resources = dict(default.get("resources") or {})
        present = list(resources.get("fstab") or [])
        resources["fstab"] = [*present, *(dict(mount) for mount in options.mounts if mount not in present)]
        new[PROFILES]["default"] = {**default, "resources": resources}
    return new


def _entry(entry: Data, options: NodesOptions) -> Data:
    _rename(entry, "container name", "image name")
    _join(entry, "keys", "tags")
    for key in ("system overlay", "runtime overlay"):
        if isinstance(entry.get(key), str):
            entry[key] = [part.strip() for part in entry[key].split(",") if part.strip()]
        if options.replace_overlays and isinstance(entry.get(key), list):
            split = [part for name in entry[key] for part in _SPLIT_OVERLAYS.get(name, (name,))]
            entry[key] = list(dict.fromkeys(split))
    _kernel(entry)
    _ipmi(entry)
    devices = entry.get(NETWORKS)
    if isinstance(devices, Mapping):
        entry[NETWORKS] = {name: _device(entry, name, dict(device or {})) for name, device in devices.items()}
    return entry


def _kernel(entry: Data) -> None:
    kernel = dict(entry.get("kernel") or {})
    for key, word in (("kernel version", "version"), ("kernel override", "version"), ("kernel args", "args")):
        if key in entry:
            kernel.setdefault(word, entry.pop(key))
    _rename(kernel, "override", "version")
    if isinstance(kernel.get("args"), str):
        kernel["args"] = kernel["args"].split()
    if kernel:
        entry["kernel"] = kernel


def _ipmi(entry: Data) -> None:
    ipmi = dict(entry.get("ipmi") or {})
    for word in _IPMI:
        if f"ipmi {word}" in entry:
            ipmi.setdefault(word, entry.pop(f"ipmi {word}"))
    _join(ipmi, "keys", "tags")
    if ipmi:
        entry["ipmi"] = ipmi


def _device(entry: Data, name: str, device: Data) -> Data:
    _join(device, "keys", "tags")
    _rename(device, "ip6addr", "ipaddr6")
    for old in ("default", "primary"):
        if str(device.pop(old, "")).lower() in ("true", "yes", "1"):
            entry.setdefault("primary network", name)
    if device.get("ipcidr"):
        interface = IPv4Interface(str(device.pop("ipcidr")))
        device.setdefault("ipaddr", str(interface.ip))
        device.setdefault("netmask", str(interface.netmask))
    if "/" in str(device.get("ipaddr6") or ""):
        ipv6 = IPv6Interface(str(device["ipaddr6"]))
        device["ipaddr6"] = str(ipv6.ip)
        device.setdefault("prefixlen6", str(ipv6.network.prefixlen))
    return device


def upgrade_config(data: Data) -> Data:
    """warewulf.conf of any Warewulf 4."""
    new = dict(data)
    _rename(new, "container mounts", "image mounts")
    if "ipv6net" in new:
        _prefix_of(new, str(new.pop("ipv6net") or ""))
    warewulf = dict(new.get("warewulf") or {})
    for gone in ("datastore", "syslog"):
        warewulf.pop(gone, None)
    nfs = dict(new.get("nfs") or {})
    exports = nfs.pop("exports", None)
    if exports:
        nfs.setdefault("export paths", [{"path": path} for path in exports])
    if isinstance(nfs.get("export paths"), list):
        gone_keys = ("mount", "mount options")
        nfs["export paths"] = [{key: part for key, part in one.items() if key not in gone_keys} for one in nfs["export paths"]]
    for key, section in (("warewulf", warewulf), ("nfs", nfs)):
        if section or key in new:
            new[key] = section
    return new


def _prefix_of(data: Data, network: str) -> None:
    _, slash, length = network.partition("/")
    if slash:
        data.setdefault("prefixlen6", core_scalar(length))


def nfs_mounts(data: Data) -> tuple[Mapping[str, Any], ...]:
    """The fstab entries that an old warewulf.conf made on every node."""
    exports = (data.get("nfs") or {}).get("export paths") or []
    return tuple(
        {
            "spec": f"warewulf:{one['path']}",
            "file": one["path"],
            "vfstype": "nfs",
            **({"mntops": one["mount options"]} if one.get("mount options") else {}),
        }
        for one in exports
        if str(one.get("mount", "")).lower() in ("true", "yes")
    )


def _rename(data: Data, old: str, new: str) -> None:
    if old in data:
        data.setdefault(new, data.pop(old))


def _join(data: Data, old: str, new: str) -> None:
    """Move a mapping into another one, where the new one's values stand."""
    if isinstance(data.get(old), Mapping):
        data[new] = {**data.pop(old), **(data.get(new) or {})}
