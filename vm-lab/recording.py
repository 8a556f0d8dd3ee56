"""What a run's machines said over DHCP and TFTP, and what the server answered: text files that tests replay.

tcpdump records, scapy reads. A file is one conversation: `conf` is what warewulf.conf said and `node` who asks; then each
request (`>`) with the node that the server took the machine for, both addresses and its bytes, and below it the reply (`<`).
"""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

from network import capture
from places import CHECKOUT
from process import Service
from scapy.layers.dhcp import BOOTP, DHCP, DHCPTypes
from scapy.layers.inet import IP, UDP
from scapy.utils import rdpcap

BROADCAST = IPv4Address("255.255.255.255")
FOLDERS = {"dhcp": CHECKOUT / "tests/bootsvc/dhcp/captures", "tftp": CHECKOUT / "tests/bootsvc/tftp/captures"}
DHCP_PORTS = (67, 4011)
TFTP_PORT = 69
RRQ = b"\0\1"
LINE = 32
"""Bytes in a line of hexadecimal digits."""
ZEROS = 12
"""From so many on, zeros are counted: most of a DHCP message is empty fields."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Datagram:
    """One UDP datagram as it passed the bridge."""

    source: tuple[IPv4Address, int]
    destination: tuple[IPv4Address, int]
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Asker:
    """A node that is to be recorded."""

    name: str
    hwaddr: str
    address: IPv4Interface


@dataclass(slots=True, kw_only=True)
class Exchange:
    """A request and its reply, if one came; `node`: whom the server took the machine for, `-` for nobody."""

    request: Datagram
    node: str = "-"
    reply: Datagram | None = None


async def record(bridge: str, head: IPv4Address, pcap: Path) -> Service:
    """Record whole datagrams of DHCP and of how TFTP transfers begin, until the service is stopped."""
    begins = " or ".join(f"udp[8:{size}] = {start}" for size, start in ((2, 5), (2, 6), (4, 0x30001)))
    ports = " or ".join(f"port {port}" for port in (68, TFTP_PORT, *DHCP_PORTS))
    return await capture(bridge, pcap, f"udp and ({ports} or (src host {head} and ({begins})))", snaplen=0)


def read_pcap(pcap: Path) -> list[Datagram]:
    """All UDP datagrams of a capture."""
    return [
        Datagram(
            source=(IPv4Address(frame[IP].src), frame[UDP].sport),
            destination=(IPv4Address(frame[IP].dst), frame[UDP].dport),
            # What follows is the frame's padding.
            data=bytes(frame[UDP].payload)[: frame[UDP].len - 8],
        )
        for frame in rdpcap(str(pcap))
        if UDP in frame
    ]


def dhcp_exchanges(datagrams: Iterable[Datagram], head: IPv4Address, hwaddr: str, log: str) -> list[Exchange]:
    """The machine's messages that the head node heard, in their order; `log` is the server's, which names the nodes."""
    said = re.findall(r"dhcp (\w+) received hwaddr=(\S+) node=(\S+) xid=(\S+)", log)
    known = iter([(message, xid, node) for message, chaddr, node, xid in said if chaddr == hwaddr])
    found: list[Exchange] = []
    for each in datagrams:
        if len(each.data) < 240 or each.data[28:34].hex(":") != hwaddr:
            continue
        if each.data[0] == 1 and each.destination[1] in DHCP_PORTS and each.destination[0] in (head, BROADCAST):
            wanted = (message_of(each.data), each.data[4:8].hex())
            node = next((name for message, xid, name in known if (message, xid) == wanted), "-")
            found.append(Exchange(request=each, node=node))
        elif each.data[0] == 2 and each.source[0] == head:
            asked = (one for one in reversed(found) if one.request.data[4:8] == each.data[4:8] and one.reply is None)
            if (exchange := next(asked, None)) is not None:
                exchange.reply = each
    return found


def tftp_exchanges(datagrams: Sequence[Datagram], head: IPv4Address) -> list[Exchange]:
    """What was asked of the TFTP port, each with the first answer; a request that was sent again stands there once."""
    found: dict[tuple[tuple[IPv4Address, int], bytes], Exchange] = {}
    waiting: dict[tuple[IPv4Address, int], Exchange] = {}
    for each in datagrams:
        if each.destination == (head, TFTP_PORT) and each.data.startswith(RRQ):
            waiting[each.source] = found.setdefault((each.source, each.data), Exchange(request=each))
        elif each.source[0] == head and (exchange := waiting.pop(each.destination, None)) is not None:
            exchange.reply = exchange.reply or each
    return list(found.values())


def message_of(data: bytes) -> str:
    """The message type's name, in capitals as the RFC has it; empty for what is no DHCP."""
    kind = _options(data).get("message-type")
    return str(DHCPTypes.get(kind, kind)).upper() if kind is not None else ""


