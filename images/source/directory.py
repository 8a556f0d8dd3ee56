"""An existing directory, for example a chroot, copied faithfully; other file systems mounted in it are left out."""

import os
from pathlib import Path

from images.background_copy import copy_in_background
from images.errors import Error
from images.progress import Progress
from images.source.contract import Provenance


class UnusableDirectory(Error):
    def __init__(
        self, path: Path, reason: str, hint: str = "give the top directory of a chroot, as debootstrap makes it"
    ) -> None:
        super().__init__(f"{str(path)!r} {reason}", hint=hint)
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
        below = self._path / "rootfs"
        if below.is_dir() and not os.path.lexists(self._path / "bin"):
            raise UnusableDirectory(self._path, "is no root file system, but holds one", hint=f"did you mean {below}?")
        self.default_name = self._path.name

    async def find_digest(self) -> str | None:
        return None

    async def unpack(self, rootfs: Path, progress: Progress) -> Provenance:
        if rootfs.resolve().is_relative_to(self._path):
            raise UnusableDirectory(self._path, f"contains the place of the new image, {rootfs}")
        await copy_in_background(self._path, rootfs, progress)
        return Provenance(reference=str(self._path))
