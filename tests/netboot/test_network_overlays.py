"""The network overlays: what each makes for nodes with bonds, VLANs, InfiniBand, IPv6, DHCP."""

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from network_nodes import NODES, SERVER

from netboot.engine import RenderContext
from netboot.node import Node
from netboot.overlay import Item, load, shipped
from netboot.overlay_render import render_items

GOLDEN = Path(__file__).parent.parent / "golden" / "networks"
OVERLAYS = (
    "NetworkManager",
    "hosts",
    "ifcfg",
    "ifupdown",
    "netplan",
    "resolv",
    "systemd.netname",
    "systemd.networkd",
    "udev.netname",
)


def rendered(name: str, node: Node) -> Mapping[bytes, Item]:
    context = RenderContext(node=node, nodes=list(NODES.values()), server=SERVER)
    return render_items([load(name, [shipped()])], context).items


@pytest.mark.parametrize("node", NODES)
@pytest.mark.parametrize("name", OVERLAYS)
def test_golden(name: str, node: str, golden: Callable[[Path, str], None]) -> None:
    """All of an overlay's files as one text that a person can read."""
    text = "".join(
        f"==> {path.decode()} {item.mode:o} {item.uid}:{item.gid}\n{item.content.decode()}\n"
        for path, item in sorted(rendered(name, NODES[node]).items())
        if node == "simple" or path != b"etc/hosts"
    )
    golden(GOLDEN / node / f"{name}.txt", text)
