"""Which network a request is about; where replies may go; the proxy's answers; other servers; what is said once."""

import dataclasses
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest

from bootsvc.config import Config
from bootsvc.dhcp import options
from bootsvc.dhcp.answer import Reply, answer
from bootsvc.dhcp.complaints import MAX_REMEMBERED, Once
from bootsvc.dhcp.layout import by_interface, served
from bootsvc.dhcp.leases import Lease, LeaseState
from bootsvc.dhcp.networks import Networks
from bootsvc.dhcp.options import Message
from bootsvc.dhcp.options_field import find_field
from bootsvc.dhcp.packet import Op, Packet
from bootsvc.dhcp.proxy import proxy_answer
from bootsvc.dhcp.request import BootRequest, Client
from bootsvc.dhcp.rivals import Rival, find_rival, probe
from bootsvc.dhcp.settings import DhcpConfig, Mode, Subnet, Unknown
from bootsvc.dhcp.site import Site
from bootsvc.errors import Ignored
from bootsvc.net.links import Link
from netboot.node import Node, to_node

HWADDR, CHADDR = "52:54:00:00:00:aa", bytes.fromhex("5254000000aa")
ZERO, BROADCAST = IPv4Address(0), IPv4Address("255.255.255.255")
BOOT = Link(name="eth1", index=2, hwaddr="", address=IPv4Address("10.0.0.1"), network=IPv4Network("10.0.0.0/24"))
SECOND = Link(name="eth2", index=3, hwaddr="", address=IPv4Address("10.1.0.1"), network=IPv4Network("10.1.0.0/24"))
SHARED = Link(name="eth1", index=2, hwaddr="", address=IPv4Address("10.2.0.1"), network=IPv4Network("10.2.0.0/24"))
OUTSIDE = Link(name="eth0", index=1, hwaddr="", address=IPv4Address("192.0.2.9"), network=IPv4Network("192.0.2.0/24"))
LINKS = [OUTSIDE, BOOT, SECOND, SHARED]


def subnet(network: str) -> Subnet:
    inside = IPv4Network(network)
    return Subnet(network=inside, range_start=inside[100], range_end=inside[110], router=inside[254])


DHCP = DhcpConfig(
    range_start=IPv4Address("10.0.0.100"),
    range_end=IPv4Address("10.0.0.110"),
    router=IPv4Address("10.0.0.254"),
    subnets=tuple(subnet(network) for network in ("10.1.0.0/24", "10.2.0.0/24", "10.9.0.0/24")),
)
CONFIG = Config(ipaddr=BOOT.address, network=BOOT.network, dhcp=DHCP)


def networks() -> Networks:
    made = Networks(lambda address: False)
    wires = list(by_interface(CONFIG, BOOT, LINKS).values())
    made.update(served(CONFIG, wires, frozenset(link.address for link in LINKS)))
    return made


def asking(message: Message = Message.DISCOVER, **fields: Any) -> BootRequest:
    return BootRequest(message=message, hwaddr=HWADDR, xid=1, chaddr=CHADDR, interface="eth1", **fields)


def node(ipaddr: str) -> Node:
    return to_node("n1", {"network devices": {"default": {"hwaddr": HWADDR, "ipaddr": ipaddr}}})


def test_only_interfaces_with_a_network_of_ours_are_served() -> None:
    assert by_interface(CONFIG, BOOT, LINKS) == {2: [BOOT, SHARED], 3: [SECOND]}


def test_each_network_has_its_own_mtu() -> None:
    site = dataclasses.replace(site_of(asking()), dhcp=DhcpConfig(mtu=1400))
    assert options.INTERFACE_MTU.find(dict(site.wishes)) == 1400
    inside = IPv4Network("10.1.0.0/24")
    for subnet, mtu in ((Subnet(network=inside, mtu=9000), 9000), (Subnet(network=inside), None)):
        assert options.INTERFACE_MTU.find(dict(site.on(subnet).wishes)) == mtu


def test_each_network_is_told_our_dns_on_it() -> None:
    boot, second, stranger = BOOT.address, SECOND.address, IPv4Address("192.0.2.53")
    own = dataclasses.replace(DHCP.subnets[1], dns=(stranger,))
    dhcp = dataclasses.replace(DHCP, subnets=(DHCP.subnets[0], own, DHCP.subnets[2]))
    told = dhcp.with_dns(boot, {boot, second, SHARED.address})
    assert told.dns == (boot,)
    assert [subnet.dns for subnet in told.subnets] == [(second,), (stranger,), ()], "the last is behind a relay"
    site = dataclasses.replace(site_of(asking()), dhcp=told)
    assert [site.on(subnet).dhcp.dns for subnet in told.subnets] == [(second,), (stranger,), (boot,)]
    assert dhcp.with_dns(boot, {second}) is dhcp, "the boot network's is not answered"
    named = dataclasses.replace(dhcp, dns=(stranger,))
    assert named.with_dns(boot, {boot, second}) is named


