"""Overlays that many ask for at once: built once for all who came before it began, and as fresh as if each had built."""

import asyncio
import gzip
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from bootsvc.artifacts import Artifact, Artifacts
from bootsvc.config import Config, Paths
from bootsvc.overlays import HeadNode
from bootsvc.registry import Registry
from bootsvc.store import Snapshot
from images.catalog import Catalog
from images.generation import Generation
from images.rebuild import BuildContext, rebuild
from netboot.engine import Server
from netboot.errors import OverlayError
from netboot.init_files import own_files
from netboot.urls import Stage, Urls

ASKING = 20


class Site:
    """One node with one overlay, of one file."""

    def __init__(self, root: Path) -> None:
        paths = Paths(chroots=root / "chroots", provision=root / "provision", overlays=root / "overlays")
        self.file = paths.overlays / "own/rootfs/etc/motd.j2"
        self.file.parent.mkdir(parents=True)
        self.file.write_text("one")
        boot = paths.chroots / "img/rootfs/boot"
        boot.mkdir(parents=True)
        (boot / "vmlinuz-6.1.0-1-amd64").write_bytes(b"a kernel")
        catalog = Catalog(chroots=paths.chroots, provision=paths.provision)
        context = BuildContext(own=own_files(), built_by="test", now=0.0)
        self.generation: Generation = rebuild(catalog, "img", context).generation
        registry = Registry.build(Snapshot(nodes={"n1": {"image name": "img", "system overlay": ["own"]}}))
        (self.node,) = registry.nodes
        urls = Urls(address=IPv4Address("10.0.0.1"), port=9873)
        network = IPv4Network("10.0.0.0/24")
        server = Server(name="head", address=urls.address, network=network, domain="", urls=urls, authorized_keys=())
        self.artifacts = Artifacts(Config(paths=paths), catalog, lambda: registry, lambda: HeadNode(server))

    def ask(self) -> "asyncio.Task[Artifact]":
        return asyncio.get_running_loop().create_task(self.artifacts.overlay(self.node, Stage.SYSTEM, self.generation))


def content(artifact: Artifact) -> bytes:
    return gzip.decompress(b"".join(path.read_bytes() for path, _ in artifact.parts))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


async def test_one_build_serves_all_who_came_before_it_began(site: Site) -> None:
    asking = [site.ask() for _ in range(ASKING)]
    # The first began at once, and the second while it was building, for all the others.
    assert len({id(artifact) for artifact in [await each for each in asking]}) == 2


async def test_who_asks_after_a_change_gets_the_change(site: Site) -> None:
    asking = [site.ask() for _ in range(ASKING)]
    await asyncio.sleep(0)
    site.file.write_text("two, and longer")
    later = [site.ask() for _ in range(ASKING)]
    assert all(b"two, and longer" in content(artifact) for artifact in [await each for each in later])
    for each in asking:
        await each


@pytest.mark.parametrize("gone", [1, 2])
async def test_who_goes_away_takes_nothing_from_the_others(site: Site, gone: int) -> None:
    asking = [site.ask() for _ in range(5)]
    await asyncio.sleep(0)
    asking.pop(gone).cancel()
    assert all(b"one" in content(artifact) for artifact in [await each for each in asking])


async def test_what_cannot_be_rendered_is_told_to_all(site: Site) -> None:
    site.file.write_text("{{ nothing.of.that.name }}")
    asking = [site.ask() for _ in range(ASKING)]
    for each in asking:
        with pytest.raises(OverlayError):
            await each
    site.file.write_text("mended")
    assert b"mended" in content(await site.ask())
