"""`oci:DIR[:TAG]`: an OCI layout in a folder, as `skopeo copy`, umoci and buildah make it."""

import os
import stat
from pathlib import Path

from images.interruptible import run_interruptible
from images.progress import Progress
from images.source.contract import Provenance, SourceOptions
from images.source.layout import INDEX_FILE, LAYOUT_FILE, find_in_layout
from images.source.naming import split_path
from images.window import Window

FORM = "oci:DIR[:TAG]"


class LayoutSource:
    """Raises MalformedArchive and the other Errors of the modules it uses."""

    def __init__(self, path: Path, tag: str | None, options: SourceOptions) -> None:
        self.path = path
        self._tag = tag
        self._options = options
        self.default_name = path.resolve().name

    @classmethod
    def parse(cls, text: str, options: SourceOptions) -> "LayoutSource":
        return cls(*split_path(text, FORM), options)

    def locate(self, name: str) -> Window | None:
        try:
            status = os.stat(self.path / name)
        except (FileNotFoundError, NotADirectoryError):
            return None
        if not stat.S_ISREG(status.st_mode):
            return None
        return Window(path=self.path / name, offset=0, size=status.st_size)

    async def find_digest(self) -> str | None:
        return (await run_interruptible(lambda stopped: find_in_layout(self, self._tag, self._options))).digest

    async def unpack(self, rootfs: Path, progress: Progress) -> Provenance:
        image = await run_interruptible(lambda stopped: find_in_layout(self, self._tag, self._options))
        tag = f":{self._tag}" if self._tag else ""
        return await image.unpack(self.path, f"oci:{self.path.resolve()}{tag}", rootfs, progress)


def is_layout(path: Path) -> bool:
    return (path / LAYOUT_FILE).is_file() and (path / INDEX_FILE).is_file()
