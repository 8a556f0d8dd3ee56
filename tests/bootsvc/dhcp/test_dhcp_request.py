"""Classification of requests, on synthetic packets and on what real firmware sent."""

from ipaddress import IPv4Address
from pathlib import Path
from uuid import UUID

import pytest
from msgspec.structs import replace
from scapy.layers.inet import UDP
from scapy.utils import rdpcap

from bootsvc.dhcp import options
from bootsvc.dhcp.options import Message
from bootsvc.dhcp.packet import Op, Packet
from bootsvc.dhcp.request import Arrival, BootRequest, Client, Phase
from bootsvc.errors import Ignored, MalformedPacket

CAPTURES = Path(__file__).parents[2] / "captures"
ARRIVAL = Arrival(interface="eth1")


def packet(*pairs: tuple[int, bytes], message: Message = Message.DISCOVER) -> Packet:
    return Packet(
        op=Op.BOOTREQUEST,
        xid=7,
        chaddr=bytes.fromhex("5254000000aa"),
        options=dict([options.MESSAGE_TYPE.pair(message), *pairs]),
    )


def classified(*pairs: tuple[int, bytes], message: Message = Message.DISCOVER) -> BootRequest:
    request = BootRequest.parse(packet(*pairs, message=message).serialize(), ARRIVAL)
    assert isinstance(request, BootRequest)
    return request


def requests_of(name: str) -> list[BootRequest]:
    found = []
    for frame in rdpcap(str(CAPTURES / name)):
        request = BootRequest.parse(bytes(frame[UDP].payload), ARRIVAL)
        if isinstance(request, BootRequest):
            found.append(request)
    return found


def test_minimal() -> None:
    assert classified() == BootRequest(
        message=Message.DISCOVER,
        hwaddr="52:54:00:00:00:aa",
        xid=7,
        client=Client.OS,
        interface="eth1",
        chaddr=bytes.fromhex("5254000000aa"),
    )


@pytest.mark.parametrize(
    ("user_class", "vendor_class", "client"),
    [
        (b"iPXE", b"PXEClient:Arch:00000:UNDI:002001", Client.IPXE),  # as iPXE sends it
        (b"\x04iPXE", b"PXEClient", Client.IPXE),  # RFC 3004
        (b"\x03foo\x04iPXE", b"", Client.IPXE),
        (b"iPXE2", b"PXEClient", Client.PXE),
        (b"gPXE", b"PXEClient:Arch:00007", Client.PXE),
        (b"", b"HTTPClient:Arch:00016:UNDI:003001", Client.HTTP),
        (b"", b"MSFT 5.0", Client.OS),
        (b"", b"", Client.OS),
    ],
)
def test_client(user_class: bytes, vendor_class: bytes, client: Client) -> None:
    pairs = [(code, value) for code, value in ((77, user_class), (60, vendor_class)) if value]
    assert classified(*pairs).client is client


@pytest.mark.parametrize(
    ("pairs", "arch"),
    [
        ([(93, b"\0\x09")], 9),
        ([(93, b"\0\x07\0\x09")], 7),
        ([(60, b"PXEClient:Arch:00009:UNDI:003001")], 9),
        ([(60, b"PXEClient:Arch:00007"), (93, b"\0\0")], 0),
        ([(60, b"PXEClient:Arch:abc")], None),
        ([], None),
    ],
)
def test_client_arch(pairs: list[tuple[int, bytes]], arch: int | None) -> None:
    assert classified(*pairs).client_arch == arch


@pytest.mark.parametrize(
    ("server_id", "ciaddr", "unicast", "phase"),
    [
        ("10.0.0.1", "0.0.0.0", False, Phase.SELECTING),
        (None, "0.0.0.0", False, Phase.INIT_REBOOT),
        (None, "10.0.0.9", True, Phase.RENEWING),
        (None, "10.0.0.9", False, Phase.REBINDING),
    ],
)
def test_phase(server_id: str | None, ciaddr: str, unicast: bool, phase: Phase) -> None:
    pairs = [options.SERVER_ID.pair(IPv4Address(server_id))] if server_id else []
    asked = replace(packet(*pairs, message=Message.REQUEST), ciaddr=IPv4Address(ciaddr))
    request = BootRequest.parse(asked.serialize(), Arrival(interface="eth1", unicast=unicast))
    assert isinstance(request, BootRequest)
    assert request.phase is phase


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        (replace(packet(), op=Op.BOOTREPLY), "a reply"),
        (replace(packet(), htype=32, chaddr=b""), "htype 32"),
        (replace(packet(), chaddr=bytes(6)), "no hardware address"),
        (replace(packet(), chaddr=b"\xff" * 6), "no hardware address"),
        (replace(packet(), options={}), "BOOTP"),
    ],
)
def test_ignored(changed: Packet, reason: str) -> None:
    ignored = BootRequest.parse(changed.serialize(), ARRIVAL)
    assert isinstance(ignored, Ignored)
    assert reason in ignored.reason


@pytest.mark.parametrize("pair", [(53, b"\x09"), (53, b""), (50, b"abc"), (54, b""), (57, b"x"), (93, b"abc")])
def test_malformed_values(pair: tuple[int, bytes]) -> None:
    with pytest.raises(MalformedPacket):
        BootRequest.parse(replace(packet(), options={53: b"\x01", **dict([pair])}).serialize(), ARRIVAL)


def test_the_message_size_is_never_below_the_minimum() -> None:
    assert classified((57, b"\0\x10")).max_message_size == 576
    assert classified((57, b"\x05\xc0")).max_message_size == 1472


def test_bios_ipxe_rom_of_2019() -> None:
    discover, request = requests_of("dhcp-bios-ipxe-rom.pcap")
    assert (discover.message, request.message) == (Message.DISCOVER, Message.REQUEST)
    for each in (discover, request):
        assert each.client is Client.IPXE
        assert each.client_arch == 0
        assert each.hwaddr == "52:54:00:00:00:01"
        assert each.machine_id == UUID(int=0)
        assert not each.broadcast
        assert {67, 175, 43} <= set(each.parameters)
    assert request.phase is Phase.SELECTING
    assert request.requested == IPv4Address("10.9.0.11")


def test_uefi_firmware_and_then_ipxe() -> None:
    firmware, firmware_request, ipxe, _ = requests_of("dhcp-uefi-pxe-then-ipxe.pcap")
    assert (firmware.client, firmware.client_arch, firmware.broadcast) == (Client.PXE, 7, True)
    assert firmware_request.phase is Phase.SELECTING
    assert (ipxe.client, ipxe.client_arch) == (Client.IPXE, 7)
    assert firmware.client_id != ipxe.client_id, "the address must follow the hardware address, not the identifier"
    assert firmware.hwaddr == ipxe.hwaddr
