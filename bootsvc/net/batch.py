"""Many IPv4 datagrams in one system call: recvmmsg(2) and sendmmsg(2), which Python's `socket` does not have.

All memory is laid out once, and the kernel reads and writes it in place: per datagram no address is made, and nothing copied.
"""

import ctypes
import errno
import logging
import os
import socket
import struct
import sys
from array import array
from collections.abc import Sequence
from functools import lru_cache

log = logging.getLogger(__name__)

UDP_SEGMENT = 103
"""Linux's number (udp(7)), which `socket` of Python 3.11 does not export."""
Client = tuple[str, int]
"""Address and port, as the socket module has them."""
_ADDRESS_BYTES = 16
"""A `sockaddr_in`, of which the first half says all: family, port and address."""
_PEER = struct.Struct("=H2s4s")
_CONTROL = struct.Struct("@NiiHxxxxxx")
"""A `cmsghdr` with the size of a segment, padded to whole words."""
_CONTROL_BYTES = _CONTROL.size
IP_PKTINFO = 8
"""Linux's number (ip(7)), which `socket` of Python 3.11 does not export."""
_PKTINFO = struct.Struct("@NiiI4s4s4x")
"""A `cmsghdr` with interface, our address and the address in the header, padded to whole words."""
_PKTINFO_LENGTH = 28
"""Without the padding."""
_WORD = ctypes.sizeof(ctypes.c_size_t)
_libc = ctypes.CDLL(None, use_errno=True)
_DONTWAIT = int(socket.MSG_DONTWAIT)


class _Header(ctypes.Structure):
    """`struct msghdr`."""

    _fields_ = (
        ("name", ctypes.c_void_p),
        ("name_length", ctypes.c_uint),
        ("vectors", ctypes.c_void_p),
        ("vector_count", ctypes.c_size_t),
        ("control", ctypes.c_void_p),
        ("control_length", ctypes.c_size_t),
        ("flags", ctypes.c_int),
    )


class _Message(ctypes.Structure):
    """`struct mmsghdr`."""

    _fields_ = (("header", _Header), ("length", ctypes.c_uint))


_MESSAGE_BYTES = ctypes.sizeof(_Message)
_PEERS, _VECTORS = f"=Q{_ADDRESS_BYTES - 8}x", "=QQ"
_LENGTHS = f"={_Message.length.offset}xI{_MESSAGE_BYTES - _Message.length.offset - 4}x"


@lru_cache(maxsize=1024)
def _several(one: str, count: int) -> struct.Struct:
    """What `one` describes, so many times: a whole batch is read or written at once, for what a few single values cost."""
    return struct.Struct(one[0] + one[1:] * count)


def peer_of(client: Client) -> int:
    """An address and port as one number, the way `Inbox.peers` has them."""
    packed = _PEER.pack(socket.AF_INET, client[1].to_bytes(2, "big"), socket.inet_aton(client[0]))
    return int.from_bytes(packed, sys.byteorder)


def client_of(peer: int) -> Client:
    _, port, address = _PEER.unpack(peer.to_bytes(_PEER.size, sys.byteorder))
    return socket.inet_ntoa(address), int.from_bytes(port, "big")


@lru_cache(maxsize=4096)
def leaving(ifindex: int, source: int) -> bytes:
    """Control data: by which interface a datagram leaves, and which address of ours it names; zero leaves it to the kernel."""
    if not ifindex and not source:
        return b""
    return _PKTINFO.pack(_PKTINFO_LENGTH, socket.IPPROTO_IP, IP_PKTINFO, ifindex, source.to_bytes(4, "big"), bytes(4))


class Memory:
    """Bytes that do not move, at `address`."""

    __slots__ = ("_held", "address", "data")

    def __init__(self, data: bytes | int) -> None:
        self.data = bytearray(data)
        # As long as it is exported, a bytearray cannot be resized, and so not be moved.
        self._held = (ctypes.c_char * len(self.data)).from_buffer(self.data)
        self.address = ctypes.addressof(self._held)


