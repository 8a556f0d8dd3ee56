"""Names of addresses, below in-addr.arpa (RFC 1035 §3.5) and ip6.arpa (RFC 3596 §2.5).

Such a name is a prefix of addresses: its bits, how many they are, and the version of IP.
"""

from collections.abc import Iterable, Iterator

from bootsvc.dns.records import Address

_IN_ADDR, _IP6 = ".in-addr.arpa", ".ip6.arpa"


def parse_reverse(name: str) -> tuple[int, int, int] | None:
    """(address with zeros below, bits, version) of a name; None for one that is not properly spelled."""
    if name.endswith(_IN_ADDR):
        labels, step, base, total, version = name[: -len(_IN_ADDR)].split("."), 8, 10, 32, 4
    elif name.endswith(_IP6):
        labels, step, base, total, version = name[: -len(_IP6)].split("."), 4, 16, 128, 6
    else:
        return None
    if len(labels) > total // step:
        return None
    value = 0
    for label in reversed(labels):
        number = _digits(label, base)
        if number is None or number >= 1 << step:
            return None
        value = value << step | number
    bits = len(labels) * step
    return value << (total - bits), bits, version


def _digits(label: str, base: int) -> int | None:
    """The number of a label in its one proper spelling."""
    known = "0123456789abcdef"[:base]
    if not label or len(label) > 3 or any(char not in known for char in label) or (label[0] == "0" and len(label) > 1):
        return None
    return int(label, base)


def reverse_name(prefix: int, bits: int, version: int) -> str:
    """The other way round; `prefix` without zeros below."""
    step = 8 if version == 4 else 4
    parts = [prefix >> shift & ((1 << step) - 1) for shift in range(0, bits, step)]
    return ".".join(str(part) if version == 4 else f"{part:x}" for part in parts) + (_IN_ADDR if version == 4 else _IP6)


def prefixes(addresses: Iterable[Address]) -> Iterator[tuple[int, int, int]]:
    """(version, bits, prefix) of each reverse name above an address."""
    for address in addresses:
        total, step = (32, 8) if address.version == 4 else (128, 4)
        value = int(address)
        for bits in range(step, total, step):
            yield address.version, bits, value >> (total - bits)
