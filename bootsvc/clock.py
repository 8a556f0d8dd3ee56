"""Seconds of the epoch that go on evenly: a clock that is set while the server runs must not end or prolong a lease."""

import time

_OFFSET = time.time() - time.clock_gettime(time.CLOCK_BOOTTIME)


def steady() -> float:
    """What time.time() said when the process began, and what has gone by since, sleep of the machine included."""
    return _OFFSET + time.clock_gettime(time.CLOCK_BOOTTIME)
