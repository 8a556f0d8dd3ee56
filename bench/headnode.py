"""A head node of our own below a folder: a configuration that keeps everything there, and `wwctl`."""

import contextlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from measure import Command, nothing
from places import WWCTL

from bootsvc.cli.image.building import run_build
from bootsvc.cli.image.vocabulary import IMAGE
from bootsvc.config import Config
from images.catalog import Catalog
from images.errors import Error
from images.generation import Generation
from images.rebuild import Build

CONF = """\
ipaddr: 10.0.0.1/24
paths:
  sysconfdir: {root}/etc
  localstatedir: {root}/lib
  cachedir: {root}/cache
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadNode:
    root: Path

    @classmethod
    def make(cls, root: Path) -> "HeadNode":
        root.mkdir(parents=True, exist_ok=True)
        (root / "warewulf.conf").write_text(CONF.format(root=root))
        return cls(root=root)

    @property
    def catalog(self) -> Catalog:
        paths = Config.load(self.root / "warewulf.conf").paths
        return Catalog(chroots=paths.chroots, provision=paths.provision)

    def rootfs(self, image: str) -> Path:
        """Where the tree of an image is or will be."""
        return self.catalog.chroots / image / "rootfs"

    def wwctl(self, *arguments: str, before: Callable[[], None] = nothing, after: Callable[[], None] = nothing) -> Command:
        return Command(
            argv=[str(WWCTL), *arguments],
            log=self.root.with_suffix(".log"),
            environment={"WAREWULFCONF": str(self.root / "warewulf.conf")},
            before=before,
            after=after,
            shown=" ".join(["wwctl", *arguments]),
        )

    def output(self) -> str:
        """What the last `wwctl` wrote."""
        return self.root.with_suffix(".log").read_text(errors="replace")

    def build(self, image: str) -> Build:
        """What `wwctl image build` does, inside this process."""
        catalog = self.catalog
        with contextlib.redirect_stderr(io.StringIO()), catalog.locked(image, holder=f"build {image}"):
            return run_build(catalog, IMAGE, image)

    def current(self, image: str) -> Generation:
        found = self.catalog.current(image)
        if found is None:
            raise Error(f"{image} was not built", hint=self.output())
        return found
