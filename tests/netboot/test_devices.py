"""The checked view of a node's network devices: how they belong together, and what is refused."""

from ipaddress import IPv4Address, IPv4Network, IPv6Address
from typing import Any

import pytest
from network_nodes import SERVER

from netboot.devices import Device, Kind, check_devices, devices, resolver
from netboot.engine import RenderContext
from netboot.errors import NetworkError, OverlayError
from netboot.hostnames import host_names
from netboot.nettags import Route
from netboot.node import Node, to_node
from netboot.overlay import load, shipped
from netboot.overlay_render import render_items

STATIC = {"ipaddr": "10.0.0.5", "netmask": "255.255.255.0", "gateway": "10.0.0.254"}


def node(primary: str = "", **networks: Any) -> Node:
    return to_node("n1", {"network devices": networks, "primary network": primary})


def view(primary: str = "", **networks: Any) -> dict[str, Device]:
    return {device.network: device for device in devices(node(primary, **networks))}


def one(**fields: Any) -> Device:
    return view(default={"device": "eth0", **fields})["default"]


def test_a_bond_knows_its_slaves_and_they_know_it() -> None:
    found = view(
        b={"type": "BOND", "device": "bond0", **STATIC},
        one={"device": "eth0", "tags": {"master": "bond0"}},
        two={"hwaddr": "52:54:00:00:00:02", "tags": {"master": "b"}},
    )
    assert found["b"].slaves == ("eth0", "two")
    assert (found["one"].master, found["two"].master) == ("bond0", "bond0")


def test_a_slave_has_no_addresses_of_its_own() -> None:
    slave = view(bond0={"type": "bond"}, s={"device": "eth0", **STATIC, "ipaddr6": "fd00::5", "tags": {"master": "bond0"}})["s"]
    assert (slave.address, slave.address6, slave.gateway, slave.dhcp, slave.ipv6) == (None, None, None, False, "disabled")


@pytest.mark.parametrize(
    ("fields", "number", "parent"),
    [
        ({"device": "eth0.902"}, 902, "eth0"),
        ({"device": "vlan7", "tags": {"parent_device": "eth1"}}, 7, "eth1"),
        ({"device": "lab", "tags": {"vlan_id": "8", "parent_device": "default"}}, 8, "eth0"),
        ({"device": "eth0.1", "tags": {"vlan_id": "9"}}, 9, "eth0"),
    ],
)
def test_vlans_say_or_imply_number_and_parent(fields: dict[str, Any], number: int, parent: str) -> None:
    found = view(default={"device": "eth0"}, v={"type": "vlan", **fields})
    assert (found["v"].vlan_id, found["v"].parent) == (number, parent)
    # A parent that nodes.conf does not have comes along, since some stacks must be told of it.
    assert found["default" if parent == "eth0" else parent].vlans == (fields["device"],)


def test_a_vlan_on_a_bond() -> None:
    found = view(default={"type": "bond", "device": "bond0"}, v={"type": "vlan", "device": "bond0.5"})
    assert found["default"].vlans == ("bond0.5",)


def test_only_the_primary_network_asks_dhcp_unless_a_tag_says_so() -> None:
    found = view(
        primary="b",
        a={"device": "eth0"},
        b={"device": "eth1"},
        c={"device": "eth2", "tags": {"ipv4_method": "auto"}},
        d={"device": "eth3", "ipaddr6": "fd00::1"},
    )
    assert {name: device.dhcp for name, device in found.items()} == {"a": False, "b": True, "c": True, "d": False}
    assert not one(tags={"ipv4_method": "disabled"}).dhcp


def test_the_primary_network_has_the_default_route() -> None:
    found = view(
        primary="b", a={"device": "eth0", **STATIC}, b={"device": "eth1", **STATIC, "ipaddr": "10.0.0.6"}, c={"device": "eth2"}
    )
    assert {name: device.metric for name, device in found.items()} == {"a": 101, "b": 100, "c": None}
    assert one(**STATIC).metric is None


def test_gateways_and_routes_without_an_address_are_left_out() -> None:
    device = one(gateway="10.0.0.254", gateway6="fd00::1", tags={"route1": "fd01::/64,fd00::2", "ipv4_method": "disabled"})
    assert (device.gateway, device.gateway6, device.routes) == (None, None, ())


def test_routes_in_all_their_forms() -> None:
    tags = {
        "route2": " 10.2.0.0/16 , 10.0.0.1 , 7 ",
        "route10": "default,10.0.0.9",
        "route": "10.3.0.1",
        "route1_options": "mtu=1400",
        "routed": "10.4.0.7/24,0.0.0.0,3",
    }
    via = IPv4Address
    assert one(**STATIC, tags=tags).routes == (
        Route(destination=IPv4Network("10.3.0.1/32")),
        Route(destination=IPv4Network("10.2.0.0/16"), gateway=via("10.0.0.1"), metric=7),
        Route(destination=IPv4Network("0.0.0.0/0"), gateway=via("10.0.0.9")),
        Route(destination=IPv4Network("10.4.0.0/24"), metric=3),
    )


