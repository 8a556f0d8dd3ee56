"""The DHCP codec: round trips, hostile bytes, captures of real firmware, and foreign codecs in both directions."""

import struct
from contextlib import suppress
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.dhcp.dhcp4msg import dhcp4msg
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import UDP
from scapy.utils import rdpcap

from bootsvc.dhcp import options
from bootsvc.dhcp.options import Message
from bootsvc.dhcp.options_field import serialize_fields, size_of
from bootsvc.dhcp.packet import MIN_SIZE, Op, Packet
from bootsvc.errors import MalformedPacket

CAPTURES = sorted((Path(__file__).parents[2] / "captures").glob("dhcp-*.pcap"))


def captured() -> list[bytes]:
    return [bytes(frame[UDP].payload) for path in CAPTURES for frame in rdpcap(str(path)) if UDP in frame]


addresses = st.integers(0, 2**32 - 1).map(IPv4Address)
texts = st.binary(max_size=60).filter(lambda text: b"\0" not in text)
packets = st.builds(
    Packet,
    op=st.sampled_from([1, 2]),
    htype=st.integers(0, 255),
    hops=st.integers(0, 255),
    xid=st.integers(0, 2**32 - 1),
    secs=st.integers(0, 65535),
    flags=st.integers(0, 65535),
    ciaddr=addresses,
    yiaddr=addresses,
    siaddr=addresses,
    giaddr=addresses,
    chaddr=st.binary(max_size=16),
    sname=texts,
    file=texts,
    options=st.dictionaries(
        st.integers(1, 254).filter(lambda code: code != options.OVERLOAD.code), st.binary(max_size=700), max_size=8
    ),
)


@given(packets)
def test_round_trip(packet: Packet) -> None:
    data = packet.serialize()
    assert len(data) >= MIN_SIZE
    parsed = Packet.parse(data)
    assert parsed == packet
    assert list(parsed.options) == list(packet.options)


@given(st.binary(max_size=600))
def test_random_bytes(data: bytes) -> None:
    with pytest.raises(MalformedPacket):
        Packet.parse(data)


@given(st.binary(max_size=400))
def test_random_options(tail: bytes) -> None:
    header = Packet(op=Op.BOOTREQUEST, chaddr=bytes(6)).serialize()[:240]
    with suppress(MalformedPacket):
        packet = Packet.parse(header + tail)
        assert packet.serialize().startswith(header[:236])
        assert Packet.parse(packet.serialize()) == packet


@pytest.mark.parametrize("data", captured(), ids=lambda data: f"{len(data)}-bytes")
def test_captures_round_trip_and_truncation(data: bytes) -> None:
    packet = Packet.parse(data)
    assert Packet.parse(packet.serialize()) == packet
    for end in range(len(data)):
        if end < 240:
            with pytest.raises(MalformedPacket) as caught:
                Packet.parse(data[:end])
            assert caught.value.protocol == "dhcp"
            continue
        try:
            part = Packet.parse(data[:end])
        except MalformedPacket:
            continue
        assert part.options.items() <= packet.options.items()


def test_captures_are_there() -> None:
    assert len(captured()) >= 12


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({0: 3}, "op 3"),
        ({2: 17}, "hlen 17"),
        ({236: 0}, "magic cookie"),
        ({240: 53, 241: 200}, "option 53 runs over the end"),
        ({240: 52, 241: 2}, "option OVERLOAD has a bad value"),
    ],
)
def test_malformed(change: dict[int, int], reason: str) -> None:
    data = bytearray(Packet(op=Op.BOOTREQUEST, chaddr=bytes(6)).serialize())
    for at, value in change.items():
        data[at] = value
    with pytest.raises(MalformedPacket, match=reason):
        Packet.parse(bytes(data))


