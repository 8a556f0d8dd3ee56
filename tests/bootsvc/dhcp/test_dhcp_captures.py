"""What real firmware, loaders and clients sent, through the whole decision: the reply is the one that they accepted."""

import json
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest
from captured import Conversation, Exchange, Sent, load_conversations
from msgspec.structs import fields
from scapy.layers.dhcp import BOOTP, DHCP, DHCPOptionsField

from bootsvc.config import Config
from bootsvc.dhcp import options
from bootsvc.dhcp.answer import Reply, answer
from bootsvc.dhcp.layout import served
from bootsvc.dhcp.leases import lease_for
from bootsvc.dhcp.networks import Networks
from bootsvc.dhcp.options import Message, Option
from bootsvc.dhcp.packet import Packet
from bootsvc.dhcp.proxy import PROXY_PORT, proxy_answer
from bootsvc.dhcp.request import Arrival, BootRequest, Client
from bootsvc.dhcp.reservations import reservation
from bootsvc.dhcp.settings import Mode
from bootsvc.errors import Ignored, MalformedPacket
from bootsvc.net.links import Link
from netboot.node import to_node

CONVERSATIONS = load_conversations(Path(__file__).parent / "captures")
HEAD, BROADCAST = IPv4Address("10.77.0.1"), IPv4Address("255.255.255.255")
LINK = Link(name="br0", index=2, hwaddr="02:00:00:00:00:01", address=HEAD, network=IPv4Network("10.77.0.0/24"))
NOW = 1_800_000_000.0
NESTED = (options.PXE_DISCOVERY_CONTROL, options.PXE_BOOT_ITEM, options.LINK_SELECTION, options.IPXE_NO_PXEDHCP)
BY_CODE = {row.code: row for row in vars(options).values() if isinstance(row, Option) and row not in NESTED}
every_conversation = pytest.mark.parametrize("conversation", CONVERSATIONS, ids=lambda each: each.name)


class Server:
    """The lab's head node: its configuration, the conversation's node, and what was leased since the beginning."""

    def __init__(self, conversation: Conversation, folder: Path) -> None:
        conf = folder / "warewulf.conf"
        conf.write_text(json.dumps(conversation.conf))
        config = Config.load(conf)
        # As the server says while it serves DNS, too.
        config = replace(config, dhcp=replace(config.dhcp, dns=(HEAD,)))
        device = {"hwaddr": conversation.hwaddr, "ipaddr": str(conversation.address.ip)}
        netmask = str(conversation.address.netmask)
        self._node = to_node(conversation.node, {"network devices": {"default": {**device, "netmask": netmask}}})
        self._networks = Networks(lambda address: address == conversation.address.ip)
        self._networks.update(served(config, [[LINK]], frozenset([HEAD])))

    def decide(self, request: BootRequest, exchange: Exchange) -> Reply | Ignored:
        node = self._node if exchange.known else None
        site = self._networks.find_site(request, LINK.index, node)
        assert site is not None
        if exchange.request.destination[1] == PROXY_PORT:
            return proxy_answer(request, node, site, exchange.request.source)
        if site.dhcp.mode is Mode.PROXY:
            return proxy_answer(request, node, site)
        table = self._networks.table(site.name)
        if request.message is Message.RELEASE:
            table.release(request.hwaddr, request.ciaddr, NOW)
        if request.message is Message.DECLINE and request.requested is not None:
            table.decline(request.hwaddr, request.requested, NOW)
        reserved = None if node is None else reservation(node, request.hwaddr, site.network)
        lease = lease_for(request, reserved, table, site.network, NOW)
        reply = answer(request, node, lease, site)
        if isinstance(reply, Reply) and reply.bind is not None:
            table.bind(reply.bind, site.dhcp.lease_seconds, NOW)
        return reply


def request_of(sent: Sent) -> BootRequest:
    """As it arrived on the head node's bridge."""
    arrival = Arrival(interface=LINK.name, unicast=sent.destination[0] == HEAD)
    request = BootRequest.parse(sent.data, arrival)
    assert isinstance(request, BootRequest), request
    return request


def replay(conversation: Conversation, folder: Path) -> Iterator[tuple[Exchange, BootRequest, Reply | Ignored]]:
    server = Server(conversation, folder)
    for exchange in conversation.exchanges:
        request = request_of(exchange.request)
        yield exchange, request, server.decide(request, exchange)


@every_conversation
def test_the_replies_are_those_of_the_golden_file(
    conversation: Conversation, tmp_path: Path, golden: Callable[[Path, str], None]
) -> None:
    blocks = [
        "\n".join([f"# {exchange.request.title}", *_understood(request), *_decided(reply)])
        for exchange, request, reply in replay(conversation, tmp_path)
    ]
    golden(conversation.path.with_suffix(".golden"), "\n\n".join(blocks) + "\n")


@every_conversation
def test_the_replies_are_those_that_the_machine_accepted(conversation: Conversation, tmp_path: Path) -> None:
    """One that is meant to be another needs a machine that accepts it: `vm-lab/lab.py record` asks one."""
    for exchange, _, reply in replay(conversation, tmp_path):
        if exchange.reply is None:
            assert isinstance(reply, Ignored), exchange.request.title
            continue
        assert isinstance(reply, Reply), f"{exchange.request.title}: {reply}"
        sent = reply.packet.serialize()
        # Fields and options first: a difference in bytes is hard to read.
        assert Packet.parse(sent) == Packet.parse(exchange.reply.data), exchange.request.title
        assert sent == exchange.reply.data, exchange.request.title
        assert (reply.destination, reply.port) == exchange.reply.destination


