"""A packet and where it arrived → BootRequest, classified once: later code never looks at option bytes."""

import struct
from collections.abc import Mapping
from enum import Enum
from ipaddress import IPv4Address
from typing import TypedDict
from uuid import UUID

import msgspec
from msgspec.structs import replace

from bootsvc.dhcp import options
from bootsvc.dhcp.option_values import address
from bootsvc.dhcp.options import Message
from bootsvc.dhcp.options_field import find_field
from bootsvc.dhcp.packet import BROADCAST_FLAG, ETHERNET, ZERO, Op, options_of
from bootsvc.errors import Ignored

MIN_MESSAGE_SIZE = 576
"""What every client must take, and what is assumed of one that says nothing (RFC 2131 §2)."""
_ZERO = ZERO
_REQUEST = int(Op.BOOTREQUEST)


class Client(Enum):
    """Who is asking, as far as a boot file is concerned."""

    IPXE = "iPXE"
    PXE = "PXEClient"
    HTTP = "HTTPClient"
    OS = "OS"
    """An operating system: it wants an address and no boot file."""


class Phase(Enum):
    """What a REQUEST means (RFC 2131 §4.3.2, table 4)."""

    SELECTING = "SELECTING"
    INIT_REBOOT = "INIT-REBOOT"
    RENEWING = "RENEWING"
    REBINDING = "REBINDING"


