"""The hardware address of a peer on an attached network, as the kernel's neighbour table has it (rtnetlink(7)).

Asked for one address at a time, of the route to it first: a table of ten thousand neighbours is never read whole.
"""

import errno
import logging
import socket
import struct
from collections.abc import Iterator
from ipaddress import IPv4Address

log = logging.getLogger(__name__)

_MESSAGE = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, sequence, port."""
_NEIGHBOUR = struct.Struct("=BBHiHBB")
"""struct ndmsg: family, two of padding, interface, state, flags, type."""
_ROUTE = struct.Struct("=BBBBBBBBI")
"""struct rtmsg."""
_ATTRIBUTE = struct.Struct("=HH")
_INDEX = struct.Struct("=i")

RTM_GETROUTE, RTM_GETNEIGH = 26, 30
NLM_F_REQUEST = 1
NLMSG_ERROR = 2
RTA_DST, RTA_OIF, RTA_GATEWAY = 1, 4, 5
NDA_DST, NDA_LLADDR = 1, 2
ETHERNET_LENGTH = 6


class Neighbours:
    """One netlink socket; the kernel answers a request before it returns from it, so that nothing waits."""

    def __init__(self) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE
        )
        self._sequence = 0

    def close(self) -> None:
        self._socket.close()

    def find_hwaddr(self, address: IPv4Address) -> str | None:
        """In lower case with colons; None when the address is behind a router, this machine's own, or not known."""
        try:
            return self._find(address)
        except OSError as exc:
            if exc.errno not in (errno.ENOENT, errno.ENETUNREACH, errno.EHOSTUNREACH, errno.EINVAL):
                log.debug("neighbour %s: %s", address, exc)
            return None

    def _find(self, address: IPv4Address) -> str | None:
        route = _ROUTE.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0)
        attributes = self._ask(RTM_GETROUTE, route, RTA_DST, address)
        if RTA_GATEWAY in attributes or RTA_OIF not in attributes:
            return None
        (index,) = _INDEX.unpack(attributes[RTA_OIF])
        neighbour = _NEIGHBOUR.pack(socket.AF_INET, 0, 0, index, 0, 0, 0)
        found = self._ask(RTM_GETNEIGH, neighbour, NDA_DST, address).get(NDA_LLADDR, b"")
        if len(found) < ETHERNET_LENGTH or not any(found):
            return None
        return found.hex(":")

    def _ask(self, kind: int, header: bytes, attribute: int, address: IPv4Address) -> dict[int, bytes]:
        """The attributes of the answer, by number. Raises OSError."""
        self._sequence = (self._sequence + 1) & 0xFFFFFFFF
        body = header + _ATTRIBUTE.pack(_ATTRIBUTE.size + 4, attribute) + address.packed
        length = _MESSAGE.size + len(body)
        self._socket.send(_MESSAGE.pack(length, kind, NLM_F_REQUEST, self._sequence, 0) + body)
        while True:
            data = self._socket.recv(16384)
            length, answered, _, sequence, _ = _MESSAGE.unpack_from(data)
            if sequence != self._sequence:
                continue
            if answered == NLMSG_ERROR:
                code = -_INDEX.unpack_from(data, _MESSAGE.size)[0]
                raise OSError(code, errno.errorcode.get(code, "netlink"))
            return dict(_attributes(data[_MESSAGE.size + len(header) : length]))


def _attributes(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + _ATTRIBUTE.size <= len(data):
        length, kind = _ATTRIBUTE.unpack_from(data, at)
        if length < _ATTRIBUTE.size:
            return
        yield kind, data[at + _ATTRIBUTE.size : at + length]
        # Attributes begin on a multiple of four.
        at += (length + 3) & ~3
