"""proxyDHCP (PXE 2.1 §2.2): the boot file for machines whose addresses another server gives; ports 67 and 4011."""

from ipaddress import IPv4Address

from bootsvc.dhcp import options
from bootsvc.dhcp.answer import BROADCAST, CLIENT_PORT, SERVER_PORT, Reply, echoes, is_relay
from bootsvc.dhcp.boot import HTTP_CLASS, PXE_CLASS, Boot, boot_of
from bootsvc.dhcp.options import Message
from bootsvc.dhcp.packet import BROADCAST_FLAG, Op, Packet
from bootsvc.dhcp.request import BootRequest, Client
from bootsvc.dhcp.settings import Unknown
from bootsvc.dhcp.site import Site, is_host
from bootsvc.errors import Ignored
from netboot.node import Node

PROXY_PORT = 4011
_ZERO = IPv4Address(0)


def proxy_answer(
    request: BootRequest, node: Node | None, site: Site, source: tuple[IPv4Address, int] | None = None
) -> Reply | Ignored:
    """Decide the reply to one message; `source` is the asker's address and port when it came to port 4011."""
    if request.client is Client.OS:
        return Ignored("another server gives addresses here, and an operating system needs no boot file")
    if node is None and site.dhcp.unknown is Unknown.IGNORE:
        return Ignored(f"no node has hwaddr {request.hwaddr}, and unknown machines are to be ignored")
    if source is None and request.message is not Message.DISCOVER:
        return Ignored(f"{request.message.name} is for the server that gives addresses")
    if source is not None and request.message not in (Message.REQUEST, Message.INFORM, Message.DISCOVER):
        return Ignored(f"{request.message.name} at port {PROXY_PORT} needs no reply")
    boot = boot_of(request, node, site)
    if not boot.file:
        return Ignored(boot.note)
    if source is None:
        return _offer(request, boot, site)
    if not is_host(source[0], site.network) and not any(is_host(source[0], network) for network in site.reachable):
        return Ignored(f"{source[0]} is on no network of ours")
    return _reply(Message.ACK, request, boot, site, source[0], source[1])


def _offer(request: BootRequest, boot: Boot, site: Site) -> Reply | Ignored:
    if not request.relayed:
        return _reply(Message.OFFER, request, boot, site, BROADCAST, CLIENT_PORT)
    if not is_relay(request.giaddr, None, site):
        return Ignored(f"relay {request.giaddr} is on another network")
    return _reply(Message.OFFER, request, boot, site, request.giaddr, SERVER_PORT)


def _reply(message: Message, request: BootRequest, boot: Boot, site: Site, destination: IPv4Address, port: int) -> Reply:
    file = boot.file.encode()
    # iPXE, too, takes an offer without an address only from a server of the class PXEClient.
    vendor_class = HTTP_CLASS if request.client is Client.HTTP else PXE_CLASS
    pairs = [options.MESSAGE_TYPE.pair(message), options.SERVER_ID.pair(site.server), vendor_class, *boot.pairs]
    if request.machine_id is not None:
        pairs.append(options.CLIENT_MACHINE_ID.pair(request.machine_id))
    packet = Packet(
        op=Op.BOOTREPLY,
        xid=request.xid,
        flags=request.flags | BROADCAST_FLAG if destination == BROADCAST else request.flags,
        ciaddr=request.ciaddr if message is Message.ACK else _ZERO,
        siaddr=site.server,
        giaddr=request.giaddr,
        chaddr=request.chaddr,
        file=file if len(file) < 128 else b"",
        options=dict([*pairs, *echoes(request)]),
    )
    return Reply(packet=packet, message=message, destination=destination, port=port, boot_file=boot.file, note=boot.note)
