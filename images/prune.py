"""Remove what no node and no rollback needs any more: old generations, and what only they used.

An image keeps its last N generations, the current one, a pinned one, and every one that was handed to a node in the last day,
so that a node which is booting always gets the whole generation that it began with.
"""

import os
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from images.errors import Error
from images.generation import Generation
from images.generations import Generations
from images.objects import ObjectStore
from images.rendition import rendition_path
from images.rootfs import remove_tree

KEEP = 5
LEASE_SECONDS = 86_400 + 60
"""A day, and the minute for which the server does not note that it hands out the same generation again."""
GOING = ".old-"
"""Begins the name of a generation's folder that is being removed."""
STALE_SECONDS = 3_600
"""Age of an overlay's temporary file from which on its writer, who holds no lock, is dead."""


class DamagedGeneration(Error):
    def __init__(self, path: Path) -> None:
        super().__init__(
            f"{path} is damaged, so nobody can say which segments it needs; nothing was removed",
            hint="build its image with --force, or remove the folder",
        )


class PruneFailed(Error):
    def __init__(self, exc: OSError) -> None:
        super().__init__(
            f"pruning stopped: {exc.strerror} ({exc.filename})", hint="what is left is whole; mend the cause and prune again"
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Doomed:
    """A generation that goes; `images` are those that had it in their history."""

    digest: str
    images: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A file or folder of the store that nothing refers to, with its bytes on disk."""

    path: Path
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    generations: tuple[Doomed, ...]
    strays: tuple[Stray, ...]

    @property
    def size(self) -> int:
        """Bytes that become free."""
        return sum(stray.size for stray in self.strays)


def plan(generations: Generations, names: Collection[str], *, keep: int, now: float) -> Plan:
    """What would go. `names` limits which images lose generations; what nothing refers to goes in any case.

    Raises DamagedGeneration when one that stays cannot be read.
    """
    doomed = tuple(_doomed(generations, names, keep, now))
    gone = {generation.digest for generation in doomed}
    folders = [Stray(path=path, size=_size(path)) for digest in gone if (path := generations.folder(digest)).exists()]
    return Plan(generations=doomed, strays=(*folders, *_strays(generations, gone, now)))


def apply(generations: Generations, planned: Plan, *, now: float) -> Plan:
    """Remove it; what was really removed. The caller holds the store's lock alone. Raises PruneFailed or DamagedGeneration."""
    try:
        removed = [generation for generation in planned.generations if _remove(generations, generation, now)]
        gone = {generation.digest for generation in removed}
        folders = {generations.folder(digest) for digest in gone}
        strays = [stray for stray in planned.strays if stray.path in folders]
        for stray in _strays(generations, gone, now):
            if stray.path.is_dir() and not stray.path.is_symlink():
                remove_tree(stray.path)
            else:
                stray.path.unlink(missing_ok=True)
            strays.append(stray)
    except OSError as exc:
        raise PruneFailed(exc) from exc
    return Plan(generations=tuple(removed), strays=tuple(strays))


def is_leased(generations: Generations, digest: str, now: float) -> bool:
    """Whether a node may still be fetching this generation."""
    handed = generations.handed(digest)
    return handed is not None and now - handed < LEASE_SECONDS


def _doomed(generations: Generations, names: Collection[str], keep: int, now: float) -> Iterator[Doomed]:
    images: dict[str, list[str]] = {digest: [] for digest in generations.digests()}
    needed: set[str] = set()
    for name in generations.images():
        history = [built.digest for built in generations.history(name)]
        pin, current = generations.pin(name), generations.current_digest(name)
        needed |= {digest for digest in (current, pin and pin.generation) if digest}
        needed.update(history[:keep] if not names or name in names else history)
        for digest in history:
            images.setdefault(digest, []).append(name)
    for digest, users in images.items():
        if digest not in needed and not is_leased(generations, digest, now):
            yield Doomed(digest=digest, images=tuple(users))


def _remove(generations: Generations, doomed: Doomed, now: float) -> bool:
    """Rename, look once more whether a node was given it in that moment, remove; False when it had to stay."""
    folder = generations.folder(doomed.digest)
    trash = folder.with_name(f"{GOING}{folder.name}")
    try:
        folder.rename(trash)
    except FileNotFoundError:
        return False
    return finish_removal(generations, trash, now)


def finish_removal(generations: Generations, trash: Path, now: float) -> bool:
    """Remove a generation whose folder has its `GOING` name, and its lines in histories; False when it had to stay.

    A pruning that was killed has left it so; the caller holds the store's lock alone. Raises OSError.
    """
    folder = trash.with_name(trash.name.removeprefix(GOING))
    try:
        handed = (trash / "handed").stat().st_mtime
    except FileNotFoundError:
        handed = 0.0
    if now - handed < LEASE_SECONDS and not folder.exists():
        trash.rename(folder)
        return False
    if not folder.exists():
        for line in generations.provision.glob(f"images/*/history/{folder.name}"):
            line.unlink(missing_ok=True)
    remove_tree(trash)
    return True


def _strays(generations: Generations, gone: Collection[str], now: float) -> Iterator[Stray]:
    """What nothing refers to once the generations in `gone` have gone."""
    kept = [_get(generations, digest) for digest in generations.digests() if digest not in gone]
    segments = {segment.digest for generation in kept for segment in generation.manifest.segments}
    kernels = {kernel.digest for generation in kept for kernel in generation.manifest.kernels}
    yield from _unreferenced(generations.segments, segments)
    yield from _unreferenced(generations.kernels, kernels)
    renditions = {rendition_path(generations.provision, generation.digest) for generation in kept}
    yield from (_stray(path) for path in _files(generations.provision / "renditions") if path not in renditions)
    yield from (_stray(path) for path in _temporaries(generations, now))


def _get(generations: Generations, digest: str) -> Generation:
    path = generations.folder(digest) / "manifest.json"
    found = generations.get(digest)
    if found is None:
        raise DamagedGeneration(path)
    return found


def _unreferenced(store: ObjectStore, wanted: Collection[str]) -> Iterator[Stray]:
    for digest, path in store.objects():
        if digest not in wanted:
            yield _stray(path)


def _temporaries(generations: Generations, now: float) -> Iterator[Path]:
    """What processes that were killed left behind. Whoever writes holds the store's lock, but for overlays."""
    provision = generations.provision
    for folder in (generations.segments.root, generations.kernels.root, provision / "generations", provision / "images"):
        yield from (path for path in _files(folder) if path.name.startswith((".new-", GOING, ".staging-delete-")))
    for folder in (*_files(provision / "generations"), *_files(provision / "images")):
        yield from folder.glob(".new-*")
        # Lines of generations whose folder went, but whose line did not: the pruning was killed in between.
        yield from (path for path in _files(folder / "history") if not generations.folder(path.name).exists())
    for folder in _files(provision / "overlays"):
        yield from (path for path in folder.glob(".new-*") if now - path.lstat().st_mtime > STALE_SECONDS)


def _files(folder: Path) -> Iterable[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else ()


def _stray(path: Path) -> Stray:
    return Stray(path=path, size=_size(path))


def _size(path: Path) -> int:
    """Bytes on disk, of a folder with all that is in it."""
    info = path.lstat()
    below = [os.path.join(folder, file) for folder, _, files in os.walk(path) for file in files] if path.is_dir() else []
    return (info.st_blocks + sum(os.lstat(file).st_blocks for file in below)) * 512
