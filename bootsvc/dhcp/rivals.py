"""Other DHCP servers on our networks: what tells of one, and the question that makes one answer. Pure."""

from collections.abc import Collection
from ipaddress import IPv4Address
from typing import NamedTuple

from bootsvc.dhcp import options
from bootsvc.dhcp.options import Message
from bootsvc.dhcp.packet import BROADCAST_FLAG, Op, Packet
from bootsvc.errors import MalformedPacket

PROBE_CLASS = "bootsvc: which servers are here?"
"""Vendor class of our own DISCOVER, for whoever wonders in the other server's log."""


class Rival(NamedTuple):
    """One answer of another server."""

    address: IPv4Address
    message: Message
    yiaddr: IPv4Address
    """Zero: a proxyDHCP server, which gives no addresses."""

    @property
    def gives_addresses(self) -> bool:
        """A NAK tells as much: only who gives addresses refuses one."""
        return bool(int(self.yiaddr)) or self.message is Message.NAK


def probe(chaddr: bytes, xid: int) -> Packet:
    """A DISCOVER that is never followed by a REQUEST, so that nothing is leased."""
    return Packet(
        op=Op.BOOTREQUEST,
        xid=xid,
        flags=BROADCAST_FLAG,
        chaddr=chaddr,
        options=dict(
            [
                options.MESSAGE_TYPE.pair(Message.DISCOVER),
                options.VENDOR_CLASS.pair(PROBE_CLASS),
                options.PARAMETER_LIST.pair((options.SUBNET_MASK.code, options.ROUTER.code)),
            ]
        ),
    )


def find_rival(data: bytes, source: IPv4Address, own: Collection[IPv4Address]) -> Rival | None:
    """The other server that sent this, or None: our own answer, a relay's copy of it, or no answer at all."""
    try:
        packet = Packet.parse(data)
        message = options.MESSAGE_TYPE.find(packet.options)
        server = options.SERVER_ID.find(packet.options) or source
    except MalformedPacket:
        return None
    if packet.op != Op.BOOTREPLY or message not in (Message.OFFER, Message.ACK, Message.NAK):
        return None
    # A server behind a relay answers through it, and is none of this network's.
    if int(packet.giaddr) or server in own or source in own:
        return None
    return Rival(server, message, packet.yiaddr)
