import os
from pathlib import Path

import pytest

from bootsvc import nodescache
from bootsvc.entries import parse
from bootsvc.store import MIN_CACHED, NODES, Store

TEXT = (
    "nodes:\n"
    + "".join(f"  n{index}:\n    comment: node number {index}\n" for index in range(2000))
    + "    resources: {a: [1, true, 2.5, null]}\n"
)
DATA = TEXT.encode()


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "nodes.conf").write_bytes(DATA)
    return Store(tmp_path / "nodes.conf", tmp_path / "state" / "nodes.cache")


def planted(store: Store) -> Store:
    """A store whose cache says something else than the file, as nobody but a test could write."""
    assert store.cache
    parsed = parse(TEXT.replace("node number 7\n", "planted\n"), store.path)[1]
    nodescache.write(store.cache, nodescache.pack(DATA, parsed))
    return store


def test_round_trip() -> None:
    parsed = parse(TEXT, Path("x"))[1]
    assert nodescache.unpack(nodescache.pack(DATA, parsed), DATA) == parsed
    assert nodescache.unpack(nodescache.pack(DATA, parsed), DATA + b"\n") is None


def test_load_writes_it_for_its_owner_only(store: Store) -> None:
    assert store.cache
    store.load()
    assert store.cache.stat().st_mode & 0o777 == 0o600
    assert [path.name for path in store.cache.parent.iterdir()] == ["nodes.cache"]
    assert len(DATA) > MIN_CACHED


def test_it_is_used(store: Store) -> None:
    assert planted(store).load().nodes["n7"]["comment"] == "planted"


def test_it_is_of_one_text(store: Store) -> None:
    stat = store.path.stat()
    planted(store).path.write_bytes(DATA.replace(b"number 9\n", b"number 8\n"))
    os.utime(store.path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert store.load().nodes["n9"]["comment"] == "node number 8"
    assert store.load().nodes["n7"]["comment"] == "node number 7"


@pytest.mark.parametrize("at", [0, 14, 20, 50, 80, 500, -1])
def test_damage_is_noticed(store: Store, at: int) -> None:
    assert planted(store).cache
    assert store.cache
    packed = bytearray(store.cache.read_bytes())
    packed[at] ^= 1
    store.cache.write_bytes(packed)
    assert store.load().nodes["n7"]["comment"] == "node number 7"
    assert Store(store.path, store.cache).load() == store.load()


@pytest.mark.parametrize("size", [0, 10, 60, 79, 80, 1000])
def test_truncation_is_noticed(store: Store, size: int) -> None:
    assert planted(store).cache
    assert store.cache
    os.truncate(store.cache, size)
    assert store.load().nodes["n7"]["comment"] == "node number 7"


@pytest.mark.root
def test_another_users_is_not_trusted(store: Store) -> None:
    assert planted(store).cache
    assert store.cache
    os.chown(store.cache, 12, 12)
    assert store.load().nodes["n7"]["comment"] == "node number 7"


def test_no_place_for_it_is_no_error(store: Store) -> None:
    (store.path.parent / "state").write_text("a file")
    assert store.load().nodes["n7"]
    store.edit(lambda snapshot: snapshot.with_entries(NODES, {**snapshot.nodes, "new": {"init": "x"}}))
    assert Store(store.path).load().nodes["new"] == {"init": "x"}


def test_what_cannot_be_packed_is_not_cached(store: Store) -> None:
    assert store.cache
    store.path.write_text(TEXT + f"    x: y\n  big:\n    resources: {{a: {2**70}}}\n")
    assert store.load().nodes["big"]["resources"] == {"a": 2**70}
    assert not store.cache.exists()


def test_small_files_need_none(store: Store) -> None:
    assert store.cache
    store.path.write_text("nodes:\n  n1: {}\n")
    store.load()
    assert not store.cache.exists()
    assert not store.must_parse()
