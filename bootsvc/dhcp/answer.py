"""BootRequest + lease + site → Reply or Ignored: what RFC 2131 §4.3 says a server does, and what ROMs need to boot."""

from ipaddress import IPv4Address

import msgspec

from bootsvc.dhcp import options
from bootsvc.dhcp.boot import Boot, boot_of
from bootsvc.dhcp.leases import Lease, LeaseState
from bootsvc.dhcp.options import ACK, DECLINE, DISCOVER, INFORM, OFFER, RELEASE, REQUEST, Message
from bootsvc.dhcp.options_field import Encoded, join_fields, size_of
from bootsvc.dhcp.packet import BROADCAST_FLAG, HEADER_SIZE, ZERO, Op, Packet
from bootsvc.dhcp.request import MIN_MESSAGE_SIZE, BootRequest, Client, Phase
from bootsvc.dhcp.room import Pair, Placed, place
from bootsvc.dhcp.settings import Unknown
from bootsvc.dhcp.site import Said, Site, is_host
from bootsvc.errors import Ignored
from netboot.node import Node

SERVER_PORT = 67
CLIENT_PORT = 68
BROADCAST = IPv4Address("255.255.255.255")
IP_UDP_HEADERS = 28
MAX_SENT = 1472
"""Bytes of payload that an Ethernet frame carries; a boot ROM cannot put fragments together."""
MAX_SAID = 256
"""Parameter lists whose answer is remembered; there are as many as there are kinds of clients."""
LEAST_ROOM = MIN_MESSAGE_SIZE - IP_UDP_HEADERS - HEADER_SIZE
"""Bytes of options that every client takes."""
HOST_NAME = options.HOST_NAME.code
_ZERO, _REPLY, _RESERVED, _IGNORE = ZERO, Op.BOOTREPLY, LeaseState.RESERVED, Unknown.IGNORE


