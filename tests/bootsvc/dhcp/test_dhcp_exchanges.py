"""Whole requests in, whole replies out: what is saved before it is answered, what changes a lease, and what is counted."""

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

import pytest

from bootsvc import clock
from bootsvc.boots import sent_and_why
from bootsvc.config import Config
from bootsvc.dhcp import exchanges, options
from bootsvc.dhcp.answer import Reply
from bootsvc.dhcp.exchanges import Doubt, Exchanges
from bootsvc.dhcp.leases import Lease, LeaseState
from bootsvc.dhcp.options import Message
from bootsvc.dhcp.packet import Op, Packet
from bootsvc.dhcp.request import Arrival
from bootsvc.dhcp.settings import DhcpConfig, Mode, Unknown
from bootsvc.errors import BadState
from bootsvc.net.links import Link
from bootsvc.net.udp import Datagram
from bootsvc.registry import Registry
from bootsvc.store import Snapshot

SERVER, BROADCAST, ZERO = IPv4Address("10.0.0.1"), IPv4Address("255.255.255.255"), IPv4Address(0)
NETWORK = IPv4Network("10.0.0.0/24")
CLIENT = IPv4Address("10.0.0.60")
"""Who asks port 4011 has an address."""
FIRST, LAST = IPv4Address("10.0.0.100"), IPv4Address("10.0.0.101")
NODE, NODES_ADDRESS = "52:54:00:00:00:01", IPv4Address("10.0.0.7")
OTHER, THIRD, FOURTH = "52:54:00:00:00:02", "52:54:00:00:00:03", "52:54:00:00:00:04"
LINK = Link(name="eth1", index=2, hwaddr="52:54:00:ff:ff:01", address=SERVER, network=NETWORK)
FULL = BadState(Path("/state.db"), "database or disk is full")
CONFIG = Config(ipaddr=SERVER, network=NETWORK, dhcp=DhcpConfig(range_start=FIRST, range_end=LAST, lease_seconds=600))
_DEVICES = {"default": {"hwaddr": NODE, "ipaddr": str(NODES_ADDRESS)}}
NODES = Registry.build(Snapshot(nodes={"n1": {"network devices": _DEVICES}}), NETWORK)


@dataclass(frozen=True)
class Sent:
    data: bytes
    destination: IPv4Address
    chaddr: bytes | None
    source: IPv4Address
    from_proxy: bool

    @property
    def packet(self) -> Packet:
        return Packet.parse(self.data)

    @property
    def message(self) -> Message | None:
        return options.MESSAGE_TYPE.find(self.packet.options)


@dataclass
class Interface:
    """What an interface would have sent."""

    name: str = "eth1"
    index: int = 2
    unicast: Arrival = Arrival(interface="eth1", unicast=True)  # noqa: RUF009
    broadcast: Arrival = Arrival(interface="eth1")  # noqa: RUF009
    broken: bool = False
    sent: list[Sent] = field(default_factory=list)

    def send(self, reply: Reply, data: bytes, source: IPv4Address, *, from_proxy: bool = False) -> bool:
        if not self.broken:
            self.sent.append(Sent(data, reply.destination, reply.chaddr, source, from_proxy))
        return not self.broken


@dataclass
class Disk:
    """Leases that wait for their commit, which the test ends."""

    known: list[Lease] = field(default_factory=list)
    waiting: list[tuple[Lease, Callable[[BadState | None], None]]] = field(default_factory=list)

    def load_leases(self) -> list[Lease]:
        return self.known

    def write_lease(self, lease: Lease, saved: Callable[[BadState | None], None]) -> None:
        self.waiting.append((lease, saved))

    def commit(self, failure: BadState | None = None) -> list[Lease]:
        done, self.waiting = self.waiting, []
        for _, saved in done:
            saved(failure)
        return [lease for lease, _ in done]