def test_long_option_is_split_and_joined() -> None:
    value = bytes(range(256)) * 2
    packet = Packet(op=Op.BOOTREPLY, options={options.VENDOR_SPECIFIC.code: value})
    data = packet.serialize()
    assert data[240:242] == bytes([43, 255])
    assert data[240 + 257 : 240 + 259] == bytes([43, 255])
    assert Packet.parse(data).options == {43: value}


def test_endless_option_is_refused() -> None:
    data = Packet(op=Op.BOOTREQUEST).serialize()[:240] + (b"\x2b\xff" + bytes(255)) * 254
    with pytest.raises(MalformedPacket):
        Packet.parse(data + (b"\x2b\xff" + bytes(255)) * 8)
    with pytest.raises(MalformedPacket, match="longer than a datagram"):
        Packet.parse(data.ljust(70000, b"\0"))


def test_overload() -> None:
    """RFC 2132 §9.3: options go on in `file`, then in `sname`, and may be split between them (RFC 3396)."""
    data = bytearray(Packet(op=Op.BOOTREQUEST).serialize()[:240])
    data += bytes([52, 1, 3, 12, 2]) + b"ab" + b"\xff"
    data[108:113] = bytes([12, 1]) + b"c" + bytes([255, 9])
    data[44:48] = bytes([12, 1]) + b"d" + b"\xff"
    packet = Packet.parse(bytes(data))
    assert packet.options == {12: b"abcd"}
    assert (packet.file, packet.sname) == (b"", b"")