class Reply(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """A packet and where it goes."""

    packet: Packet
    message: Message
    destination: IPv4Address
    port: int = CLIENT_PORT
    chaddr: bytes | None = None
    """Set when the client does not answer ARP for `destination` yet: the frame goes straight to this address."""
    bind: Lease | None = None
    """A dynamic lease to be bound and saved before the packet leaves."""
    boot_file: str = ""
    note: str = ""
    """Something that the administrator should read."""


def answer(request: BootRequest, node: Node | None, lease: Lease | None, site: Site) -> Reply | Ignored:
    """Decide the reply to one message."""
    if lease is not None:
        impossible = site.impossible if lease.network is None else site.impossible_on(lease.network)
        if int(lease.address) in impossible:
            if lease.address == site.server:
                return Ignored(f"{lease.address} is this server's own address")
            return Ignored(f"{lease.address} is an address that no machine in {lease.network or site.network} can have")
    if node is None and site.dhcp.unknown is _IGNORE:
        return Ignored(f"no node has hwaddr {request.hwaddr}, and unknown machines are to be ignored")
    if request.relayed and not is_relay(request.giaddr, lease, site):
        return Ignored(f"{_who(request, node)}, and relay {request.giaddr} is on another network")
    message = request.message
    if message is DISCOVER:
        return _no_lease(request, node, site) if lease is None else _grant(OFFER, request, node, lease, site)
    if message is REQUEST:
        return _request(request, node, lease, site)
    if message is INFORM:
        # The answer goes to ciaddr: a machine of ours, and one machine only.
        if not request.relayed and not is_host(request.ciaddr, site.network):
            return Ignored(f"INFORM from {request.ciaddr}, which is no machine on {site.network}")
        return _grant(ACK, request, node, None, site)
    if message is RELEASE or message is DECLINE:
        return Ignored(f"{message.name} of {_claimed(request)} needs no reply")
    return Ignored(f"{message.name} is a server's message")


def is_relay(giaddr: IPv4Address, lease: Lease | None, site: Site) -> bool:
    """Whether a reply may go there, which a node's own netmask says, too."""
    if site.is_relay(giaddr):
        return True
    return lease is not None and lease.network is not None and giaddr not in site.own and is_host(giaddr, lease.network)


def _request(request: BootRequest, node: Node | None, lease: Lease | None, site: Site) -> Reply | Ignored:
    """REQUEST by the state that the client says it is in (RFC 2131 §4.3.2)."""
    wanted = _claimed(request)
    if request.server_id is not None and request.server_id != site.server and request.server_id not in site.own:
        return Ignored(f"the client chose server {request.server_id}")
    if lease is not None and wanted == lease.address:
        return _grant(ACK, request, node, lease, site)
    phase = request.phase
    if lease is not None:
        return refuse(request, f"{wanted} is not yours; {lease.address} is", site)
    # No record of the client. What was sent to us alone, or asks for an address of another network, is refused at
    # once; for the rest the RFC wants silence, since another server may know the client.
    if phase in (Phase.SELECTING, Phase.RENEWING):
        return refuse(request, f"no lease for {wanted}", site)
    if not request.relayed and wanted not in site.network:
        return refuse(request, f"{wanted} is not on {site.network}", site)
    return Ignored(f"{phase.value} of {wanted}: no record of this machine")


def _claimed(request: BootRequest) -> IPv4Address:
    """The address that the client speaks of."""
    return request.ciaddr if int(request.ciaddr) else request.requested or _ZERO


def _who(request: BootRequest, node: Node | None) -> str:
    return f"no node has hwaddr {request.hwaddr}" if node is None else f"node {node.id} has no address here"


def _no_lease(request: BootRequest, node: Node | None, site: Site) -> Ignored:
    if request.relayed and request.selector not in site.network:
        return Ignored(f"{_who(request, node)}, and {request.selector}, which relay {request.giaddr} names, is not served")
    used_up = f"the range {site.dhcp.range_start}-{site.dhcp.range_end} is used up"
    return Ignored(f"{_who(request, node)}, and {used_up if site.dhcp.range_start else 'no range is configured'}")


def refuse(request: BootRequest, why: str, site: Site) -> Reply:
    """NAK: the client is to begin anew."""
    pairs = [
        options.MESSAGE_TYPE.pair(Message.NAK),
        options.SERVER_ID.pair(site.server),
        options.ERROR_MESSAGE.pair(why),
        *echoes(request),
    ]
    relayed = request.relayed
    # "If 'giaddr' is set, the server sets the broadcast bit, so that the relay agent broadcasts it" (§4.3.2).
    packet = Packet(
        op=Op.BOOTREPLY,
        xid=request.xid,
        flags=request.flags | (BROADCAST_FLAG if relayed else 0),
        giaddr=request.giaddr,
        chaddr=request.chaddr,
        options=dict(pairs),
    )
    return Reply(
        packet=packet,
        message=Message.NAK,
        destination=request.giaddr if relayed else BROADCAST,
        port=SERVER_PORT if relayed else CLIENT_PORT,
        note=why,
    )


def _grant(message: Message, request: BootRequest, node: Node | None, lease: Lease | None, site: Site) -> Reply:
    """OFFER or ACK; without a lease it is the answer to an INFORM, which has neither address nor times."""
    boot = boot_of(request, node, site)
    file = boot.file.encode() if boot.file else b""
    placed = _options(message, request, node, lease, site, boot)
    packet = Packet(
        op=_REPLY,
        xid=request.xid,
        flags=request.flags,
        ciaddr=request.ciaddr if message is ACK else _ZERO,
        yiaddr=lease.address if lease is not None else _ZERO,
        siaddr=site.server if boot.file else _ZERO,
        giaddr=request.giaddr,
        chaddr=request.chaddr,
        # shim looks for its second stage beside this name; the field holds 127 bytes and a NUL.
        file=file if len(file) < 128 and not placed.file_options else b"",
        options=placed.options,
        file_options=placed.file_options,
        sname_options=placed.sname_options,
    )
    destination, port, chaddr = _destination(request, lease, site)
    return Reply(
        packet=packet,
        message=message,
        destination=destination,
        port=port,
        chaddr=chaddr,
        bind=lease if message is ACK and lease is not None and lease.state is not _RESERVED else None,
        boot_file=boot.file,
        note=boot.note,
    )


def _destination(request: BootRequest, lease: Lease | None, site: Site) -> tuple[IPv4Address, int, bytes | None]:
    """Where a reply other than a NAK goes (RFC 2131 §4.1)."""
    if request.relayed:
        return request.giaddr, SERVER_PORT, None
    # An address elsewhere would make us send to strangers whatever anybody asks for.
    if int(request.ciaddr):
        network = site.network if lease is None or lease.network is None else lease.network
        if (lease is None or request.ciaddr == lease.address) and is_host(request.ciaddr, network):
            return request.ciaddr, CLIENT_PORT, None
    if request.broadcast or lease is None:
        return BROADCAST, CLIENT_PORT, None
    return lease.address, CLIENT_PORT, request.chaddr


def _options(message: Message, request: BootRequest, node: Node | None, lease: Lease | None, site: Site, boot: Boot) -> Placed:
    """What must be said, then what was asked for in the order asked, as far as the client's message size allows."""
    known = _said_to_all(message, request, lease, site)
    name = node.id.encode() if node is not None else b""
    last = echoes(request) if request.client_id is not None or request.relay_agent is not None else []
    size = known.size + len(name) + (size_of(last) if last else 0)
    room = LEAST_ROOM if size < LEAST_ROOM else min(request.max_message_size - IP_UDP_HEADERS, MAX_SENT) - HEADER_SIZE
    if not boot.pairs and size < room and len(name) < 256:
        # Nearly every message of a system that is up.
        own = bytes((HOST_NAME, len(name))) + name if name and known.hostname else b""
        field = known.before + own + known.after
        return Placed(Encoded(field + join_fields(last) if last else field), {}, {})
    wishes = [(code, name if code == HOST_NAME else value) for code, value in known.wishes if name or code != HOST_NAME]
    # A ROM reads the file name in `file`, and some read `sname` without asking for OVERLOAD.
    free = request.client is not Client.PXE
    long_url = free and not 0 < len(boot.file) < 128
    return place((*known.must, *boot.pairs), wishes, last, room, file=long_url, sname=free)


def _said_to_all(message: Message, request: BootRequest, lease: Lease | None, site: Site) -> Said:
    """The part of a reply that all machines get which ask for the same; HOST_NAME stands in it as an empty value."""
    own = lease is not None and (lease.network is not None or lease.gateway is not None)
    mtu = lease.mtu if lease is not None else None
    key = None if own else (message is OFFER, lease is None, mtu, request.parameters)
    known = None if key is None else site.said.get(key)
    if known is not None:
        return known
    wishes, mask = site.wishes, site.network.netmask
    must: list[Pair] = [options.MESSAGE_TYPE.pair(message), options.SERVER_ID.pair(site.server)]
    if lease is not None:
        must += site.times
        if own:
            network = lease.network or site.network
            wishes, mask = site.wishes_on(network, lease.gateway), network.netmask
    must.append(options.SUBNET_MASK.pair(mask))
    own_mtu = () if mtu is None else (options.INTERFACE_MTU.pair(mtu),)
    all_wishes = {**wishes, **dict(own_mtu), HOST_NAME: b""}
    asked = dict.fromkeys(request.parameters) or all_wishes
    wanted = [(code, all_wishes[code]) for code in asked if code in all_wishes]
    at = list(dict(wanted)).index(HOST_NAME) if HOST_NAME in dict(wanted) else len(wanted)
    found = Said(
        must=tuple(must),
        wishes=tuple(wanted),
        before=join_fields((*must, *wanted[:at])),
        after=join_fields(wanted[at + 1 :]),
        hostname=at < len(wanted),
        size=size_of((*must, *wanted)),
    )
    if key is not None:
        if len(site.said) >= MAX_SAID:
            site.said.clear()
        site.said[key] = found
    return found


def echoes(request: BootRequest) -> list[Pair]:
    """RFC 6842 §3: a client identifier is sent back; RFC 3046 §2.2: so is what a relay agent added, as the last option."""
    pairs = []
    if request.client_id is not None:
        pairs.append(options.CLIENT_ID.pair(request.client_id))
    if request.relay_agent is not None:
        pairs.append(options.RELAY_AGENT.pair(request.relay_agent))
    return pairs
