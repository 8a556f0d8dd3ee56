"""The kernel's buffers of a socket."""

import contextlib
import socket

_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
"""Linux's numbers (socket(7)), which `socket` does not export."""


def set_buffers(sock: socket.socket, *, receive: int = 0, send: int = 0) -> None:
    """Bytes each way, or 0 for what it is; beyond the system's maximum only with CAP_NET_ADMIN."""
    wanted = ((_SO_RCVBUFFORCE, socket.SO_RCVBUF, receive), (_SO_SNDBUFFORCE, socket.SO_SNDBUF, send))
    for forced, usual, size in wanted:
        if size:
            sock.setsockopt(socket.SOL_SOCKET, usual, size)
            with contextlib.suppress(PermissionError):
                sock.setsockopt(socket.SOL_SOCKET, forced, size)
