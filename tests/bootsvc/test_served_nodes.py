"""The nodes of the server, while nodes.conf changes, breaks and goes."""

import logging
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from bootsvc.served_nodes import MAX_PROBLEMS, ServedNodes
from bootsvc.store import Store

NETWORK = IPv4Network("10.0.0.0/24")
OWN = IPv4Address("10.0.0.1")


@pytest.fixture
def nodes(tmp_path: Path) -> ServedNodes:
    (tmp_path / "nodes.conf").write_text("nodes:\n  n1: {}\n")
    served = ServedNodes(Store(tmp_path / "nodes.conf"), lambda: NETWORK, OWN)
    served.load()
    return served


def names(served: ServedNodes) -> list[str]:
    return [node.id for node in served.registry.nodes]


async def test_a_change_is_read_and_then_used(nodes: ServedNodes, tmp_path: Path) -> None:
    (tmp_path / "nodes.conf").write_text("nodes:\n  n1: {}\n  n2: {}\n")
    found = await nodes.read()
    assert names(nodes) == ["n1"]
    nodes.use(found)
    assert names(nodes) == ["n1", "n2"]


@pytest.mark.parametrize(("text", "said"), [("nodes: [", "not used, the nodes stay"), (None, "nodes.conf is gone")])
async def test_one_that_is_broken_or_gone_leaves_the_nodes(
    nodes: ServedNodes, tmp_path: Path, text: str | None, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    if text is None:
        (tmp_path / "nodes.conf").unlink()
    else:
        (tmp_path / "nodes.conf").write_text(text)
    nodes.use(await nodes.read())
    assert names(nodes) == ["n1"]
    assert [record.levelname for record in caplog.records if said in record.message] == ["ERROR"]


def test_at_the_start_a_broken_one_leaves_none(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "nodes.conf").write_text("nodes: [")
    served = ServedNodes(Store(tmp_path / "nodes.conf"), lambda: NETWORK, OWN)
    served.load()
    assert names(served) == []
    assert "nodes.conf is not used" in caplog.text


def test_what_is_wrong_is_told_but_not_without_end(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    thief = "nodes:\n  thief: {network devices: {default: {ipaddr: 10.0.0.1}}}\n"
    broken = "".join(f"  n{number}: {{network devices: {{default: {{hwaddr: zz}}}}}}\n" for number in range(MAX_PROBLEMS * 2))
    (tmp_path / "nodes.conf").write_text(thief + broken)
    served = ServedNodes(Store(tmp_path / "nodes.conf"), lambda: NETWORK, OWN)
    served.load()
    assert "node thief gets no address: its 10.0.0.1 is this server's own" in caplog.text
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == MAX_PROBLEMS + 2
    assert "1 nodes loaded" in caplog.text
