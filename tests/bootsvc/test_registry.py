from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

import pytest

from bootsvc.registry import Registry
from bootsvc.store import Snapshot

NETWORK = IPv4Network("10.0.0.0/24")


def device(**fields: str) -> dict[str, Any]:
    return {"network devices": {"default": fields}}


def build(profiles: dict[str, Any] | None = None, **nodes: dict[str, Any]) -> Registry:
    return Registry.build(Snapshot(nodes=nodes, profiles=profiles or {}), NETWORK)


def test_look_up() -> None:
    registry = build(
        {"p": {"image name": "debian-12"}},
        n1={"profiles": ["p"], **device(hwaddr="52-54-00-12-34-5F", ipaddr="10.0.0.11")},
        n2={"image name": "rocky-9"},
    )
    node = registry.by_name("n1")
    assert node is not None
    assert registry.by_hwaddr("52:54:00:12:34:5f") is node
    assert registry.by_address(IPv4Address("10.0.0.11")) is node
    assert registry.reserved(IPv4Address("10.0.0.11"))
    assert not registry.reserved(IPv4Address("10.0.0.12"))
    assert registry.nodes_of_image("debian-12") == (node,)
    assert registry.by_name("n3") is None
    assert registry.by_hwaddr("52:54:00:12:34:00") is None
    assert registry.problems == ()


def test_every_device_counts() -> None:
    devices = {"a": {"hwaddr": "52:54:00:00:00:01"}, "b": {"hwaddr": "52:54:00:00:00:02", "ipaddr": "10.1.0.1"}}
    registry = build(n1={"network devices": devices})
    assert registry.by_hwaddr("52:54:00:00:00:01") is registry.by_hwaddr("52:54:00:00:00:02")
    assert registry.reserved(IPv4Address("10.1.0.1"))


def test_near_is_every_node_and_what_its_netmasks_say() -> None:
    wide, odd = {"ipaddr": "10.8.0.5", "netmask": "255.255.255.0"}, {"ipaddr": "198.51.100.1", "netmask": "0.0.0.0"}
    made = build(
        n1={"network devices": {"default": {"ipaddr": "10.0.0.5"}, "ib": wide}},
        n2={"network devices": {"default": {"ipaddr": "192.0.2.7"}, "odd": odd}},
    )
    near = ["10.0.0.5", "10.0.0.200", "10.8.0.9", "192.0.2.7", "198.51.100.1"]
    assert [address for address in near if not made.is_near(IPv4Address(address))] == []
    far = ["10.0.1.5", "10.8.1.9", "192.0.2.8", "198.51.100.2", "8.8.8.8"]
    assert [address for address in far if made.is_near(IPv4Address(address))] == []
    assert not Registry().is_near(IPv4Address("10.0.0.5"))


def test_an_address_that_no_machine_can_have_is_named() -> None:
    registry = build(n1=device(ipaddr="10.0.0.255"), n2=device(ipaddr="10.0.0.0"), n3=device(ipaddr="10.9.0.255"))
    assert registry.problems == (
        "node n1 gets no address: 10.0.0.255 is one that no machine in 10.0.0.0/24 can have",
        "node n2 gets no address: 10.0.0.0 is one that no machine in 10.0.0.0/24 can have",
    )
    two = Registry.build(Snapshot(nodes={"n1": device(ipaddr="10.0.0.0")}), IPv4Network("10.0.0.0/31"))
    assert two.problems == (), "RFC 3021"


def test_a_gateway_that_cannot_be_reached_is_named() -> None:
    registry = build(
        n1=device(ipaddr="10.0.0.5", gateway="10.1.0.254"),
        n2=device(ipaddr="10.0.0.6", gateway="10.0.0.254"),
        n3=device(ipaddr="10.9.0.5", netmask="255.255.0.0", gateway="10.9.9.254"),
        n4=device(ipaddr="10.9.0.6", netmask="255.255.255.255", gateway="10.0.0.254"),
    )
    assert registry.problems == (
        "node n1: its gateway 10.1.0.254 is not on its network, that of 10.0.0.5 with the netmask 255.255.255.0: "
        "DHCP tells it no gateway",
    )


def test_sorted_by_cluster_then_name() -> None:
    registry = build(n2={}, n1={"cluster name": "west"}, n3={"cluster name": "east"}, n0={})
    assert [node.id for node in registry.nodes] == ["n0", "n2", "n3", "n1"]


