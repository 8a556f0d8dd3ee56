"""What is said of machines that ask again and again for what they do not get."""

from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from bootsvc.artifacts import Artifacts
from bootsvc.bootfiles import Asked, BootFiles, Refused
from bootsvc.config import Config, Paths
from bootsvc.overlays import HeadNode
from bootsvc.registry import Registry
from bootsvc.store import Snapshot
from images.catalog import Catalog
from netboot.engine import Server
from netboot.urls import Stage, Urls

HWADDR = "52:54:00:00:00:01"
NODES = Registry.build(Snapshot(nodes={"n1": {"network devices": {"default": {"hwaddr": HWADDR}}}}))
REQUESTS = 4000


@pytest.fixture
def files(tmp_path: Path) -> BootFiles:
    paths = Paths(chroots=tmp_path / "chroots", provision=tmp_path / "provision", overlays=tmp_path / "overlays")
    catalog = Catalog(chroots=paths.chroots, provision=paths.provision)
    urls = Urls(address=IPv4Address("10.0.0.1"), port=9873)
    network = IPv4Network("10.0.0.0/24")
    server = Server(name="head", address=urls.address, network=network, domain="", urls=urls, authorized_keys=())
    return BootFiles(Artifacts(Config(paths=paths), catalog, lambda: NODES, lambda: HeadNode(server)), lambda: NODES, urls)


async def test_a_loop_of_requests_does_not_fill_the_log(files: BootFiles, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for _ in range(REQUESTS):
        assert b"has no image" in (await files.stage(Stage.IPXE, Asked(hwaddr=HWADDR))).script
        with pytest.raises(Refused):
            await files.stage(Stage.KERNEL, Asked(hwaddr=HWADDR))
    assert "has no image" in caplog.messages[0], "the first are told"
    assert len(caplog.messages) < 2 * REQUESTS, "a budget holds the rest back"
