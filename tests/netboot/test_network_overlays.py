"""The network overlays: what each makes for nodes with bonds, VLANs, InfiniBand, IPv6, DHCP."""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from xml.etree import ElementTree

import msgspec
import pytest
from network_nodes import NODES, SERVER
from system_overlays import SYSTEM_OVERLAYS

from netboot.engine import RenderContext
from netboot.node import Node
from netboot.overlay import Item, load, shipped
from netboot.overlay_render import render_items
from netboot.reads import digest

GOLDEN = Path(__file__).parent.parent / "golden" / "networks"
OVERLAYS = sorted({path.name for path in shipped().iterdir() if path.is_dir()} - {*SYSTEM_OVERLAYS})


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


def test_what_the_overlays_depend_on() -> None:
    """A hosts file is made once for all nodes, and neither it nor a network is made anew for a comment."""
    node = NODES["bonded"]
    context = RenderContext(node=node, nodes=list(NODES.values()), server=SERVER)
    hosts = render_items([load("hosts", [shipped()])], context)
    network = render_items([load("netplan", [shipped()])], context)
    assert hosts.items[b"etc/hosts"].alike
    assert {path[0] for path in hosts.reads} == {"nodes", "server"}
    commented = msgspec.structs.replace(node, comment="moved")
    moved = msgspec.structs.replace(node, network_devices=NODES["simple"].network_devices)
    for placed in (hosts, network):
        before, same, other = (
            digest(placed.reads, RenderContext(node=one, nodes=[one], server=SERVER)) for one in (node, commented, moved)
        )
        assert before == same
        assert before != other