@every_conversation
def test_scapy_reads_the_same(conversation: Conversation) -> None:
    for sent in conversation.sent:
        packet, foreign = Packet.parse(sent.data), BOOTP(sent.data)
        header = (foreign.op, foreign.htype, foreign.hops, foreign.xid, foreign.secs, int(foreign.flags))
        assert header == (packet.op, packet.htype, packet.hops, packet.xid, packet.secs, packet.flags)
        addresses = (foreign.ciaddr, foreign.yiaddr, foreign.siaddr, foreign.giaddr)
        assert addresses == tuple(map(str, (packet.ciaddr, packet.yiaddr, packet.siaddr, packet.giaddr)))
        texts = (foreign.chaddr[: foreign.hlen], foreign.sname.partition(b"\0")[0], foreign.file.partition(b"\0")[0])
        assert texts == (packet.chaddr, packet.sname, packet.file)
        assert _tlvs(foreign) == dict(packet.options), sent.title


@every_conversation
def test_a_request_means_what_scapy_says_it_means(conversation: Conversation) -> None:
    for exchange in conversation.exchanges:
        request, found = request_of(exchange.request), _by_name(BOOTP(exchange.request.data))
        assert request.message.value == found["message-type"]
        assert request.hwaddr == conversation.hwaddr
        assert _text(request.requested) == found.get("requested_addr")
        assert _text(request.server_id) == found.get("server_id")
        assert request.parameters == tuple(found.get("param_req_list", ()))
        assert request.max_message_size == max(576, found.get("max_dhcp_size", 0))
        arch, uuid = found.get("pxe_client_architecture"), found.get("pxe_client_machine_identifier")
        assert request.client_arch == (None if arch is None else int.from_bytes(arch[:2], "big"))
        assert (request.machine_id.bytes if request.machine_id else None) == (None if uuid is None else uuid[1:])
        # iPXE sends its user class without the length that RFC 3004 wants.
        vendor = found.get("vendor_class_id", b"")
        kinds = {b"PXEClient": Client.PXE, b"HTTPClient": Client.HTTP}
        kind = Client.IPXE if found.get("user_class") == b"iPXE" else kinds.get(vendor.split(b":")[0], Client.OS)
        assert request.client is kind, exchange.request.title


@every_conversation
def test_round_trip(conversation: Conversation) -> None:
    for sent in conversation.sent:
        packet = Packet.parse(sent.data)
        again = packet.serialize()
        assert Packet.parse(again) == packet
        assert again.rstrip(b"\0") == sent.data.rstrip(b"\0"), "all but the padding"


@every_conversation
def test_what_is_cut_off_raises_nothing_else(conversation: Conversation) -> None:
    for exchange in conversation.exchanges:
        for end in range(len(exchange.request.data)):
            with suppress(MalformedPacket):
                BootRequest.parse(exchange.request.data[:end], Arrival(interface=LINK.name))


def test_every_kind_of_client_and_of_message_was_recorded() -> None:
    requests = [request_of(exchange.request) for each in CONVERSATIONS for exchange in each.exchanges]
    assert {request.client for request in requests} == set(Client)
    from_clients = {Message.DISCOVER, Message.REQUEST, Message.RELEASE, Message.DECLINE, Message.INFORM}
    assert {request.message for request in requests} == from_clients
    firmware = {(request.client, request.client_arch) for request in requests}
    assert firmware >= {(Client.PXE, 0), (Client.PXE, 7), (Client.HTTP, 16), (Client.IPXE, 0), (Client.IPXE, 7)}
    assert {request.relayed for request in requests} == {True, False}


def _tlvs(foreign: BOOTP) -> dict[int, bytes]:
    """scapy's options as code and bytes, built anew from its values."""
    serializer: Any = DHCPOptionsField("options", b"")
    found: dict[int, bytes] = {}
    for option in foreign[DHCP].options:
        if isinstance(option, tuple):
            code, _, *value = serializer.i2m(None, [option])
            found[code] = found.get(code, b"") + bytes(value)
    return found


def _by_name(foreign: BOOTP) -> dict[str, Any]:
    return {str(option[0]): option[1] for option in foreign[DHCP].options if isinstance(option, tuple)}


def _text(address: IPv4Address | None) -> str | None:
    return None if address is None else str(address)


def _understood(request: BootRequest) -> Iterator[str]:
    """The fields that are not at their defaults, one a line."""
    for field in fields(request):
        value = getattr(request, field.name)
        if field.name not in ("xid", "chaddr", "interface") and value != field.default:
            yield f"> {field.name} {_shown(value)}"
    if request.message is Message.REQUEST:
        yield f"> phase {request.phase.value}"


def _decided(reply: Reply | Ignored) -> Iterator[str]:
    """Everything that is sent, and where to."""
    if isinstance(reply, Ignored):
        yield f"< nothing: {reply.reason}"
        return
    frame = "" if reply.chaddr is None else f" at {reply.chaddr.hex(':')}"
    yield f"< {reply.message.name} to {reply.destination}:{reply.port}{frame}"
    if reply.bind is not None:
        yield f"< binds {reply.bind.address}"
    packet = reply.packet
    for name in packet.__struct_fields__:
        value = getattr(packet, name)
        if not name.endswith("options"):
            yield f"< {name} {f'{value:08x}' if name == 'xid' else _shown(value)}"
    for place in ("options", "file_options", "sname_options"):
        for code, raw in getattr(packet, place).items():
            row = BY_CODE.get(code)
            where = "" if place == "options" else f" in {place.removesuffix('_options')}"
            yield f"< option {code} {'?' if row is None else row.name}{where} {_shown(raw if row is None else row.parse(raw))}"


def _shown(value: object) -> str:
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, bytes):
        return value.decode() if value.isascii() and value.decode().isprintable() else value.hex()
    return " ".join(map(_shown, value)) if isinstance(value, tuple) else str(value)
