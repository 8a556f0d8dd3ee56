"""What an administrator should read once, and not with every packet. Pure: `now` is an argument."""

from collections.abc import Hashable

MAX_REMEMBERED = 1024
"""Complaints remembered: machines that strangers make up cannot grow it further."""


class Once:
    """Says whether something is new; after `again` seconds it is new again."""

    def __init__(self, again: float) -> None:
        self._again = again
        self._said: dict[Hashable, float] = {}

    def is_new(self, key: Hashable, now: float) -> bool:
        at = self._said.get(key)
        return at is None or now >= at + self._again

    def first(self, key: Hashable, now: float) -> bool:
        """As `is_new`, and from now on it is not."""
        if not self.is_new(key, now):
            return False
        self._said.pop(key, None)
        self._said[key] = now
        if len(self._said) > MAX_REMEMBERED:
            del self._said[next(iter(self._said))]
        return True