@pytest.mark.parametrize(
    ("option", "value", "raw"),
    [
        (options.SUBNET_MASK, IPv4Address("255.255.0.0"), "ffff0000"),
        (options.DOMAIN_NAME_SERVER, (IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")), "0a0000010a000002"),
        (options.LEASE_TIME, 3600, "00000e10"),
        (options.MAX_MESSAGE_SIZE, 1500, "05dc"),
        (options.MESSAGE_TYPE, Message.INFORM, "08"),
        (options.PARAMETER_LIST, (1, 3, 67), "010343"),
        (options.HOST_NAME, "n1", "6e31"),
        (options.USER_CLASS, (b"iPXE", b"x"), "0469505845" + "0178"),
        (options.CLIENT_ARCH, (7, 9), "00070009"),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_values(option: options.Option[object], value: object, raw: str) -> None:
    assert option.codec.serialize(value) == bytes.fromhex(raw)
    assert option.parse(bytes.fromhex(raw)) == value


@pytest.mark.parametrize("option", [row for row in vars(options).values() if isinstance(row, options.Option)])
@given(value=st.binary(max_size=40))
def test_values_raise_only_malformed(option: options.Option[object], value: bytes) -> None:
    with suppress(MalformedPacket):
        option.parse(value)


def test_scapy_builds_and_we_parse() -> None:
    foreign = BOOTP(
        op=1, xid=0x12345678, flags=0x8000, secs=4, chaddr=bytes.fromhex("525400aabbcc") + bytes(10), giaddr="10.0.0.254"
    ) / DHCP(
        options=[
            ("message-type", "discover"),
            ("requested_addr", "10.0.0.7"),
            ("max_dhcp_size", 1260),
            ("param_req_list", [1, 3, 6, 12, 67]),
            ("vendor_class_id", b"PXEClient:Arch:00007:UNDI:003000"),
            ("pxe_client_architecture", b"\0\x07"),
            ("user_class", b"iPXE"),
            "end",
        ]
    )
    packet = Packet.parse(bytes(foreign))
    assert (packet.op, packet.xid, packet.flags, packet.secs) == (1, 0x12345678, 0x8000, 4)
    assert packet.chaddr == bytes.fromhex("525400aabbcc")
    assert packet.giaddr == IPv4Address("10.0.0.254")
    assert options.MESSAGE_TYPE.find(packet.options) is Message.DISCOVER
    assert options.REQUESTED_ADDRESS.find(packet.options) == IPv4Address("10.0.0.7")
    assert options.MAX_MESSAGE_SIZE.find(packet.options) == 1260
    assert options.PARAMETER_LIST.find(packet.options) == (1, 3, 6, 12, 67)
    assert options.CLIENT_ARCH.find(packet.options) == (7,)
    assert options.USER_CLASS.find(packet.options) == (b"iPXE",)


def ours() -> Packet:
    return Packet(
        op=Op.BOOTREPLY,
        xid=0xCAFEBABE,
        yiaddr=IPv4Address("10.0.0.7"),
        siaddr=IPv4Address("10.0.0.1"),
        chaddr=bytes.fromhex("525400aabbcc"),
        file=b"snponly.efi",
        options=dict(
            [
                options.MESSAGE_TYPE.pair(Message.OFFER),
                options.SERVER_ID.pair(IPv4Address("10.0.0.1")),
                options.LEASE_TIME.pair(3600),
                options.SUBNET_MASK.pair(IPv4Address("255.255.255.0")),
                options.DOMAIN_NAME_SERVER.pair((IPv4Address("10.0.0.2"), IPv4Address("10.0.0.3"))),
                options.HOST_NAME.pair("n7"),
                options.BOOTFILE_NAME.pair("snponly.efi"),
            ]
        ),
    )


def test_we_build_and_scapy_parses() -> None:
    foreign = BOOTP(ours().serialize())
    assert (foreign.op, foreign.xid, foreign.yiaddr, foreign.siaddr) == (2, 0xCAFEBABE, "10.0.0.7", "10.0.0.1")
    assert foreign.chaddr[:6] == bytes.fromhex("525400aabbcc")
    assert foreign.file.rstrip(b"\0") == b"snponly.efi"
    assert foreign[DHCP].options[: foreign[DHCP].options.index("end")] == [
        ("message-type", 2),
        ("server_id", "10.0.0.1"),
        ("lease_time", 3600),
        ("subnet_mask", "255.255.255.0"),
        ("name_server", "10.0.0.2", "10.0.0.3"),
        ("hostname", b"n7"),
        ("boot-file-name", b"snponly.efi"),
    ]


def test_we_build_and_pyroute2_parses() -> None:
    foreign = dhcp4msg(buf=ours().serialize()).decode()
    assert foreign["xid"] == 0xCAFEBABE
    assert foreign["yiaddr"] == "10.0.0.7"
    assert foreign["chaddr"] == "52:54:00:aa:bb:cc"
    found = foreign["options"]
    assert found["message_type"] == 2
    assert found["server_id"] == "10.0.0.1"
    assert found["lease_time"] == 3600
    assert found["name_server"] == ["10.0.0.2", "10.0.0.3"]


def test_pyroute2_builds_and_we_parse() -> None:
    foreign = dhcp4msg(
        {
            "op": 1,
            "xid": 77,
            "chaddr": "52:54:00:aa:bb:cc",
            "options": {"message_type": 3, "requested_ip": "10.0.0.9", "parameter_list": [1, 3]},
        }
    )
    packet = Packet.parse(bytes(foreign.encode().buf))
    assert packet.xid == 77
    assert packet.chaddr.hex(":") == "52:54:00:aa:bb:cc"
    assert options.MESSAGE_TYPE.find(packet.options) is Message.REQUEST
    assert options.REQUESTED_ADDRESS.find(packet.options) == IPv4Address("10.0.0.9")


def test_header_is_where_the_rfc_puts_it() -> None:
    data = ours().serialize()
    assert struct.unpack("!I", data[4:8]) == (0xCAFEBABE,)
    assert data[16:20] == IPv4Address("10.0.0.7").packed
    assert data[28:34].hex(":") == "52:54:00:aa:bb:cc"
    assert data[108:120] == b"snponly.efi\0"
    assert data[236:240] == bytes([99, 130, 83, 99])


@given(st.lists(st.tuples(st.integers(1, 254), st.binary(max_size=600)), max_size=5))
def test_size_of(pairs: list[tuple[int, bytes]]) -> None:
    assert size_of(pairs) + 1 == len(serialize_fields(pairs))
