"""Who becomes which node: first come, one machine one node, also when many ask at once."""

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from bootsvc.config import Config
from bootsvc.discovery import Found, discover
from bootsvc.registry import Registry
from bootsvc.store import Snapshot, Store

A, B, C = (f"52:54:00:00:00:0{digit}" for digit in "abc")
CONFIG = Config()


def snapshot(**nodes: dict[str, Any]) -> Snapshot:
    return Snapshot(nodes=nodes)


def waiting(**fields: Any) -> dict[str, Any]:
    return {"discoverable": "true", "network devices": {"default": {"ipaddr": "10.0.0.7"}}, **fields}


def test_the_first_by_cluster_and_name_is_taken_and_waits_no_longer() -> None:
    before = snapshot(n2=waiting(), n9={**waiting(), "cluster name": "a"}, n1={"discoverable": "false"}, n3={})
    found = discover(before, A, CONFIG)
    assert found is not None
    assert (found.node, found.is_new) == ("n2", True), "no cluster name comes before any"
    assert found.snapshot.nodes["n2"] == {
        "discoverable": "false",
        "network devices": {"default": {"ipaddr": "10.0.0.7", "hwaddr": A}},
    }
    second = discover(found.snapshot, B, CONFIG)
    assert second is not None
    assert second.node == "n9"
    assert discover(second.snapshot, C, CONFIG) is None


def test_a_known_machine_stays_what_it_is() -> None:
    before = snapshot(n1={"network devices": {"eth": {"hwaddr": A}}}, n2=waiting())
    assert discover(before, A, CONFIG) == Found(node="n1", snapshot=before, is_new=False)


@pytest.mark.parametrize(
    ("fields", "device"),
    [
        ({}, "default"),
        ({"network devices": {}}, "default"),
        ({"network devices": {"b": {"ipaddr": "10.0.0.8"}, "a": {"ipaddr": "10.0.0.9"}}}, "a"),
        ({"network devices": {"b": {"ipaddr": "10.0.0.8"}, "a": {}}, "primary network": "b"}, "b"),
        ({"network devices": {"default": {"hwaddr": C}}}, "default"),
    ],
)
def test_the_primary_network_gets_the_address(fields: dict[str, Any], device: str) -> None:
    found = discover(snapshot(n1=waiting(**fields)), A, CONFIG)
    assert found is not None
    assert found.snapshot.nodes["n1"]["network devices"][device]["hwaddr"] == A


def test_machines_that_ask_at_once_get_different_nodes(tmp_path: Path) -> None:
    path = tmp_path / "nodes.conf"
    names = [f"n{number}" for number in range(6)]
    path.write_text("nodes:\n" + "".join(f"  {name}:\n    discoverable: true  # by hand\n" for name in names))
    machines = [f"52:54:00:00:01:{number:02x}" for number in range(10)]

    def ask(hwaddr: str) -> str | None:
        found: Found | None = None

        def change(current: Snapshot) -> Snapshot:
            nonlocal found
            found = discover(current, hwaddr, CONFIG)
            return current if found is None else found.snapshot

        Store(path).edit(change)
        return None if found is None else found.node

    with ThreadPoolExecutor(8) as pool:
        became = list(pool.map(ask, machines))
    assert sorted(name for name in became if name) == names
    registry = Registry.build(Store(path).load())
    for hwaddr, name in zip(machines, became, strict=True):
        node = registry.by_hwaddr(hwaddr)
        assert (None if node is None else node.id) == name
