"""The blob store: verified, by rename, safe for several writers."""

import asyncio
import fcntl
import hashlib
import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from images.blobs import BlobStore, CacheFailed, DigestMismatch, SizeMismatch, digest_of
from images.manifest import Descriptor
from images.reference import Digest


def _describe(data: bytes, algorithm: str = "sha256") -> Descriptor:
    digest = Digest(f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}")
    return Descriptor(media_type="x", digest=digest, size=len(data))


async def _chunks(data: bytes, size: int = 300_000) -> AsyncIterator[bytes]:
    for at in range(0, len(data), size):
        await asyncio.sleep(0)
        yield data[at : at + size]


def _ignore(done: int) -> None:
    pass


def _files(root: Path) -> list[str]:
    return sorted(path.name for path in root.rglob("*") if path.is_file())


@pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 22) + 17])
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
async def test_write_and_find(tmp_path: Path, size: int, algorithm: str) -> None:
    store, data = BlobStore(tmp_path), os.urandom(size)
    descriptor = _describe(data, algorithm)
    assert store.find(descriptor) is None
    steps: list[int] = []
    path = await store.write(descriptor, _chunks(data), steps.append)
    assert path == tmp_path / "blobs" / algorithm / descriptor.digest.partition(":")[2]
    assert path.read_bytes() == data
    assert store.find(descriptor) == path
    assert steps[-1] == size
    assert steps == sorted(steps)
    assert await store.read(descriptor.digest) == data
    assert _files(tmp_path) == [path.name]
    assert path.stat().st_mode & 0o077 == 0


async def test_wrong_digest_leaves_nothing(tmp_path: Path) -> None:
    store, descriptor = BlobStore(tmp_path), _describe(b"right")
    with pytest.raises(DigestMismatch) as caught:
        await store.write(descriptor, _chunks(b"wrong"), _ignore)
    assert caught.value.expected == descriptor.digest
    assert caught.value.got == digest_of(b"wrong")
    assert descriptor.digest in caught.value.message
    assert digest_of(b"wrong") in caught.value.message
    assert _files(tmp_path) == []


@pytest.mark.parametrize(("sent", "said"), [(b"righ", "truncated: 4 of 5"), (b"right and more", "too long: more than 5")])
async def test_wrong_size_leaves_nothing(tmp_path: Path, sent: bytes, said: str) -> None:
    store = BlobStore(tmp_path)
    with pytest.raises(SizeMismatch, match=said):
        await store.write(_describe(b"right"), _chunks(sent), _ignore)
    assert _files(tmp_path) == []


async def _break_off(store: BlobStore, descriptor: Descriptor, data: bytes) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield data
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await store.write(descriptor, broken(), _ignore)


async def test_what_came_before_a_failure_is_gone_on_with(tmp_path: Path) -> None:
    data = os.urandom(5 << 20)
    descriptor = _describe(data)
    await _break_off(BlobStore(tmp_path), descriptor, data[: 3 << 20])
    assert _files(tmp_path) == [f".partial-{descriptor.digest.partition(':')[2]}"]
    store = BlobStore(tmp_path)
    assert store.find(descriptor) is None
    with await store.receive(descriptor) as receiving:
        assert (receiving.resumed, receiving.done, receiving.is_complete) == (3 << 20, 3 << 20, False)
        await receiving.append(_chunks(data[3 << 20 :]), _ignore)
        assert receiving.commit() == store.path(descriptor.digest)
    assert await store.read(descriptor.digest) == data
    assert len(_files(tmp_path)) == 1


async def test_a_spoilt_beginning_shows_at_the_end(tmp_path: Path) -> None:
    data = os.urandom(2 << 20)
    descriptor = _describe(data)
    await _break_off(BlobStore(tmp_path), descriptor, bytes(1 << 20))

    async def go_on() -> None:
        with await BlobStore(tmp_path).receive(descriptor) as receiving:
            await receiving.append(_chunks(data[1 << 20 :]), _ignore)
            receiving.commit()

    with pytest.raises(DigestMismatch):
        await go_on()
    assert _files(tmp_path) == []


