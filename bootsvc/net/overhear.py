"""Datagrams from a port that pass an interface, whoever they are for: how another server's answers are noticed."""

import asyncio
import ctypes
import logging
import socket
import struct
from collections.abc import Callable
from ipaddress import IPv4Address

log = logging.getLogger(__name__)

ETH_P_IP = 0x0800
MAX_PER_WAKEUP = 64
_SO_ATTACH_FILTER = 26
"""Linux's number (asm-generic/socket.h), which `socket` does not export."""
_INSTRUCTION = struct.Struct("@HBBI")


def _filter(port: int, first: int) -> bytes:
    """Classic BPF on the IP header: UDP, not a later fragment, from `port`, and `first` is the first byte of its payload."""
    program = [
        (0x30, 0, 0, 9),  # the protocol
        (0x15, 0, 8, socket.IPPROTO_UDP),
        (0x28, 0, 0, 6),  # flags and fragment offset
        (0x45, 6, 0, 0x1FFF),
        (0xB1, 0, 0, 0),  # X = length of the IP header
        (0x48, 0, 0, 0),  # the source port, after it
        (0x15, 0, 3, port),
        (0x50, 0, 0, 8),  # the byte after the UDP header
        (0x15, 0, 1, first),
        (0x06, 0, 0, 0x40000),
        (0x06, 0, 0, 0),
    ]
    return b"".join(_INSTRUCTION.pack(*line) for line in program)


class Overhearing:
    """`heard(source, payload)` is called for each datagram from `port` whose payload begins with the byte `first`.

    Ours are left out by the kernel.
    """

    def __init__(self, interface: str, port: int, first: int, heard: Callable[[IPv4Address, bytes], None]) -> None:
        """Raises OSError where packet sockets are not allowed (CAP_NET_RAW)."""
        self._heard = heard
        self._socket = socket.socket(socket.AF_PACKET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
        try:
            code = ctypes.create_string_buffer(_filter(port, first))
            length = (len(code) - 1) // _INSTRUCTION.size
            self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", length, ctypes.addressof(code)))
            # Only now, so that nothing unfiltered comes in.
            self._socket.bind((interface, ETH_P_IP))
        except BaseException:
            self._socket.close()
            raise
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._drain)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._socket.fileno())
            self._socket.close()

    def _drain(self) -> None:
        for _ in range(MAX_PER_WAKEUP):
            if self._socket.fileno() < 0:
                return
            try:
                packet = self._socket.recv(65535)
            except OSError:
                return
            start = (packet[0] & 15) * 4 + 8 if packet else 0
            if len(packet) < start or start < 28:
                continue
            try:
                self._heard(IPv4Address(packet[12:16]), packet[start:])
            except Exception:
                log.exception("a datagram of %s", IPv4Address(packet[12:16]))
