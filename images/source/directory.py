"""An existing directory, for example a chroot, copied faithfully; other file systems mounted in it are left out."""

from pathlib import Path

from images.copying import copy_tree
from images.errors import Error
from images.interruptible import run_interruptible
from images.progress import Progress, TreeCopying, XattrSkipped
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
        progress(TreeCopying(path=self._path))
        skipped = await run_interruptible(lambda stopped: copy_tree(self._path, rootfs, stopped=stopped))
        for name, path in skipped.items():
            progress(XattrSkipped(name=name, path=path))
        return Provenance(reference=str(self._path))
