"""An image as one node would see it: what its system and runtime overlays put on top, for a sandbox to show."""

import os
from collections.abc import Callable
from pathlib import Path

from bootsvc import overlays
from bootsvc.changes import closest
from bootsvc.config import Config
from bootsvc.registry import Registry
from bootsvc.store import Store
from images.errors import Error
from images.excludes import Excludes
from images.sandbox.operations import TopEntry
from images.scan import scan
from images.view import ImageView
from netboot.engine import RenderContext
from netboot.errors import OverlayNotFound
from netboot.node import Node
from netboot.overlay_archive import place
from netboot.overlay_library import Library
from netboot.overlay_render import render_items
from netboot.seen_server import SeenServer


class NodeNotFound(Error):
    def __init__(self, name: str, known: list[str]) -> None:
        super().__init__(f"there is no node {name!r}", hint=closest(name, known) or "`wwctl node list` shows the nodes")


def node_view(
    config: Config, name: str, rootfs: Path, missing: Callable[[OverlayNotFound], None]
) -> tuple[Node, tuple[TopEntry, ...]]:
    """The node, and its overlays for this image tree, the runtime overlay above the system overlay.

    Raises NodeNotFound, OverlayError, or NoInterface when warewulf.conf does not say where the boot network is.
    """
    registry = Registry.build(Store(config.paths.nodes_conf, config.paths.nodes_cache).load(), config.network)
    node = registry.by_name(name)
    if node is None:
        raise NodeNotFound(name, [node.id for node in registry.nodes])
    head = overlays.find_head(config)
    context = RenderContext(node=node, nodes=registry.nodes, server=SeenServer(*head).by(node))
    names = [*node.system_overlay, *node.runtime_overlay]
    view = ImageView(scan(rootfs, excludes=Excludes([])))
    placement = place(render_items(overlays.load_all(names, Library(overlays.folders(config)), missing), context), view)
    return node, tuple(
        TopEntry(
            path=os.fsdecode(entry.path),
            mode=entry.mode,
            uid=entry.uid,
            gid=entry.gid,
            mtime=entry.mtime,
            content=content.decode("latin-1"),
        )
        for entry, content in (*placement.alike, *placement.own)
    )