async def test_more_than_the_blob_can_be_begins_anew(tmp_path: Path) -> None:
    descriptor = _describe(b"short")
    partial = tmp_path / "blobs/sha256" / f".partial-{descriptor.digest.partition(':')[2]}"
    partial.parent.mkdir(parents=True)
    partial.write_bytes(b"longer than it")
    with await BlobStore(tmp_path).receive(descriptor) as receiving:
        assert receiving.resumed == 0
        await receiving.append(_chunks(b"short"), _ignore)
        receiving.commit()
    assert await BlobStore(tmp_path).read(descriptor.digest) == b"short"


async def test_a_second_writer_does_not_touch_the_first_ones_file(tmp_path: Path) -> None:
    data = os.urandom(1 << 20)
    store, descriptor = BlobStore(tmp_path), _describe(data)
    with await store.receive(descriptor) as first:
        await first.append(_chunks(data[:1000]), _ignore)
        await store.write(descriptor, _chunks(data), _ignore)
        await first.append(_chunks(data[1000:]), _ignore)
        first.commit()
    assert _files(tmp_path) == [descriptor.digest.partition(":")[2]]
    await _break_off(store, descriptor, data[:1000])
    with await store.receive(descriptor):
        await _break_off(store, descriptor, data[:1000])
    assert len([name for name in _files(tmp_path) if name.startswith(".")]) == 1


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[None]:
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", str(tmp_path)], check=True)
    yield
    subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.root
async def test_full_disk(tmp_path: Path, small_disk: None) -> None:
    data = os.urandom(4 << 20)
    with pytest.raises(CacheFailed, match="No space left") as caught:
        await BlobStore(tmp_path).write(_describe(data), _chunks(data), _ignore)
    assert str(tmp_path) in caught.value.message
    assert "free some space" in (caught.value.hint or "")
    assert _files(tmp_path) == []


async def test_several_writers_of_one_blob(tmp_path: Path) -> None:
    data = os.urandom(3 << 20)
    descriptor = _describe(data)
    async with asyncio.TaskGroup() as group:
        for _ in range(8):
            group.create_task(BlobStore(tmp_path).write(descriptor, _chunks(data, 70_000), _ignore))
    assert _files(tmp_path) == [descriptor.digest.partition(":")[2]]
    assert await BlobStore(tmp_path).read(descriptor.digest) == data


async def test_blob_of_another_size_is_not_found_and_replaced(tmp_path: Path) -> None:
    store, descriptor = BlobStore(tmp_path), _describe(b"contents")
    path = await store.write(descriptor, _chunks(b"contents"), _ignore)
    path.write_bytes(b"cont")
    assert store.find(descriptor) is None
    assert await store.read(descriptor.digest) is None
    await store.write(descriptor, _chunks(b"contents"), _ignore)
    assert path.read_bytes() == b"contents"


async def test_drop_if_damaged(tmp_path: Path) -> None:
    store, descriptor = BlobStore(tmp_path), _describe(b"contents")
    path = await store.write(descriptor, _chunks(b"contents"), _ignore)
    assert not store.drop_if_damaged(descriptor.digest)
    path.write_bytes(b"CONTENTS")
    assert store.drop_if_damaged(descriptor.digest)
    assert not path.exists()


async def test_leftovers_of_killed_writers(tmp_path: Path) -> None:
    """What can be gone on with stays a week; the rest goes, unless somebody still writes to it."""
    directory = tmp_path / "blobs" / "sha256"
    directory.mkdir(parents=True)
    names = [".partial-old", ".partial-young", ".partial-empty", ".alone-dead", ".alone-live"]
    for name in names:
        (directory / name).write_bytes(b"" if name == ".partial-empty" else b"x")
    now = (directory / ".partial-young").stat().st_mtime
    os.utime(directory / ".partial-old", (now - 8 * 86_400, now - 8 * 86_400))
    with (directory / ".alone-live").open("rb") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        BlobStore(tmp_path)
        assert _files(tmp_path) == [".alone-live", ".partial-young"]


def test_scratch_has_no_name(tmp_path: Path) -> None:
    with BlobStore(tmp_path).scratch() as scratch:
        scratch.write(b"x")
        assert _files(tmp_path) == []