class Arrival(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Where a packet came in; `unicast` when it was sent to our own address."""

    interface: str
    unicast: bool = False


class BootRequest(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """Everything that a decision needs to know of one message."""

    message: Message
    hwaddr: str
    """Lower case with colons."""
    xid: int
    interface: str
    client: Client = Client.OS
    unicast: bool = False
    chaddr: bytes = b""
    flags: int = 0
    ciaddr: IPv4Address = _ZERO
    giaddr: IPv4Address = _ZERO
    client_arch: int | None = None
    machine_id: UUID | None = None
    client_id: bytes | None = None
    requested: IPv4Address | None = None
    server_id: IPv4Address | None = None
    parameters: tuple[int, ...] = ()
    max_message_size: int = MIN_MESSAGE_SIZE
    """Bytes, IP and UDP headers included."""
    relay_agent: bytes | None = None
    boot_item: bytes | None = None
    """What port 4011 is asked for, to be said again in its answer (PXE 2.1 table 2-1, tag 71)."""

    @property
    def relayed(self) -> bool:
        """The message came through a relay agent."""
        # A packet without giaddr has the very _ZERO, which spares the comparison.
        return self.giaddr is not _ZERO and int(self.giaddr) != 0

    @property
    def selector(self) -> IPv4Address:
        """An address of the network that a relayed client is on: what the relay names (RFC 3527), else giaddr."""
        if self.relay_agent is None:
            return self.giaddr
        named = find_field(self.relay_agent, options.LINK_SELECTION)
        return self.giaddr if named is None else named

    @property
    def broadcast(self) -> bool:
        """The client cannot take a unicast before it has its address."""
        return bool(self.flags & BROADCAST_FLAG)

    @property
    def phase(self) -> Phase:
        """The state that a client's REQUEST speaks of."""
        if self.server_id is not None:
            return Phase.SELECTING
        if not int(self.ciaddr):
            return Phase.INIT_REBOOT
        return Phase.RENEWING if self.unicast else Phase.REBINDING

    @classmethod
    def parse(cls, data: bytes, arrival: Arrival) -> "BootRequest | Ignored":
        """Read and classify a message; raises MalformedPacket, and nothing else, also for an option whose value is broken."""
        raw, _ = options_of(data)
        # A Packet would be made only to be taken apart.
        op, htype, hlen, xid, flags, ciaddr, giaddr, chaddr = _ASKED.unpack_from(data)
        if op != _REQUEST:
            return Ignored("a reply, not a request")
        if htype != ETHERNET or hlen != 6:
            return Ignored(f"htype {htype} with {hlen} address bytes is not Ethernet")
        hwaddr = chaddr.hex(":")
        if chaddr[0] & 1 or chaddr == _NO_CHADDR:
            return Ignored(f"{hwaddr} is no hardware address of a machine")
        message = options.MESSAGE_TYPE.find(raw)
        if message is None:
            return Ignored("BOOTP without a DHCP message type")
        # Most messages have few of these options, and an operating system's have none of how it boots.
        request = cls(
            message=message,
            hwaddr=hwaddr,
            xid=xid,
            interface=arrival.interface,
            unicast=arrival.unicast,
            chaddr=chaddr,
            flags=flags,
            ciaddr=address(ciaddr) if ciaddr else _ZERO,
            giaddr=address(giaddr) if giaddr else _ZERO,
            client_id=raw.get(_CLIENT_ID),
            requested=options.REQUESTED_ADDRESS.find(raw),
            server_id=options.SERVER_ID.find(raw),
            parameters=tuple(raw.get(_PARAMETER_LIST, b"")),
            max_message_size=_max_message_size(raw) if _MAX_MESSAGE_SIZE in raw else MIN_MESSAGE_SIZE,
            relay_agent=raw.get(_RELAY_AGENT),
        )
        return request if _BOOT_CODES.isdisjoint(raw) else replace(request, **_boot_fields(raw))


class _BootFields(TypedDict):
    client: Client
    client_arch: int | None
    machine_id: UUID | None
    boot_item: bytes | None


_ASKED = struct.Struct("!3BxI2xHI8xI6s")
"""What a server needs to know of a request's header (RFC 2131 §2), with six bytes of chaddr."""
_NO_CHADDR = bytes(6)
_CLIENT_ID, _RELAY_AGENT = options.CLIENT_ID.code, options.RELAY_AGENT.code
_PARAMETER_LIST, _MAX_MESSAGE_SIZE = options.PARAMETER_LIST.code, options.MAX_MESSAGE_SIZE.code
_BOOT_CODES = frozenset(
    option.code for option in (options.VENDOR_CLASS, options.USER_CLASS, options.CLIENT_ARCH, options.CLIENT_MACHINE_ID)
)
"""Without any of these a machine says nothing of how it boots."""


def _boot_fields(raw: Mapping[int, bytes]) -> _BootFields:
    vendor_class = options.VENDOR_CLASS.find(raw) or ""
    client = _client(options.USER_CLASS.find(raw) or (), vendor_class)
    vendor = raw.get(options.VENDOR_SPECIFIC.code) if client is Client.PXE else None
    return _BootFields(
        client=client,
        client_arch=_client_arch(options.CLIENT_ARCH.find(raw), vendor_class),
        machine_id=options.CLIENT_MACHINE_ID.find(raw),
        boot_item=find_field(vendor, options.PXE_BOOT_ITEM),
    )


def _max_message_size(raw: Mapping[int, bytes]) -> int:
    return max(MIN_MESSAGE_SIZE, options.MAX_MESSAGE_SIZE.find(raw) or 0)


def _client(user_classes: tuple[bytes, ...], vendor_class: str) -> Client:
    # iPXE also says PXEClient, so its user class is asked first.
    if b"iPXE" in user_classes:
        return Client.IPXE
    if vendor_class.startswith(Client.PXE.value):
        return Client.PXE
    if vendor_class.startswith(Client.HTTP.value):
        return Client.HTTP
    return Client.OS


def _client_arch(archs: tuple[int, ...] | None, vendor_class: str) -> int | None:
    """The first architecture offered; old ROMs name it in the vendor class only: PXEClient:Arch:00000:UNDI:002001."""
    if archs:
        return archs[0]
    parts = vendor_class.split(":")
    if len(parts) >= 3 and parts[1] == "Arch" and parts[2].isascii() and parts[2].isdecimal() and len(parts[2]) <= 5:
        return int(parts[2])
    return None
