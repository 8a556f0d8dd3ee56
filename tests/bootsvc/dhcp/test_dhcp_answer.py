"""Whole request → whole reply, for every state of RFC 2131 §4.3 and every kind of client."""

import dataclasses
from ipaddress import IPv4Address, IPv4Network
from typing import Any

import pytest
from msgspec.structs import replace

from bootsvc.dhcp import options
from bootsvc.dhcp.answer import Reply, answer
from bootsvc.dhcp.leases import Lease, LeaseState
from bootsvc.dhcp.options import Message
from bootsvc.dhcp.packet import Op, Packet
from bootsvc.dhcp.request import BootRequest, Client
from bootsvc.dhcp.settings import DhcpConfig
from bootsvc.dhcp.site import Site
from bootsvc.errors import Ignored
from netboot.node import Node, to_node
from netboot.urls import Urls

SERVER = IPv4Address("10.0.0.1")
OURS = IPv4Address("10.0.0.7")
RELAY = IPv4Address("10.0.0.254")
ZERO = IPv4Address(0)
CHADDR = bytes.fromhex("5254000000aa")
HWADDR = "52:54:00:00:00:aa"
SITE = Site(
    server=SERVER,
    network=IPv4Network("10.0.0.0/24"),
    urls=Urls(address=SERVER, port=9873),
    dhcp=DhcpConfig(router=IPv4Address("10.0.0.254"), dns=(IPv4Address("10.0.0.2"),)),
)
USED_UP = dataclasses.replace(SITE, dhcp=DhcpConfig(range_start=OURS, range_end=OURS))
RESERVED = Lease(address=OURS, hwaddr=HWADDR, state=LeaseState.RESERVED)
OFFERED = Lease(address=OURS, hwaddr=HWADDR, expires=60, state=LeaseState.OFFERED)
URL = "http://10.0.0.1:9873/ipxe/52-54-00-00-00-aa?assetkey=${asset:uristring}&uuid=${uuid}"


def node() -> Node:
    return to_node("n1", {"network devices": {"default": {"hwaddr": HWADDR, "ipaddr": str(OURS)}}})


def asking(message: Message = Message.DISCOVER, client: Client = Client.OS, **fields: Any) -> BootRequest:
    base = BootRequest(
        message=message, hwaddr=HWADDR, xid=0x1234, client=client, interface="eth1", chaddr=CHADDR, max_message_size=1472
    )
    return replace(base, **fields)


def replied(request: BootRequest, lease: Lease | None = RESERVED, site: Site = SITE, known: bool = True) -> Reply:
    reply = answer(request, node() if known else None, lease, site)
    assert isinstance(reply, Reply), reply
    return reply


def head(message: Message) -> list[tuple[int, bytes]]:
    return [
        options.MESSAGE_TYPE.pair(message),
        options.SERVER_ID.pair(SERVER),
        options.LEASE_TIME.pair(3600),
        options.RENEWAL_TIME.pair(1800),
        options.REBINDING_TIME.pair(3150),
        options.SUBNET_MASK.pair(IPv4Address("255.255.255.0")),
    ]


TAIL = [
    options.ROUTER.pair((RELAY,)),
    options.DOMAIN_NAME_SERVER.pair((IPv4Address("10.0.0.2"),)),
    options.BROADCAST_ADDRESS.pair(IPv4Address("10.0.0.255")),
    options.HOST_NAME.pair("n1"),
]


@pytest.mark.parametrize("address", ["10.0.0.1", "10.0.0.0", "10.0.0.255"])
@pytest.mark.parametrize("message", [Message.DISCOVER, Message.REQUEST])
def test_a_reservation_that_no_machine_can_have_is_not_given(address: str, message: Message) -> None:
    lease = replace(RESERVED, address=IPv4Address(address))
    request = asking(message, server_id=SERVER, requested=lease.address)
    own, edge = f"{address} is this server's own address", f"{address} is an address that no machine in 10.0.0.0/24 can have"
    assert answer(request, node(), lease, SITE) == Ignored(own if lease.address == SERVER else edge)


def test_discover_of_an_operating_system() -> None:
    assert replied(asking()) == Reply(
        packet=Packet(op=Op.BOOTREPLY, xid=0x1234, yiaddr=OURS, chaddr=CHADDR, options=dict(head(Message.OFFER) + TAIL)),
        message=Message.OFFER,
        destination=OURS,
        chaddr=CHADDR,
    )