class Served:
    """A server of one interface with a range of two addresses, and n1 as its node."""

    def __init__(self, config: Config = CONFIG, **dhcp: Any) -> None:
        self.config = replace(config, dhcp=replace(config.dhcp, **dhcp))
        self.nodes = NODES
        self.wire, self.disk = Interface(), Disk()
        self.events: list[tuple[object, ...]] = []
        self.doubts: list[Doubt] | None = None
        """What is to be looked at; None: nothing can be."""
        self.exchanges = Exchanges(lambda: self.config, lambda: self.nodes, self.disk, self._event, self._look)
        self.exchanges.serve([[LINK]], frozenset({SERVER}))

    def _event(self, hwaddr: str, node: str | None, stage: str, detail: str, *, ipaddr: IPv4Address | None = None) -> None:
        self.events.append((hwaddr, node, stage, detail, ipaddr))

    def _look(self, doubt: Doubt) -> bool:
        if self.doubts is None:
            return False
        self.doubts.append(doubt)
        return True

    def look(self, *users: str | None) -> list[Sent]:
        """The users of the addresses in doubt are found; what is sent then."""
        assert self.doubts is not None
        due, self.doubts = self.doubts, []
        before = len(self.wire.sent)
        for doubt, user in zip(due, users, strict=True):
            self.exchanges.settle(doubt, user)
        return self.wire.sent[before:]

    def ask(
        self,
        message: Message,
        hwaddr: str,
        *pairs: tuple[int, bytes],
        ifindex: int = 2,
        ciaddr: IPv4Address = ZERO,
        port: int = 67,
    ) -> list[Sent]:
        """What is sent at once."""
        packet = Packet(
            op=Op.BOOTREQUEST,
            xid=0x77,
            ciaddr=ciaddr,
            chaddr=bytes.fromhex(hwaddr.replace(":", "")),
            options=dict([options.MESSAGE_TYPE.pair(message), *pairs]),
        )
        return self.receive(packet.serialize(), ifindex=ifindex, local=SERVER if int(ciaddr) else BROADCAST, port=port)

    def receive(self, data: bytes, *, ifindex: int = 2, local: IPv4Address = BROADCAST, port: int = 67) -> list[Sent]:
        receive = self.exchanges.receive if port == 67 else self.exchanges.receive_proxy
        before = len(self.wire.sent)
        source = ZERO if port == 67 else CLIENT
        receive(self.wire, Datagram(data=data, source=source, port=68, ifindex=ifindex, local=local))
        return self.wire.sent[before:]

    def request(self, hwaddr: str, address: IPv4Address) -> list[Sent]:
        """As after an OFFER of ours."""
        wanted = options.REQUESTED_ADDRESS.pair(address)
        return self.ask(Message.REQUEST, hwaddr, options.SERVER_ID.pair(SERVER), wanted)

    def bind(self, hwaddr: str) -> IPv4Address:
        """The whole exchange."""
        (offer,) = self.ask(Message.DISCOVER, hwaddr)
        address = offer.packet.yiaddr
        assert self.request(hwaddr, address) == []
        self.disk.commit()
        return address

    def counted(self) -> dict[str, int]:
        """Those that are not zero."""
        return {name: count for name, count in asdict(self.exchanges.counters).items() if count}


