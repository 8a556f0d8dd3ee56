from ipaddress import IPv4Network
from pathlib import Path

import pytest

from bootsvc.loading import load_aside
from bootsvc.registry import Registry
from bootsvc.store import MIN_CACHED, Store
from images.errors import Error

NETWORK = IPv4Network("10.0.0.0/24")
LARGE = "nodes:\n" + "".join(f"  n{index}:\n    comment: node number {index}\n" for index in range(2000))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    (tmp_path / "nodes.conf").write_text(LARGE)
    assert len(LARGE) > MIN_CACHED
    return Store(tmp_path / "nodes.conf", tmp_path / "nodes.cache")


async def test_large_file_is_parsed_elsewhere_and_cached(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_given: object) -> None:
        raise AssertionError("parsed in this process")

    monkeypatch.setattr("bootsvc.store.parse", refuse)
    registry = await load_aside(store, NETWORK, Registry())
    assert len(registry.nodes) == 2000
    assert not store.must_parse()
    # Nowhere to keep it: then it comes through the pipe.
    assert len((await load_aside(Store(store.path, store.path / "x"), NETWORK, registry)).nodes) == 2000
    assert len((await load_aside(Store(store.path), NETWORK, registry)).nodes) == 2000


async def test_mistake_comes_back_as_it_is(store: Store) -> None:
    store.path.write_text(LARGE + "  n1: {}\n")
    with pytest.raises(Error) as here:
        store.load()
    with pytest.raises(Error) as aside:
        await load_aside(store, NETWORK, Registry())
    assert (aside.value.message, aside.value.hint) == (here.value.message, here.value.hint)


async def test_small_and_missing_files_need_no_process(store: Store) -> None:
    store.path.write_text("nodes:\n  n1: {}\n")
    assert [node.id for node in (await load_aside(store, NETWORK, Registry())).nodes] == ["n1"]
    store.path.unlink()
    assert (await load_aside(store, NETWORK, Registry())).nodes == ()
