"""What the verbs of `wwctl overlay` need of the head node: its overlays, its nodes, and what completes their names."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from difflib import get_close_matches
from functools import cached_property
from pathlib import Path

import click
from click.shell_completion import CompletionItem

from bootsvc.cli.command import Invocation
from bootsvc.cli.terminal import warn
from bootsvc.config import Config
from bootsvc.overlay_site import FileNotInOverlay, SiteOverlays, inside, place
from bootsvc.overlays import find_head, folders
from bootsvc.registry import Registry
from bootsvc.store import Snapshot
from images.catalog import Catalog
from images.errors import Error
from images.generation import Generation
from images.kernel import choose_kernel
from netboot import overlay
from netboot.engine import RenderContext
from netboot.engines import ENGINES
from netboot.node import Node
from netboot.overlay import Overlay
from netboot.overlay_library import Library
from netboot.overlay_render import Renderer


@dataclass(frozen=True)
class Site:
    """One command's view of it all; each part is read when it is first wanted."""

    invocation: Invocation

    @property
    def config(self) -> Config:
        return self.invocation.config()

    @cached_property
    def overlays(self) -> SiteOverlays:
        site, shipped = folders(self.config)
        return SiteOverlays(site, shipped)

    @cached_property
    def library(self) -> Library:
        return Library(folders(self.config), once=True)

    @cached_property
    def snapshot(self) -> Snapshot:
        return self.invocation.store().load()

    @cached_property
    def registry(self) -> Registry:
        return Registry.build(self.snapshot, self.config.network)

    @cached_property
    def renderer(self) -> Renderer:
        """Raises NoInterface when warewulf.conf does not say where the boot network is."""
        head = find_head(self.config)
        return Renderer(self.registry.nodes, head.server, places=head.places)

    @cached_property
    def _generations(self) -> dict[str, Generation | None]:
        return {}

    def generation(self, node: Node) -> Generation | None:
        """What the node would boot now; None without an image that was built."""
        name = node.image_name
        if name not in self._generations:
            catalog = Catalog(chroots=self.config.paths.chroots, provision=self.config.paths.provision)
            self._generations[name] = catalog.current(name) if name and catalog.exists(name) else None
        return self._generations[name]

    def kernel_version(self, node: Node) -> str:
        """That of the kernel which the node's image boots by default."""
        generation = self.generation(node)
        kernel = choose_kernel(generation.manifest.kernels, "") if generation else None
        return kernel.version if kernel else ""

    def context(self, node: Node) -> RenderContext:
        """What a template sees of this node, now."""
        return self.renderer.context(node, kernel_version=self.kernel_version(node), now=datetime.now(UTC))

    def chosen(self, names: Sequence[str]) -> list[str]:
        """These overlays, or all; raises OverlayNotFound."""
        for name in names:
            self.overlays.find(name)
        return list(dict.fromkeys(names)) or self.library.names()

    def file(self, name: str, path: str, *, rendered: bool = False) -> tuple[str, Path]:
        """A file's path in its overlay and on disk; `rendered`: a template may be named by what it becomes.

        Raises OverlayNotFound, FileNotInOverlay or Error.
        """
        tree = overlay.tree(self.overlays.find(name))
        asked = inside(name, path)
        for candidate in (asked, *(asked + suffix for suffix in ENGINES if rendered)):
            full = place(tree, name, candidate)
            if os.path.lexists(full):
                return candidate, full
        raise FileNotInOverlay(name, path, get_close_matches(asked, files(tree), n=1))

    def path(self, name: str, file: str, *, rendered: bool = False) -> str:
        """As `file`, the path alone; also of what stands in overlay.toml and nowhere else."""
        asked = inside(name, file)
        description = overlay.describe(self.overlays.find(name))
        if description is not None and (asked in description.links or asked in description.directories):
            return asked
        return self.file(name, file, rendered=rendered)[0]

    def load(self, name: str) -> Overlay:
        return self.library.load(name)


def files(tree: Path) -> list[str]:
    """Every path below a folder, sorted, relative to it."""
    return sorted(
        os.path.relpath(os.path.join(folder, name), tree)
        for folder, directories, names in os.walk(tree)
        for name in (*directories, *names)
    )


def need_root(what: str) -> None:
    """Overlays hold secrets, and owners are root's business."""
    if os.geteuid() != 0:
        raise Error(f"only root can {what}", hint="use sudo")


def warn_of_rest(site: Site, name: str) -> None:
    """Whoever changes an overlay of ours has a copy from now on, which no new version of bootsvc changes."""
    if not site.overlays.is_site(name):
        warn(f"overlay {name!r} is copied to {site.overlays.site / name}", "`wwctl overlay diff` shows how it differs")


def _names(ctx: click.Context) -> Iterable[str]:
    from bootsvc.cli.names import overlay_names

    return overlay_names((ctx.find_object(Invocation) or Invocation()).config())


def complete_name(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    try:
        return [CompletionItem(name) for name in _names(ctx) if name.startswith(incomplete)]
    except (Error, OSError):
        return []


def complete_file(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """The files of the overlay that is named before."""
    try:
        site = Site(ctx.find_object(Invocation) or Invocation())
        tree = overlay.tree(site.overlays.find(str(ctx.params.get("name"))))
        slash = "/" if incomplete.startswith("/") else ""
        return [CompletionItem(slash + path) for path in files(tree) if path.startswith(incomplete.lstrip("/"))]
    except (Error, OSError):
        return []


def name_argument() -> click.Argument:
    return click.Argument(["name"], metavar="OVERLAY", shell_complete=complete_name)


def file_argument(*, required: bool = True) -> click.Argument:
    return click.Argument(["file"], metavar="FILE", required=required, shell_complete=complete_file)
