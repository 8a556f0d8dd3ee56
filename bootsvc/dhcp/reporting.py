"""What the DHCP server tells: a line for each message within a budget, each complaint once, counters, and boot events."""

import logging
import time
from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Protocol

from bootsvc.boots import with_why
from bootsvc.dhcp.answer import Reply
from bootsvc.dhcp.complaints import Once
from bootsvc.dhcp.leases import Lease
from bootsvc.dhcp.options import ACK, DISCOVER, NAK, Message
from bootsvc.dhcp.request import BootRequest, Client
from bootsvc.dhcp.rivals import Rival
from bootsvc.dhcp.settings import Mode, Unknown
from bootsvc.dhcp.site import Site
from bootsvc.errors import Ignored
from bootsvc.net.udp import Budget
from netboot.node import Node

log = logging.getLogger("bootsvc.dhcp.service")

MAX_RECENT = 65536
"""Addresses remembered for `find_hwaddr`."""
SAY_AGAIN_SECONDS = 3600.0
WARNINGS_AT_ONCE = 100
LINES_A_SECOND, LINES_AT_ONCE = 100, 10_000
"""A flood writes less than a gigabyte a day."""
_UNSAID_AT_ONCE = 1000
NO_ADDRESS = "NO_ADDRESS"
"""In a boot record: the machine asks, and is given nothing."""
_OS = Client.OS


_STAGES = {message: f"DHCP {message.name}" for message in Message}
# Looking up an enum's member calls into Python for its hash.
_ACK_STAGE = _STAGES[ACK]


@dataclass(slots=True, kw_only=True)
class Counters:
    """What arrived since the start, for `/status`."""

    received: int = 0
    answered: int = 0
    ignored: int = 0
    malformed: int = 0
    """Datagrams that are not DHCP."""
    elsewhere: int = 0
    """Datagrams of another interface."""
    unsaved: int = 0
    """ACKs withheld because their lease could not be saved."""
    unsent: int = 0
    declined: int = 0
    """Addresses that a client found in use."""
    conflicts: int = 0
    """Addresses that our own ARP probes found in use by a machine to which they were not given."""


class OnEvent(Protocol):
    """Told of each answered message that belongs to a boot, for the boot record."""

    def __call__(
        self, hwaddr: str, node: str | None, stage: str, detail: str, *, ipaddr: IPv4Address | None = None
    ) -> None: ...