def test_name_servers_come_in_their_order_the_primary_networks_first() -> None:
    first = {"DNS": "10.0.0.1", "DNS10": "10.0.0.4", "DNS2": "10.0.0.2, 10.0.0.3;fd00::1", "DNSSEARCH": "b a"}
    second = {"DNS1": "10.0.0.9 10.0.0.1", "DNSSEARCH": "a c"}
    found = resolver(node("z", a={"device": "eth1", "tags": second}, z={"device": "eth0", "tags": first}))
    assert [str(server) for server in found.servers] == ["10.0.0.1", "10.0.0.2", "10.0.0.3", "fd00::1", "10.0.0.4", "10.0.0.9"]
    assert found.search == ("b", "a", "c")
    assert resolver(node(), [IPv4Address("10.0.0.53")]).servers == (IPv4Address("10.0.0.53"),)


def test_a_bonds_mode_may_be_a_number() -> None:
    found = view(a={"type": "bond", "tags": {"mode": "4"}}, b={"type": "bond"})
    assert found["a"].bond
    assert found["b"].bond
    assert (found["a"].bond.mode, found["a"].bond.xmit_hash_policy) == ("802.3ad", "layer2+3")
    assert (found["b"].bond.mode, found["b"].bond.miimon, found["b"].bond.xmit_hash_policy) == ("balance-rr", 100, "")


def test_an_unknown_type_is_a_device_that_exists() -> None:
    assert one(type="802-3-ethernet").kind is Kind.ETHERNET


HOSTILE = "x\n[Route]\nGateway=6.6.6.6"


@pytest.mark.parametrize(
    ("networks", "message"),
    [
        ({HOSTILE: {"device": "eth0"}}, "cannot be the name of a network"),
        ({"../../etc/shadow": {"device": "eth0"}}, "'../../etc/shadow' cannot be the name of a network"),
        ({"default": {"device": HOSTILE}}, "cannot be the name of a network device"),
        ({"default": {"device": "eth0]"}}, "network 'default': 'eth0]' cannot be the name of a network device"),
        ({"default": {"device": 'eth0"; reboot'}}, "cannot be the name of a network device"),
        ({"default": {"device": "e" * 16}}, "cannot be the name of a network device"),
        ({"default": {"device": "eth0", "hwaddr": "52:54:00:00:00:0g"}}, "is no hardware address"),
        ({"default": {"device": "eth0", "mtu": "9000\nx"}}, "mtu '9000\\nx' is no number"),
        ({"default": {"device": "eth0", "ipaddr6": "fd00::1", "prefixlen6": "129"}}, "prefixlen6 '129' is no number"),
        ({"default": {"device": "eth0", "ipaddr": "10.0.0.5"}}, "the address 10.0.0.5 has no netmask"),
        (
            {"ib": {"type": "infiniband", "hwaddr": "52:54:00:03:00:00:00:51"}},
            "no InfiniBand device can be found by '52:54:00:03:00:00:00:51' alone",
        ),
        ({"a": {"device": "eth0"}, "b": {"device": "eth0"}}, "the networks 'a' and 'b' are both of the device eth0"),
        ({"a": {"device": "eth0", "tags": {"master": "bond9"}}}, "its master 'bond9' is no bond of this node"),
        ({"a": {"device": "eth0", "tags": {"master": "b"}}, "b": {"device": "eth1"}}, "its master 'b' is no bond of this node"),
        ({"v": {"type": "vlan"}}, "network 'v': the VLAN has no number"),
        ({"v": {"type": "vlan", "tags": {"vlan_id": "5"}}}, "the VLAN has no parent device"),
        ({"v": {"type": "vlan", "tags": {"vlan_id": "5", "parent_device": "v"}}}, "the VLAN is its own parent device"),
        ({"v": {"type": "vlan", "device": "p.5"}, "p": {"hwaddr": "52:54:00:00:00:01"}}, "its parent 'p' has no device name"),
    ],
)
def test_what_makes_no_sense_is_a_sentence(networks: dict[str, Any], message: str) -> None:
    with pytest.raises(NetworkError) as raised:
        devices(node(**networks))
    assert raised.value.message.startswith("node n1: ")
    assert message in raised.value.message


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({"DNS1": HOSTILE}, "tag DNS1: 'x\\n[Route]\\nGateway=6.6.6.6' is no IP address"),
        ({"DNS1": "fe80::1%eth0"}, "tag DNS1: 'fe80::1%eth0' is no IP address"),
        ({"DNSSEARCH": "a\nb"}, "tag DNSSEARCH: 'a\\nb' is no domain"),
        ({"DNSSEARCH": "a..b"}, "is no domain"),
        ({"DNSSEARCH": "a]"}, "tag DNSSEARCH: 'a]' is no domain"),
        ({"DNSSEARCH": "$(reboot)"}, "is no domain"),
        ({"route1": "10.0.0.0/8;reboot,10.0.0.1"}, "tag route1: '10.0.0.0/8;reboot,10.0.0.1' is no route"),
        ({"route1": "10.0.0.0/8,fd00::1"}, "is no route"),
        ({"route1": "10.0.0.0/8,10.0.0.1,1,2"}, "is no route"),
        ({"route1": "10.0.0.0/8,10.0.0.1,x"}, "tag route1: 'x' is no number from 0 to 4294967295"),
        ({"route1": "default"}, "is no route"),
        ({"mode": "fastest"}, "tag mode: 'fastest' is no mode of a bond"),
        ({"miimon": "-1"}, "tag miimon: '-1' is no number"),
        ({"xmit_hash_policy": "layer9"}, "'layer9' is no hash policy of a bond"),
        ({"cloned-mac-address": "x"}, "tag cloned-mac-address: 'x' is no hardware address"),
        ({"ipv4_method": "guess"}, "tag ipv4_method: 'guess' is no way to get an address"),
        ({"ipv6_method": "guess"}, "tag ipv6_method: 'guess' is no way to get an address"),
        ({"master": "a b"}, "tag master: 'a b' is no network device"),
    ],
)
def test_hostile_and_mistaken_tags(tags: dict[str, str], message: str) -> None:
    networks: dict[str, Any] = {"bond0": {"type": "bond", **STATIC, "tags": tags}}
    with pytest.raises(NetworkError) as raised:
        devices(node(**networks))
    assert raised.value.message.startswith("node n1: network 'bond0': ")
    assert message in raised.value.message
    with pytest.raises(NetworkError):
        check_devices("node n1", node(**networks).network_devices)


