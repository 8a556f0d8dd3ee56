"""Hardware addresses: six octets of Ethernet, eight of EUI-64, twenty of InfiniBand."""

import re

from images.errors import Error

_OCTETS = re.compile(r"[0-9a-f]{2}([:-])[0-9a-f]{2}(?:\1[0-9a-f]{2})*")
_DOTTED = re.compile(r"[0-9a-f]{4}(\.[0-9a-f]{4}){2}")
_BARE = re.compile(r"[0-9a-f]{12}")
_LENGTHS = (6, 8, 20)
_USUAL = re.compile(r"(?!00:00:00:00:00:00)[0-9a-f][02468ace](?::[0-9a-f]{2}){5}")
"""A unicast Ethernet address as `parse` returns it."""
_IN_URLS = re.compile(r"(?!00-00-00-00-00-00)[0-9a-f][02468ace](?:-[0-9a-f]{2}){5}")
"""As our URLs spell it."""


def parse(text: str) -> str:
    """The address in lower case with colons; raises Error. Takes colons, hyphens, Cisco's dots, or bare digits."""
    if _USUAL.fullmatch(text):
        return text
    if _IN_URLS.fullmatch(text):
        return text.replace("-", ":")
    lower = text.strip().lower()
    digits = re.sub(r"[.:-]", "", lower)
    octets = [digits[at : at + 2] for at in range(0, len(digits), 2)]
    known = _OCTETS.fullmatch(lower) or _DOTTED.fullmatch(lower) or _BARE.fullmatch(lower)
    if not known or len(octets) not in _LENGTHS:
        raise Error(f"{text!r} is no hardware address", hint="six pairs of hexadecimal digits: 52:54:00:12:34:56")
    if int(octets[0], 16) & 1 and len(octets) == 6:
        raise Error(f"{text!r} is a multicast address", hint="a network card's own address has an even first octet")
    if not int(digits, 16):
        raise Error(f"{text!r} is the address of no network card", hint="use the card's own address")
    return ":".join(octets)
