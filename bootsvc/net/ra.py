"""IPv6 router advertisements (RFC 4861 §4.2) without a router: they only end the wait of a boot ROM's IPv6 set-up.

iPXE solicits routers before it boots, and waits some 13 s when none answers. An advertisement with lifetime 0 and neither
prefix nor M nor O flag tells it at once that there is nothing to configure, and gives nobody a route or an address.
"""

import asyncio
import logging
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from bootsvc.config import Config
from bootsvc.net.links import Link, find_link, until_gone, wait_link

log = logging.getLogger(__name__)

ROUTER_SOLICIT = 133
ROUTER_ADVERT = 134
ALL_NODES = "ff02::1"
ALL_ROUTERS = "ff02::2"
INTERVAL_SECONDS = 600.0
"""Between unsolicited advertisements (RFC 4861 §6.2.1: MaxRtrAdvInterval's default)."""
SPACING_SECONDS = 0.1
"""Between two advertisements: one multicast answers everybody who asked meanwhile, and a flood gets no more than this."""
RETRY_SECONDS = 2.0
"""After a failed send: a new link has no usable link-local address for a second or two (RFC 4862 §5.4)."""
MAX_PER_WAKEUP = 64
FAILURES_BEFORE_LOG = 5
_SOURCE_LINK_ADDRESS = 1
_ICMP6_FILTER = 1
"""Linux's number (linux/icmpv6.h), which `socket` does not export."""


def serialize_advertisement(hwaddr: str) -> bytes:
    """The ICMPv6 message; the kernel fills in the checksum. `hwaddr` is our own, or empty on a link without one."""
    message = struct.pack("!BBHBBHII", ROUTER_ADVERT, 0, 0, 0, 0, 0, 0, 0)
    address = bytes.fromhex(hwaddr.replace(":", ""))
    return message + (struct.pack("!BB6s", _SOURCE_LINK_ADDRESS, 1, address) if len(address) == 6 else b"")


class RouterAdvertiser:
    """Answers solicitations on the served interface while `dhcp.router_advertisements` is set."""

    def __init__(self, config: Callable[[], Config]) -> None:
        self._config = config
        self._failures = 0
        self._pending: asyncio.TimerHandle | None = None
        self._last_sent = 0.0
        self.sent = 0

    async def run(self, ready: asyncio.Event) -> None:
        """Serve until cancelled. Raises NoInterface when no link carries the boot network at the start."""
        config = self._config()
        link = await find_link(config.ipaddr, config.network)
        while True:
            sock = self._open(link)
            ready.set()
            try:
                await self._serve(link, sock)
            finally:
                if self._pending is not None:
                    self._pending.cancel()
                    self._pending = None
                if sock is not None:
                    asyncio.get_running_loop().remove_reader(sock.fileno())
                    sock.close()
            config = self._config()
            link = await wait_link(config.ipaddr, config.network)

    async def _serve(self, link: Link, sock: socket.socket | None) -> None:
        """Until the link is gone."""
        if sock is None:
            return await until_gone(link)
        asyncio.get_running_loop().add_reader(sock.fileno(), self._solicited, link, sock)
        async with asyncio.TaskGroup() as group:
            unsolicited = group.create_task(self._advertise(link, sock))
            await until_gone(link)
            unsolicited.cancel()

    async def _advertise(self, link: Link, sock: socket.socket) -> None:
        while True:
            sent = self._send(link, sock)
            await asyncio.sleep(INTERVAL_SECONDS if sent else RETRY_SECONDS)

    def _open(self, link: Link) -> socket.socket | None:
        """The raw socket, or None when IPv6 is missing or this machine is an IPv6 router of its own; said in the log."""
        if _forwards(link.name):
            # From our address, lifetime 0 would take the default route that the site's own daemon announces.
            log.info("%s forwards IPv6, so its own router daemon advertises there; bootsvc does not", link.name)
            return None
        try:
            sock = socket.socket(socket.AF_INET6, socket.SOCK_RAW | socket.SOCK_NONBLOCK, socket.IPPROTO_ICMPV6)
        except OSError as exc:
            log.info("no router advertisements on %s: %s", link.name, exc.strerror)
            return None
        try:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.name.encode() + b"\0")
            # Receivers drop neighbour discovery that may have crossed a router (RFC 4861 §6.1.2).
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_LOOP, 0)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, link.index)
            # A set bit blocks a type; only solicitations pass.
            passing = [0xFFFFFFFF] * 8
            passing[ROUTER_SOLICIT >> 5] &= ~(1 << (ROUTER_SOLICIT & 31))
            sock.setsockopt(socket.IPPROTO_ICMPV6, _ICMP6_FILTER, struct.pack("@8I", *passing))
            group = socket.inet_pton(socket.AF_INET6, ALL_ROUTERS) + struct.pack("@I", link.index)
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_JOIN_GROUP, group)
        except OSError as exc:
            sock.close()
            log.info("no router advertisements on %s: %s", link.name, exc.strerror)
            return None
        return sock

    def _solicited(self, link: Link, sock: socket.socket) -> None:
        asked = False
        for _ in range(MAX_PER_WAKEUP):
            try:
                data = sock.recv(2048)
            except OSError:
                break
            asked = asked or data[:1] == bytes([ROUTER_SOLICIT])
        if asked and self._pending is None:
            loop = asyncio.get_running_loop()
            self._pending = loop.call_at(self._last_sent + SPACING_SECONDS, self._send_pending, link, sock)

    def _send_pending(self, link: Link, sock: socket.socket) -> None:
        self._pending = None
        self._send(link, sock)

    def _send(self, link: Link, sock: socket.socket) -> bool:
        if not self._config().dhcp.router_advertisements:
            return False
        self._last_sent = asyncio.get_running_loop().time()
        try:
            sock.sendto(serialize_advertisement(link.hwaddr), (ALL_NODES, 0, 0, link.index))
        except OSError as exc:
            # Without a link-local address there is no source to send from.
            self._failures += 1
            if self._failures == FAILURES_BEFORE_LOG:
                log.info("no router advertisements on %s: %s", link.name, exc.strerror)
            return False
        self._failures = 0
        self.sent += 1
        return True


def _forwards(interface: str) -> bool:
    try:
        return Path(f"/proc/sys/net/ipv6/conf/{interface}/forwarding").read_text().strip() == "1"
    except OSError:
        return False
