"""The views of `wwctl node list`, as text."""

import json
from collections.abc import Callable, Mapping, Sequence

from bootsvc.changes import label
from bootsvc.cli.table import EMPTY, table
from bootsvc.store import Snapshot
from bootsvc.yamlpatch import emit
from netboot.merge import leaves, merge, sources
from netboot.node import NetDev, Node

View = Callable[[Sequence[Node], Snapshot], str]


def brief(nodes: Sequence[Node], _snapshot: Snapshot) -> str:
    rows = ((node.id, ",".join(node.profiles), ", ".join(sorted(node.network_devices))) for node in nodes)
    return table(("NODE NAME", "PROFILES", "NETWORK"), rows)


def long(nodes: Sequence[Node], _snapshot: Snapshot) -> str:
    rows = ((node.id, node.kernel.version, node.image_name, _overlays(node)) for node in nodes)
    return table(("NODE NAME", "KERNEL VERSION", "IMAGE", "OVERLAYS (S/R)"), rows)


def _overlays(node: Node) -> str:
    if not node.system_overlay and not node.runtime_overlay:
        return ""
    return f"{','.join(node.system_overlay)}/{','.join(node.runtime_overlay)}"


def networks(nodes: Sequence[Node], _snapshot: Snapshot) -> str:
    rows = [
        (node.id, name, device.hwaddr, str(device.ipaddr or ""), str(device.gateway or ""), device.device)
        for node in nodes
        for name, device in sorted(node.network_devices.items()) or [("", NetDev())]
    ]
    return table(("NODE", "NETWORK", "HWADDR", "IPADDR", "GATEWAY", "DEVICE"), rows)


def bmcs(nodes: Sequence[Node], _snapshot: Snapshot) -> str:
    rows = ((node.id, str(node.ipmi.ipaddr or ""), node.ipmi.port, node.ipmi.username, node.ipmi.interface) for node in nodes)
    return table(("NODE", "IPMI IPADDR", "IPMI PORT", "IPMI USERNAME", "IPMI INTERFACE"), rows)


def everything(nodes: Sequence[Node], snapshot: Snapshot) -> str:
    """Each value with the profile that it comes from."""
    rows: list[tuple[str, str, str, str]] = []
    for node in nodes:
        entry = snapshot.nodes[node.id]
        origins = sources(node.id, entry, snapshot.profiles)
        for path, value in leaves(merge(node.id, entry, snapshot.profiles).entry):
            shown = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            rows.append((node.id, label(path), origins.get(path) or EMPTY, shown))
    return table(("NODE", "FIELD", "PROFILE", "VALUE"), rows)


def yaml(nodes: Sequence[Node], snapshot: Snapshot) -> str:
    """The merged nodes, in the form of nodes.conf."""
    merged = _merged(nodes, snapshot)
    return emit(merged) if merged else "{}\n"


def as_json(nodes: Sequence[Node], snapshot: Snapshot) -> str:
    return json.dumps(_merged(nodes, snapshot), indent=2, ensure_ascii=False) + "\n"


def _merged(nodes: Sequence[Node], snapshot: Snapshot) -> Mapping[str, object]:
    return {node.id: merge(node.id, snapshot.nodes[node.id], snapshot.profiles).entry for node in nodes}
