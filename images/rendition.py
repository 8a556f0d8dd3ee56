"""A generation as one gzip file with one cpio archive in it, for clients that run `gzip -d | cpio -i`; made once, then kept.

It holds the generation's name at its beginning and its end, as an exported one does, so that our init finds it whole.
"""

import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from images import cpio, reframe, store_lock
from images.compress import Compression, compressor
from images.decompress import DECOMPRESSION_ERRORS, Interrupted, decompress
from images.errors import Error
from images.generation import Generation, begin_entries, end_entries
from images.generations import Generations, short


class RenditionFailed(Error):
    def __init__(self, generation: str, reason: str) -> None:
        super().__init__(
            f"the gzip file of generation {short(generation)} was not made: {reason}",
            hint="free some space for built images, or build the image again with --force",
        )


def rendition_path(provision: Path, digest: str) -> Path:
    """Where the gzip file of this generation lies, whether it is there or not."""
    return provision / "renditions" / f"{digest.removeprefix('sha256:')}.cpio.gz"


def find_or_make(generations: Generations, generation: Generation, stopped: Callable[[], bool] = lambda: False) -> Path:
    """The gzip file, which is made now when it is not there; it appears whole or not at all, and only root can read it.

    `stopped` is asked at every chunk. Raises RenditionFailed, StoreBusy, or Interrupted when told to stop.
    """
    path = rendition_path(generations.provision, generation.digest)
    if path.exists():
        return path
    try:
        with store_lock.in_use(generations.provision):
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor, name = tempfile.mkstemp(prefix=".new-", dir=path.parent)
            try:
                with os.fdopen(descriptor, "wb") as file:
                    for chunk in _compressed(generation):
                        if stopped():
                            raise Interrupted
                        file.write(chunk)
                    file.flush()
                    os.fsync(file.fileno())
                os.rename(name, path)
            except BaseException:
                os.unlink(name)
                raise
    except OSError as exc:
        raise RenditionFailed(generation.digest, exc.strerror or str(exc)) from exc
    except (cpio.CpioError, *DECOMPRESSION_ERRORS) as exc:
        raise RenditionFailed(generation.digest, str(exc)) from exc
    return path


def _compressed(generation: Generation) -> Iterator[bytes]:
    stream = compressor(Compression.GZIP)
    for chunk in _archive(generation):
        yield stream.compress(chunk)
    yield stream.flush()


def _archive(generation: Generation) -> Iterator[bytes]:
    """One newc archive: every segment's entries, then the trailer."""
    yield cpio.body(begin_entries(generation.digest))
    inodes = 0
    for (path, _), segment in zip(generation.image_files(), generation.manifest.segments, strict=True):
        with path.open("rb") as file:
            yield from reframe.body(decompress(file), inodes)
        inodes += segment.entries
    yield cpio.body(end_entries(generation.digest)) + cpio.TRAILER
