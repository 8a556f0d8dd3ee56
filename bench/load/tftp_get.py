"""TFTP load: `tftp_get.py SERVER FILE TRANSFERS ROUNDS BLKSIZE WINDOWSIZE`. So many transfers at once, each repeated.

Each transfer has an address of its own on the loopback network, as machines have. A whole window is read in one call where
the kernel joins its datagrams (UDP_GRO). Prints wall seconds, bytes, retransmitted requests or acknowledgements, and the
granted window. Needs nothing but the standard library.
"""

import select
import socket
import struct
import sys
import time

SERVER, NAME = sys.argv[1], sys.argv[2]
TRANSFERS, ROUNDS, BLKSIZE, WINDOW = map(int, sys.argv[3:7])
UDP_GRO = 104
TIMEOUT = 1.0
ACK = struct.Struct("!HH")
REQUEST = b"\0\x01" + b"\0".join(
    [NAME.encode(), b"octet", b"blksize", str(BLKSIZE).encode()]
    + ([b"windowsize", str(WINDOW).encode()] if WINDOW > 1 else [])
    + [b""]
)


class Transfer:
    """One after the other, ROUNDS times."""

    def __init__(self, number: int) -> None:
        self.address = f"127.9.{number // 250}.{number % 250 + 1}"
        self.rounds = 0
        self.sock: socket.socket | None = None

    def begin(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.bind((self.address, 0))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        if WINDOW > 1:
            self.sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self.peer = (SERVER, 69)
        self.block, self.total, self.window, self.unacked = 0, 0, 1, 0
        self.last = REQUEST
        self.send()

    def send(self) -> None:
        assert self.sock is not None
        self.at = time.monotonic()
        self.sock.sendto(self.last, self.peer)

    def receive(self) -> bool:
        """Whether the file is complete."""
        assert self.sock is not None
        data, self.peer = self.sock.recvfrom(65536)
        if data[1] == 6:
            options = data[2:].split(b"\0")
            granted = dict(zip(options[::2], options[1::2], strict=False))
            assert int(granted[b"blksize"]) == BLKSIZE
            self.window = int(granted.get(b"windowsize", b"1"))
            self.last = ACK.pack(4, 0)
            self.send()
            return False
        if data[1] != 3:
            sys.exit(f"the server says {data!r}")
        size = BLKSIZE + 4
        for at in range(0, len(data), size):
            number = data[at + 2] << 8 | data[at + 3]
            if number != (self.block + 1) & 0xFFFF:
                continue
            length = min(len(data) - at, size) - 4
            self.block += 1
            self.total += length
            self.unacked += 1
            done = length < BLKSIZE
            if done or self.unacked == self.window:
                self.last, self.unacked = ACK.pack(4, self.block & 0xFFFF), 0
                self.send()
            if done:
                return True
        return False


def main() -> None:
    poll = select.epoll()
    running: dict[int, Transfer] = {}
    total = again = window = 0
    start = time.monotonic()

    def begin(transfer: Transfer) -> None:
        transfer.begin()
        assert transfer.sock is not None
        running[transfer.sock.fileno()] = transfer
        poll.register(transfer.sock, select.EPOLLIN)

    for number in range(TRANSFERS):
        begin(Transfer(number))
    looked = start
    while running:
        for number, _ in poll.poll(0.1):
            transfer = running[number]
            if transfer.receive():
                total, window = total + transfer.total, transfer.window
                poll.unregister(number)
                del running[number]
                assert transfer.sock is not None
                transfer.sock.close()
                transfer.rounds += 1
                if transfer.rounds < ROUNDS:
                    begin(transfer)
        now = time.monotonic()
        if now - looked > 0.1:
            looked = now
            for transfer in running.values():
                if now - transfer.at > TIMEOUT:
                    again += 1
                    # What came after a gap is asked for anew.
                    transfer.last = ACK.pack(4, transfer.block & 0xFFFF) if transfer.block else transfer.last
                    transfer.send()
    print(time.monotonic() - start, total, again, window)


main()