def test_discover_of_ipxe() -> None:
    boot = [options.BOOTFILE_NAME.pair(URL), (175, bytes([176, 1, 1]))]
    assert replied(asking(client=Client.IPXE)) == Reply(
        packet=Packet(
            op=Op.BOOTREPLY,
            xid=0x1234,
            yiaddr=OURS,
            siaddr=SERVER,
            chaddr=CHADDR,
            file=URL.encode(),
            options=dict(head(Message.OFFER) + boot + TAIL),
        ),
        message=Message.OFFER,
        destination=OURS,
        chaddr=CHADDR,
        boot_file=URL,
    )


@pytest.mark.parametrize(
    ("arch", "loader"), [(0, "undionly.kpxe"), (None, "undionly.kpxe"), (7, "snponly.efi"), (9, "snponly.efi")]
)
def test_discover_of_firmware(arch: int | None, loader: str) -> None:
    boot = [
        (60, b"PXEClient"),
        (43, bytes([6, 1, 8, 255])),
        (66, b"10.0.0.1"),
        (67, loader.encode()),
    ]
    assert replied(asking(client=Client.PXE, client_arch=arch, flags=0x8000)) == Reply(
        packet=Packet(
            op=Op.BOOTREPLY,
            xid=0x1234,
            flags=0x8000,
            yiaddr=OURS,
            siaddr=SERVER,
            chaddr=CHADDR,
            file=loader.encode(),
            options=dict(head(Message.OFFER) + boot + TAIL),
        ),
        message=Message.OFFER,
        destination=IPv4Address("255.255.255.255"),
        boot_file=loader,
    )


def test_configured_loaders_replace_ours() -> None:
    site = dataclasses.replace(SITE, loaders={"00:07": "ipxe.efi"})
    assert replied(asking(client=Client.PXE, client_arch=7), site=site).boot_file == "ipxe.efi"
    assert replied(asking(client=Client.PXE, client_arch=0), site=site).boot_file == ""


@pytest.mark.parametrize(("client", "arch"), [(Client.PXE, 2), (Client.HTTP, 0x20)])
def test_an_architecture_without_loader_gets_an_address_and_a_note(client: Client, arch: int) -> None:
    reply = replied(asking(client=client, client_arch=arch))
    assert f"client architecture {arch:#04x}" in reply.note
    assert (reply.boot_file, reply.packet.file, reply.packet.siaddr) == ("", b"", ZERO)
    assert reply.packet.options == dict(head(Message.OFFER) + TAIL)


def test_an_unknown_machine_boots_from_the_range() -> None:
    reply = replied(asking(client=Client.IPXE), OFFERED, known=False)
    assert reply.boot_file == SITE.urls.discover(HWADDR)
    assert options.HOST_NAME.code not in reply.packet.options
    assert reply.bind is None, "an offer is not saved"


@pytest.mark.parametrize(
    ("site", "known", "giaddr", "reason"),
    [
        (SITE, False, ZERO, "no node has hwaddr 52:54:00:00:00:aa, and no range is configured"),
        (
            dataclasses.replace(SITE, dhcp=DhcpConfig(range_start=OURS, range_end=OURS)),
            False,
            ZERO,
            "the range 10.0.0.7-10.0.0.7 is used up",
        ),
        (SITE, True, ZERO, "node n1 has no address here"),
        (SITE, True, IPv4Address("10.9.9.9"), "relay 10.9.9.9 is on another network"),
    ],
)
def test_no_address(site: Site, known: bool, giaddr: IPv4Address, reason: str) -> None:
    ignored = answer(asking(giaddr=giaddr), node() if known else None, None, site)
    assert isinstance(ignored, Ignored)
    assert reason in ignored.reason


SELECTING = {"server_id": SERVER, "requested": OURS}
INIT_REBOOT = {"requested": OURS}
RENEWING = {"ciaddr": OURS, "unicast": True}
REBINDING = {"ciaddr": OURS}


@pytest.mark.parametrize("fields", [SELECTING, INIT_REBOOT, RENEWING, REBINDING])
@pytest.mark.parametrize("lease", [RESERVED, OFFERED])
def test_request_for_its_own_address(fields: dict[str, Any], lease: Lease) -> None:
    reply = replied(asking(Message.REQUEST, **fields), lease)
    ciaddr = fields.get("ciaddr", ZERO)
    assert isinstance(ciaddr, IPv4Address)
    assert reply == Reply(
        packet=Packet(
            op=Op.BOOTREPLY,
            xid=0x1234,
            ciaddr=ciaddr,
            yiaddr=OURS,
            chaddr=CHADDR,
            options=dict(head(Message.ACK) + TAIL),
        ),
        message=Message.ACK,
        destination=OURS,
        chaddr=None if int(ciaddr) else CHADDR,
        bind=None if lease is RESERVED else OFFERED,
    )


