"""One transfer as a pure machine: negotiation, loss, duplicates, windows, roll-over, and the ways it ends."""

import random

import pytest

from bootsvc.tftp.files import Memory
from bootsvc.tftp.packet import Ack, Data, ErrorPacket, OptionAck, Packet, ReadRequest
from bootsvc.tftp.session import MAX_RETRIES, NONE_AWAITED, Outcome, ReadSession, netascii


def session(data: bytes, **options: str) -> ReadSession:
    return ReadSession(ReadRequest(filename="f", options=options), Memory(data))


def fetch(made: ReadSession, *, loss: float = 0.0, seed: int = 0) -> bytes:
    """A client that acknowledges what comes in sequence, on a line that loses packets both ways."""
    line, now, got, expected = random.Random(seed), 0.0, b"", 1
    under_way = made.start(now)
    for _ in range(200_000):
        if made.outcome is not Outcome.RUNNING:
            return got
        acks: list[Ack] = []
        for index, packet in enumerate(under_way):
            if line.random() < loss:
                continue
            if isinstance(packet, OptionAck):
                acks.append(Ack(block=0))
                continue
            assert isinstance(packet, Data)
            if packet.block == expected & 0xFFFF:
                got += packet.data
                expected += 1
            if index + 1 == len(under_way):
                acks.append(Ack(block=(expected - 1) & 0xFFFF))
        under_way = [reply for ack in acks if line.random() >= loss for reply in made.receive(ack, now)]
        if not under_way:
            now += 1.0
            under_way = made.tick(now)
    raise AssertionError("no end")


@pytest.mark.parametrize("size", [0, 1, 511, 512, 513, 1024, 5000])
@pytest.mark.parametrize("options", [{}, {"blksize": "1468"}, {"blksize": "8", "windowsize": "4"}, {"tsize": "0"}])
@pytest.mark.parametrize("loss", [0.0, 0.1])
def test_every_size_arrives(size: int, options: dict[str, str], loss: float) -> None:
    data = random.Random(size).randbytes(size)
    made = session(data, **options)
    assert fetch(made, loss=loss, seed=size) == data
    assert (made.outcome, made.acked_bytes) == (Outcome.COMPLETE, size)


@pytest.mark.parametrize("options", [{"blksize": "8"}, {"blksize": "8", "windowsize": "16"}])
def test_block_numbers_roll_over(options: dict[str, str]) -> None:
    data = random.Random(1).randbytes(8 * 70_000 + 3)
    assert fetch(session(data, **options)) == data


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        ({}, None),
        ({"unknown": "1"}, None),
        ({"blksize": "1468", "tsize": "0"}, {"blksize": "1468", "tsize": "1000"}),
        ({"blksize": "65464"}, {"blksize": "65464"}),
        ({"blksize": "70000"}, {"blksize": "65464"}),
        ({"blksize": "7"}, None),
        ({"blksize": "-8"}, None),
        ({"blksize": "8" * 30}, None),
        ({"blksize": "abc", "tsize": "0"}, {"tsize": "1000"}),
        ({"timeout": "3"}, {"timeout": "3"}),
        ({"timeout": "0"}, None),
        ({"timeout": "256"}, None),
        ({"windowsize": "4", "blksize": "1024"}, {"blksize": "1024", "windowsize": "4"}),
        ({"windowsize": "65535", "blksize": "1024"}, {"blksize": "1024", "windowsize": "64"}),
        ({"windowsize": "9", "blksize": "65464"}, {"blksize": "65464", "windowsize": "1"}),
    ],
)
def test_negotiation(asked: dict[str, str], granted: dict[str, str] | None) -> None:
    made = session(bytes(1000), **asked)
    expected = OptionAck(options=granted) if granted is not None else Data(block=1, data=bytes(512))
    assert made.start(0) == [expected]


def test_the_steps_of_a_transfer() -> None:
    made = session(b"abcdefghijklm", blksize="8")
    assert made.start(0) == [OptionAck(options={"blksize": "8"})]
    assert made.receive(Ack(block=5), 0) == []
    assert made.receive(Ack(block=0), 0) == [Data(block=1, data=b"abcdefgh")]
    assert made.receive(Ack(block=0), 0) == [], "a doubled ACK is not answered (RFC 1123)"
    assert made.receive(Ack(block=2), 0) == [], "an ACK of what was not sent"
    assert made.receive(Ack(block=1), 0) == [Data(block=2, data=b"ijklm")]
    before = made.outcome
    assert made.receive(Ack(block=2), 0) == []
    assert (before, made.outcome) == (Outcome.RUNNING, Outcome.COMPLETE)
    assert made.receive(Ack(block=2), 0) == []


