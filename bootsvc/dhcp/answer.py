"""BootRequest + lease + site → Reply or Ignored: what RFC 2131 §4.3 says a server does, and what ROMs need to boot."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv4Network

from bootsvc.config import DhcpConfig
from bootsvc.dhcp import options
from bootsvc.dhcp.leases import Lease, LeaseState
from bootsvc.dhcp.options import Message
from bootsvc.dhcp.packet import BROADCAST_FLAG, Op, Packet
from bootsvc.dhcp.request import BootRequest, Client, Phase
from bootsvc.errors import Ignored
from netboot.firmware import loader
from netboot.node import Node
from netboot.urls import Urls

SERVER_PORT = 67
CLIENT_PORT = 68
BROADCAST = IPv4Address("255.255.255.255")
IP_UDP_HEADERS = 28
MAX_SENT = 1472
"""Bytes of payload that an Ethernet frame carries; a boot ROM cannot put fragments together."""
MAX_DNS = 8
"""Name servers told to a client."""
PXE_NO_DISCOVERY = 8
"""PXE_DISCOVERY_CONTROL bit 3: take the boot file as told, without menu or boot server discovery."""
_ZERO = IPv4Address(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """What answers depend on besides the machine: our address, the served network, and settings."""

    server: IPv4Address
    network: IPv4Network
    urls: Urls
    dhcp: DhcpConfig = field(default_factory=DhcpConfig)
    loaders: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Boot:
    """The boot part of a reply."""

    file: str = ""
    pairs: tuple[tuple[int, bytes], ...] = ()
    note: str = ""


def answer(request: BootRequest, node: Node | None, lease: Lease | None, site: Site) -> Reply | Ignored:
    """Decide the reply to one message."""
    if lease is not None and lease.address in _impossible(lease.network or site.network, site):
        return Ignored(f"{lease.address} is an address that no machine but this server can have")
    match request.message:
        case Message.DISCOVER:
            if lease is None:
                return _no_lease(request, node, site)
            return _grant(Message.OFFER, request, node, lease, site)
        case Message.REQUEST:
            return _request(request, node, lease, site)
        case Message.INFORM:
            if request.giaddr == _ZERO and request.ciaddr not in site.network:
                return Ignored(f"INFORM from {request.ciaddr}, which is not on {site.network}")
            return _grant(Message.ACK, request, node, None, site)
        case Message.RELEASE | Message.DECLINE:
            return Ignored(f"{request.message.name} of {_claimed(request)} needs no reply")
        case _:
            return Ignored(f"{request.message.name} is a server's message")


def _impossible(network: IPv4Network, site: Site) -> tuple[IPv4Address, ...]:
    """Addresses that nodes.conf may say, and that must not be handed out: they would cut off every machine."""
    if network.prefixlen > 30:
        return (site.server,)
    return site.server, network.network_address, network.broadcast_address


def _request(request: BootRequest, node: Node | None, lease: Lease | None, site: Site) -> Reply | Ignored:
    """REQUEST by the state that the client says it is in (RFC 2131 §4.3.2)."""
    phase = request.phase
    wanted = _claimed(request)
    if phase is Phase.SELECTING and request.server_id != site.server:
        return Ignored(f"the client chose server {request.server_id}")
    if lease is not None and wanted == lease.address:
        return _grant(Message.ACK, request, node, lease, site)
    if lease is not None:
        return _nak(request, f"{wanted} is not yours; {lease.address} is", site)
    # No record of the client. What was sent to us alone, or asks for an address of another network, is refused at
    # once; for the rest the RFC wants silence, since another server may know the client.
    if phase in (Phase.SELECTING, Phase.RENEWING):
        return _nak(request, f"no lease for {wanted}", site)
    if request.giaddr == _ZERO and wanted not in site.network:
        return _nak(request, f"{wanted} is not on {site.network}", site)
    return Ignored(f"{phase.value} of {wanted}: no record of this machine")


def _claimed(request: BootRequest) -> IPv4Address:
    """The address that the client speaks of."""
    return request.ciaddr if request.ciaddr != _ZERO else request.requested or _ZERO


def _no_lease(request: BootRequest, node: Node | None, site: Site) -> Ignored:
    who = f"no node has hwaddr {request.hwaddr}" if node is None else f"node {node.id} has no address here"
    if request.giaddr != _ZERO and request.giaddr not in site.network:
        return Ignored(f"{who}, and relay {request.giaddr} is on another network")
    return Ignored(f"{who}, and {'the range is used up' if site.dhcp.range_start else 'no range is configured'}")


def _nak(request: BootRequest, why: str, site: Site) -> Reply:
    pairs = [
        options.MESSAGE_TYPE.pair(Message.NAK),
        options.SERVER_ID.pair(site.server),
        options.ERROR_MESSAGE.pair(why),
        *_echoes(request),
    ]
    relayed = request.giaddr != _ZERO
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
    boot = _boot(request, site)
    file = boot.file.encode()
    packet = Packet(
        op=Op.BOOTREPLY,
        xid=request.xid,
        flags=request.flags,
        ciaddr=request.ciaddr if message is Message.ACK else _ZERO,
        yiaddr=lease.address if lease is not None else _ZERO,
        siaddr=site.server if boot.file else _ZERO,
        giaddr=request.giaddr,
        chaddr=request.chaddr,
        # shim looks for its second stage beside this name; the field holds 127 bytes and a NUL.
        file=file if len(file) < 128 else b"",
        options=_options(message, request, node, lease, site, boot),
    )
    destination, port, chaddr = _destination(request, lease, site)
    return Reply(
        packet=packet,
        message=message,
        destination=destination,
        port=port,
        chaddr=chaddr,
        bind=lease if message is Message.ACK and lease and lease.state is not LeaseState.RESERVED else None,
        boot_file=boot.file,
        note=boot.note,
    )


def _destination(request: BootRequest, lease: Lease | None, site: Site) -> tuple[IPv4Address, int, bytes | None]:
    """Where a reply other than a NAK goes (RFC 2131 §4.1)."""
    if request.giaddr != _ZERO:
        return request.giaddr, SERVER_PORT, None
    # An address elsewhere would make us send to strangers whatever anybody asks for.
    if request.ciaddr in site.network and (lease is None or request.ciaddr == lease.address):
        return request.ciaddr, CLIENT_PORT, None
    if request.broadcast or lease is None:
        return BROADCAST, CLIENT_PORT, None
    return lease.address, CLIENT_PORT, request.chaddr


def _options(
    message: Message, request: BootRequest, node: Node | None, lease: Lease | None, site: Site, boot: _Boot
) -> dict[int, bytes]:
    """What must be said, then what was asked for in the order asked, as far as the client's message size allows."""
    network = site.network if lease is None or lease.network is None else lease.network
    must = [options.MESSAGE_TYPE.pair(message), options.SERVER_ID.pair(site.server)]
    if lease is not None:
        seconds = site.dhcp.lease_seconds
        must += [
            options.LEASE_TIME.pair(seconds),
            options.RENEWAL_TIME.pair(seconds // 2),
            options.REBINDING_TIME.pair(seconds * 7 // 8),
        ]
    must += [options.SUBNET_MASK.pair(network.netmask), *boot.pairs]
    wish = dict(_wishes(node, lease, network, site))
    asked = [code for code in request.parameters if code in wish] if request.parameters else list(wish)
    echoes = _echoes(request)
    room = min(request.max_message_size - IP_UDP_HEADERS, MAX_SENT) - 240 - 1
    room -= options.size_of([*must, *echoes])
    chosen = dict(must)
    for code in asked:
        size = options.size_of([(code, wish[code])])
        if size <= room and code not in chosen:
            chosen[code] = wish[code]
            room -= size
    # RFC 3046 §2.2: the relay agent's option is the last one.
    return {**chosen, **dict(echoes)}


def _wishes(node: Node | None, lease: Lease | None, network: IPv4Network, site: Site) -> list[tuple[int, bytes]]:
    """Options that are sent when a client asks for them, or does not say what it wants."""
    pairs = []
    gateway = lease.gateway if lease is not None and lease.gateway is not None else site.dhcp.router
    if gateway is not None and gateway in network:
        pairs.append(options.ROUTER.pair((gateway,)))
    if site.dhcp.dns:
        pairs.append(options.DOMAIN_NAME_SERVER.pair(site.dhcp.dns[:MAX_DNS]))
    if node is not None and node.id:
        pairs.append(options.HOST_NAME.pair(node.id))
    pairs.append(options.BROADCAST_ADDRESS.pair(network.broadcast_address))
    return pairs


def _echoes(request: BootRequest) -> list[tuple[int, bytes]]:
    """RFC 6842 §3: a client identifier is sent back; RFC 3046 §2.2: so is what a relay agent added."""
    pairs = []
    if request.client_id is not None:
        pairs.append(options.CLIENT_ID.pair(request.client_id))
    if request.relay_agent is not None:
        pairs.append(options.RELAY_AGENT.pair(request.relay_agent))
    return pairs


def _boot(request: BootRequest, site: Site) -> _Boot:
    """What to boot: the script for iPXE, the loader for a ROM, nothing for an operating system."""
    match request.client:
        case Client.IPXE:
            url = site.urls.ipxe(request.hwaddr)
            # Without it iPXE waits for a proxyDHCP server before it uses this answer.
            no_pxedhcp = options.serialize_fields([options.IPXE_NO_PXEDHCP.pair(1)])[:-1]
            return _Boot(file=url, pairs=(options.BOOTFILE_NAME.pair(url), options.ETHERBOOT.pair(no_pxedhcp)))
        case Client.PXE:
            arch = request.client_arch or 0
            name = loader(arch, site.loaders)
            if name is None:
                return _Boot(note=f"no loader for client architecture {arch:#04x}")
            discovery = options.serialize_fields([options.PXE_DISCOVERY_CONTROL.pair(PXE_NO_DISCOVERY)])
            return _Boot(
                file=name,
                pairs=(
                    # A ROM takes a boot file only from a server that names its own class (PXE 2.1 §2.2.3).
                    options.VENDOR_CLASS.pair(Client.PXE.value),
                    options.VENDOR_SPECIFIC.pair(discovery),
                    options.TFTP_SERVER_NAME.pair(str(site.server)),
                    options.BOOTFILE_NAME.pair(name),
                ),
            )
        case Client.HTTP:
            return _Boot(note=f"no HTTP boot file for client architecture {request.client_arch or 0:#04x}")
        case Client.OS:
            return _Boot()
