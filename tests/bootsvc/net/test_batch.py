"""Datagrams read and sent in one system call, between sockets on loopback."""

import socket
from collections.abc import Iterator

import pytest

from bootsvc.net.batch import Inbox, Memory, Outbox, client_of, peer_of


def bound() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    made.bind(("127.0.0.1", 0))
    return made


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    with bound() as ours, bound() as theirs:
        yield ours, theirs


Pair = tuple[socket.socket, socket.socket]


@pytest.mark.parametrize("client", [("192.0.2.1", 69), ("255.255.255.255", 65535), ("0.0.0.1", 1)])
def test_a_peer_is_an_address_and_a_port(client: tuple[str, int]) -> None:
    assert client_of(peer_of(client)) == client


def test_all_that_waits_is_read(pair: Pair) -> None:
    ours, theirs = pair
    inbox = Inbox(ours, stride=16, count=4)
    assert inbox.receive() == 0
    for data in (b"one", b"", b"longer than a slot", b"four", b"five"):
        theirs.sendto(data, ours.getsockname())
    assert inbox.receive() == 4
    assert [inbox.data(index) for index in range(4)] == [b"one", b"", b"longer than a sl", b"four"]
    assert {client_of(inbox.peers[index]) for index in range(4)} == {theirs.getsockname()}
    assert inbox.receive() == 1
    assert inbox.data(0) == b"five", "nothing is left of what was longer"


def test_addresses_are_peers_without_a_port(pair: Pair) -> None:
    ours, theirs = pair
    with bound() as third:
        for each in (theirs, third):
            each.sendto(b"x", ours.getsockname())
        inbox = Inbox(ours, stride=16, count=4)
        assert inbox.receive() == 2
        assert inbox.peers[0] != inbox.peers[1]
        assert inbox.addresses[0] == inbox.addresses[1]


def test_heads_are_numbers_and_nothing_is_left_of_what_was_longer(pair: Pair) -> None:
    ours, theirs = pair
    inbox = Inbox(ours, stride=16, count=4)
    for data in (b"\0\4\0\1", b"\0\4\xff\xff", b"\1\2\3\4five"):
        theirs.sendto(data, ours.getsockname())
    assert inbox.receive() == 3
    assert list(inbox.heads(3)) == [0x40001, 0x4FFFF, 0x1020304]
    assert list(inbox.senders(3)) == [peer_of(theirs.getsockname())] * 3
    for data in (b"\0\4\0", b"\0\4\0\7", b""):
        theirs.sendto(data, ours.getsockname())
    assert inbox.receive() == 3
    assert list(inbox.heads(3)) == [0, 0x40007, 0]


def test_copies_leave_in_their_order(pair: Pair) -> None:
    ours, theirs = pair
    outbox = Outbox(ours, count=3, stride=8)
    peer = peer_of(theirs.getsockname())
    for _ in range(2):
        for data in (b"12345678", b"", b"ab"):
            outbox.put(peer, data)
        assert outbox.waiting == 3
        assert list(outbox.flush()) == []
        assert [theirs.recv(100) for _ in range(3)] == [b"12345678", b"", b"ab"]
    assert list(outbox.flush()) == []


def test_memory_is_cut_into_segments_where_that_is_asked_for(pair: Pair) -> None:
    ours, theirs = pair
    outbox = Outbox(ours, count=2)
    peer = peer_of(theirs.getsockname())
    for _ in range(2):
        outbox.refer(peer, Memory(b"aabbc"), 0, 5, segment=2)
        outbox.refer(peer, Memory(b"ddee"), 2, 2)
        assert list(outbox.flush()) == []
        assert [theirs.recv(100) for _ in range(4)] == [b"aa", b"bb", b"c", b"ee"]
        # The slot that had segments has none now.
        outbox.refer(peer, Memory(b"ffgg"), 0, 4)
        assert list(outbox.flush()) == []
        assert theirs.recv(100) == b"ffgg"


def test_one_datagram_for_each_peer(pair: Pair) -> None:
    ours, theirs = pair
    memory = Memory(b"aabbccdd")
    with bound() as third:
        outbox = Outbox(ours, count=4)
        first, other = peer_of(theirs.getsockname()), peer_of(third.getsockname())
        outbox.refer(first, memory, 0, 8, segment=2)
        assert list(outbox.flush()) == []
        assert [theirs.recv(100) for _ in range(4)] == [b"aa", b"bb", b"cc", b"dd"]
        outbox.refer(first, memory, 0, 3)
        outbox.refer_each([other, first], [memory.address + 2, 4, memory.address + 6, 2], [memory, memory])
        assert outbox.waiting == 3
        assert list(outbox.flush()) == []
        assert [theirs.recv(100) for _ in range(2)] == [b"aab", b"dd"]
        assert third.recv(100) == b"bbcc"


def test_what_the_kernel_refuses_is_handed_back_and_the_others_leave(pair: Pair) -> None:
    ours, theirs = pair
    outbox = Outbox(ours, count=4)
    peer, nobody = peer_of(theirs.getsockname()), ("255.255.255.255", 9)
    outbox.refer(peer, Memory(b"first"), 0, 5)
    outbox.refer(peer_of(nobody), Memory(b"broadcast"), 0, 9)
    outbox.refer(peer_of(nobody), Memory(b"broadcast"), 0, 9, segment=4)
    outbox.refer(peer, Memory(b"last"), 0, 4)
    assert list(outbox.flush()) == [(nobody, b"broadcast", 0), (nobody, b"broadcast", 4)]
    assert [theirs.recv(100) for _ in range(2)] == [b"first", b"last"]