@pytest.mark.parametrize("options", [{"blksize": "8"}, {"blksize": "8", "windowsize": "1"}, {"timeout": "2"}, {}])
def test_the_short_way_is_the_long_one(options: dict[str, str]) -> None:
    """Whatever comes in: `follow` says for the awaited ACK what `acknowledge` would, and both go on alike."""
    line, now, taken = random.Random(5), 0.0, 0
    data = line.randbytes(8 * 66_000 if options.get("blksize") else 9000)
    short, long = session(data, **options), session(data, **options)
    assert short.begin(now) == long.begin(now)
    while long.outcome is Outcome.RUNNING:
        block = long.acked_bytes // long.terms.blksize
        if line.random() < 0.9:
            block += 1
        elif line.random() < 0.2:
            block = line.randrange(0x10000)
        now += 0.01 if line.random() < 0.99 else line.choice([1.0, 2.0, 8.0])
        assert short.again(now) == long.again(now)
        block &= 0xFFFF
        expected = long.acknowledge(block, now)
        if short.awaited == 4 << 16 | block:
            number, taken = short.follow(now), taken + 1
            assert range(number, number + 1) == expected
        else:
            assert short.acknowledge(block, now) == expected
        assert (short.acked_bytes, short.expired(now + 1)) == (long.acked_bytes, long.expired(now + 1))
    assert (short.outcome, short.awaited) == (long.outcome, NONE_AWAITED)
    assert taken > long.last // 2


def test_nothing_is_awaited_once_a_transfer_has_ended() -> None:
    made = session(bytes(5000))
    made.start(0)
    assert made.awaited == 4 << 16 | 1
    made.receive(ErrorPacket(code=0), 0)
    assert (made.outcome, made.awaited) == (Outcome.ABORTED, NONE_AWAITED)


def test_with_a_window_acknowledge_is_asked() -> None:
    made = session(bytes(5000), windowsize="4")
    made.start(0)
    assert made.awaited == NONE_AWAITED
    made.receive(Ack(block=0), 0)
    assert made.awaited == NONE_AWAITED


def test_a_window_goes_on_after_a_gap() -> None:
    made = session(bytes(range(64)), blksize="8", windowsize="4")
    made.start(0)

    def numbers(packets: list[Packet]) -> list[int]:
        return [packet.block for packet in packets if isinstance(packet, Data)]

    assert numbers(made.receive(Ack(block=0), 0)) == [1, 2, 3, 4]
    assert numbers(made.receive(Ack(block=2), 0)) == [3, 4, 5, 6]
    assert numbers(made.receive(Ack(block=2), 0)) == [3, 4, 5, 6], "the first block of the window was lost"
    assert numbers(made.receive(Ack(block=2), 0)) == [], "but only once"
    assert numbers(made.receive(Ack(block=6), 0)) == [7, 8, 9]


def test_retransmission_backs_off_and_ends() -> None:
    made = session(bytes(600))
    first = made.start(0.0)
    times = []
    for tenth in range(1, 2000):
        if made.tick(tenth / 10) == first:
            times.append(tenth / 10)
    assert times == [1.0, 3.0, 7.0, 15.0, 23.0, 31.0]
    assert len(times) == MAX_RETRIES
    assert made.outcome is Outcome.TIMED_OUT


def test_progress_resets_the_back_off() -> None:
    made = session(bytes(2000), timeout="2")
    made.start(0)
    assert not made.expired(1.9)
    assert made.tick(2.0)
    made.receive(Ack(block=0), 5.0)
    assert not made.expired(6.9)
    assert made.expired(7.0)


@pytest.mark.parametrize("code", [0, 8])
def test_a_size_probe_is_no_failure(code: int) -> None:
    made = session(bytes(600), tsize="0")
    made.start(0)
    assert made.receive(ErrorPacket(code=code, message="User aborted the transfer"), 0) == []
    assert made.outcome is Outcome.PROBED


def test_an_abort_in_the_middle_is_a_failure() -> None:
    made = session(bytes(5000))
    made.start(0)
    made.receive(Ack(block=1), 0)
    made.receive(ErrorPacket(code=3, message="disk full"), 0)
    assert (made.outcome, made.acked_bytes) == (Outcome.ABORTED, 512)


def test_data_from_the_client_ends_the_transfer() -> None:
    made = session(bytes(600))
    made.start(0)
    (error,) = made.receive(Data(block=1, data=b""), 0)
    assert isinstance(error, ErrorPacket)
    assert (error.code, made.outcome) == (4, Outcome.ABORTED)


def test_netascii() -> None:
    assert netascii(b"a\nb\rc\r\n") == b"a\r\nb\r\0c\r\0\r\n"
