"""An existing directory, for example a chroot, copied faithfully; other file systems mounted in it are left out."""

from pathlib import Path

from images.background_copy import copy_in_background
from images.errors import Error
from images.progress import Progress
from images.source.contract import Provenance


class UnusableDirectory(Error):
    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(f"{str(path)!r} {reason}", hint="give the top directory of a chroot, as debootstrap makes it")
        self.path = path
        self.reason = reason


class DirectorySource:
    """A directory of this machine; raises UnusableDirectory and CopyFailed."""

    def __init__(self, path: Path) -> None:
        try:
            self._path = path.resolve(strict=True)
            is_directory, is_root = self._path.is_dir(), self._path.samefile("/")
        except OSError as exc:
            raise UnusableDirectory(path, f"cannot be read: {exc.strerror}") from exc
        if not is_directory:
            raise UnusableDirectory(path, "is not a directory")
        if is_root:
            raise UnusableDirectory(path, "is this machine's own root")
        self.default_name = self._path.name

    async def find_digest(self) -> str | None:
        return None

    async def unpack(self, rootfs: Path, progress: Progress) -> Provenance:
        if rootfs.resolve().is_relative_to(self._path):
            raise UnusableDirectory(self._path, f"contains the place of the new image, {rootfs}")
        await copy_in_background(self._path, rootfs, progress)
        return Provenance(reference=str(self._path))
