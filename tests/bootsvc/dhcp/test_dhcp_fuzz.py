"""Generated packets through our codec and scapy's, hostile ones through the whole path; all by BOOTSVC_PROOF=full."""

import os
import random
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest
from captured import load_conversations
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import UDP
from scapy.utils import rdpcap

from bootsvc.config import Config
from bootsvc.dhcp import options
from bootsvc.dhcp.answer import Reply
from bootsvc.dhcp.exchanges import Exchanges
from bootsvc.dhcp.leases import Lease
from bootsvc.dhcp.options import Message
from bootsvc.dhcp.packet import HEADER_SIZE, Op, Packet
from bootsvc.dhcp.reporting import Reporter
from bootsvc.dhcp.request import Arrival, BootRequest
from bootsvc.dhcp.settings import DhcpConfig
from bootsvc.dhcp.wire import Wire
from bootsvc.errors import BadState, MalformedPacket
from bootsvc.net.links import Link
from bootsvc.net.udp import Datagram
from netboot.node import Node, to_node

FULL = os.environ.get("BOOTSVC_PROOF") == "full"
PACKETS = 10_000 if FULL else 400
HOSTILE = 1_000_000 if FULL else 5_000
GENERATED = 2_000 if FULL else 200
RECORDED = Path(__file__).parent / "captures"
CAPTURES = sorted((Path(__file__).parents[2] / "captures").glob("dhcp-*.pcap"))
SERVER, NETWORK = IPv4Address("10.0.0.1"), IPv4Network("10.0.0.0/16")
LINK = Link(name="eth0", index=2, hwaddr="02:00:00:00:00:01", address=SERVER, network=NETWORK)

# What scapy calls our rows, and how a value of ours looks there.
SCAPY: list[tuple[options.Option[object], str, Callable[[random.Random], object], Callable[[object], object]]] = []


def _row(option: object, name: str, make: Callable[[random.Random], object], shown: Callable[[object], object]) -> None:
    SCAPY.append((option, name, make, shown))  # type: ignore[arg-type]  # a table of options of several types


def address(rng: random.Random) -> IPv4Address:
    return IPv4Address(rng.getrandbits(32))


def addresses(rng: random.Random) -> tuple[IPv4Address, ...]:
    return tuple(address(rng) for _ in range(rng.randint(1, 4)))


def text(rng: random.Random) -> str:
    return "".join(rng.choice("abcdefghijklmnopqrstuvwxyz0123456789-.") for _ in range(rng.randint(1, 60)))


_row(options.SUBNET_MASK, "subnet_mask", address, str)
_row(options.ROUTER, "router", addresses, lambda value: tuple(map(str, value)))  # type: ignore[call-overload]
_row(options.DOMAIN_NAME_SERVER, "name_server", addresses, lambda value: tuple(map(str, value)))  # type: ignore[call-overload]
_row(options.HOST_NAME, "hostname", text, lambda value: str(value).encode())
_row(options.DOMAIN_NAME, "domain", text, lambda value: str(value).encode())
_row(options.BROADCAST_ADDRESS, "broadcast_address", address, str)
_row(options.NTP_SERVERS, "NTP_server", addresses, lambda value: tuple(map(str, value)))  # type: ignore[call-overload]
_row(options.REQUESTED_ADDRESS, "requested_addr", address, str)
_row(options.LEASE_TIME, "lease_time", lambda rng: rng.getrandbits(32), lambda value: value)
_row(options.SERVER_ID, "server_id", address, str)
_row(options.RENEWAL_TIME, "renewal_time", lambda rng: rng.getrandbits(32), lambda value: value)
_row(options.REBINDING_TIME, "rebinding_time", lambda rng: rng.getrandbits(32), lambda value: value)
_row(options.MAX_MESSAGE_SIZE, "max_dhcp_size", lambda rng: rng.getrandbits(16), lambda value: value)
_row(options.VENDOR_CLASS, "vendor_class_id", text, lambda value: str(value).encode())
_row(options.BOOTFILE_NAME, "boot-file-name", text, lambda value: str(value).encode())


def generated(rng: random.Random) -> tuple[Packet, list[tuple[str, object]]]:
    """A packet of ours, and its options as scapy would have them."""
    message = rng.choice(list(Message))
    chosen = [(option, name, make(rng), shown) for option, name, make, shown in rng.sample(SCAPY, rng.randint(0, 9))]
    op = rng.choice(list(Op))
    packet = Packet(
        op=op,
        hops=rng.randrange(17),
        xid=rng.getrandbits(32),
        secs=rng.getrandbits(16),
        flags=rng.choice((0, 0x8000)),
        ciaddr=address(rng),
        yiaddr=address(rng),
        siaddr=address(rng),
        giaddr=address(rng),
        chaddr=rng.randbytes(6),
        sname=text(rng).encode()[:60],
        file=text(rng).encode(),
        options=dict([options.MESSAGE_TYPE.pair(message), *(option.pair(value) for option, _, value, _ in chosen)]),
    )
    return packet, [("message-type", message.value), *((name, shown(value)) for _, name, value, shown in chosen)]


