"""One read transfer, without sockets or clock (RFC 1350; blksize 2348, timeout and tsize 2349, windowsize 7440)."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from bootsvc.tftp.packet import ACK_HEAD, Ack, Data, ErrorCode, ErrorPacket, OptionAck, Packet, ReadRequest, frame_data

DEFAULT_BLKSIZE = 512
MIN_BLKSIZE, MAX_BLKSIZE = 8, 65464
MAX_WINDOW_BYTES = 1 << 16
"""What may be under way to one client: a window is cut to it, so that it fits the client's and our own buffers."""
TIMEOUT_SECONDS = 1.0
MAX_TIMEOUT_SECONDS = 8.0
MAX_RETRIES = 6
"""Retransmissions of one window before the client counts as gone."""


class Source(Protocol):
    """The file."""

    @property
    def size(self) -> int: ...

    def read(self, offset: int, count: int) -> bytes:
        """Exactly `count` bytes, unless the end comes first. Raises OSError."""
        ...

    def unchanged(self) -> bool:
        """Whether all that was read belongs to one version."""
        ...


Due = range | OptionAck
"""What is to be sent: DATA of these block numbers, counted from 1 without roll-over, or the OACK."""
NOTHING = range(0)
NONE_AWAITED = -1


class Outcome(Enum):
    RUNNING = "running"
    COMPLETE = "complete"
    PROBED = "probed"
    """The client only wanted to know the size: UEFI and some ROMs abort after the OACK, and ask again. No failure."""
    ABORTED = "aborted"
    TIMED_OUT = "timed out"
    CHANGED = "changed"
    """The file is not the one any more that it was at the start: the client is told so instead of getting its end."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What was negotiated; `oack` is None when the client sent no option that we know."""

    blksize: int = DEFAULT_BLKSIZE
    windowsize: int = 1
    timeout: float = TIMEOUT_SECONDS
    oack: OptionAck | None = None


