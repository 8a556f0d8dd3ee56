"""Where a path leads inside a sandbox, found before anything is mounted: links stay within the image and its mounts."""

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from images.errors import Error

MAX_LINKS = 40
"""As many symbolic links as Linux follows in one path (path_resolution(7))."""

ROOT = PurePosixPath("/")


@dataclass(frozen=True, slots=True, kw_only=True)
class Located:
    """A path with no link left in it; `backing` is the host's file behind it, None in a file system that begins empty."""

    path: PurePosixPath
    exists: bool
    is_directory: bool
    mount: PurePosixPath
    backing: Path | None


class SandboxView:
    """The image with what the plan has put on it so far; later mounts hide earlier ones."""

    def __init__(self, rootfs: Path) -> None:
        self._mounts: list[tuple[PurePosixPath, Path | None]] = [(ROOT, rootfs)]
        self._made: dict[PurePosixPath, bool] = {}

    def mount(self, target: PurePosixPath, backing: Path | None) -> None:
        """`target` as `locate` gave it; no backing: an empty file system."""
        self._mounts.append((target, backing))
        self._made = {path: kind for path, kind in self._made.items() if not path.is_relative_to(target)}
        if backing is None:
            self._made[target] = True

    def make(self, path: PurePosixPath, *, directory: bool) -> None:
        """The plan makes this entry, and the directories above it."""
        for parent in path.parents:
            self._made.setdefault(parent, True)
        self._made[path] = directory

    def locate(self, path: PurePosixPath) -> Located:
        """Follow every link, the last component's too; components that do not exist stay as they are."""
        pending = list(reversed(path.parts[1:]))
        done = ROOT
        links = 0
        while pending:
            part = pending.pop()
            if part == "..":
                done = done.parent
                continue
            step = done / part
            target = self._link(step)
            if target is None:
                if pending and self._kind(step) is False:
                    raise Error(f"{step} in the image is not a directory, so {path} cannot be in it")
                done = step
                continue
            links += 1
            if links > MAX_LINKS:
                raise Error(f"{path} in the image leads through more than {MAX_LINKS} symbolic links")
            if target.is_absolute():
                done = ROOT
            pending += reversed([step for step in target.parts if step != "/"])
        mount, backing = self._behind(done)
        kind = self._kind(done)
        return Located(path=done, exists=kind is not None, is_directory=bool(kind), mount=mount, backing=backing)

    def missing_parents(self, path: PurePosixPath) -> Iterator[PurePosixPath]:
        """The directories that must be made before this located path can be, outermost first."""
        return (parent for parent in reversed(path.parents) if self._kind(parent) is None)

    def _behind(self, path: PurePosixPath) -> tuple[PurePosixPath, Path | None]:
        for target, backing in reversed(self._mounts):
            if path.is_relative_to(target):
                return target, backing / path.relative_to(target) if backing is not None else None
        raise AssertionError("the root is always mounted")

    def _link(self, path: PurePosixPath) -> PurePosixPath | None:
        _, backing = self._behind(path)
        if backing is None or path in self._made:
            return None
        try:
            return PurePosixPath(os.readlink(backing))
        except OSError:
            return None

    def _kind(self, path: PurePosixPath) -> bool | None:
        """True for a directory, False for anything else, None for nothing."""
        if path in self._made:
            return self._made[path]
        _, backing = self._behind(path)
        if backing is None:
            return None
        try:
            return stat.S_ISDIR(os.lstat(backing).st_mode)
        except OSError:
            return None