OTHER = IPv4Address("10.0.0.99")


@pytest.mark.parametrize(
    "fields",
    [
        {**SELECTING, "requested": OTHER},
        {"requested": OTHER},
        {"ciaddr": OTHER, "unicast": True},
        {"ciaddr": OTHER},
        {"requested": IPv4Address("192.168.1.1")},
    ],
)
def test_request_for_another_address_is_refused(fields: dict[str, Any]) -> None:
    reply = replied(asking(Message.REQUEST, **fields))
    wanted = fields.get("ciaddr") or fields["requested"]
    why = f"{wanted} is not yours; 10.0.0.7 is"
    assert reply == Reply(
        packet=Packet(
            op=Op.BOOTREPLY,
            xid=0x1234,
            chaddr=CHADDR,
            options={53: b"\x06", 54: SERVER.packed, 56: why.encode()},
        ),
        message=Message.NAK,
        destination=IPv4Address("255.255.255.255"),
        note=why,
    )


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        (SELECTING, "NAK"),
        (RENEWING, "NAK"),
        (INIT_REBOOT, "silence"),
        (REBINDING, "silence"),
        ({"requested": IPv4Address("192.168.1.1")}, "NAK"),
        ({"ciaddr": IPv4Address("192.168.1.1")}, "NAK"),
        ({"requested": IPv4Address("192.168.1.1"), "giaddr": RELAY}, "silence"),
    ],
)
def test_request_of_a_machine_without_record(fields: dict[str, Any], expected: str) -> None:
    reply = answer(asking(Message.REQUEST, **fields), None, None, SITE)
    assert ("silence" if isinstance(reply, Ignored) else reply.message.name) == expected


def test_request_to_another_server_is_ignored() -> None:
    reply = answer(asking(Message.REQUEST, server_id=OTHER, requested=OURS), node(), RESERVED, SITE)
    assert reply == Ignored("the client chose server 10.0.0.99")


@pytest.mark.parametrize("message", [Message.RELEASE, Message.DECLINE, Message.OFFER, Message.ACK, Message.NAK])
def test_messages_without_a_reply(message: Message) -> None:
    assert isinstance(answer(asking(message, ciaddr=OURS), node(), RESERVED, SITE), Ignored)


def test_inform() -> None:
    """RFC 2131 §4.3.5: no address, no times, and to ciaddr."""
    mask = [options.MESSAGE_TYPE.pair(Message.ACK), options.SERVER_ID.pair(SERVER), (1, bytes([255, 255, 255, 0]))]
    assert replied(asking(Message.INFORM, ciaddr=OTHER)) == Reply(
        packet=Packet(op=Op.BOOTREPLY, xid=0x1234, ciaddr=OTHER, chaddr=CHADDR, options=dict(mask + TAIL)),
        message=Message.ACK,
        destination=OTHER,
    )
    stranger = answer(asking(Message.INFORM, ciaddr=IPv4Address("8.8.8.8")), node(), RESERVED, SITE)
    assert isinstance(stranger, Ignored)


def test_a_relayed_request_goes_back_to_its_relay() -> None:
    reply = replied(asking(giaddr=RELAY, relay_agent=b"\x01\x02ab", client_id=b"\x01id", flags=0x8000))
    assert (reply.destination, reply.port, reply.chaddr) == (RELAY, 67, None)
    assert reply.packet.giaddr == RELAY
    assert list(reply.packet.options)[-2:] == [61, 82], "RFC 3046: the relay's option is the last"
    refused = replied(asking(Message.REQUEST, giaddr=RELAY, requested=OTHER))
    assert (refused.destination, refused.port) == (RELAY, 67)
    assert refused.packet.flags == 0x8000, "so that the relay broadcasts it"


def test_a_reservation_behind_a_relay_has_its_own_mask_and_gateway() -> None:
    far = Lease(
        address=IPv4Address("10.5.0.7"),
        hwaddr=HWADDR,
        state=LeaseState.RESERVED,
        network=IPv4Network("10.5.0.0/16"),
        gateway=IPv4Address("10.5.0.254"),
    )
    found = replied(asking(giaddr=IPv4Address("10.5.0.254")), far).packet.options
    assert options.SUBNET_MASK.find(found) == IPv4Address("255.255.0.0")
    assert options.ROUTER.find(found) == (IPv4Address("10.5.0.254"),)
    without = replied(asking(giaddr=IPv4Address("10.5.0.254")), replace(far, gateway=None)).packet.options
    assert options.ROUTER.code not in without, "the site's router is not on that network"


