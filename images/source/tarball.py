"""A root file system in one tar, plain or compressed (gzip, zstd, xz, bzip2), as tar, debootstrap and mmdebstrap make it."""

from pathlib import Path

from images.progress import Progress
from images.source.contract import Provenance
from images.source.naming import name_of_file
from images.source.unpacking import unpack_tar


class TarballSource:
    """Raises MalformedArchive, UnsafePath and UnpackFailed."""

    def __init__(self, path: Path) -> None:
        self.default_name = name_of_file(path)
        self._path = path

    async def find_digest(self) -> str | None:
        return None

    async def unpack(self, rootfs: Path, progress: Progress) -> Provenance:
        await unpack_tar(self._path, rootfs, progress)
        return Provenance(reference=str(self._path.resolve()))