def flat(option: tuple[object, ...]) -> tuple[object, object]:
    """scapy's option as name and value; lists of addresses are spread over the tuple, one of them alone is no tuple."""
    name, *values = option
    listed = name in ("router", "name_server", "NTP_server")
    return name, tuple(values) if listed else values[0]


def test_the_same_meaning_in_our_codec_and_in_scapys() -> None:
    rng = random.Random(20)
    for _ in range(PACKETS):
        packet, expected = generated(rng)
        foreign = BOOTP(packet.serialize())
        header = (foreign.op, foreign.hops, foreign.xid, foreign.secs, int(foreign.flags), foreign.chaddr[:6])
        assert header == (packet.op, packet.hops, packet.xid, packet.secs, packet.flags, packet.chaddr)
        fields = (foreign.ciaddr, foreign.yiaddr, foreign.siaddr, foreign.giaddr)
        assert fields == tuple(map(str, (packet.ciaddr, packet.yiaddr, packet.siaddr, packet.giaddr)))
        assert (foreign.sname.rstrip(b"\0"), foreign.file.rstrip(b"\0")) == (packet.sname, packet.file)
        found = foreign[DHCP].options
        assert [flat(option) for option in found[: found.index("end")]] == expected
        # And back: what scapy builds of the same fields, we read as the packet that it was.
        built = BOOTP(
            op=packet.op,
            hops=packet.hops,
            xid=packet.xid,
            secs=packet.secs,
            flags=packet.flags,
            ciaddr=str(packet.ciaddr),
            yiaddr=str(packet.yiaddr),
            siaddr=str(packet.siaddr),
            giaddr=str(packet.giaddr),
            chaddr=packet.chaddr + bytes(10),
            sname=packet.sname,
            file=packet.file,
        ) / DHCP(options=[(name, *value) if isinstance(value, tuple) else (name, value) for name, value in expected] + ["end"])
        assert Packet.parse(bytes(built)) == packet


class Nobody:
    """No nodes."""

    def by_hwaddr(self, hwaddr: str) -> Node | None:
        return None

    def by_address(self, address: IPv4Address) -> Node | None:
        return None

    def reserved(self, address: IPv4Address) -> bool:
        return False


class Memory:
    """Leases that are saved at once."""

    def load_leases(self) -> list[Lease]:
        return []

    def write_lease(self, lease: Lease, saved: Callable[[BadState | None], None]) -> None:
        saved(None)


class Caught(Wire):
    """A wire that keeps the last reply, and needs no socket."""

    last: tuple[Reply, bytes] | None = None

    def send(self, reply: Reply, data: bytes, source: IPv4Address, *, from_proxy: bool = False) -> bool:
        self.last = (reply, data)
        return True


def service() -> tuple[Exchanges, Caught]:
    config = Config(
        ipaddr=SERVER,
        network=NETWORK,
        dhcp=DhcpConfig(range_start=IPv4Address("10.0.1.0"), range_end=IPv4Address("10.0.3.255")),
    )
    nobody = Nobody()
    made = Exchanges(lambda: config, lambda: nobody, Memory())
    made.serve([[LINK]], frozenset([SERVER]))
    return made, Caught([LINK], proxy=False)


def hostile(rng: random.Random) -> Iterator[bytes]:
    """Random bytes, cut packets, flipped bytes, swapped tails and lying lengths, of real packets and of generated ones."""
    real = [bytes(frame[UDP].payload) for path in CAPTURES for frame in rdpcap(str(path)) if UDP in frame]
    real += [sent.data for each in load_conversations(RECORDED) for sent in each.sent]
    # To make one anew for each packet would take most of the time.
    made = [generated(rng)[0].serialize() for _ in range(GENERATED)]
    while True:
        data = bytearray(rng.choice(real if rng.random() < 0.5 else made))
        match rng.randrange(6):
            case 0:
                yield rng.randbytes(rng.randrange(700))
                continue
            case 1:
                del data[rng.randrange(len(data)) :]
            case 2:
                for _ in range(rng.randint(1, 20)):
                    data[rng.randrange(len(data))] = rng.getrandbits(8)
            case 3:
                data[HEADER_SIZE:] = rng.randbytes(rng.randrange(400))
            case 4:
                at = rng.randrange(HEADER_SIZE, len(data))
                data[at:at] = bytes((rng.choice((52, 53, 61, 77, 82, 93, 119)), rng.getrandbits(8)))
            case _:
                data[0] = Op.BOOTREQUEST
                data[24:28] = rng.randbytes(4)
        yield bytes(data)


