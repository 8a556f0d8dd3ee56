"""What upstream servers said, for as long as they said it holds (RFC 1035 §3.2.1, RFC 2308); least recently used goes first."""

from collections import OrderedDict
from dataclasses import dataclass

from bootsvc.dns.packet import Body

MAX_ENTRIES = 20_000
MAX_BYTES = 16 << 20
"""Of records; random names asked by anybody fill no more than this."""
MAX_SECONDS = 86_400
MAX_NEGATIVE_SECONDS = 900


@dataclass(frozen=True, slots=True, kw_only=True)
class Key:
    """What an answer depends on; `question` has its name in lower case."""

    question: bytes
    dnssec_ok: bool
    checking_disabled: bool


class Cache:
    """`now` is in seconds of a monotonic clock."""

    def __init__(self) -> None:
        self._entries: OrderedDict[Key, tuple[Body, float, float]] = OrderedDict()
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._entries)

    def find(self, key: Key, now: float) -> Body | None:
        """The body with its TTLs as they are by now."""
        entry = self._entries.get(key)
        if entry is None:
            return None
        body, stored, expires = entry
        if now >= expires:
            self._remove(key)
            return None
        self._entries.move_to_end(key)
        return body.aged(int(now - stored))

    def put(self, key: Key, body: Body, now: float) -> None:
        """Keep a body for its `seconds`, within our limits."""
        if key in self._entries:
            self._remove(key)
        longest = MAX_SECONDS if body.counts[0] else MAX_NEGATIVE_SECONDS
        seconds = min(body.seconds, longest)
        if seconds <= 0:
            return
        self._entries[key] = (body, now, now + seconds)
        self._bytes += _size(key, body)
        while len(self._entries) > MAX_ENTRIES or self._bytes > MAX_BYTES:
            self._remove(next(iter(self._entries)))

    def clear(self) -> None:
        self._entries.clear()
        self._bytes = 0

    def _remove(self, key: Key) -> None:
        body, _, _ = self._entries.pop(key)
        self._bytes -= _size(key, body)


def _size(key: Key, body: Body) -> int:
    return len(key.question) + len(body.data)