def whole(message: Message, hwaddr: str, yiaddr: IPv4Address, *more: tuple[int, bytes], seconds: int = 600) -> bytes:
    """The reply to a client that says nothing of what it wants."""
    return Packet(
        op=Op.BOOTREPLY,
        xid=0x77,
        yiaddr=yiaddr,
        chaddr=bytes.fromhex(hwaddr.replace(":", "")),
        options=dict(
            [
                options.MESSAGE_TYPE.pair(message),
                options.SERVER_ID.pair(SERVER),
                options.LEASE_TIME.pair(seconds),
                options.RENEWAL_TIME.pair(seconds // 2),
                options.REBINDING_TIME.pair(seconds * 7 // 8),
                options.SUBNET_MASK.pair(NETWORK.netmask),
                options.BROADCAST_ADDRESS.pair(NETWORK.broadcast_address),
                *more,
            ]
        ),
    ).serialize()


def test_a_reservation_needs_no_disk() -> None:
    served = Served()
    name = options.HOST_NAME.pair("n1")
    chaddr = bytes.fromhex("525400000001")
    assert served.ask(Message.DISCOVER, NODE) == [
        Sent(whole(Message.OFFER, NODE, NODES_ADDRESS, name), NODES_ADDRESS, chaddr, SERVER, False)
    ]
    assert served.request(NODE, NODES_ADDRESS) == [
        Sent(whole(Message.ACK, NODE, NODES_ADDRESS, name), NODES_ADDRESS, chaddr, SERVER, False)
    ]
    assert served.disk.waiting == []
    assert served.counted() == {"received": 2, "answered": 2}
    assert served.events == [(NODE, "n1", "DHCP ACK", "", NODES_ADDRESS)]
    assert served.exchanges.reporter.find_hwaddr(NODES_ADDRESS) == NODE


def test_a_dynamic_lease_is_on_disk_before_its_ack_leaves() -> None:
    served = Served()
    (offer,) = served.ask(Message.DISCOVER, OTHER)
    assert offer.data == whole(Message.OFFER, OTHER, FIRST)
    assert served.disk.waiting == [], "an offer is not kept"
    assert served.request(OTHER, FIRST) == []
    assert served.counted() == {"received": 2, "answered": 1}
    (lease,) = served.disk.commit()
    assert (lease.address, lease.hwaddr, lease.state) == (FIRST, OTHER, LeaseState.BOUND)
    assert served.wire.sent[1:] == [Sent(whole(Message.ACK, OTHER, FIRST), FIRST, bytes.fromhex("525400000002"), SERVER, False)]
    assert served.counted() == {"received": 2, "answered": 2}


def test_an_ack_whose_lease_could_not_be_saved_is_withheld() -> None:
    served = Served()
    served.ask(Message.DISCOVER, OTHER)
    served.request(OTHER, FIRST)
    served.disk.commit(FULL)
    assert [sent.message for sent in served.wire.sent] == [Message.OFFER]
    assert served.counted() == {"received": 2, "answered": 1, "unsaved": 1}
    # The client asks again; now there is room.
    assert served.request(OTHER, FIRST) == []
    served.disk.commit()
    assert [sent.message for sent in served.wire.sent] == [Message.OFFER, Message.ACK]


def test_acks_that_wait_for_the_disk_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(exchanges, "MAX_UNSAVED", 1)
    served = Served()
    for hwaddr, address in ((OTHER, FIRST), (THIRD, LAST)):
        assert [sent.packet.yiaddr for sent in served.ask(Message.DISCOVER, hwaddr)] == [address]
    served.request(OTHER, FIRST)
    served.request(THIRD, LAST)
    assert [lease.hwaddr for lease, _ in served.disk.waiting] == [OTHER]
    assert served.counted() == {"received": 4, "answered": 2, "unsaved": 1}
    assert served.request(NODE, NODES_ADDRESS), "a reservation waits for nobody"
    # What failed makes room as well as what was saved.
    for failure in (FULL, None):
        served.disk.commit(failure)
        served.request(THIRD, LAST)
        assert [lease.hwaddr for lease, _ in served.disk.waiting] == [THIRD]


def test_a_released_address_is_kept_so_and_goes_to_whoever_comes() -> None:
    served = Served()
    assert (served.bind(OTHER), served.bind(THIRD)) == (FIRST, LAST)
    assert served.ask(Message.DISCOVER, FOURTH) == [], "the range is used up"
    assert served.ask(Message.RELEASE, OTHER, options.SERVER_ID.pair(SERVER), ciaddr=FIRST) == []
    (lease,) = served.disk.commit()
    assert (lease.address, lease.hwaddr, lease.state) == (FIRST, OTHER, LeaseState.RELEASED)
    assert [sent.packet.yiaddr for sent in served.ask(Message.DISCOVER, FOURTH)] == [FIRST]
    assert served.counted()["ignored"] == 2


def test_nobody_releases_the_address_of_another() -> None:
    served = Served()
    assert (served.bind(OTHER), served.bind(THIRD)) == (FIRST, LAST)
    assert served.ask(Message.RELEASE, THIRD, options.SERVER_ID.pair(SERVER), ciaddr=FIRST) == []
    assert served.disk.waiting == []
    assert served.ask(Message.DISCOVER, FOURTH) == []


def test_a_declined_address_is_kept_so_and_given_to_nobody() -> None:
    served = Served()
    assert served.bind(OTHER) == FIRST
    declines = options.SERVER_ID.pair(SERVER), options.REQUESTED_ADDRESS.pair(FIRST)
    assert served.ask(Message.DECLINE, OTHER, *declines) == []
    (lease,) = served.disk.commit()
    assert (lease.address, lease.state) == (FIRST, LeaseState.DECLINED)
    assert [sent.packet.yiaddr for sent in served.ask(Message.DISCOVER, OTHER)] == [LAST]
    assert served.ask(Message.DECLINE, THIRD) == [], "of no address"
    assert served.counted()["declined"] == 1


WISH = options.REQUESTED_ADDRESS.pair(LAST)
STRANGER = "52:54:00:00:00:99"


def test_an_address_that_is_asked_for_by_name_is_offered_once_nobody_else_uses_it() -> None:
    served = Served()
    served.doubts = []
    for user in (None, OTHER):
        assert served.ask(Message.DISCOVER, OTHER, WISH) == []
        assert served.ask(Message.DISCOVER, OTHER, WISH) == [], "nor when it asks again"
        first, again = served.doubts
        assert (first.address, again.address) == (LAST, LAST)
        del served.doubts[0]
        assert [sent.data for sent in served.look(user)] == [whole(Message.OFFER, OTHER, LAST)], "its own does no harm"
        served = Served()
        served.doubts = []
    # Without a wish nobody waits.
    assert [sent.packet.yiaddr for sent in served.ask(Message.DISCOVER, OTHER)] == [FIRST]
    assert served.doubts == []


def test_an_address_that_somebody_uses_is_not_offered_to_who_asks_for_it(caplog: pytest.LogCaptureFixture) -> None:
    served = Served()
    served.doubts = []
    served.ask(Message.DISCOVER, OTHER, WISH)
    assert [sent.packet.yiaddr for sent in served.look(STRANGER)] == [FIRST]
    (lease,) = served.disk.commit()
    assert (lease.address, lease.hwaddr, lease.state) == (LAST, STRANGER, LeaseState.DECLINED)
    assert served.counted() == {"received": 1, "answered": 1, "conflicts": 1}
    assert f"dhcp {LAST} of the range is used by {STRANGER} on eth1, which did not get it here" in caplog.text


@pytest.mark.parametrize("server", [(), (options.SERVER_ID.pair(SERVER),)], ids=["INIT-REBOOT", "SELECTING"])
def test_an_address_that_was_had_long_ago_is_looked_at_before_it_is_acknowledged(
    server: tuple[tuple[int, bytes], ...],
) -> None:
    """After a restart, too, which forgets what was offered: the client says that it has an offer of ours."""
    served = Served()
    served.doubts = []
    if not server:
        served.exchanges.networks.table(str(NETWORK)).load([Lease(address=LAST, hwaddr=OTHER, expires=1000.0)])
    assert served.ask(Message.REQUEST, OTHER, WISH, *server) == []
    assert served.look(None) == []
    assert [lease.address for lease in served.disk.commit()] == [LAST]
    assert [sent.message for sent in served.wire.sent] == [Message.ACK]

    served = Served()
    served.doubts = []
    if not server:
        served.exchanges.networks.table(str(NETWORK)).load([Lease(address=LAST, hwaddr=OTHER, expires=1000.0)])
    served.ask(Message.REQUEST, OTHER, WISH, *server)
    (refused,) = served.look(STRANGER)
    assert refused.message is Message.NAK
    assert options.ERROR_MESSAGE.find(refused.packet.options) == f"{LAST} is used by another machine"
    assert [lease.state for lease in served.disk.commit()] == [LeaseState.DECLINED]


def test_what_cannot_be_looked_at_is_told_at_once() -> None:
    served = Served()
    assert [sent.packet.yiaddr for sent in served.ask(Message.DISCOVER, OTHER, WISH)] == [LAST]
    assert served.request(OTHER, LAST) == []
    assert [lease.address for lease in served.disk.commit()] == [LAST]


def test_what_is_not_told_is_not_looked_at() -> None:
    """A choice of another server, a wrong address, a machine that is to be ignored, a question about settings."""
    served = Served(unknown=Unknown.IGNORE)
    served.doubts = []
    served.ask(Message.DISCOVER, OTHER, WISH)
    served.config = replace(served.config, dhcp=replace(served.config.dhcp, unknown=Unknown.OFFER))
    served.exchanges.networks.table(str(NETWORK)).load([Lease(address=LAST, hwaddr=OTHER, expires=1000.0)])
    served.ask(Message.REQUEST, OTHER, WISH, options.SERVER_ID.pair(IPv4Address("10.0.0.9")))
    served.ask(Message.REQUEST, OTHER, options.REQUESTED_ADDRESS.pair(FIRST))
    served.ask(Message.INFORM, OTHER, ciaddr=LAST)
    assert served.doubts == []
    assert [sent.message for sent in served.wire.sent] == [Message.NAK, Message.ACK]


def test_a_doubt_of_a_network_that_is_served_no_longer_ends_there() -> None:
    served = Served()
    served.doubts = []
    served.ask(Message.DISCOVER, OTHER, WISH)
    served.exchanges.serve([], frozenset({SERVER}))
    assert served.look(None) == []


def test_what_came_by_another_interface_is_counted_and_not_read() -> None:
    served = Served()
    assert served.ask(Message.DISCOVER, NODE, ifindex=3) == []
    assert served.receive(b"noise", ifindex=3) == []
    assert served.counted() == {"received": 2, "elsewhere": 2}


def test_an_interface_that_is_served_no_longer() -> None:
    served = Served()
    served.exchanges.serve([], frozenset({SERVER}))
    assert served.ask(Message.DISCOVER, NODE) == []
    assert served.ask(Message.REQUEST, NODE, port=4011) == []
    assert served.counted() == {"received": 2, "elsewhere": 2}


def test_what_is_no_request_is_counted() -> None:
    served = Served()
    assert served.receive(b"noise") == []
    reply = Packet(op=Op.BOOTREPLY, xid=1, chaddr=bytes(6), options=dict([options.MESSAGE_TYPE.pair(Message.OFFER)]))
    assert served.receive(reply.serialize()) == []
    assert served.counted() == {"received": 2, "malformed": 1, "ignored": 1}
    assert served.receive(b"noise", port=4011) == []
    assert served.counted() == {"received": 3, "malformed": 2, "ignored": 1}


def test_a_reply_that_cannot_be_sent_is_counted_as_such(caplog: pytest.LogCaptureFixture) -> None:
    served = Served()
    served.wire.broken = True
    assert served.ask(Message.DISCOVER, NODE) == []
    assert served.counted() == {"received": 1, "unsent": 1}
    assert served.events == []
    served.wire.broken = False
    served.ask(Message.DISCOVER, NODE)
    served.exchanges.refused(served.wire, ("10.0.0.7", 68))
    assert served.counted() == {"received": 2, "unsent": 2}
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "dhcp replies to 10.0.0.7 cannot be sent on eth1: is there a route to it, and does the firewall let them out?"
    ]


def test_a_renewal_is_told_by_the_address_that_it_was_sent_to() -> None:
    """RENEWING comes to us alone, and is refused; REBINDING to everybody, of whom another may know the client."""
    served = Served()
    (refused,) = served.ask(Message.REQUEST, OTHER, ciaddr=FIRST)
    assert (refused.message, refused.destination) == (Message.NAK, BROADCAST)
    packet = Packet(
        op=Op.BOOTREQUEST,
        xid=0x77,
        ciaddr=FIRST,
        chaddr=bytes.fromhex("525400000002"),
        options=dict([options.MESSAGE_TYPE.pair(Message.REQUEST)]),
    )
    assert served.receive(packet.serialize(), local=BROADCAST) == []


def test_leases_of_an_earlier_run_are_known() -> None:
    served = Served()
    known = Lease(address=LAST, hwaddr=OTHER, expires=1e12, state=LeaseState.BOUND)
    served.exchanges.networks.load([known], 0)
    # A table takes its leases when its network is first served.
    served.config = replace(served.config, network=IPv4Network("10.0.0.0/25"))
    assert [sent.packet.yiaddr for sent in served.ask(Message.DISCOVER, OTHER)] == [LAST]


def test_a_clock_that_was_set_back_before_the_start_prolongs_no_lease(monkeypatch: pytest.MonkeyPatch) -> None:
    """By more than their own time; what an earlier version kept says nothing of that."""
    now = 1e9
    monkeypatch.setattr(exchanges, "steady", lambda: now)
    saved = [
        Lease(address=FIRST, hwaddr=OTHER, expires=now + 86_400, seconds=600),
        Lease(address=LAST, hwaddr=THIRD, expires=now + 86_400),
    ]
    served = Served()
    served.exchanges.networks.load(saved, now)
    served.config = replace(served.config, network=IPv4Network("10.0.0.0/25"))
    now += 599
    assert served.ask(Message.DISCOVER, FOURTH) == [], "the lease of ten minutes holds"
    now += 1
    (offer,) = served.ask(Message.DISCOVER, FOURTH)
    assert offer.packet.yiaddr == FIRST


def test_the_first_of_two_nodes_has_the_address() -> None:
    served = Served()
    devices = {"default": {"hwaddr": OTHER, "ipaddr": str(NODES_ADDRESS)}}
    nodes = {"n1": {"network devices": _DEVICES}, "n2": {"network devices": devices}}
    served.nodes = Registry.build(Snapshot(nodes=nodes), NETWORK)
    for _ in range(2):
        (first,), (second,) = served.ask(Message.DISCOVER, NODE), served.ask(Message.DISCOVER, OTHER)
        assert (first.packet.yiaddr, second.packet.yiaddr) == (NODES_ADDRESS, FIRST)


def test_nodes_and_settings_are_those_of_now() -> None:
    served = Served()
    (offer,) = served.ask(Message.DISCOVER, NODE)
    assert offer.packet.yiaddr == NODES_ADDRESS
    moved = {"default": {"hwaddr": NODE, "ipaddr": "10.0.0.9"}}
    served.nodes = Registry.build(Snapshot(nodes={"n1": {"network devices": moved}}), NETWORK)
    served.config = replace(served.config, dhcp=replace(served.config.dhcp, lease_seconds=800, unknown=Unknown.IGNORE))
    (offer,) = served.ask(Message.DISCOVER, NODE)
    assert offer.data == whole(Message.OFFER, NODE, IPv4Address("10.0.0.9"), options.HOST_NAME.pair("n1"), seconds=800)
    assert served.ask(Message.DISCOVER, OTHER) == []


def test_a_proxy_gives_no_address_and_answers_on_its_second_port() -> None:
    served = Served(mode=Mode.PROXY)
    rom = options.VENDOR_CLASS.pair("PXEClient:Arch:00007:UNDI:003016"), options.CLIENT_ARCH.pair((7,))
    assert served.ask(Message.DISCOVER, OTHER) == [], "an operating system gets nothing from it"
    (offer,) = served.ask(Message.DISCOVER, OTHER, *rom)
    assert (offer.message, offer.packet.yiaddr, offer.packet.file, offer.from_proxy) == (
        Message.OFFER,
        ZERO,
        b"snponly.efi",
        False,
    )
    assert served.request(OTHER, FIRST) == [], "a REQUEST is for the server that gave the address"
    (answer,) = served.ask(Message.REQUEST, OTHER, *rom, port=4011)
    assert (answer.message, answer.packet.file, answer.from_proxy) == (Message.ACK, b"snponly.efi", True)
    assert answer.destination == CLIENT
    assert served.disk.waiting == []


def test_what_is_said(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("DEBUG")
    served = Served()
    devices = {"default": {"hwaddr": OTHER, "ipaddr": str(NODES_ADDRESS)}}
    away = {"default": {"hwaddr": THIRD, "ipaddr": "192.0.2.7"}}
    nodes = {f"n{number}": {"network devices": each} for number, each in enumerate((_DEVICES, devices, away), 1)}
    served.nodes = Registry.build(Snapshot(nodes=nodes), NETWORK)

    def said(text: str) -> bool:
        found = any(text in line for line in caplog.messages)
        caplog.clear()
        return found

    served.ask(Message.DISCOVER, NODE)
    assert said(f"dhcp DISCOVER received hwaddr={NODE} node=n1 xid=00000077 if=eth1")
    served.ask(Message.DISCOVER, OTHER)
    assert said("node n2 does not get 10.0.0.7: node n1 has that address, too")
    served.ask(Message.DISCOVER, THIRD)
    assert said("node n3 asks on eth1, where 10.0.0.0/24 is served, but its address 192.0.2.7 is outside: it gets 10.0.0.101")
    served.ask(Message.DISCOVER, FOURTH)
    assert said("the range 10.0.0.100-10.0.0.101 of 10.0.0.0/24 is used up")
    served.request(OTHER, FIRST)
    served.disk.commit(FULL)
    assert said(f"no ACK for {OTHER}: its lease was not saved")
    served.request(OTHER, FIRST)
    served.disk.commit()
    served.ask(Message.DECLINE, OTHER, options.SERVER_ID.pair(SERVER), options.REQUESTED_ADDRESS.pair(FIRST))
    assert said(f"{OTHER} (node n2) found that another machine uses 10.0.0.100")
    served.receive(b"noise")
    assert said("dhcp from 0.0.0.0: ")
    served.wire.broken = True
    served.ask(Message.DISCOVER, NODE)
    assert said("dhcp OFFER to 10.0.0.7 could not be sent")


def test_a_relay_of_a_network_that_is_not_served_is_named(caplog: pytest.LogCaptureFixture) -> None:
    """And nothing is said of a range, which has room: the true word would not be heard for an hour."""
    served = Served()
    hwaddr = bytes.fromhex(OTHER.replace(":", ""))
    discover = dict([options.MESSAGE_TYPE.pair(Message.DISCOVER)])
    rack = {**discover, **dict([options.RELAY_AGENT.pair(bytes((5, 4, 10, 9, 0, 0)))])}
    for giaddr, raw in ((IPv4Address("10.9.0.1"), discover), (IPv4Address("10.0.0.254"), rack)):
        packet = Packet(op=Op.BOOTREQUEST, giaddr=giaddr, chaddr=hwaddr, options=raw)
        assert served.receive(packet.serialize()) == []
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        f"dhcp relay {relay} asks for a machine on the network of {selector}, which is not served: it gets no answer; "
        "name that network under `bootsvc: dhcp: subnets` in warewulf.conf"
        for relay, selector in (("10.9.0.1", "10.9.0.1"), ("10.0.0.254", "10.9.0.0"))
    ]
    caplog.clear()
    served.config = replace(served.config, dhcp=replace(served.config.dhcp, unknown=Unknown.IGNORE))
    served.receive(Packet(op=Op.BOOTREQUEST, giaddr=IPv4Address("10.8.0.1"), chaddr=hwaddr, options=discover).serialize())
    assert not [record for record in caplog.records if record.levelname == "WARNING"], "not for us"


def test_a_node_without_an_address_is_named_where_nothing_is_lent(caplog: pytest.LogCaptureFixture) -> None:
    served = Served(range_start=None, range_end=None)
    served.nodes = Registry.build(Snapshot(nodes={"n1": {"network devices": {"default": {"hwaddr": NODE}}}}), NETWORK)
    for hwaddr in (NODE, NODE, OTHER):
        assert served.ask(Message.DISCOVER, hwaddr) == []
    assert [record.getMessage() for record in caplog.records if record.levelname == "WARNING"] == [
        "dhcp node n1 has no address on 10.0.0.0/24, and no range is configured there: it gets none; give it one "
        "(`wwctl node set n1 --ipaddr`), or set a range"
    ]


def test_a_clock_that_is_set_back_ends_no_lease_and_prolongs_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nor does one that is set forward: its machine would lose the address to another one."""
    passed, set_by = 0.0, 0.0
    begun = time.time()
    monkeypatch.setattr(time, "time", lambda: begun + passed + set_by)
    monkeypatch.setattr(time, "clock_gettime", lambda clock: 1000.0 + passed)
    monkeypatch.setattr(clock, "_OFFSET", begun - 1000.0)
    served = Served(range_end=FIRST)
    assert served.bind(OTHER) == FIRST
    set_by, passed = 86_400.0, 60.0
    assert served.ask(Message.DISCOVER, THIRD) == [], "the lease of ten minutes holds"
    set_by, passed = -86_400.0, 601.0
    (offer,) = served.ask(Message.DISCOVER, THIRD)
    assert offer.packet.yiaddr == FIRST, "and no longer"


def test_a_node_that_boots_and_gets_nothing_has_that_in_its_record() -> None:
    served = Served()
    devices = {"default": {"hwaddr": NODE, "ipaddr": "10.0.0.255"}}
    served.nodes = Registry.build(Snapshot(nodes={"n1": {"network devices": devices}}), NETWORK)
    pxe = options.VENDOR_CLASS.pair("PXEClient:Arch:00007:UNDI:003000")
    for hwaddr, *pairs in ((NODE, pxe), (NODE,), (OTHER, pxe)):
        served.ask(Message.DISCOVER, hwaddr, *pairs)
    why = "10.0.0.255 is an address that no machine in 10.0.0.0/24 can have"
    assert served.events == [
        (NODE, "n1", "DHCP DISCOVER", f"NO_ADDRESS: {why}", None),
        (OTHER, None, "DHCP OFFER", "snponly.efi", FIRST),
    ], "an operating system boots nothing here"
    assert sent_and_why(f"NO_ADDRESS: {why}") == ("NO_ADDRESS", why)


def test_a_flood_does_not_fill_the_disk(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """And a cluster of 5 000 machines that powers on is written down whole."""
    caplog.set_level("INFO")
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    monkeypatch.setattr(caplog.handler, "emit", lambda record: caplog.handler.records.append(record))
    served = Served()
    for _ in range(5000):
        served.ask(Message.DISCOVER, NODE)
    assert len(caplog.records) == 10_000
    for _ in range(10):
        now += 1
        for _ in range(100):
            served.ask(Message.DISCOVER, NODE)
    assert len(caplog.records) <= 11_001, "what was left out is said, too"
