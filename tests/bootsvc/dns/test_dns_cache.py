"""Kept as long as it holds, and no more than fits."""

import struct

import pytest

from bootsvc.dns import cache as caches
from bootsvc.dns.cache import Cache, Key
from bootsvc.dns.packet import Body


def key(number: int = 0) -> Key:
    return Key(question=b"\x04x%03d\0\0\1\0\1" % number, dnssec_ok=False, checking_disabled=False)


def body(seconds: int, *, ttl: int = 100, answers: int = 1, filler: int = 0) -> Body:
    data = struct.pack("!HHHIH4s", 0xC00C, 1, 1, ttl, 4, b"\x0a\0\0\1") + bytes(filler)
    return Body(rcode=0, counts=(answers, 0, 0), data=data, ttls=(6,), seconds=seconds)


def test_ttls_count_down_until_it_is_gone() -> None:
    cache = Cache()
    cache.put(key(), body(30), 1000)
    found = cache.find(key(), 1029.9)
    assert found is not None
    assert struct.unpack_from("!I", found.data, 6) == (71,)
    assert cache.find(key(), 1030) is None
    assert len(cache) == 0


def test_zero_is_not_kept_and_takes_the_old_one_away() -> None:
    cache = Cache()
    cache.put(key(), body(30), 0)
    cache.put(key(), body(0), 1)
    assert cache.find(key(), 2) is None


def test_denials_are_kept_for_a_shorter_time() -> None:
    cache = Cache()
    cache.put(key(1), body(10**9, answers=1), 0)
    cache.put(key(2), body(10**9, answers=0), 0)
    assert cache.find(key(1), caches.MAX_SECONDS - 1) is not None
    assert cache.find(key(2), caches.MAX_NEGATIVE_SECONDS + 1) is None


def test_the_least_recently_used_goes_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "MAX_ENTRIES", 2)
    cache = Cache()
    cache.put(key(1), body(30), 0)
    cache.put(key(2), body(30), 0)
    assert cache.find(key(1), 1)
    cache.put(key(3), body(30), 1)
    assert cache.find(key(2), 1) is None
    assert cache.find(key(1), 1)


def test_bytes_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(caches, "MAX_BYTES", 10_000)
    cache = Cache()
    for number in range(100):
        cache.put(key(number), body(30, filler=1000), 0)
    assert 5 < len(cache) < 10
    cache.clear()
    cache.put(key(1), body(30, filler=9000), 0)
    assert cache.find(key(1), 1)