def negotiate(request: ReadRequest, size: int) -> Terms:
    """Take the options that we know and whose values make sense; the others are not acknowledged (RFC 2347)."""
    granted: dict[str, str] = {}
    blksize = _number(request, "blksize", MIN_BLKSIZE, 1 << 31)
    if blksize is not None:
        granted["blksize"] = str(blksize := min(blksize, MAX_BLKSIZE))
    timeout = _number(request, "timeout", 1, 255)
    if timeout is not None:
        granted["timeout"] = str(timeout)
    # netascii's size on the wire is not the file's, and RFC 2349 means octets sent: the source already is what is sent.
    if _number(request, "tsize", 0, 1 << 63) is not None:
        granted["tsize"] = str(size)
    windowsize = _number(request, "windowsize", 1, 65535)
    if windowsize is not None:
        windowsize = max(1, min(windowsize, MAX_WINDOW_BYTES // (blksize or DEFAULT_BLKSIZE)))
        granted["windowsize"] = str(windowsize)
    return Terms(
        blksize=blksize or DEFAULT_BLKSIZE,
        windowsize=windowsize or 1,
        timeout=float(timeout or TIMEOUT_SECONDS),
        oack=OptionAck(options=granted) if granted else None,
    )


def _number(request: ReadRequest, name: str, low: int, high: int) -> int | None:
    text = request.options.get(name, "")
    if not text.isascii() or not text.isdecimal() or len(text) > 20:
        return None
    return int(text) if low <= int(text) <= high else None


class ReadSession:
    """Sends one file; every method returns the packets to send now. `now` is in seconds of a monotonic clock."""

    def __init__(self, request: ReadRequest, source: Source) -> None:
        self.filename = request.filename
        self.terms = negotiate(request, source.size)
        self.outcome = Outcome.RUNNING
        self._source = source
        # Short, empty if need be: it is what tells the client that the file ends.
        self.last = source.size // self.terms.blksize + 1
        self._acked = -1 if self.terms.oack is not None else 0
        self._sent = self._acked
        self._retries = 0
        self._resent_at = -1
        self._sent_at = self._wait = 0.0
        self.awaited = NONE_AWAITED
        """The ACK, its four bytes as one number, for which `follow` does; NONE_AWAITED while `acknowledge` has to be asked."""

    @property
    def acked_bytes(self) -> int:
        """Bytes of the file that the client acknowledged."""
        return min(max(self._acked, 0) * self.terms.blksize, self._source.size)

    def start(self, now: float) -> list[Packet]:
        """The OACK, or the first window when nothing was negotiated."""
        return self.packets(self.begin(now))

    def receive(self, packet: Packet, now: float) -> list[Packet]:
        """React to what the client sent."""
        if self.outcome is not Outcome.RUNNING:
            return []
        match packet:
            case Ack(block=block):
                return self.packets(self.acknowledge(block, now))
            case ErrorPacket():
                probed = self.terms.oack is not None and self._acked < 1
                self.end(Outcome.PROBED if probed else Outcome.ABORTED)
                return []
            case _:
                self.end(Outcome.ABORTED)
                return [ErrorPacket(code=ErrorCode.ILLEGAL_OPERATION, message="only ACK and ERROR are expected here")]

    def tick(self, now: float) -> list[Packet]:
        """Send the window again when its time is over; each time waits longer, and the last one gives up."""
        return self.packets(self.again(now))

    def packets(self, due: Due) -> list[Packet]:
        """As records."""
        if isinstance(due, OptionAck):
            return [due]
        size = self.terms.blksize
        return [Data(block=number & 0xFFFF, data=self._source.read((number - 1) * size, size)) for number in due]

    def datagrams(self, due: range) -> Sequence[bytes]:
        """As bytes, read at once. Raises OSError when the file has changed."""
        size = self.terms.blksize
        start = (due.start - 1) * size
        wanted = min(len(due) * size, self._source.size - start)
        data = self._source.read(start, wanted)
        if len(data) != wanted or (due.stop > self.last and not self._source.unchanged()):
            self.end(Outcome.CHANGED)
            raise OSError(f"{self.filename} has changed")
        if len(due) == 1:
            return [frame_data(due.start, data)]
        return [
            frame_data(number, data[at : at + size]) for number, at in zip(due, range(0, len(due) * size, size), strict=True)
        ]

    def begin(self, now: float) -> Due:
        """What `start` sends."""
        return self._transmit(now)

    def again(self, now: float) -> Due:
        """What `tick` sends."""
        if self.outcome is not Outcome.RUNNING or not self.expired(now):
            return NOTHING
        if self._retries == MAX_RETRIES:
            self.end(Outcome.TIMED_OUT)
            return NOTHING
        self._retries += 1
        self._sent = self._acked
        return self._transmit(now)

    def expired(self, now: float) -> bool:
        """Whether `tick` has something to do."""
        return now >= self._sent_at + self._wait

    def end(self, outcome: Outcome) -> None:
        self.outcome, self.awaited = outcome, NONE_AWAITED

    def follow(self, now: float) -> int:
        """The block that the `awaited` ACK lets follow, and nothing else: nearly every ACK of a transfer without a window."""
        self._acked = self._sent
        self._sent = number = self._sent + 1
        self._sent_at = now
        self.awaited = ACK_HEAD | number & 0xFFFF if number < self.last else NONE_AWAITED
        return number

    def acknowledge(self, block: int, now: float) -> Due:
        """What an ACK, whose number is as on the wire, lets follow."""
        if self.outcome is not Outcome.RUNNING:
            return NOTHING
        # Block numbers roll over: a number on the wire means the block of that number among those under way.
        ahead = (block - self._acked) & 0xFFFF if self._acked >= 0 else int(block != 0) * 0x10000 + 1
        if ahead == 0:
            return self._duplicate(now)
        if ahead > self._sent - self._acked:
            return NOTHING
        self._acked += ahead
        self._retries = 0
        if self._acked >= self.last:
            self.end(Outcome.COMPLETE)
            return NOTHING
        # A window that arrived in part goes on after its last block in sequence (RFC 7440 §4).
        self._sent = self._acked
        return self._transmit(now)

    def _duplicate(self, now: float) -> Due:
        """With a window, a repeated ACK says that its first block was lost.

        Without one it is answered by nobody: else each doubled packet would double all that follow (RFC 1123 §4.2.3.1).
        """
        if self.terms.windowsize == 1 or self._resent_at == self._acked:
            return NOTHING
        self._resent_at = self._sent = self._acked
        return self._transmit(now)

    def _transmit(self, now: float) -> Due:
        wait = self.terms.timeout
        if self._retries:
            wait = min(wait * 2**self._retries, max(MAX_TIMEOUT_SECONDS, wait))
        self._sent_at, self._wait = now, wait
        self._sent = min(self._acked + self.terms.windowsize, self.last) if self._acked >= 0 else 0
        steady = self.terms.windowsize == 1 and not self._retries and self._sent < self.last
        self.awaited = ACK_HEAD | self._sent & 0xFFFF if steady else NONE_AWAITED
        if self._acked < 0:
            assert self.terms.oack is not None
            return self.terms.oack
        return range(self._acked + 1, self._sent + 1)


def netascii(data: bytes) -> bytes:
    """Text as RFC 764's NVT sends it: LF as CR LF, a bare CR as CR NUL."""
    return data.replace(b"\r", b"\r\0").replace(b"\n", b"\r\n")
