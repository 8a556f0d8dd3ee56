"""The network overlays: what each makes for nodes with bonds, VLANs, InfiniBand, IPv6, DHCP."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree

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
    "wicked",
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


@pytest.mark.parametrize("node", NODES)
def test_wickeds_files_are_well_formed(node: str) -> None:
    """wicked has no package for Debian; its elements are those of its schema, with namespaces that it does not declare."""
    for path, item in rendered("wicked", NODES[node]).items():
        if path.endswith(b".xml"):
            text = re.sub(r"(</?ipv[46]):", r"\1-", item.content.decode())
            root = ElementTree.fromstring(text)
            assert root.tag == "interface"
            names = [element.text for element in root.iter("name")]
            assert len(names) == 1
