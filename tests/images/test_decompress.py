"""A blob's bytes are the same whether or when a thread begins to decompress ahead of the reader."""

import gzip
import hashlib
import io
import random

import pytest

from images.decompress import LayerStream, MalformedCompression

DATA = random.Random(0).randbytes(1 << 20) * 8


def _read(blob: bytes, *, after: int) -> tuple[list[bytes], str]:
    """Chunks and digest where a core is idle once `after` chunks were read."""
    chunks: list[bytes] = []
    stream = LayerStream(lambda: io.BytesIO(blob), stopped=lambda: False, ahead=lambda: len(chunks) >= after)
    with stream:
        for chunk in stream:
            chunks.append(chunk)
        return chunks, stream.digest()


@pytest.mark.parametrize("after", [0, 1, 7, 1 << 30], ids=["at once", "second chunk", "later", "never"])
def test_ahead_from_any_chunk_on(after: int) -> None:
    chunks, digest = _read(gzip.compress(DATA, 1), after=after)
    assert len(chunks) > 8
    assert b"".join(chunks) == DATA
    assert digest == f"sha256:{hashlib.sha256(DATA).hexdigest()}"


@pytest.mark.parametrize("after", [0, 3, 1 << 30], ids=["at once", "later", "never"])
def test_damage_is_found_by_whoever_decompresses(after: int) -> None:
    with pytest.raises(MalformedCompression):
        _read(gzip.compress(DATA, 1)[:-100], after=after)


def test_a_reader_that_leaves_stops_the_thread() -> None:
    stream = LayerStream(lambda: io.BytesIO(gzip.compress(DATA, 1)), stopped=lambda: False)
    with stream:
        next(iter(stream))
    assert stream.position < len(gzip.compress(DATA, 1))
