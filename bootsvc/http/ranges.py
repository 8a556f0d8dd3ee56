"""Which bytes of a representation a request asks for: Range, If-Range, If-None-Match (RFC 9110 §8.8.3, §13.1, §14)."""

import re

_ONE_RANGE = re.compile(r"bytes=[ \t]*([0-9]{0,20})-([0-9]{0,20})[ \t]*", re.IGNORECASE)
_TAG = re.compile(r'(?:W/)?"([^"]*)"')


def parse_range(header: str, size: int) -> tuple[int, int] | None:
    """The bytes from the first number up to the second; an empty stretch cannot be satisfied (416).

    None: the header is to be ignored and everything sent, as a server may with other units, with what is no range, and with
    several ranges at once, which no boot loader asks for (RFC 9110 §14.2).
    """
    found = _ONE_RANGE.fullmatch(header.strip())
    if found is None:
        return None
    first, last = found.groups()
    if first:
        start = int(first)
        if last and int(last) < start:
            return None
        return start, max(start, min(int(last) + 1 if last else size, size)) if start < size else start
    if not last:
        return None
    return max(0, size - int(last)), size


def range_applies(if_range: str | None, etag: str) -> bool:
    """If-Range names the version that the client has a part of; of another one everything is sent (RFC 9110 §13.1.5).

    A date never matches, because no Last-Modified is sent; neither does a weak tag.
    """
    return if_range is None or if_range.strip() == f'"{etag}"'


def is_known(if_none_match: str | None, etag: str) -> bool:
    """Whether the client has this version already (RFC 9110 §13.1.2, weak comparison)."""
    if if_none_match is None:
        return False
    return if_none_match.strip() == "*" or etag in _TAG.findall(if_none_match)
