"""The two compressors of a built image behind one interface; never zlib's own gzip, which is five times slower than ISA-L's."""

from collections.abc import Callable
from enum import Enum
from typing import Protocol

import isal
import zstandard
from isal import isal_zlib

ZSTD_LEVEL = 3
GZIP_LEVEL = 1


class Compression(Enum):
    """Named as in the kernel's CONFIG_RD_…."""

    ZSTD = "zstd"
    GZIP = "gzip"


class Compressor(Protocol):
    """One compressed stream; output is the same for the same input, whatever the chunks."""

    def compress(self, data: bytes, /) -> bytes: ...

    def flush(self) -> bytes: ...


def compressor(compression: Compression) -> Compressor:
    """A fresh stream of `compression`."""
    return _MAKERS[compression]()


def implementation(compression: Compression) -> str:
    """What compresses, with version and level: another one may give other bytes for the same tree."""
    return _IMPLEMENTATIONS[compression]


def _zstd() -> Compressor:
    parameters = zstandard.ZstdCompressionParameters.from_level(ZSTD_LEVEL, threads=0)
    return zstandard.ZstdCompressor(compression_params=parameters).compressobj()


def _gzip() -> Compressor:
    # Window bits 16+: a gzip wrapper, whose header carries neither name nor time.
    return isal_zlib.compressobj(GZIP_LEVEL, isal_zlib.DEFLATED, 16 + isal_zlib.MAX_WBITS)


_MAKERS: dict[Compression, Callable[[], Compressor]] = {Compression.ZSTD: _zstd, Compression.GZIP: _gzip}
_IMPLEMENTATIONS = {
    Compression.ZSTD: f"zstd {'.'.join(map(str, zstandard.ZSTD_VERSION))} level {ZSTD_LEVEL}",
    Compression.GZIP: f"isal {isal.__version__} level {GZIP_LEVEL}",
}
