"""The TFTP codec: round trips, hostile bytes, and scapy in both directions (tftpy is inside ours)."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scapy.layers.tftp import TFTP, TFTP_DATA, TFTP_ERROR, TFTP_OACK, TFTP_RRQ, TFTP_Option, TFTP_Options

from bootsvc.errors import MalformedPacket
from bootsvc.tftp.packet import (
    Ack,
    Data,
    ErrorPacket,
    OptionAck,
    Packet,
    ReadRequest,
    WriteRequest,
    parse,
    serialize,
)

blocks = st.integers(0, 65535)
words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=20)
option_sets = st.dictionaries(words.map(str.lower), words, max_size=5)
packets: st.SearchStrategy[Packet] = st.one_of(
    st.builds(ReadRequest, filename=words, options=option_sets),
    st.builds(WriteRequest, filename=words, options=option_sets),
    st.builds(Data, block=blocks, data=st.binary(max_size=600)),
    st.builds(Ack, block=blocks),
    st.builds(ErrorPacket, code=blocks, message=words),
    st.builds(OptionAck, options=option_sets.filter(bool)),
)


@given(packets)
def test_round_trip_and_truncation(packet: Packet) -> None:
    data = serialize(packet)
    assert parse(data) == packet
    for end in range(len(data)):
        with suppress(MalformedPacket):
            parse(data[:end])


@given(st.integers(0, 8), st.binary(max_size=300))
def test_random_bytes(opcode: int, rest: bytes) -> None:
    with suppress(MalformedPacket):
        parse(opcode.to_bytes(2, "big") + rest)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\0",
        b"\0\x01",
        b"\0\x09abcd",
        b"\0\x01name",
        b"\0\x01name\0octet",
        b"\0\x01n\xc3\xa4me\0octet\0",  # tftpy lets UnicodeDecodeError escape
        b"\0\x01name\0octet\0\0x\0",
        b"\0\x01" + b"a" * 3000 + b"\0octet\0",
    ],
)
def test_malformed(data: bytes) -> None:
    with pytest.raises(MalformedPacket) as caught:
        parse(data)
    assert caught.value.protocol == "tftp"


def test_a_padded_request_is_understood() -> None:
    assert parse(b"\0\x01a\0OCTET\0BLKSIZE\x001432\0" + bytes(30)) == ReadRequest(filename="a", options={"blksize": "1432"})


@pytest.mark.parametrize("more", [b"multicast\0\0", b"multicast\0\0" + bytes(30), b"multicast\0"])
def test_an_option_without_a_value_is_one_that_we_do_not_know(more: bytes) -> None:
    known = ReadRequest(filename="a", options={"blksize": "1432"})
    assert parse(b"\0\x01a\0octet\0blksize\x001432\0" + more) == known
    assert parse(b"\0\x01a\0octet\0multicast\0\0blksize\x001432\0") == known


def test_scapy_builds_and_we_parse() -> None:
    request = (
        TFTP()
        / TFTP_RRQ(filename=b"undionly.kpxe", mode=b"octet")
        / TFTP_Options(options=[TFTP_Option(oname=b"tsize", value=b"0"), TFTP_Option(oname=b"blksize", value=b"1468")])
    )
    expected = ReadRequest(filename="undionly.kpxe", options={"tsize": "0", "blksize": "1468"})
    assert parse(bytes(request)) == expected
    assert parse(bytes(TFTP() / TFTP_DATA(block=7) / b"data")) == Data(block=7, data=b"data")
    assert parse(bytes(TFTP() / TFTP_ERROR(errorcode=8, errormsg=b"User aborted"))) == ErrorPacket(
        code=8, message="User aborted"
    )


def test_we_build_and_scapy_parses() -> None:
    oack = TFTP(serialize(OptionAck(options={"tsize": "9", "blksize": "1468"})))
    assert TFTP_OACK in oack
    assert [(each.oname, each.value) for each in oack[TFTP_Options].options] == [(b"tsize", b"9"), (b"blksize", b"1468")]
    data = TFTP(serialize(Data(block=65535, data=b"xyz")))
    assert (data[TFTP_DATA].block, bytes(data[TFTP_DATA].payload)) == (65535, b"xyz")
    error = TFTP(serialize(ErrorPacket(code=1, message="file not found")))
    assert (error[TFTP_ERROR].errorcode, error[TFTP_ERROR].errormsg) == (1, b"file not found")