RELAY_9 = IPv4Address("10.9.0.254")
LINK_SELECTION = bytes([5, 4]) + IPv4Address("10.9.0.0").packed


@pytest.mark.parametrize(
    ("ifindex", "fields", "ipaddr", "network", "server"),
    [
        (2, {}, None, "10.0.0.0/24", "10.0.0.1"),
        (3, {}, None, "10.1.0.0/24", "10.1.0.1"),
        # Two networks on one wire: the node's own.
        (2, {}, "10.2.0.7", "10.2.0.0/24", "10.2.0.1"),
        (2, {"giaddr": RELAY_9}, None, "10.9.0.0/24", "10.0.0.1"),
        (3, {"giaddr": RELAY_9}, None, "10.9.0.0/24", "10.1.0.1"),
        # RFC 3527: giaddr is only where the relay can be reached.
        (2, {"giaddr": IPv4Address("10.0.0.254"), "relay_agent": LINK_SELECTION}, None, "10.9.0.0/24", "10.0.0.1"),
        # Behind a relay a client renews by itself.
        (2, {"ciaddr": IPv4Address("10.9.0.100"), "unicast": True}, None, "10.9.0.0/24", "10.0.0.1"),
    ],
)
def test_find_site(ifindex: int, fields: dict[str, Any], ipaddr: str | None, network: str, server: str) -> None:
    site = networks().find_site(asking(**fields), ifindex, None if ipaddr is None else node(ipaddr))
    assert site is not None
    assert (site.network, site.server) == (IPv4Network(network), IPv4Address(server))
    assert site.dhcp.router == site.network[254]


def test_an_interface_that_is_not_served_has_no_site() -> None:
    assert networks().find_site(asking(), OUTSIDE.index, None) is None


def test_leases_stay_with_their_network_and_machines_are_found_by_address() -> None:
    made = networks()
    made.load([Lease(address=IPv4Address("10.9.0.105"), hwaddr=HWADDR, expires=1e12)], 0)
    made.update({})
    lease = networks().table("10.9.0.0/24").offer(HWADDR, None, 0)
    assert lease is not None
    assert str(lease.address) == "10.9.0.100"
    with_saved = Networks(lambda address: False)
    with_saved.load([Lease(address=IPv4Address("10.9.0.105"), hwaddr=HWADDR, expires=1e12)], 0)
    with_saved.update(served(CONFIG, [[BOOT]], frozenset([BOOT.address])))
    assert with_saved.find_hwaddr(IPv4Address("10.9.0.105")) == HWADDR
    assert with_saved.find_hwaddr(IPv4Address("10.8.0.1")) is None


def test_leases_outlast_a_change_of_the_netmask() -> None:
    made = networks()
    lease = made.table("10.9.0.0/24").offer(HWADDR, None, 0)
    assert lease is not None
    made.table("10.9.0.0/24").bind(lease, 600, 0)
    wider = dataclasses.replace(CONFIG, dhcp=dataclasses.replace(DHCP, subnets=(subnet("10.9.0.0/23"),)))
    made.update(served(wider, [[BOOT]], frozenset([BOOT.address])))
    other = made.table("10.9.0.0/23").offer("52:54:00:00:00:bb", lease.address, 1)
    assert other is not None
    assert other.address != lease.address, "no address is given twice"
    assert made.find_hwaddr(other.address) == "52:54:00:00:00:bb"


def site_of(request: BootRequest) -> Site:
    site = networks().find_site(request, 2, None)
    assert site is not None
    return site


LEASE = Lease(address=IPv4Address("10.0.0.100"), hwaddr=HWADDR, state=LeaseState.OFFERED)


@pytest.mark.parametrize(
    ("message", "fields"),
    [
        # A relay in a stranger's network, or that is us, or a whole network.
        (Message.DISCOVER, {"giaddr": IPv4Address("198.51.100.1")}),
        (Message.DISCOVER, {"giaddr": IPv4Address("10.0.0.255")}),
        (Message.DISCOVER, {"giaddr": IPv4Address("10.0.0.1")}),
        (Message.REQUEST, {"giaddr": IPv4Address("198.51.100.1"), "server_id": IPv4Address("10.0.0.1"), "requested": ZERO}),
        (Message.INFORM, {"giaddr": IPv4Address("198.51.100.1"), "ciaddr": IPv4Address("10.0.0.9")}),
        (Message.INFORM, {"ciaddr": IPv4Address("198.51.100.1")}),
        (Message.INFORM, {"ciaddr": IPv4Address("10.0.0.255")}),
        (Message.INFORM, {"ciaddr": BROADCAST}),
        (Message.INFORM, {"ciaddr": ZERO}),
    ],
)
def test_nothing_goes_to_a_network_that_is_not_ours(message: Message, fields: dict[str, object]) -> None:
    request = asking(message, **fields)
    assert isinstance(answer(request, None, LEASE, site_of(request)), Ignored)