@pytest.mark.parametrize("tags", [{"rack": "one\ntwo"}, {"route\nGateway=6.6.6.6": "10.0.0.0/8,10.0.0.1"}, {"a": "b\x85c"}])
def test_no_tag_may_be_set_to_several_lines(tags: dict[str, str]) -> None:
    with pytest.raises(NetworkError, match=r"network 'default': tag .* holds a line break"):
        check_devices("profile p", node(default={"tags": tags}).network_devices)


@pytest.mark.parametrize("tags", [{"cloned-mac-address": "stable"}, {"route1": "10.0.0.0/8"}, {"site": 'what [it] wants; "x"'}])
def test_tags_that_are_fine(tags: dict[str, str]) -> None:
    check_devices("node n1", node(default={"device": "eth0", "tags": tags}).network_devices)


def test_what_is_only_incomplete_may_be_set() -> None:
    networks: dict[str, Any] = {
        "v": {"type": "vlan"},
        "s": {"device": "eth0", "ipaddr": "10.0.0.5", "tags": {"master": "bond9"}},
    }
    check_devices("node n1", node(**networks).network_devices)


OVERLAYS = (
    "NetworkManager",
    "systemd.networkd",
    "ifupdown",
    "ifcfg",
    "netplan",
    "udev.netname",
    "systemd.netname",
    "resolv",
    "wicked",
)


@pytest.mark.parametrize("overlay", OVERLAYS)
@pytest.mark.parametrize(
    "networks",
    [
        {HOSTILE: {"device": "eth0"}},
        {"default": {"device": HOSTILE}},
        {"default": {"device": "eth0", "tags": {"DNS1": HOSTILE}}},
        {"default": {"device": "eth0", "tags": {"DNSSEARCH": HOSTILE}}},
        {"default": {"device": "eth0", "hwaddr": f"52:54:00:00:00:01{HOSTILE}"}},
    ],
)
def test_no_template_writes_a_hostile_value(overlay: str, networks: dict[str, Any]) -> None:
    context = RenderContext(node=node(**networks), nodes=[], server=SERVER)
    with pytest.raises(OverlayError, match=r"\.j2:[0-9]+: node n1: network .* \(node n1\)") as raised:
        render_items([load(overlay, [shipped()])], context)
    assert raised.value.hint


def test_the_hosts_file_leaves_out_what_would_spoil_it() -> None:
    bad = node("ok", **{HOSTILE: {"device": "eth0\n6.6.6.6 bank", **STATIC}, "ok": {"device": "eth1", **STATIC}})
    assert list(host_names([bad])) == [(IPv4Address("10.0.0.5"), "n1 n1-ok n1-eth1")]


def test_names_of_hosts() -> None:
    found = node("b", a={"device": "a", **STATIC}, b={"ipaddr6": "fd00::5"}, c={"device": "eth2"})
    assert list(host_names([found])) == [(IPv4Address("10.0.0.5"), "n1-a"), (IPv6Address("fd00::5"), "n1 n1-b")]


def test_debian_interfaces_is_ifupdown() -> None:
    assert load("debian.interfaces", [shipped()]).items == load("ifupdown", [shipped()]).items
