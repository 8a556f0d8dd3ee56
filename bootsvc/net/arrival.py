"""By which interface a TCP connection came in, as the kernel remembers it (Linux: ip(7), ipv6(7), IP_PKTINFO of a stream)."""

import socket
import struct
from typing import Protocol

_IP_PKTINFO, _IP_PKTOPTIONS = 8, 9
_IPV6_2292PKTOPTIONS, _IPV6_RECVPKTINFO = 6, 49
"""Linux's numbers (linux/in.h, linux/in6.h), which `socket` does not export."""
_INFO4 = struct.Struct("@NiiI8x")
"""struct cmsghdr and in_pktinfo: of all of it, the interface."""
_INFO6 = struct.Struct("@Nii16xI")
UNKNOWN = "-"


class Sock(Protocol):
    """A socket, or what asyncio gives for one."""

    @property
    def family(self) -> int: ...
    def setsockopt(self, level: int, optname: int, value: int, /) -> None: ...
    def getsockopt(self, level: int, optname: int, buflen: int, /) -> bytes: ...


def arrival_interface(sock: Sock) -> str:
    """Its name; "-" when it has gone already, or the connection has."""
    try:
        if sock.family == socket.AF_INET6:
            sock.setsockopt(socket.IPPROTO_IPV6, _IPV6_RECVPKTINFO, 1)
            told = _INFO6.unpack_from(sock.getsockopt(socket.IPPROTO_IPV6, _IPV6_2292PKTOPTIONS, 256))
        else:
            sock.setsockopt(socket.IPPROTO_IP, _IP_PKTINFO, 1)
            told = _INFO4.unpack_from(sock.getsockopt(socket.IPPROTO_IP, _IP_PKTOPTIONS, 256))
        return socket.if_indextoname(told[-1])
    except (OSError, struct.error):
        return UNKNOWN
