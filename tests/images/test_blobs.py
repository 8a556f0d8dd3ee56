"""The blob store: verified, by rename, safe for several writers."""

import asyncio
import hashlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from images.blobs import BlobStore, DigestMismatch, SizeMismatch, digest_of
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


async def test_failure_of_the_sender_leaves_nothing(tmp_path: Path) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield bytes(1 << 21)
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await BlobStore(tmp_path).write(_describe(bytes(1 << 22)), broken(), _ignore)
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


async def test_leftovers_of_killed_writers_go_after_a_day(tmp_path: Path) -> None:
    directory = tmp_path / "blobs" / "sha256"
    directory.mkdir(parents=True)
    old, young = directory / ".partial-old", directory / ".partial-young"
    old.touch()
    young.touch()
    now = young.stat().st_mtime
    os.utime(old, (now - 90_000, now - 90_000))
    BlobStore(tmp_path)
    assert _files(tmp_path) == [".partial-young"]
