"""Interfaces and addresses of this machine (rtnetlink, through pyroute2): which link carries the boot network."""

import asyncio
import errno
import fcntl
import logging
import socket
import struct
from collections.abc import Iterable
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any

from pyroute2 import AsyncIPRoute

from bootsvc.errors import NoInterface

log = logging.getLogger(__name__)

CHECK_SECONDS = 5.0
"""How often a served link is looked at."""
_SIOCGIFINDEX = 0x8933
_IFREQ = struct.Struct("@16si20x")


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """An interface and one IPv4 address of it; `hwaddr` in lower case with colons."""

    name: str
    index: int
    hwaddr: str
    address: IPv4Address
    network: IPv4Network


async def list_links() -> list[Link]:
    """Every IPv4 address of this machine in the current network namespace, with its interface.

    Raises OSError, as when the process has no descriptor left.
    """
    found = []
    async with AsyncIPRoute() as route:
        # What pyroute2 says of the types is not what it gives.
        dumped: Any = await route.get_links()
        links = {message["index"]: message async for message in dumped}
        dumped = await route.get_addr(family=socket.AF_INET)
        async for message in dumped:
            link = links.get(message["index"])
            # IFA_LOCAL is ours; IFA_ADDRESS is the peer's on a point-to-point link.
            local = message.get("IFA_LOCAL") or message.get("IFA_ADDRESS")
            if link is None or local is None:
                continue
            interface = IPv4Interface(f"{local}/{message['prefixlen']}")
            found.append(
                Link(
                    name=str(link.get("IFLA_IFNAME")),
                    index=int(message["index"]),
                    hwaddr=str(link.get("IFLA_ADDRESS") or "").lower(),
                    address=interface.ip,
                    network=interface.network,
                )
            )
    return found


def choose_link(links: Iterable[Link], ipaddr: IPv4Address | None, network: IPv4Network | None) -> Link:
    """The link that has `ipaddr`; without one, the first whose address is in `network`. Raises NoInterface."""
    for link in links:
        if ipaddr is not None and link.address == ipaddr:
            return link
        if ipaddr is None and network is not None and link.address in network:
            return link
    raise NoInterface(ipaddr, network)


async def find_link(ipaddr: IPv4Address | None, network: IPv4Network | None) -> Link:
    """`choose_link` among the links of now."""
    return choose_link(await list_links(), ipaddr, network)


async def until_gone(link: Link) -> None:
    """Return when the interface is gone or another one has its name. Nothing is said of it: many wait so at once."""
    while True:
        await asyncio.sleep(CHECK_SECONDS)
        if not is_current(link):
            return


async def wait_link(ipaddr: IPv4Address | None, network: IPv4Network | None) -> Link:
    """`find_link` that waits for the interface to come back."""
    while True:
        try:
            return await find_link(ipaddr, network)
        except (NoInterface, OSError) as exc:
            log.debug("%s", exc)
            await asyncio.sleep(CHECK_SECONDS)


def is_current(link: Link) -> bool:
    """Whether the interface is still the one that was found: a bridge that is made anew has another index.

    True as well when the kernel cannot be asked, for want of a descriptor: then nothing is known to have changed.
    """
    try:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sock:
            answer = fcntl.ioctl(sock, _SIOCGIFINDEX, _IFREQ.pack(link.name.encode(), 0))
    except OSError as exc:
        return exc.errno != errno.ENODEV
    return bool(_IFREQ.unpack(answer)[1] == link.index)
