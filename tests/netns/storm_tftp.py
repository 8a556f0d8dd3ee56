"""A TFTP client as firmware has it: blksize and tsize, retransmission with back-off, and again from the start."""

import asyncio
import struct
from collections.abc import Sequence

BLKSIZE = 1468
RRQ, DATA, ACK, ERROR, OACK = 1, 3, 4, 5, 6


class TftpFailed(Exception):
    """The transfer ended before its file did."""


class Transfer(asyncio.DatagramProtocol):
    """One file; `probe` ends it when its size is known, as UEFI does before it allocates memory.

    `waits` are the seconds without any progress after which the last packet is sent again.
    """

    def __init__(self, server: str, filename: str, waits: Sequence[float], *, probe: bool) -> None:
        self.done: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self.repeated = 0
        self.progress = 0
        self._server = server
        self._waits = waits
        self._probe = probe
        self._peer: tuple[str, int] | None = None
        self._size: int | None = None
        self._blocks: list[bytes] = []
        self._last = struct.pack("!H", RRQ) + b"\0".join(
            (filename.encode(), b"octet", b"blksize", str(BLKSIZE).encode(), b"tsize", b"0", b"")
        )
        self._transport: asyncio.DatagramTransport | None = None

    async def run(self) -> bytes:
        """The file. Raises TftpFailed."""
        for wait in self._waits:
            self._send()
            while True:
                before = self.progress
                await asyncio.wait([self.done], timeout=wait)
                if self.done.done():
                    return self.done.result()
                if self.progress == before:
                    break
            self.repeated += 1
        raise TftpFailed("nothing came any more")

    def connection_made(self, transport: asyncio.DatagramTransport) -> None:  # type: ignore[override]
        self._transport = transport

    def datagram_received(self, data: bytes, addr: tuple[str, int]) -> None:
        if self.done.done() or len(data) < 4 or addr[0] != self._server or self._peer not in (None, addr):
            return
        opcode, block = struct.unpack_from("!HH", data)
        if opcode == ERROR:
            self.done.set_exception(TftpFailed(data[4:-1].decode(errors="replace")))
        elif opcode == OACK and not self._blocks:
            self._peer = addr
            self._accept(data[2:].split(b"\0"))
        elif opcode == DATA and self._size is not None:
            self._take(block, data[4:])

    def _accept(self, words: list[bytes]) -> None:
        options = dict(zip(words[::2], words[1::2], strict=False))
        if options.get(b"blksize") != str(BLKSIZE).encode():
            self.done.set_exception(TftpFailed(f"blksize was not granted: {options}"))
            return
        self._size = int(options[b"tsize"])
        if self._probe:
            self._last = struct.pack("!HH", ERROR, 8) + b"User aborted the transfer\0"
            self.done.set_result(b"")
        else:
            self._last = struct.pack("!HH", ACK, 0)
        self._send()

    def _take(self, block: int, data: bytes) -> None:
        if block == (len(self._blocks) + 1) & 0xFFFF:
            self._blocks.append(data)
            self.progress += 1
            self._last = struct.pack("!HH", ACK, block)
            if len(data) < BLKSIZE:
                whole = b"".join(self._blocks)
                if len(whole) == self._size:
                    self.done.set_result(whole)
                else:
                    self.done.set_exception(TftpFailed(f"{len(whole)} bytes came, and tsize said {self._size}"))
        # Also what came twice is acknowledged: our first ACK may be lost.
        self._send()

    def _send(self) -> None:
        if self._transport is not None and not self._transport.is_closing():
            self._transport.sendto(self._last, self._peer or (self._server, 69))


async def fetch(server: str, address: str, filename: str, waits: Sequence[float], *, probe: bool = False) -> tuple[bytes, int]:
    """The file, from `address`, and how often a packet was sent again. Raises TftpFailed."""
    loop = asyncio.get_running_loop()
    transport, transfer = await loop.create_datagram_endpoint(
        lambda: Transfer(server, filename, waits, probe=probe), local_addr=(address, 0)
    )
    try:
        return await transfer.run(), transfer.repeated
    finally:
        transport.close()