def test_the_mtu_is_the_nodes_own_else_the_networks() -> None:
    site = dataclasses.replace(SITE, dhcp=dataclasses.replace(SITE.dhcp, mtu=9000))
    asked, own = asking(parameters=(26, 3)), replace(RESERVED, mtu=1400)
    for lease, expected in ((RESERVED, 9000), (own, 1400), (RESERVED, 9000), (replace(own, mtu=2000), 2000), (OFFERED, 9000)):
        found = replied(asked, lease, site).packet.options
        assert options.INTERFACE_MTU.find(found) == expected, "what one machine is told is not said to the next"
        assert list(found)[-2:] == [26, 3], "in the order asked"
    assert options.INTERFACE_MTU.code not in replied(asking(parameters=(3,)), own, site).packet.options
    assert options.INTERFACE_MTU.code not in replied(asked).packet.options
    assert options.INTERFACE_MTU.find(replied(asked, own).packet.options) == 1400
    elsewhere = replace(own, network=IPv4Network("10.5.0.0/16"), address=IPv4Address("10.5.0.7"))
    relayed = asking(parameters=(26, 3), giaddr=IPv4Address("10.5.0.254"))
    assert options.INTERFACE_MTU.find(replied(relayed, elsewhere, site).packet.options) == 1400
    found = replied(relayed, replace(elsewhere, mtu=None), site).packet.options
    assert options.INTERFACE_MTU.code not in found, "9000 is not said of another network"


def test_a_reply_to_an_address_elsewhere_is_not_sent_there() -> None:
    assert replied(asking(ciaddr=IPv4Address("8.8.8.8"))).destination == OURS


def test_parameter_list_is_honoured_and_ordered() -> None:
    found = replied(asking(client=Client.PXE, client_arch=7, parameters=(12, 3, 66, 200, 12))).packet.options
    assert list(found) == [53, 54, 51, 58, 59, 1, 60, 43, 66, 67, 12, 3]


def test_the_message_fits_the_size_that_the_client_takes() -> None:
    dns = tuple(IPv4Address(number) for number in range(1, 20))
    search = ("a-long-domain-name-of-some-site.example.org", "another-long-domain-name-of-it.example.org")
    site = dataclasses.replace(SITE, dhcp=dataclasses.replace(SITE.dhcp, dns=dns, search=search))
    request = asking(client=Client.IPXE, max_message_size=576, client_id=bytes(170))
    packet = replied(request, site=site).packet
    data = packet.serialize()
    assert len(data) <= 576 - 28
    assert options.DOMAIN_NAME_SERVER.code in packet.sname_options, "what does not fit goes on in sname"
    assert packet.file, "the file name stays in its field"
    parsed = Packet.parse(data)
    assert options.BOOTFILE_NAME.find(parsed.options) == URL
    assert options.DOMAIN_SEARCH.code not in parsed.options, "and what has no room there is left out"
    assert options.BROADCAST_ADDRESS.code in parsed.options, "though a shorter one after it is not"


def test_an_operating_system_gets_what_does_not_fit_in_both_header_fields() -> None:
    dns = tuple(IPv4Address(number) for number in range(1, 9))
    search = tuple(f"domain-{number}.example.org" for number in range(4))
    site = dataclasses.replace(SITE, dhcp=dataclasses.replace(SITE.dhcp, dns=dns, search=search))
    packet = replied(asking(max_message_size=576, client_id=bytes(250), parameters=(3, 6, 119, 12)), site=site).packet
    parsed = Packet.parse(packet.serialize())
    assert options.DOMAIN_SEARCH.find(packet.file_options) == search
    assert options.DOMAIN_NAME_SERVER.find(parsed.options) == dns
    assert options.DOMAIN_SEARCH.find(parsed.options) == search
    assert options.HOST_NAME.find(parsed.options) == "n1"


def test_a_url_too_long_for_the_file_field_stands_in_the_option_alone() -> None:
    site = dataclasses.replace(SITE, urls=Urls(address=IPv4Address("192.168.200.100"), port=65535))
    url = site.urls.ipxe(HWADDR)
    reply = replied(asking(client=Client.IPXE), site=site)
    assert reply.packet.file == (url.encode() if len(url) < 128 else b"")
    assert options.BOOTFILE_NAME.find(reply.packet.options) == url


def test_without_router_none_is_told() -> None:
    site = dataclasses.replace(SITE, dhcp=DhcpConfig())
    found = replied(asking(), site=site).packet.options
    assert options.ROUTER.code not in found
    assert options.DOMAIN_NAME_SERVER.code not in found
