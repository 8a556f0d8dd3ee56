from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from bootsvc.changes import Change, Difference, add_entries, apply, differences, label, set_entries
from bootsvc.config import Config
from bootsvc.store import NODES, Snapshot
from images.errors import Error

CONFIG = Config(ipaddr=IPv4Address("10.0.0.1"), network=IPv4Network("10.0.0.0/24"))
NET = ("network devices", "default")
N1 = {"network devices": {"default": {"hwaddr": "52:54:00:00:00:01", "ipaddr": "10.0.0.11"}}}
SNAPSHOT = Snapshot(nodes={"n1": N1}, profiles={"default": {}, "wide": {"network devices": {"default": {"mtu": "9000"}}}})


def change(*path: str, value: Any) -> Change:
    return Change(path=path, value=value)


IPADDR = change(*NET, "ipaddr", value="10.0.0.12")
HWADDR = change(*NET, "hwaddr", value="52:54:00:00:00:02")


def added(*names: str, changes: list[Change], snapshot: Snapshot = SNAPSHOT) -> Any:
    after = add_entries(snapshot, NODES, names, changes, CONFIG)
    return {name: entry for name, entry in after.nodes.items() if name not in snapshot.nodes}


def test_add_takes_the_default_profile() -> None:
    assert added("n2", changes=[]) == {"n2": {"profiles": ["default"]}}
    assert added("n2", changes=[change("profiles", value=["wide"])]) == {"n2": {"profiles": ["wide"]}}
    assert added("n2", changes=[], snapshot=Snapshot()) == {"n2": {}}


def test_add_counts_addresses_up() -> None:
    changes = [IPADDR, change("ipmi", "ipaddr", value="10.0.1.255"), change("tags", "a", value="10.0.0.12")]
    entries = added("n2", "n3", changes=changes)
    assert entries["n3"]["network devices"]["default"]["ipaddr"] == "10.0.0.13"
    assert entries["n3"]["ipmi"]["ipaddr"] == "10.0.2.0"
    assert entries["n3"]["tags"]["a"] == "10.0.0.12"


@pytest.mark.parametrize(
    ("names", "changes", "message"),
    [
        (["n1"], [], "the node 'n1' exists already"),
        (["n2", "n2"], [], "the node 'n2' is named twice"),
        (["n/2"], [], "'n/2' cannot be the name of a node"),
        (["-n"], [], "'-n' cannot be the name"),
        ([""], [], "'' cannot be the name"),
        (["n" * 64], [], "cannot be the name"),
        (["a.b" * 90], [], "cannot be the name"),
        (["n2"], [change(*NET, "ipaddr", value="10.0.0.11")], "node n2: the ipaddr 10.0.0.11 belongs to node n1"),
        (["n2", "n3"], [change(*NET, "ipaddr", value="10.0.0.10")], "node n3: the ipaddr 10.0.0.11 belongs to node n1"),
        (["n2"], [change(*NET, "hwaddr", value="52:54:00:00:00:01")], "the hwaddr 52:54:00:00:00:01 belongs to node n1"),
        (["n2", "n3"], [HWADDR], "node n2: the hwaddr 52:54:00:00:00:02 belongs to node n3"),
        (["n2"], [IPADDR, change("network devices", "x", "ipaddr", value="10.0.0.12")], "two of its networks have the ipaddr"),
        (["n2"], [change(*NET, "ipaddr", value="10.0.0.1")], "10.0.0.1 is this server's own address"),
        (["n2"], [change(*NET, "ipaddr", value="10.0.0.255")], "10.0.0.255 is an address that no machine in 10.0.0.0/24"),
        (["n2"], [change(*NET, "ipaddr", value="10.0.0.0")], "10.0.0.0 is an address that no machine"),
        (["n2", "n3"], [change(*NET, "ipaddr", value="255.255.255.255")], "no IPv4 address left for the node 'n3'"),
        (["n2"], [change("profiles", value=["defalt"])], "there is no profile 'defalt'"),
    ],
)  # fmt: skip
def test_add_refuses(names: list[str], changes: list[Change], message: str) -> None:
    with pytest.raises(Error) as caught:
        add_entries(SNAPSHOT, NODES, names, changes, CONFIG)
    assert message in caught.value.message
    assert caught.value.hint


def test_set() -> None:
    after = set_entries(SNAPSHOT, NODES, ["n1"], [IPADDR, change(*NET, "hwaddr", value=None)], CONFIG)
    assert after.nodes == {"n1": {"network devices": {"default": {"ipaddr": "10.0.0.12"}}}}
    with pytest.raises(Error, match="there is no node 'n2'"):
        set_entries(SNAPSHOT, NODES, ["n2"], [], CONFIG)


def test_old_trouble_does_not_stop_another_change() -> None:
    twins = Snapshot(nodes={"n1": N1, "n2": N1, "bad": {"kernel": "x"}})
    assert set_entries(twins, NODES, ["n1"], [change("comment", value="x")], CONFIG).nodes["n1"]["comment"] == "x"


def test_bad_node_can_be_repaired_but_not_kept() -> None:
    broken = Snapshot(nodes={"n1": {"network devices": {"default": {"hwaddr": "nonsense"}}}})
    assert set_entries(broken, NODES, ["n1"], [HWADDR], CONFIG).nodes["n1"] != broken.nodes["n1"]
    with pytest.raises(Error, match=r"network devices\.default\.hwaddr: 'nonsense' is no hardware address$"):
        set_entries(broken, NODES, ["n1"], [change("comment", value="x")], CONFIG)


def test_apply_removes_what_it_empties() -> None:
    assert apply(N1, [change(*NET, value=None)]) == {}
    assert apply(N1, [change("tags", "gone", value=None)]) == N1
    assert apply({}, [change("tags", "a", value="1"), change("tags", "a", value=None)]) == {}


def test_differences() -> None:
    after = apply(N1, [change(*NET, "mtu", value="9000"), change(*NET, "ipaddr", value=None)])
    assert differences(N1, after) == [
        Difference(path=(*NET, "ipaddr"), before="10.0.0.11", after=None),
        Difference(path=(*NET, "mtu"), before=None, after="9000"),
    ]
    assert differences(N1, N1) == []


@pytest.mark.parametrize(
    ("path", "text"),
    [
        (("kernel", "args"), "kernelargs"),
        (("image name",), "image"),
        ((*NET, "device"), "netname[default].netdev"),
        ((*NET, "tags", "DNS"), "netname[default].tag[DNS]"),
        (("tags", "rack"), "tag[rack]"),
        (("ipmi", "tags", "vlan"), "ipmitag[vlan]"),
        (("resources", "fstab"), "resources.fstab"),
    ],
)
def test_label(path: tuple[str, ...], text: str) -> None:
    assert label(path) == text