def test_netmask_of_the_boot_network_is_filled_in() -> None:
    registry = build(
        n1=device(ipaddr="10.0.0.11"),
        n2=device(ipaddr="10.0.0.12", netmask="255.0.0.0"),
        n3=device(ipaddr="192.168.0.1"),
    )
    interfaces = [node.primary.interface if node.primary else None for node in registry.nodes]
    assert interfaces == [IPv4Interface("10.0.0.11/24"), IPv4Interface("10.0.0.12/8"), None]


def test_first_of_two_with_one_address_has_it() -> None:
    registry = build(
        n2=device(hwaddr="52:54:00:00:00:01", ipaddr="10.0.0.11"),
        n1=device(hwaddr="52:54:00:00:00:01", ipaddr="10.0.0.11"),
    )
    assert registry.by_hwaddr("52:54:00:00:00:01") is registry.by_name("n1")
    assert registry.problems == (
        "nodes n1 and n2 both have the hwaddr 52:54:00:00:00:01",
        "nodes n1 and n2 both have the ipaddr 10.0.0.11",
    )


@pytest.mark.parametrize(
    ("entry", "problem"),
    [
        (device(hwaddr="52:54"), "network devices.default.hwaddr: '52:54' is no hardware address"),
        (device(ipaddr="10.0.0.300"), "network devices.default.ipaddr: octet 300 (> 255) not permitted in '10.0.0.300'"),
        ({"profiles": "default"}, "profiles: expected a list, got text"),
        ({"kernel": "5.10"}, "kernel: expected keys and values, got text"),
        ({"network devices": {"a": {}, "b": {"mtu": ["x"]}}}, "network devices.b.mtu: expected text, got a list"),
        ({"network devices": "x"}, "network devices: expected keys and values, got text"),
    ],
)
def test_bad_node_is_left_out_and_named(entry: dict[str, Any], problem: str) -> None:
    registry = build(bad=entry, good=device(ipaddr="10.0.0.1"))
    assert [node.id for node in registry.nodes] == ["good"]
    assert registry.problems == (f"node bad: {problem}; the node is left out",)


def test_unknown_keys_are_named() -> None:
    registry = build(
        {"p": {"runtime overlays": []}},
        n1={"imag name": "x", "network devices": {"default": {"hwadr": "x"}}, "resources": {"any": 1}, "tags": {"t": "1"}},
    )
    assert registry.problems == (
        "node n1: unknown key 'imag name' (did you mean 'image name'?)",
        "node n1: unknown key 'network devices.default.hwadr' (did you mean 'hwaddr'?)",
        "profile p: unknown key 'runtime overlays' (did you mean 'runtime overlay'?)",
    )


def test_missing_profile_is_named() -> None:
    assert build(n1={"profiles": ["gone"]}).problems == ("node n1 has the profile 'gone', which does not exist",)


def test_what_did_not_change_is_taken_over() -> None:
    profiles = {"p": {"image name": "a"}}
    before = build(profiles, n1={"profiles": ["p"]}, n2={"comment": "x"}, bad={"kernel": "x"})
    snapshot = Snapshot(nodes={"n1": {"profiles": ["p"]}, "n2": {"comment": "y"}, "bad": {"kernel": "x"}}, profiles=profiles)
    after = Registry.build(snapshot, NETWORK, previous=before)
    assert after.by_name("n1") is before.by_name("n1")
    assert after.nodes == Registry.build(snapshot, NETWORK).nodes
    assert after.problems == before.problems


def test_nothing_is_taken_over_when_profiles_or_the_network_changed() -> None:
    nodes = {"n1": {"profiles": ["p"], **device(ipaddr="10.0.0.11")}}
    before = build({"p": {"image name": "a"}}, **nodes)
    image = Registry.build(Snapshot(nodes=nodes, profiles={"p": {"image name": "b"}}), NETWORK, previous=before).by_name("n1")
    assert image is not None
    assert image.image_name == "b"
    wide = IPv4Network("10.0.0.0/8")
    other = Registry.build(Snapshot(nodes=nodes, profiles={"p": {"image name": "a"}}), wide, previous=before).by_name("n1")
    assert other is not None
    assert other.network_devices["default"].netmask == wide.netmask


@pytest.mark.parametrize("name", ["", "../../esc", "a/b", ".hidden", "a b", "a\nb", "a\x7f"])
def test_a_name_that_is_a_path_or_splits_a_line_is_left_out(name: str) -> None:
    registry = Registry.build(Snapshot(nodes={name: {}, "node_1": {}}), NETWORK)
    assert [node.id for node in registry.nodes] == ["node_1"]
    assert registry.problems == (f"{name!r} cannot be the name of a node; the node is left out",)
