"""Answers for names of our own, ready to be sent: made when first asked for, then only id, spelling and EDNS differ."""

import struct

from bootsvc.dns.packet import CD, DO, HEADER, IN, PLAIN_SIZE, QR, RA, RD, Body, Query, opt
from bootsvc.dns.records import Type

MAX_PREPARED = 1_000_000
"""Two types of each name are kept; more names than half of this are not expected."""
_KEPT = (Type.A, Type.AAAA, Type.PTR)
_PLAIN = b"\0\1\0\0\0\0\0\0"
_WITH_OPT = b"\0\1\0\0\0\0\0\1"
_OPT_FIXED = 11

_Ready = tuple[bytes, bytes, bytes, bytes, bytes]
"""Flags and counts without EDNS (RD clear, RD set), with EDNS (the same), and the records."""


class Prepared:
    """The answers of one zone. `reply` is the path that every query for a node takes, so it is written for speed."""

    def __init__(self) -> None:
        self._ready: dict[bytes, _Ready] = {}

    def reply(self, data: bytes) -> bytes | None:
        """The whole answer to a query, or None when it is not a plain one for a name that was asked before."""
        end = data.find(0, 12)
        # The zero that ends the name, type and class. Letters are folded in the name alone: a type may look like one.
        tail = end + 5
        found = self._ready.get(data[12:end].lower() + data[end:tail])
        if found is None:
            return None
        # Byte 2: no response, opcode QUERY, RD or not. Byte 3: of its bits only CD would matter.
        recursion = data[2]
        if recursion > 1 or data[3] & CD:
            return None
        counts = data[4:12]
        if counts == _PLAIN:
            if len(data) != tail:
                return None
            return data[:2] + found[recursion] + data[12:tail] + found[4]
        if counts != _WITH_OPT or data[tail : tail + 3] != b"\0\0\x29" or len(data) < tail + _OPT_FIXED:
            return None
        # Version 0, and options that fill the rest: they are not for us (RFC 6891 §6.1.2).
        if data[tail + 6] or len(data) != tail + _OPT_FIXED + (data[tail + 9] << 8 | data[tail + 10]):
            return None
        edns = _OPT_DO if data[tail + 7] & 0x80 else _OPT
        return data[:2] + found[2 + recursion] + data[12:tail] + found[4] + edns

    def keep(self, query: Query, body: Body) -> None:
        """Remember what a query was answered, when it is of the kind that is asked for often and fits every datagram."""
        question = query.question
        if query.type not in _KEPT or query.klass != IN or len(self._ready) >= MAX_PREPARED:
            return
        if HEADER.size + len(question) + len(body.data) + len(_OPT) > PLAIN_SIZE:
            return
        flags = QR | RA | body.flags | body.rcode
        heads = [
            struct.pack("!HHHHH", flags | recursion, 1, *body.counts[:2], additional)
            for additional in (0, 1)
            for recursion in (0, RD)
        ]
        self._ready[question[:-5].lower() + question[-5:]] = (heads[0], heads[1], heads[2], heads[3], body.data)


_OPT, _OPT_DO = opt(0), opt(DO)