def test_hostile_packets_raise_nothing_and_a_client_is_served_meanwhile() -> None:
    rng = random.Random(4)
    made, wire = service()
    client = Packet(
        op=Op.BOOTREQUEST,
        xid=7,
        chaddr=bytes.fromhex("5254000000aa"),
        options=dict([options.MESSAGE_TYPE.pair(Message.DISCOVER)]),
    ).serialize()
    source = IPv4Address("10.0.0.9")
    arrival = Arrival(interface="eth0")
    packets = hostile(rng)
    level = 0
    tracemalloc.start()
    for number in range(HOSTILE):
        data = next(packets)
        with suppress(MalformedPacket):
            BootRequest.parse(data, arrival)
        local = rng.choice((SERVER, IPv4Address("255.255.255.255")))
        made.receive(wire, Datagram(data=data, source=source, port=68, ifindex=LINK.index, local=local))
        if wire.last is not None:
            reply, sent = wire.last
            assert len(sent) <= 1472
            assert reply.destination in NETWORK or reply.destination == IPv4Address("255.255.255.255"), (
                "we answer our networks only"
            )
            wire.last = None
        if number % 1000 == 999:
            made.receive(wire, Datagram(data=client, source=source, port=68, ifindex=LINK.index, local=local))
            assert wire.last is not None
            assert wire.last[0].message is Message.OFFER
            wire.last = None
        if number == HOSTILE // 2:
            level = tracemalloc.get_traced_memory()[0]
    grown = tracemalloc.get_traced_memory()[0] - level
    tracemalloc.stop()
    # Every machine that was made up may hold one row of the tables, which are capped.
    assert grown < 8_000_000
    assert made.counters.malformed > HOSTILE / 10


def message_of(kind: Message, chaddr: str, *pairs: tuple[int, bytes]) -> Datagram:
    fields = dict([options.MESSAGE_TYPE.pair(kind), *pairs])
    data = Packet(op=Op.BOOTREQUEST, xid=7, chaddr=bytes.fromhex(chaddr), options=fields).serialize()
    return Datagram(data=data, source=IPv4Address(0), port=68, ifindex=LINK.index, local=IPv4Address("255.255.255.255"))


def warnings_of(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def test_addresses_that_were_never_lent_are_declined_without_a_word(caplog: pytest.LogCaptureFixture) -> None:
    made, wire = service()
    for number in range(300):
        declined = options.REQUESTED_ADDRESS.pair(IPv4Address("10.0.2.0") + number)
        made.receive(wire, message_of(Message.DECLINE, "5254000000aa", declined))
    assert warnings_of(caplog) == []
    made.receive(wire, message_of(Message.DISCOVER, "5254000000aa"))
    assert wire.last is not None
    lent = wire.last[0].packet.yiaddr
    made.receive(wire, message_of(Message.DECLINE, "5254000000aa", options.REQUESTED_ADDRESS.pair(lent)))
    (warning,) = warnings_of(caplog)
    assert f"52:54:00:00:00:aa found that another machine uses {lent}; the address is set aside" in warning


def test_a_flood_of_reasons_to_warn_is_no_flood_of_warnings(caplog: pytest.LogCaptureFixture) -> None:
    made, wire = service()
    pxe = options.VENDOR_CLASS.pair("PXEClient")
    for arch in range(1000, 1700):
        made.receive(wire, message_of(Message.DISCOVER, f"5254{arch:08x}", pxe, options.CLIENT_ARCH.pair((arch,))))
    found = warnings_of(caplog)
    assert "no loader for client architecture 0x3e8" in found[0]
    assert len(found) < 400


def test_a_node_that_declines_its_own_address_is_named(caplog: pytest.LogCaptureFixture) -> None:
    device = {"hwaddr": "52:54:00:00:00:aa", "ipaddr": "10.0.0.7"}
    node = to_node("n7", {"network devices": {"default": device}})
    arrival = Arrival(interface="eth0")
    for requested in (IPv4Address("10.0.0.8"), IPv4Address("10.0.0.7")):
        message = message_of(Message.DECLINE, "5254000000aa", options.REQUESTED_ADDRESS.pair(requested))
        request = BootRequest.parse(message.data, arrival)
        assert isinstance(request, BootRequest)
        Reporter(None).declined(request, node, None)
    (warning,) = warnings_of(caplog)
    assert "node n7 (52:54:00:00:00:aa) found that another machine uses its address 10.0.0.7" in warning


@pytest.mark.parametrize("value", [b"", b"\xff", b"\xc0\x00", b"\x05abc", bytes([1, 97, 0xC0, 0]), b"\x3f" * 300])
def test_domain_search_never_loops(value: bytes) -> None:
    with suppress(MalformedPacket):
        options.DOMAIN_SEARCH.parse(value)


def test_domain_search_follows_pointers() -> None:
    """RFC 3397 §2's example shape: the second name ends in a pointer into the first."""
    value = b"\x03eng\x05apple\x03com\x00\x09marketing\xc0\x04"
    assert options.DOMAIN_SEARCH.parse(value) == ("eng.apple.com", "marketing.apple.com")
    assert options.DOMAIN_SEARCH.parse(options.DOMAIN_SEARCH.codec.serialize(("a.b", "c"))) == ("a.b", "c")
