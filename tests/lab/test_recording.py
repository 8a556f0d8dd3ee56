"""What the recorder makes of datagrams, and that the tests' reader finds the same in it."""

from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import pytest
import recording
from captured import load_conversation
from clients import CLIENTS
from recording import Asker, Datagram, conversation, dhcp_exchanges, tftp_exchanges
from scapy.layers.dhcp import BOOTP, DHCP
from scapy.layers.inet import IP, UDP
from scapy.layers.l2 import Ether
from scapy.utils import wrpcap
from scenario import FOLDER, Scenario, load_scenario

HEAD, NODE, NOBODY = IPv4Address("10.77.0.1"), IPv4Address("10.77.0.11"), IPv4Address(0)
HWADDR, OTHER = "52:54:00:b0:07:01", "52:54:00:b0:07:02"
ASKER = Asker(name="n1", hwaddr=HWADDR, address=IPv4Interface("10.77.0.11/24"))
LOG = f"""dhcp DISCOVER received hwaddr={HWADDR} node=- xid=00000007 if=br0
dhcp DISCOVER received hwaddr={OTHER} node=n2 xid=00000007 if=br0
dhcp DISCOVER received hwaddr={HWADDR} node=n1 xid=00000007 if=br0
"""


def dhcp(op: int, kind: str, source: IPv4Address, to: IPv4Address, *, hwaddr: str = HWADDR, xid: int = 7) -> Datagram:
    body = BOOTP(op=op, xid=xid, chaddr=bytes.fromhex(hwaddr.replace(":", ""))) / DHCP(options=[("message-type", kind), "end"])
    ports = (68, 67) if op == 1 else (67, 68)
    return Datagram(source=(source, ports[0]), destination=(to, ports[1]), data=bytes(body))


def tftp(data: bytes, *, port: int, answer: bool = False) -> Datagram:
    client = (NODE, port)
    return Datagram(source=(HEAD, 40000) if answer else client, destination=client if answer else (HEAD, 69), data=data)


def test_dhcp_requests_of_the_machine_with_their_replies_and_nodes() -> None:
    first, again = (dhcp(1, "discover", NOBODY, recording.BROADCAST) for _ in range(2))
    offer = dhcp(2, "offer", HEAD, NODE)
    others = [
        dhcp(1, "discover", NOBODY, recording.BROADCAST, hwaddr=OTHER),
        dhcp(2, "offer", HEAD, NODE, hwaddr=OTHER),
        dhcp(2, "offer", IPv4Address("10.77.0.2"), recording.BROADCAST),
        dhcp(1, "request", NODE, IPv4Address("10.77.0.2")),
    ]
    found = dhcp_exchanges([first, *others, again, offer], HEAD, HWADDR, LOG)
    assert [(each.request, each.node, each.reply) for each in found] == [(first, "-", None), (again, "n1", offer)]


def test_tftp_requests_with_their_first_answers() -> None:
    probe, request = b"\0\1a\0octet\0tsize\0000\0", b"\0\1a\0octet\0"
    oack, data = b"\0\6tsize\0005\0", b"\0\3\0\1hello"
    datagrams = [
        tftp(probe, port=1024),
        tftp(oack, port=1024, answer=True),
        tftp(request, port=1025),
        tftp(request, port=1025),
        tftp(data, port=1025, answer=True),
        tftp(b"\0\3\0\1other", port=1025, answer=True),
    ]
    found = tftp_exchanges(datagrams, HEAD)
    assert [(each.request.data, each.reply.data if each.reply else None) for each in found] == [(probe, oack), (request, data)]


@pytest.mark.parametrize("data", [b"", bytes(300), b"\n" * 100, bytes(11) + b"x" + bytes(12), bytes(range(256)) * 4])
def test_the_reader_finds_what_was_written(tmp_path: Path, data: bytes) -> None:
    discover = dhcp(1, "discover", NOBODY, recording.BROADCAST)
    offer = Datagram(source=(HEAD, 67), destination=(NODE, 68), data=dhcp(2, "offer", HEAD, NODE).data + data)
    exchanges = dhcp_exchanges([discover, offer, discover], HEAD, HWADDR, LOG)
    path = tmp_path / "x.txt"
    path.write_text(conversation(["A title", "versions"], {"ipaddr": "10.77.0.1"}, ASKER, exchanges))
    found = load_conversation(path)
    assert (found.name, found.conf, found.node, found.hwaddr) == ("x", {"ipaddr": "10.77.0.1"}, "n1", HWADDR)
    assert [(each.title, each.data) for each in found.sent] == [
        ("DISCOVER", discover.data),
        ("OFFER", offer.data),
        ("DISCOVER", discover.data),
    ]
    assert [(each.source, each.destination) for each in found.sent][1] == (offer.source, offer.destination)
    assert [each.known for each in found.exchanges] == [False, True]


def test_what_is_to_be_recorded_is_there_and_nothing_else() -> None:
    scenarios = [load_scenario(path.stem) for path in FOLDER.glob("*.toml")]
    nodes = [each for each in scenarios if isinstance(each, Scenario)]
    recorded = {each.name for each in nodes if each.recorded} | {f"client-{each.name}" for each in CLIENTS}
    folder = recording.FOLDERS["dhcp"]
    assert {path.stem for path in folder.glob("*.txt")} == {path.stem for path in folder.glob("*.golden")} == recorded
    assert {path.stem for path in recording.FOLDERS["tftp"].iterdir()} <= recorded


def test_a_frame_is_read_without_its_padding(tmp_path: Path) -> None:
    frame = Ether(src=HWADDR) / IP(src=str(NODE), dst=str(HEAD)) / UDP(sport=1024, dport=69) / b"\0\4\0\1"
    wrpcap(str(tmp_path / "x.pcap"), [Ether(bytes(frame) + bytes(14))])
    assert [each.data for each in recording.read_pcap(tmp_path / "x.pcap")] == [b"\0\4\0\1"]