def _options(data: bytes) -> dict[str, Any]:
    layer = BOOTP(data).getlayer(DHCP)
    options = layer.options if layer is not None else []
    return {str(option[0]): option[1] for option in options if isinstance(option, tuple)}


def _title(data: bytes, *, tftp: bool) -> str:
    """What a person needs to know of the bytes below."""
    if tftp:
        kind = {1: "RRQ", 3: "DATA", 5: "ERROR", 6: "OACK"}.get(data[1], "?")
        words = b"" if kind == "DATA" else data[4:] if kind == "ERROR" else data[2:]
        return f"{kind} {' '.join(words.decode('ascii', 'replace').split(chr(0)))}".rstrip()
    options = _options(data)
    classes = (options.get(name) for name in ("vendor_class_id", "user_class"))
    return ", ".join((message_of(data), *(value.decode("ascii", "replace") for value in classes if isinstance(value, bytes))))


def conversation(title: Iterable[str], conf: Mapping[str, Any], asker: Asker, exchanges: Iterable[Exchange]) -> str:
    """The text of a file."""
    lines = [*(f"# {line}" for line in title), f"conf {json.dumps(conf)}"]
    lines += [f"node {asker.name} {asker.hwaddr} {asker.address}"]
    for each in exchanges:
        tftp = each.request.destination[1] == TFTP_PORT
        lines += ["", f"# {_title(each.request.data, tftp=tftp)}", f"> {each.node} {_ends(each.request)}", *_hex(each.request)]
        if each.reply is not None:
            lines += [f"# {_title(each.reply.data, tftp=tftp)}", f"< {_ends(each.reply)}", *_hex(each.reply)]
    return "\n".join(lines) + "\n"


def _ends(datagram: Datagram) -> str:
    return " ".join(f"{address}:{port}" for address, port in (datagram.source, datagram.destination))


def _hex(datagram: Datagram) -> Iterator[str]:
    """Lines of digits; `00*N` stands for N zeros."""
    for part in re.findall(rb"\0{%d,}|(?:(?!\0{%d}).)+" % (ZEROS, ZEROS), datagram.data, re.DOTALL):
        if not part.strip(b"\0") and len(part) >= ZEROS:
            yield f"00*{len(part)}"
        else:
            yield from (part[at : at + LINE].hex() for at in range(0, len(part), LINE))


def versions(packages: Iterable[str]) -> str:
    """The installed ones of the packages, with their versions."""
    command = ["dpkg-query", "--show", "--showformat=${db:Status-Abbrev}${Package} ${Version}\n", *packages]
    shown = subprocess.run(command, capture_output=True, text=True).stdout.splitlines()
    return ", ".join(line.removeprefix("ii ") for line in sorted(shown) if line.startswith("ii "))


def write(name: str, protocol: str, text: str) -> Path:
    """Put a conversation where the tests find it."""
    path = FOLDERS[protocol] / f"{name}.txt"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path
