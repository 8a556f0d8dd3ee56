"""The two compressors of a built image behind one interface; never zlib's own gzip, which is five times slower than ISA-L's."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Protocol

import isal
import zstandard
from isal import isal_zlib

ZSTD_NEAR = {"window_log": 23, "hash_log": 15, "chain_log": 14, "search_log": 1, "min_match": 6, "target_length": 0}
"""With the fast strategy, for what gains next to nothing by long-distance matching."""
ZSTD_FAR = {**ZSTD_NEAR, "ldm_hash_log": 15, "ldm_min_match": 64, "ldm_bucket_size_log": 1, "ldm_hash_rate_log": 8}
"""The same with long-distance matching: the size of level 3 in half its time.

Both tables together are small enough for a core's own cache, also when all cores are at work. So the fast strategy sees what is
near; what repeats further away in the window of 8 MB (code linked into several programs, sentences in several translations) is
long, and the other one finds it.
"""
GZIP_LEVEL = 1


class Compression(Enum):
    """Named as in the kernel's CONFIG_RD_…."""

    ZSTD = "zstd"
    GZIP = "gzip"


class Compressor(Protocol):
    """One compressed stream; output is the same for the same input, whatever the chunks."""

    def compress(self, data: bytes | memoryview, /) -> bytes: ...

    def flush(self) -> bytes: ...


def compressor(compression: Compression) -> Compressor:
    """A fresh stream of `compression`."""
    return streams(compression)()


def streams(compression: Compression) -> Callable[[], Compressor]:
    """Makes fresh streams of `compression`, one after the other: a stream may use the memory of the one before it."""
    return _MAKERS[compression]()


def at_once(compression: Compression, *, far: bool) -> Callable[[memoryview], bytes] | None:
    """Compresses what is whole in memory into one stream, where that is faster than piece by piece; None where it is not.

    `far` says whether the content may repeat itself at a distance.
    """
    return _zstd_compressor(far=far).compress if compression is Compression.ZSTD else None


def implementation(compression: Compression) -> str:
    """What compresses, with version and level: another one may give other bytes for the same tree."""
    return _IMPLEMENTATIONS[compression]


def _zstd() -> Callable[[], Compressor]:
    return _zstd_compressor(far=True).compressobj


def _zstd_compressor(*, far: bool) -> zstandard.ZstdCompressor:
    # Without the content's size, which who compresses piece by piece does not know.
    parameters = zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST, write_content_size=False, enable_ldm=far, **(ZSTD_FAR if far else ZSTD_NEAR)
    )
    return zstandard.ZstdCompressor(compression_params=parameters)


def _gzip() -> Callable[[], Compressor]:
    # Window bits 16+: a gzip wrapper, whose header carries neither name nor time.
    return lambda: isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, 16 + isal_zlib.MAX_WBITS)


def _shown(parameters: Mapping[str, int]) -> str:
    return " ".join(map(str, parameters.values()))


_MAKERS: dict[Compression, Callable[[], Callable[[], Compressor]]] = {Compression.ZSTD: _zstd, Compression.GZIP: _gzip}
_IMPLEMENTATIONS = {
    Compression.ZSTD: f"zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))} fast {_shown(ZSTD_FAR)} or {_shown(ZSTD_NEAR)}",
    Compression.GZIP: f"isal {isal.__version__} level {GZIP_LEVEL}",
}