def test_unknown_machines_are_ignored_where_that_is_wanted() -> None:
    ignoring = Site(
        server=BOOT.address, network=BOOT.network, urls=site_of(asking()).urls, dhcp=DhcpConfig(unknown=Unknown.IGNORE)
    )
    for message in (Message.DISCOVER, Message.REQUEST, Message.INFORM):
        request = asking(message, ciaddr=LEASE.address)
        assert isinstance(answer(request, None, LEASE, ignoring), Ignored)
        assert isinstance(answer(request, node("10.0.0.100"), LEASE, ignoring), Reply)


PROXY = Site(server=BOOT.address, network=BOOT.network, urls=site_of(asking()).urls, dhcp=DhcpConfig(mode=Mode.PROXY))


def test_the_proxy_offers_a_boot_file_and_no_address() -> None:
    reply = proxy_answer(asking(client=Client.PXE, client_arch=7), node("10.0.0.7"), PROXY)
    assert isinstance(reply, Reply)
    assert (reply.destination, reply.port, reply.boot_file) == (BROADCAST, 68, "snponly.efi")
    assert (reply.packet.yiaddr, reply.packet.siaddr, reply.packet.file) == (ZERO, BOOT.address, b"snponly.efi")
    assert options.VENDOR_CLASS.find(reply.packet.options) == "PXEClient"
    assert options.LEASE_TIME.code not in reply.packet.options


def test_the_proxy_gives_ipxe_its_script_and_http_boot_its_url() -> None:
    script = proxy_answer(asking(client=Client.IPXE), node("10.0.0.7"), PROXY)
    http = proxy_answer(asking(client=Client.HTTP, client_arch=16), node("10.0.0.7"), PROXY)
    assert isinstance(script, Reply)
    assert isinstance(http, Reply)
    assert script.boot_file == PROXY.urls.ipxe(HWADDR)
    assert options.VENDOR_CLASS.find(script.packet.options) == "PXEClient"
    assert http.boot_file == PROXY.urls.efiboot("snponly.efi")
    assert options.VENDOR_CLASS.find(http.packet.options) == "HTTPClient"


def test_port_4011_answers_who_asks_and_says_the_boot_item_again() -> None:
    request = asking(Message.REQUEST, client=Client.PXE, client_arch=0, boot_item=b"\0\0\0\0", ciaddr=IPv4Address("10.0.0.60"))
    reply = proxy_answer(request, None, PROXY, (IPv4Address("10.0.0.60"), 4011))
    assert isinstance(reply, Reply)
    assert (reply.message, reply.destination, reply.port) == (Message.ACK, IPv4Address("10.0.0.60"), 4011)
    vendor = reply.packet.options[options.VENDOR_SPECIFIC.code]
    assert find_field(vendor, options.PXE_BOOT_ITEM) == b"\0\0\0\0"
    assert isinstance(proxy_answer(request, None, PROXY, (IPv4Address("198.51.100.1"), 4011)), Ignored)


@pytest.mark.parametrize(
    "request_",
    [
        asking(),
        asking(Message.REQUEST, client=Client.PXE),
        asking(client=Client.PXE, client_arch=2),
        asking(client=Client.PXE, client_arch=0, giaddr=IPv4Address("198.51.100.1")),
    ],
)
def test_the_proxy_is_silent(request_: BootRequest) -> None:
    assert isinstance(proxy_answer(request_, node("10.0.0.7"), PROXY), Ignored)


def offer(**fields: object) -> bytes:
    pairs = [options.MESSAGE_TYPE.pair(Message.OFFER), options.SERVER_ID.pair(IPv4Address("10.0.0.5"))]
    base: dict[str, object] = {"op": Op.BOOTREPLY, "yiaddr": IPv4Address("10.0.0.77"), "options": dict(pairs)}
    return Packet(**{**base, **fields}).serialize()  # type: ignore[arg-type]  # a test's short hand


def test_another_servers_answer_tells_of_it() -> None:
    source, own = IPv4Address("10.0.0.5"), frozenset([BOOT.address])
    assert find_rival(offer(), source, own) == Rival(source, Message.OFFER, IPv4Address("10.0.0.77"))
    assert find_rival(offer(), source, frozenset([source])) is None, "our own"
    assert find_rival(offer(op=Op.BOOTREQUEST), source, own) is None
    assert find_rival(offer(giaddr=IPv4Address("10.3.0.1")), source, own) is None, "of another network"
    assert find_rival(offer()[:100], source, own) is None
    asked = Packet.parse(probe(CHADDR, 5).serialize())
    assert options.MESSAGE_TYPE.find(asked.options) is Message.DISCOVER
    assert asked.flags == 0x8000, "so that the answer is heard"


def test_once() -> None:
    said = Once(again=60)
    assert [said.first("a", now) for now in (0, 1, 59, 60, 61)] == [True, False, False, True, False]
    for number in range(2 * MAX_REMEMBERED):
        said.first(number, 100)
    assert said.first("a", 101), "forgotten, as the oldest"
