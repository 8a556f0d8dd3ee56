"""Which options go where in a message of limited size: options field, then `file`, then `sname` (RFC 2132 §9.3)."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from bootsvc.dhcp.options_field import size_of
from bootsvc.dhcp.packet import FILE_SIZE, SNAME_SIZE

Pair = tuple[int, bytes]
_OVERLOAD_SIZE = 3
_END_SIZE = 1


class Placed(NamedTuple):
    options: Mapping[int, bytes]
    file_options: Mapping[int, bytes]
    sname_options: Mapping[int, bytes]


def place(must: Sequence[Pair], wishes: Sequence[Pair], last: Sequence[Pair], room: int, *, file: bool, sname: bool) -> Placed:
    """`must` and `last` stand in the options field; of `wishes` as many as find room, in their order.

    `room` is the options field's size in bytes; `file` and `sname` say whether those fields may hold options. `last` comes
    last in the options field, as RFC 3046 §2.2 wants of the relay agent's option.
    """
    left = room - _END_SIZE - size_of(must) - size_of(last)
    if size_of(wishes) <= left:
        return Placed({**dict(must), **dict(wishes), **dict(last)}, {}, {})
    first: dict[int, bytes] = dict(must)
    in_file: dict[int, bytes] = {}
    in_sname: dict[int, bytes] = {}
    rooms = [left - (_OVERLOAD_SIZE if file or sname else 0)]
    fields = [first]
    if file:
        fields.append(in_file)
        rooms.append(FILE_SIZE - _END_SIZE)
    if sname:
        fields.append(in_sname)
        rooms.append(SNAME_SIZE - _END_SIZE)
    for pair in wishes:
        size = size_of((pair,))
        for number, field in enumerate(fields):
            if size <= rooms[number]:
                field[pair[0]] = pair[1]
                rooms[number] -= size
                break
    return Placed({**first, **dict(last)}, in_file, in_sname)
