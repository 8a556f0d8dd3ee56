"""`oci-archive:FILE[:TAG]` and `docker-archive:FILE[:REF]`: the image of one tar, also compressed, as skopeo and `docker save`
make it."""

from collections.abc import Callable
from pathlib import Path

from images.interruptible import run_interruptible
from images.progress import Progress
from images.source.archive import Archive, open_members
from images.source.contract import Provenance, SourceOptions
from images.source.layout import FiledImage, find_in_docker_archive, find_in_layout
from images.source.naming import name_of_file, split_path

Find = Callable[[Archive, str | None, SourceOptions], FiledImage]


class ArchiveSource:
    """Raises MalformedArchive and the other Errors of the modules it uses."""

    def __init__(self, kind: str, find: Find, path: Path, name: str | None, options: SourceOptions) -> None:
        self.default_name = name_of_file(path)
        self._kind = kind
        self._find = find
        self._path = path
        self._name = name
        self._options = options

    async def find_digest(self) -> str | None:
        async with open_members(self._path, self._options.blobs, lambda event: None) as archive:
            return (await self._look(archive)).digest

    async def unpack(self, rootfs: Path, progress: Progress) -> Provenance:
        async with open_members(self._path, self._options.blobs, progress) as archive:
            image = await self._look(archive)
            name = f":{self._name}" if self._name else ""
            return await image.unpack(self._path, f"{self._kind}:{self._path.resolve()}{name}", rootfs, progress)

    async def _look(self, archive: Archive) -> FiledImage:
        return await run_interruptible(lambda stopped: self._find(archive, self._name, self._options))


def oci_archive(path: Path, tag: str | None, options: SourceOptions) -> ArchiveSource:
    return ArchiveSource("oci-archive", find_in_layout, path, tag, options)


def docker_archive(path: Path, name: str | None, options: SourceOptions) -> ArchiveSource:
    return ArchiveSource("docker-archive", find_in_docker_archive, path, name, options)


def parse_oci_archive(text: str, options: SourceOptions) -> ArchiveSource:
    return oci_archive(*split_path(text, "oci-archive:FILE[:TAG]"), options)


def parse_docker_archive(text: str, options: SourceOptions) -> ArchiveSource:
    return docker_archive(*split_path(text, "docker-archive:FILE[:NAME:TAG]"), options)
