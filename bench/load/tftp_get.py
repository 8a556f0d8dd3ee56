"""TFTP load: `tftp_get.py SERVER FILE TRANSFERS ROUNDS BLKSIZE WINDOWSIZE`. So many transfers at once, each repeated.

Each transfer has an address of its own on the loopback network, as machines have, and a socket that hears its server alone
once the server's port is known. A whole window is read in one call where the kernel joins its datagrams (UDP_GRO). Prints wall
seconds, bytes, retransmitted requests or acknowledgements, and the granted window. Needs nothing but the standard library.

All clients together have one core, as the server has: whatever they do for each block is kept short, or they would be measured.
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
BLOCK = BLKSIZE + 4
BUFFER = bytearray(65536)
HEAD = memoryview(BUFFER)[:4]


class Transfer:
    """One after the other, ROUNDS times."""

    def __init__(self, number: int) -> None:
        self.address = f"127.9.{number // 250}.{number % 250 + 1}"
        self.rounds = 0

    def begin(self) -> None:
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
        self.sock.bind((self.address, 0))
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        if WINDOW > 1:
            self.sock.setsockopt(socket.IPPROTO_UDP, UDP_GRO, 1)
        self.read, self.write = self.sock.recv_into, self.sock.send
        self.connected, self.single = False, WINDOW == 1
        self.block, self.total, self.window, self.unacked = 0, 0, 1, 0
        # The block at the last look, and when that was.
        self.seen, self.at = 0, time.monotonic()
        self.sock.sendto(REQUEST, (SERVER, 69))

    def receive(self) -> bool:
        """Whether the file is complete."""
        if not self.connected:
            count, peer = self.sock.recvfrom_into(BUFFER)
            self.sock.connect(peer)
            self.connected = True
        else:
            count = self.read(BUFFER)
        following = self.block + 1
        if self.single and count == BLOCK and BUFFER[1] == 3 and BUFFER[2] << 8 | BUFFER[3] == following & 0xFFFF:
            # An ACK is the header of its block but for the opcode.
            BUFFER[1] = 4
            self.write(HEAD)
            self.block = following
            self.total += BLKSIZE
            return False
        return self.consider(memoryview(BUFFER)[:count])

    def consider(self, data: memoryview) -> bool:
        """An OACK, one block or several."""
        if data[1] == 6:
            options = bytes(data[2:]).split(b"\0")
            granted = dict(zip(options[::2], options[1::2], strict=False))
            assert int(granted[b"blksize"]) == BLKSIZE
            self.window = int(granted.get(b"windowsize", b"1"))
            self.write(ACK.pack(4, 0))
            return False
        if data[1] != 3:
            sys.exit(f"the server says {bytes(data)!r}")
        for at in range(0, len(data), BLOCK):
            number = data[at + 2] << 8 | data[at + 3]
            if number != (self.block + 1) & 0xFFFF:
                continue
            length = min(len(data) - at, BLOCK) - 4
            self.block += 1
            self.total += length
            self.unacked += 1
            done = length < BLKSIZE
            if done or self.unacked == self.window:
                self.unacked = 0
                self.write(ACK.pack(4, self.block & 0xFFFF))
            if done:
                return True
        return False

    def again(self, now: float) -> bool:
        """Whether a packet was lost; the last one is sent once more then, and what came after a gap asked for anew."""
        if self.block != self.seen or now - self.at <= TIMEOUT:
            if self.block != self.seen:
                self.seen, self.at = self.block, now
            return False
        self.at = now
        if self.connected:
            self.write(ACK.pack(4, self.block & 0xFFFF))
        else:
            self.sock.sendto(REQUEST, (SERVER, 69))
        return True


def main() -> None:
    poll = select.epoll()
    running: dict[int, Transfer] = {}
    total = again = window = 0
    start = time.monotonic()

    def begin(transfer: Transfer) -> None:
        transfer.begin()
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
                transfer.sock.close()
                transfer.rounds += 1
                if transfer.rounds < ROUNDS:
                    begin(transfer)
        now = time.monotonic()
        if now - looked > 0.1:
            looked = now
            again += sum(transfer.again(now) for transfer in running.values())
    print(time.monotonic() - start, total, again, window)


main()
