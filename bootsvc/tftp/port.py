"""A UDP port that transfers share: their acknowledgements are read together, and what they let follow leaves together.

A transfer's TID is its client's address and port and ours (RFC 1350 §4), so that several clients may have one port of ours.
"""

import asyncio
import errno
import logging
import socket
import struct
from collections import deque
from collections.abc import Callable, Sequence
from ipaddress import IPv4Address

from bootsvc.errors import PortUnavailable
from bootsvc.net.batch import UDP_SEGMENT, Client, Inbox, Memory, Outbox
from bootsvc.net.buffers import set_buffers
from bootsvc.tftp.frames import Frames

log = logging.getLogger(__name__)

MAX_DATAGRAM = 2048
"""Of what a client sends in a transfer; more is cut off."""
MAX_BATCH = 64
"""Datagrams that are read, or sent, in one system call."""
MAX_PER_WAKEUP = 256
"""Datagrams read before the loop's other work gets its turn."""
BUFFER = 4 << 20
"""Bytes of kernel buffer, each way."""
MAX_WAITING = 64
"""Sends that wait for room in the kernel's buffer; what is beyond is lost, as on any network, and sent again later."""
MAX_SEGMENTS = 64
"""Of one send (UDP_MAX_SEGMENTS)."""
MAX_PAYLOAD = 65507
_SEGMENT = struct.Struct("=H")


class TransferPort:
    """Bound to a free port of `address`."""

    def __init__(self, address: IPv4Address) -> None:
        """Raises PortUnavailable."""
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
        self.inbox = Inbox(self._socket, stride=MAX_DATAGRAM, count=MAX_BATCH)
        self._outbox = Outbox(self._socket, count=MAX_BATCH)
        self._receive: Callable[[int], None] | None = None
        self._waiting: deque[tuple[bytes, int, Client]] = deque()
        self._segments = True
        try:
            set_buffers(self._socket, receive=BUFFER, send=BUFFER)
            self._socket.bind((str(address), 0))
        except OSError as exc:
            self._socket.close()
            raise PortUnavailable(str(address), 0, exc.strerror or str(exc)) from exc

    def start(self, receive: Callable[[int], None]) -> None:
        """Call `receive` with the number of datagrams that are in `inbox`, inside the running loop's reader callback."""
        self._receive = receive
        asyncio.get_running_loop().add_reader(self._socket.fileno(), self._drain)

    def close(self) -> None:
        if self._socket.fileno() >= 0:
            loop = asyncio.get_running_loop()
            loop.remove_reader(self._socket.fileno())
            loop.remove_writer(self._socket.fileno())
            self._socket.close()

    def _drain(self) -> None:
        receive = self._receive
        assert receive is not None
        left = MAX_PER_WAKEUP
        while left > 0 and (count := self.inbox.receive()):
            receive(count)
            self.flush()
            left -= count

    def put_each(self, peers: Sequence[int], vectors: Sequence[int], memories: Sequence[Memory]) -> None:
        """Send a datagram to each peer at the next `flush`, at most MAX_BATCH; see `Outbox.refer_each`."""
        if self._outbox.waiting + len(peers) > MAX_BATCH:
            self.flush()
        self._outbox.refer_each(peers, vectors, memories)

    def put(self, frames: Frames, blocks: range, peer: int) -> None:
        """Send DATA packets at the next `flush`; `blocks` are some."""
        size, first, outbox = frames.size, blocks.start, self._outbox
        if blocks.stop - first == 1 and outbox.waiting < MAX_BATCH:
            outbox.refer(peer, frames.memory, (first - 1) * size, size)
            return
        most = max(1, min(MAX_SEGMENTS, MAX_PAYLOAD // size)) if self._segments else 1
        for first in range(blocks.start, blocks.stop, most):
            if outbox.waiting == MAX_BATCH:
                self.flush()
            count = min(most, blocks.stop - first)
            outbox.refer(peer, frames.memory, (first - 1) * size, count * size, size if count > 1 else 0)

    def flush(self) -> None:
        """Send all that was put; what the kernel refuses then is tried again on its own."""
        for client, data, size in self._outbox.flush():
            if not size:
                self.send(data, client)
            elif not self._send_segments(data, size, client):
                for at in range(0, len(data), size):
                    self.send(data[at : at + size], client)

    def send(self, data: bytes, client: Client) -> None:
        """One datagram."""
        try:
            self._socket.sendto(data, client)
        except BlockingIOError:
            self._wait(data, 0, client)
        except OSError as exc:
            log.debug("sending %d bytes to %s:%d: %s", len(data), *client, exc.strerror)

    def send_window(self, packets: Sequence[bytes], client: Client) -> None:
        """Several datagrams, of equal size but for the last."""
        size = len(packets[0])
        most = max(1, min(MAX_SEGMENTS, MAX_PAYLOAD // size))
        at = 0
        while at < len(packets):
            batch = packets[at : at + most]
            if len(batch) == 1 or not self._segments or not self._send_segments(b"".join(batch), size, client):
                for packet in batch:
                    self.send(packet, client)
            at += most

    def _send_segments(self, data: bytes, size: int, client: Client) -> bool:
        """UDP segmentation offload; False when neither the card nor the kernel can, or the packets are larger than the MTU."""
        try:
            self._socket.sendmsg([data], [(socket.IPPROTO_UDP, UDP_SEGMENT, _SEGMENT.pack(size))], 0, client)
        except BlockingIOError:
            self._wait(data, size, client)
        except OSError as exc:
            if exc.errno in (errno.EIO, errno.ENOPROTOOPT, errno.EOPNOTSUPP):
                self._segments = False
                log.info("tftp no segmentation offload: %s", exc.strerror)
            return False
        return True

    def _wait(self, data: bytes, size: int, client: Client) -> None:
        if len(self._waiting) >= MAX_WAITING:
            return
        if not self._waiting:
            asyncio.get_running_loop().add_writer(self._socket.fileno(), self._send_waiting)
        self._waiting.append((data, size, client))

    def _send_waiting(self) -> None:
        waiting, self._waiting = self._waiting, deque()
        asyncio.get_running_loop().remove_writer(self._socket.fileno())
        for data, size, client in waiting:
            if size:
                self._send_segments(data, size, client)
            else:
                self.send(data, client)