class Reporter:
    def __init__(self, on_event: OnEvent | None) -> None:
        self._on_event = on_event
        self._recent: dict[int, str] = {}
        # A cluster that powers on sends some thousand messages within seconds; a flood must not fill the disk. In the long
        # run 10 000 machines that renew each half hour need a quarter of this.
        self._log_budget = Budget(rate=LINES_A_SECOND, burst=LINES_AT_ONCE)
        self._unsaid = 0
        self._noise_budget = Budget(rate=1, burst=10)
        self._once = Once(SAY_AGAIN_SECONDS)
        # Strangers can make up machines and addresses faster than they can be remembered.
        self._warnings_budget = Budget(rate=1, burst=WARNINGS_AT_ONCE)
        self._without: set[str] = set()
        """Interfaces on which nobody gave addresses when we last looked."""

    def find_hwaddr(self, address: IPv4Address) -> str | None:
        """The machine that the address was last told to."""
        return self._recent.get(int(address))

    def received(self, request: BootRequest, node: Node | None) -> None:
        if self._may_say():
            log.info(
                "dhcp %s received hwaddr=%s node=%s xid=%08x if=%s",
                request.message.name,
                request.hwaddr,
                "-" if node is None else node.id,
                request.xid,
                request.interface,
            )

    def answered(self, request: BootRequest, node: Node | None, reply: Reply) -> None:
        yiaddr = reply.packet.yiaddr
        number = int(yiaddr)
        if reply.message is ACK and number:
            self._recent.pop(number, None)
            self._recent[number] = request.hwaddr
            if len(self._recent) > MAX_RECENT:
                del self._recent[next(iter(self._recent))]
        if self._may_say():
            log.info(
                "dhcp %s hwaddr=%s node=%s yiaddr=%s file=%s xid=%08x if=%s%s",
                reply.message.name,
                request.hwaddr,
                "-" if node is None else node.id,
                yiaddr,
                reply.boot_file or "-",
                request.xid,
                request.interface,
                f" note={reply.note!r}" if reply.note else "",
            )
        # An operating system that is no node's boots nothing here, and its offers say nothing that its ACK does not.
        boots = request.client is not _OS or reply.message is NAK
        if self._on_event is not None and (boots or (node is not None and reply.message is ACK)):
            name = None if node is None else node.id
            ipaddr = yiaddr if number else None
            detail = reply.boot_file or reply.note
            stage = _ACK_STAGE if reply.message is ACK else _STAGES[reply.message]
            self._on_event(request.hwaddr, name, stage, detail, ipaddr=ipaddr)
        if reply.note and reply.message is not NAK:
            self.once(("note", reply.note), "%s: hwaddr %s gets no boot file", reply.note, request.hwaddr)

    def _may_say(self) -> bool:
        """Whether the budget holds a line; what was left out meanwhile is counted in one line."""
        if not self._log_budget.take(time.monotonic()):
            self._unsaid += 1
            return False
        if self._unsaid >= _UNSAID_AT_ONCE or (self._unsaid and self._log_budget.left > _UNSAID_AT_ONCE):
            log.info("dhcp %d lines left out: more than the log should hold", self._unsaid)
            self._unsaid = 0
        return True

    def ignored(self, request: BootRequest, node: Node | None, reason: Ignored, site: Site, lent: int) -> None:
        self.noise("%s of %s: %s", request.message.name, request.hwaddr, reason.reason)
        if request.message is not DISCOVER or (node is None and site.dhcp.unknown is Unknown.IGNORE):
            return
        if node is not None and self._on_event is not None and request.client is not _OS and site.dhcp.mode is not Mode.PROXY:
            self._on_event(request.hwaddr, node.id, _STAGES[DISCOVER], with_why(NO_ADDRESS, reason.reason))
        if request.relayed and request.selector not in site.network:
            self.once(
                ("relay", request.selector),
                "relay %s asks for a machine on the network of %s, which is not served: it gets no answer; name that network "
                "under `bootsvc: dhcp: subnets` in warewulf.conf",
                *(request.giaddr, request.selector),
            )
        elif "is used up" in reason.reason:
            self.once(
                ("range", site.network),
                "the range %s-%s of %s is used up (%d addresses lent): %s gets none; enlarge it, or name its machines as nodes",
                *(site.dhcp.range_start, site.dhcp.range_end, site.network, lent, request.hwaddr),
            )
        elif node is not None and "no range is configured" in reason.reason:
            self.once(
                ("no address", node.id, site.network),
                "node %s has no address on %s, and no range is configured there: it gets none; give it one (`wwctl node set %s "
                "--ipaddr`), or set a range",
                *(node.id, site.network, node.id),
            )

    def outside(self, request: BootRequest, node: Node, reserved: Lease, lease: Lease | None, site: Site) -> None:
        """A node's address is of no use where it asks."""
        gets = "no address" if lease is None else f"{lease.address} of the range"
        self.once(
            ("outside", node.id),
            "node %s asks on %s, where %s is served, but its address %s is outside: it gets %s",
            *(node.id, request.interface, site.network, reserved.address, gets),
        )

    def declined(self, request: BootRequest, node: Node | None, lease: Lease | None) -> None:
        """`lease` is what was set aside; without one only a node's own address is of interest: the claim may be anybody's."""
        key = ("declined", request.requested)
        if lease is not None:
            owner = "" if node is None else f" (node {node.id})"
            self.once(
                key,
                "%s%s found that another machine uses %s; the address is set aside for a while",
                *(request.hwaddr, owner, lease.address),
            )
        elif node is not None and any(device.ipaddr == request.requested for _, device in node.hwaddrs()):
            self.once(
                key,
                "node %s (%s) found that another machine uses its address %s; find that machine, or give the node another",
                *(node.id, request.hwaddr, request.requested),
            )

    def unsent(self, address: str, interface: str) -> None:
        """The kernel did not take a reply: as an answer it stands in the log already."""
        self.once(
            ("unsent", address, interface),
            "replies to %s cannot be sent on %s: is there a route to it, and does the firewall let them out?",
            *(address, interface),
        )

    def conflict(self, interface: str, address: IPv4Address, user: str) -> None:
        self.once(
            ("conflict", address),
            "%s of the range is used by %s on %s, which did not get it here; the address is set aside for a while",
            *(address, user, interface),
        )

    def rival(self, interface: str, rival: Rival, *, proxy: bool) -> None:
        key = ("rival", interface, rival.address)
        if not rival.gives_addresses:
            self.once(
                key, "another proxyDHCP server answers on %s: %s; machines may take its boot file", interface, rival.address
            )
        elif not proxy:
            self.once(
                key,
                "another DHCP server answers on %s: %s; machines take an address from either. Stop it, or set "
                "`bootsvc: dhcp: mode: proxy` in warewulf.conf",
                *(interface, rival.address),
            )
        elif self._is_due(key) or interface in self._without:
            self._without.discard(interface)
            log.info("dhcp addresses on %s come from %s", interface, rival.address)

    def nobody_gives(self, interface: str) -> None:
        """In proxy mode, though asked several times."""
        self._without.add(interface)
        self.once(
            ("nobody", interface),
            "no other DHCP server answers on %s, and `mode: proxy` gives no addresses: machines there get none. Start one, or "
            "leave out `mode: proxy`; one that answers only machines which it knows cannot be seen",
            interface,
        )

    def once(self, key: tuple[object, ...], text: str, *args: object) -> None:
        """A warning, again after an hour at the earliest."""
        if self._is_due(key):
            log.warning("dhcp " + text, *args)

    def _is_due(self, key: tuple[object, ...]) -> bool:
        """Whether it was not said yet, and may be said now; what is beyond the budget waits until it comes again."""
        now = time.monotonic()
        return self._once.is_new(key, now) and self._warnings_budget.take(now) and self._once.first(key, now)

    def noise(self, text: str, *args: object) -> None:
        if self._noise_budget.take(time.monotonic()):
            log.debug("dhcp " + text, *args)
