"""The two compressors of a built image behind one interface; never zlib's own gzip, which is five times slower than ISA-L's."""

from collections.abc import Callable
from enum import Enum
from typing import Protocol

import isal
import zstandard
from isal import isal_zlib

ZSTD = {"window_log": 23, "chain_log": 16, "hash_log": 18, "search_log": 1, "min_match": 7, "target_length": 0}
"""With the fast strategy, a window of 8 MB and a large table: the size of level 3 in three quarters of its time."""
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
    return _MAKERS[compression]()


def implementation(compression: Compression) -> str:
    """What compresses, with version and level: another one may give other bytes for the same tree."""
    return _IMPLEMENTATIONS[compression]


def _zstd() -> Compressor:
    parameters = zstandard.ZstdCompressionParameters(strategy=zstandard.STRATEGY_FAST, **ZSTD)
    return zstandard.ZstdCompressor(compression_params=parameters).compressobj()


def _gzip() -> Compressor:
    # Window bits 16+: a gzip wrapper, whose header carries neither name nor time.
    return isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, 16 + isal_zlib.MAX_WBITS)


_MAKERS: dict[Compression, Callable[[], Compressor]] = {Compression.ZSTD: _zstd, Compression.GZIP: _gzip}
_IMPLEMENTATIONS = {
    Compression.ZSTD: f"zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))} fast {' '.join(map(str, ZSTD.values()))}",
    Compression.GZIP: f"isal {isal.__version__} level {GZIP_LEVEL}",
}