class _Messages:
    """An array of messages, each with one vector, an address, and room for `control` bytes of control data."""

    def __init__(self, count: int, control: int = _CONTROL_BYTES) -> None:
        self.count = count
        self.names = Memory(count * _ADDRESS_BYTES)
        self.vectors = Memory(count * 2 * _WORD)
        self.control = Memory(count * control)
        self.headers = Memory(count * _MESSAGE_BYTES)
        self.address = self.headers.address
        self.start = ctypes.c_void_p(self.address)
        self.peers = memoryview(self.names.data).cast("Q")[::2]
        self.addresses = memoryview(self.names.data).cast("I")[1::4]
        self.bases = memoryview(self.vectors.data).cast("L")[::2]
        self.sizes = memoryview(self.vectors.data).cast("L")[1::2]
        self.control_sizes = memoryview(self.headers.data).cast("L")[
            _Header.control_length.offset // _WORD :: _MESSAGE_BYTES // _WORD
        ]
        self.lengths = memoryview(self.headers.data).cast("I")[_Message.length.offset // 4 :: _MESSAGE_BYTES // 4]
        for index in range(count):
            header = _Header.from_buffer(self.headers.data, index * _MESSAGE_BYTES)
            header.name = self.names.address + index * _ADDRESS_BYTES
            header.name_length = _ADDRESS_BYTES
            header.vectors = self.vectors.address + index * 2 * _WORD
            header.vector_count = 1
            header.control = self.control.address + index * control

    def segment(self, index: int, size: int) -> None:
        """Have the kernel cut a message into datagrams of this size (UDP segmentation offload); 0 for not at all."""
        if size:
            control = (socket.CMSG_LEN(2), socket.IPPROTO_UDP, UDP_SEGMENT, size)
            _CONTROL.pack_into(self.control.data, index * _CONTROL_BYTES, *control)
        self.control_sizes[index] = _CONTROL_BYTES if size else 0

    def unsent(self, index: int) -> tuple[Client, bytes, int]:
        """To whom, the bytes, and the size of a segment or 0."""
        segment = 0
        if self.control_sizes[index] == _CONTROL_BYTES:
            segment = _CONTROL.unpack_from(self.control.data, index * _CONTROL_BYTES)[3]
        return client_of(self.peers[index]), ctypes.string_at(self.bases[index], self.sizes[index]), segment


class Inbox:
    """What `receive` read is in `buffer`, `stride` bytes for each datagram; `peers`, `addresses` and `lengths` go with it."""

    def __init__(self, sock: socket.socket, *, stride: int, count: int, arrivals: bool = False) -> None:
        """Of a datagram that is longer than `stride`, the rest is cut off; `arrivals` needs IP_PKTINFO set on the socket."""
        self.stride = stride
        self._socket = sock
        self._messages = _Messages(count, _PKTINFO.size if arrivals else _CONTROL_BYTES)
        control = memoryview(self._messages.control.data)
        self.ifindexes = control.cast("I")[4 :: _PKTINFO.size // 4] if arrivals else memoryview(b"").cast("I")
        """Where each came in."""
        self.locals = control.cast("I")[6 :: _PKTINFO.size // 4] if arrivals else memoryview(b"").cast("I")
        """The address to which each was sent, as `addresses`."""
        self._room = memoryview(array("L", [_PKTINFO.size] * count)) if arrivals else None
        self._memory = Memory(stride * count)
        self.buffer = memoryview(self._memory.data)
        self._head = f"!I{stride - 4}x"
        self.peers = self._messages.peers
        self.addresses = self._messages.addresses
        """As `peers`, without the port."""
        self.lengths = self._messages.lengths
        for index in range(count):
            self._messages.bases[index] = self._memory.address + index * stride
            self._messages.sizes[index] = stride

    def receive(self) -> int:
        """How many datagrams were there; never waits."""
        messages = self._messages
        if self._room is not None:
            # The kernel wrote there how much of the control data it used.
            messages.control_sizes[:] = self._room
        count: int = _libc.recvmmsg(self._socket.fileno(), messages.start, messages.count, _DONTWAIT, None)
        if count < 0:
            number = ctypes.get_errno()
            if number not in (errno.EAGAIN, errno.EINTR):
                log.debug("receiving: %s", os.strerror(number))
            return 0
        return count

    def senders(self, count: int) -> Sequence[int]:
        """The first `count` of `peers`."""
        found: Sequence[int] = _several(_PEERS, count).unpack_from(self._messages.names.data)
        return found

    def heads(self, count: int) -> Sequence[int]:
        """The first four bytes of each as a number, in network order; 0 for one that is shorter."""
        found: Sequence[int] = _several(self._head, count).unpack_from(self._memory.data)
        lengths = _several(_LENGTHS, count).unpack_from(self._messages.headers.data)
        if min(lengths) < 4:
            return [head if length >= 4 else 0 for head, length in zip(found, lengths, strict=True)]
        return found

    def data(self, index: int) -> bytes:
        start = index * self.stride
        return bytes(self.buffer[start : start + self.lengths[index]])


class Outbox:
    """Datagrams that leave together at `flush`; the caller flushes when `waiting` has reached `count`."""

    def __init__(self, sock: socket.socket, *, count: int, stride: int = 0, departures: bool = False) -> None:
        """`stride` is the most that `put` may copy; `departures`: `put` is told where each is to leave."""
        self.waiting = 0
        self._socket = sock
        self._messages = _Messages(count, _PKTINFO.size if departures else _CONTROL_BYTES)
        self._peers, self._bases, self._sizes = self._messages.peers, self._messages.bases, self._messages.sizes
        self._control_sizes = self._messages.control_sizes
        self._control = memoryview(self._messages.control.data)
        self._memory = Memory(stride * count)
        self._view = memoryview(self._memory.data)
        self._stride = stride
        self._segmented = False
        self._none = memoryview(array("L", bytes(count * _WORD)))
        # A file's packets may be forgotten while they wait here.
        self._held: list[object] = [None] * count
        if stride:
            for index in range(count):
                self._bases[index] = self._memory.address + index * stride

    def put(self, peer: int, data: bytes, departure: bytes = b"") -> None:
        """A copy of `data`, with a `departure` of `leaving`; an outbox is used either with `put` or with `refer`."""
        index, size = self.waiting, len(data)
        if departure:
            at = index * _PKTINFO.size
            self._control[at : at + _PKTINFO.size] = departure
        if self._control_sizes[index] != len(departure):
            self._control_sizes[index] = len(departure)
        start = index * self._stride
        self._view[start : start + size] = data
        self._peers[index] = peer
        self._sizes[index] = size
        self.waiting = index + 1

    def refer(self, peer: int, memory: Memory, start: int, size: int, segment: int = 0) -> None:
        """Bytes of `memory`, which is kept until they are sent; with `segment`, as datagrams of that many bytes."""
        index = self.waiting
        self._peers[index] = peer
        self._bases[index] = memory.address + start
        self._sizes[index] = size
        if segment:
            self._messages.segment(index, segment)
            self._segmented = True
        self._held[index] = memory
        self.waiting = index + 1

    def refer_each(self, peers: Sequence[int], vectors: Sequence[int], memories: Sequence[Memory]) -> None:
        """As `refer` to each of the peers: `vectors` has the address and the size for one, then for the next; there is room."""
        index, count = self.waiting, len(peers)
        _several(_PEERS, count).pack_into(self._messages.names.data, index * _ADDRESS_BYTES, *peers)
        _several(_VECTORS, count).pack_into(self._messages.vectors.data, index * 2 * _WORD, *vectors)
        self.waiting = index + count
        self._held[index : self.waiting] = memories

    def flush(self) -> Sequence[tuple[Client, bytes, int]]:
        """Send; what the kernel did not take is returned: to whom, the bytes, and the size of a segment or 0."""
        count, at, messages = self.waiting, 0, self._messages
        self.waiting = 0
        unsent = []
        while at < count:
            start = ctypes.c_void_p(messages.address + at * _MESSAGE_BYTES) if at else messages.start
            sent: int = _libc.sendmmsg(self._socket.fileno(), start, count - at, _DONTWAIT)
            if sent > 0:
                at += sent
            else:
                unsent.append(messages.unsent(at))
                at += 1
        if self._segmented:
            self._control_sizes[:count] = self._none[:count]
            self._segmented = False
        return unsent
