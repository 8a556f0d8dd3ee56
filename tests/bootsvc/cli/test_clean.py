"""`wwctl clean`: what nobody needs goes, and nothing else."""

import os
from pathlib import Path

import pytest
from head_node import HeadNode

pytestmark = pytest.mark.root


@pytest.fixture
def site(tmp_path: Path) -> HeadNode:
    site = HeadNode(tmp_path)
    files = {
        "etc/warewulf/nodes.conf": b"nodes:\n  n1: {}\n",
        "lib/warewulf/provision/overlays/n1/__SYSTEM__.img": b"kept",
        "lib/warewulf/provision/overlays/gone/__SYSTEM__.img": b"x" * 1000,
        "lib/warewulf/provision/overlays/.shared/part": b"kept",
        "lib/warewulf/provision/images/img/current": b"kept",
        "cache/warewulf/blobs/sha256/old": b"y" * 1048,
        "cache/warewulf/blobs/sha256/new": b"kept",
    }
    for name, content in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    os.utime(tmp_path / "cache/warewulf/blobs/sha256/old", (0, 0))
    return site


def files(site: HeadNode) -> set[str]:
    return {str(path.relative_to(site.root)) for path in site.root.rglob("*") if path.is_file()}


def test_clean(site: HeadNode) -> None:
    before = files(site)
    dry = site.wwctl("clean", "--dryrun")
    assert dry.stdout.splitlines() == [
        "Would remove the overlays of gone",
        f"Would remove downloads from {site.root}/cache/warewulf",
        "2.0 KiB would be free",
    ]
    assert files(site) - {"lib/warewulf/bootsvc/nodes.cache"} == before
    done = site.wwctl("clean")
    assert done.stdout == dry.stdout.replace("Would remove", "Removed").replace("would be free", "freed")
    gone = {"lib/warewulf/provision/overlays/gone/__SYSTEM__.img", "cache/warewulf/blobs/sha256/old"}
    assert before - files(site) == gone
    assert site.wwctl("clean").stdout == "0 B freed\n"


def test_a_nodes_conf_that_cannot_be_read_costs_nothing(site: HeadNode) -> None:
    (site.root / "etc/warewulf/nodes.conf").write_text("nodes: [\n")
    before = files(site)
    assert site.wwctl("clean").returncode == 1
    assert files(site) == before
