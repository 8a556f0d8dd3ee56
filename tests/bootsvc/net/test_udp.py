"""Datagrams with their local address and interface; frames that scapy checks."""

import asyncio
import socket
from ipaddress import IPv4Address

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.inet import IP, UDP

from bootsvc.errors import PortUnavailable
from bootsvc.net.batch import Client
from bootsvc.net.udp import MAX_BATCH, MAX_DATAGRAM, MAX_PER_WAKEUP, Budget, Datagram, UdpEndpoint, ipv4_udp

LOOPBACK = IPv4Address("127.0.0.1")
SECOND = IPv4Address("127.0.0.2")


class Received:
    """Collects datagrams; `count(n)` waits for the nth."""

    def __init__(self) -> None:
        self.datagrams: list[Datagram] = []
        self._arrived = asyncio.Event()

    def __call__(self, datagram: Datagram) -> None:
        self.datagrams.append(datagram)
        self._arrived.set()

    async def count(self, number: int) -> list[Datagram]:
        async with asyncio.timeout(10):
            while len(self.datagrams) < number:
                self._arrived.clear()
                await self._arrived.wait()
        return self.datagrams


async def test_arrival_and_source_address() -> None:
    server, client = UdpEndpoint.open(IPv4Address(0), 0), UdpEndpoint.open(LOOPBACK, 0)
    try:
        asked, answered = Received(), Received()
        server.start(asked)
        client.start(answered)
        client.send(b"hello", SECOND, server.port)
        (datagram,) = await asked.count(1)
        index = socket.if_nametoindex("lo")
        assert datagram == Datagram(data=b"hello", source=LOOPBACK, port=client.port, ifindex=index, local=SECOND)
        # The answer comes from the address that was asked, which is not the one the kernel would choose.
        server.send(b"hi", LOOPBACK, client.port, ifindex=index, source=SECOND)
        assert [each.source for each in await answered.count(1)] == [SECOND]
    finally:
        server.close()
        client.close()


async def test_a_burst_is_drained_and_an_error_in_the_callback_costs_one_datagram(
    caplog: pytest.LogCaptureFixture,
) -> None:
    server, client = UdpEndpoint.open(LOOPBACK, 0), UdpEndpoint.open(LOOPBACK, 0)
    received = Received()

    def receive(datagram: Datagram) -> None:
        if datagram.data == b"3":
            raise RuntimeError("three")
        received(datagram)

    try:
        number = MAX_PER_WAKEUP * 3
        for index in range(number):
            client.send(str(index).encode(), LOOPBACK, server.port)
        server.start(receive)
        assert len(await received.count(number - 1)) == number - 1
        assert "RuntimeError: three" in caplog.text
    finally:
        server.close()
        client.close()


async def test_close_from_the_callback_and_twice() -> None:
    server, client = UdpEndpoint.open(LOOPBACK, 0), UdpEndpoint.open(LOOPBACK, 0)
    received = Received()

    def receive(datagram: Datagram) -> None:
        received(datagram)
        server.close()

    client.send(b"1", LOOPBACK, server.port)
    client.send(b"2", LOOPBACK, server.port)
    server.start(receive)
    await received.count(1)
    server.close()
    client.close()
    assert len(received.datagrams) == 1


async def test_a_port_that_is_taken_is_said() -> None:
    server = UdpEndpoint.open(LOOPBACK, 0)
    try:
        with pytest.raises(PortUnavailable, match=rf"cannot listen on UDP port {server.port} of 127.0.0.1: ") as caught:
            UdpEndpoint.open(LOOPBACK, server.port)
        assert caught.value.hint
    finally:
        server.close()


@pytest.mark.parametrize(
    ("data", "to"), [(bytes(MAX_DATAGRAM + 1), LOOPBACK), (b"x", IPv4Address("255.255.255.254"))], ids=["long", "unroutable"]
)
async def test_what_cannot_be_sent_is_told_and_costs_no_other(data: bytes, to: IPv4Address) -> None:
    endpoint, client = UdpEndpoint.open(LOOPBACK, 0), UdpEndpoint.open(LOOPBACK, 0)
    refused: list[Client] = []
    received = Received()
    try:
        endpoint.start(Received(), refused=refused.append)
        client.start(received)
        endpoint.send(b"before", LOOPBACK, client.port)
        endpoint.send(data, to, 9)
        endpoint.send(b"after", LOOPBACK, client.port)
        assert [each.data for each in await received.count(2)] == [b"before", b"after"]
        assert refused == [(str(to), 9)]
    finally:
        endpoint.close()
        client.close()


async def test_what_waits_is_sent_before_the_port_is_closed() -> None:
    endpoint, client = UdpEndpoint.open(LOOPBACK, 0), UdpEndpoint.open(LOOPBACK, 0)
    received = Received()
    try:
        client.start(received)
        endpoint.send(b"last", LOOPBACK, client.port)
        endpoint.close()
        assert [each.data for each in await received.count(1)] == [b"last"]
    finally:
        client.close()


async def test_more_than_one_batch_leaves_in_order_each_from_its_own_address() -> None:
    endpoint, client = UdpEndpoint.open(IPv4Address(0), 0), UdpEndpoint.open(LOOPBACK, 0)
    received = Received()
    try:
        client.start(received)
        sent = [(str(number).encode(), (None, LOOPBACK, SECOND)[number % 3]) for number in range(3 * MAX_BATCH + 1)]
        for data, source in sent:
            endpoint.send(data, LOOPBACK, client.port, source=source)
        found = await received.count(len(sent))
        assert [(each.data, each.source) for each in found] == [(data, source or LOOPBACK) for data, source in sent]
    finally:
        endpoint.close()
        client.close()


@given(st.binary(max_size=1472), st.integers(0, 2**32 - 1), st.integers(1, 65535))
def test_frames_as_scapy_reads_them(data: bytes, address: int, port: int) -> None:
    frame = ipv4_udp(data, (LOOPBACK, 67), (IPv4Address(address), port), identification=7)
    parsed = IP(frame)
    assert (parsed.src, parsed.dst, parsed.ttl, parsed.id) == ("127.0.0.1", str(IPv4Address(address)), 64, 7)
    assert (parsed[UDP].sport, parsed[UDP].dport, bytes(parsed[UDP].payload)) == (67, port, data)
    rebuilt = parsed.copy()
    del rebuilt.chksum, rebuilt[UDP].chksum
    assert bytes(rebuilt) == frame, "checksums"


def test_budget() -> None:
    budget = Budget(rate=2, burst=3)
    assert [budget.take(100.0) for _ in range(4)] == [True, True, True, False]
    assert [budget.take(100.5), budget.take(100.5)] == [True, False]
    assert [budget.take(1000.0) for _ in range(4)] == [True, True, True, False]


async def test_what_is_urgent_comes_first_of_what_waits() -> None:
    server, client = UdpEndpoint.open(LOOPBACK, 0), UdpEndpoint.open(LOOPBACK, 0)
    received = Received()
    try:
        for data in (b"later 1", b"now 1", b"later 2", b"now 2"):
            client.send(data, LOOPBACK, server.port)
        server.start(received, urgent=lambda datagram: datagram.data.startswith(b"later"))
        found = await received.count(4)
        assert [each.data for each in found] == [b"now 1", b"now 2", b"later 1", b"later 2"]
    finally:
        server.close()
        client.close()
