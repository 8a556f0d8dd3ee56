"""The head node's files as `wwctl configure` writes them: staged, renamed, and nothing written that is already so."""

import difflib
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

from bootsvc.cli.terminal import warn
from bootsvc.config import Config
from bootsvc.store import Store, replace_file
from images.atomic import write_whole
from images.errors import Error
from netboot.node import Node

if TYPE_CHECKING:
    from netboot.engine import Server
    from netboot.overlay import Overlay

HOST_OVERLAY = "host"
BACKUP = ".wwbackup"
"""Warewulf's suffix for what was there before it first wrote a file."""
SECONDS = 60
"""How long a service may take to start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HostFile:
    """What the host overlay makes: the `whole` file (a site's Go template, as Warewulf has it), or lines of it."""

    text: str
    whole: bool


@dataclass(frozen=True, kw_only=True)
class Head:
    """`root` is where the head node's files begin, / unless somebody wants to look first; with `dry` nothing is written."""

    config: Config
    root: Path
    dry: bool

    @property
    def is_this(self) -> bool:
        """Whether it is this machine that is configured, so that its services may be touched."""
        return self.root == Path("/") and not self.dry

    def place(self, path: Path) -> Path:
        """Where a file of the head node is written."""
        return self.root / path.relative_to("/")

    def _within(self, target: Path) -> Path:
        """Raises Error where a link below `root` leads to this machine's own files."""
        if not target.is_relative_to(self.root.resolve()):
            raise Error(f"a link below {self.root} leads out of it, to {target}", hint="nothing was written there")
        return target

    def read(self, path: Path) -> str:
        """The file's text; "" when there is none."""
        try:
            return self.place(path).read_text("utf-8", "surrogateescape")
        except FileNotFoundError:
            return ""

    def write(self, path: Path, text: str) -> bool:
        """Write a file that everybody may read; a first copy of what was there is kept. True when it changed."""
        target = self._within(self.place(path).resolve())
        before, exists = self.read(path), target.exists()
        if exists and before == text:
            print(f"{target} is current")
            return False
        if self.dry:
            print(f"Would write {target}")
            diff = difflib.unified_diff(before.splitlines(keepends=True), text.splitlines(keepends=True), str(path), str(path))
            print("".join(diff), end="")
            return True
        backup = target.with_name(target.name + BACKUP)
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            if exists and not backup.exists():
                replace_file(backup, target.read_bytes(), like=target)
            replace_file(target, text.encode("utf-8", "surrogateescape"), like=target)
        except OSError as exc:
            raise Error(f"cannot write {target}: {exc.strerror}", hint="the file is as it was before") from exc
        print(f"Wrote {target}")
        return True

    def write_new(self, files: Mapping[Path, bytes], *, private: Sequence[Path], again: bool = False) -> bool:
        """Write files of which none is there yet, or with `again` all of them; those of `private` are root's alone.

        The private ones come first, so that a public one never stands without its other half. False when one is there.
        """
        if not again and any(self.place(path).exists() for path in files):
            return False
        for path in sorted(files, key=lambda path: path not in private):
            target = self.place(path)
            self._within(target.parent.resolve())
            if not self.dry:
                target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
                write_whole(target, files[path])
                target.chmod(0o600 if path in private else 0o644)
            print(f"{'Would write' if self.dry else 'Wrote'} {target}")
        return True

    def rendered(self, prefix: str) -> Mapping[str, HostFile]:
        """What the host overlay makes of its templates below `prefix`; a mistake in another one does not matter here."""
        from netboot.overlay_render import Renderer

        overlay = self._overlay
        items = tuple(item for item in overlay.items if item.path.decode(errors="replace").startswith(prefix))
        whole = any(item.path.endswith(b".ww") for item in items)
        server, nodes = self._server_and_nodes
        renderer = Renderer(nodes, server)
        placed = renderer.render([replace(overlay, items=items)], renderer.context(Node(id=server.name)))
        return {
            path.decode(): HostFile(text=item.content.decode("utf-8", "surrogateescape"), whole=whole)
            for path, item in placed.items.items()
            if item.content
        }

    @cached_property
    def _overlay(self) -> "Overlay":
        from bootsvc.overlays import folders
        from netboot.overlay_library import Library

        return Library(folders(self.config)).load(HOST_OVERLAY)

    @cached_property
    def _server_and_nodes(self) -> "tuple[Server, Sequence[Node]]":
        from bootsvc.overlays import find_server
        from bootsvc.registry import Registry

        server = find_server(self.config)
        paths = self.config.paths
        registry = Registry.build(Store(paths.nodes_conf, paths.nodes_cache).load(), server.network)
        for problem in registry.problems:
            warn(problem)
        return server, registry.nodes

    def run_if_there(self, *command: str) -> None:
        """Run a program of the head node, where it has it; what goes wrong is a warning."""
        program = shutil.which(command[0]) if self.is_this else None
        if program is None:
            return
        try:
            done = subprocess.run([program, *command[1:]], capture_output=True, text=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as exc:
            warn(f"`{' '.join(command)}` failed: {exc}")
            return
        if done.returncode != 0:
            warn(f"`{' '.join(command)}` failed with status {done.returncode}: {done.stderr.strip()}")

    def start(self, unit: str) -> None:
        """Start a service of the head node, now and at every boot."""
        if Path("/run/systemd/system").is_dir():
            self.run_if_there("systemctl", "enable", "--now", unit)
