"""The images on disk: `<chroots>/NAME/rootfs` and what was built from it; stage, swap, delete, publish.

Built images lie in `<provision>`: `generations/<hex>`, each with manifest, index and sidecar; `images/NAME/current`, which
points to one of them; and the stores `segments` and `kernels`.
"""

import contextlib
import difflib
import fcntl
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from images import generation as generations
from images.errors import Error
from images.generation import Generation, Sidecar
from images.objects import ObjectStore
from images.provenance import Provenance
from images.rename import exchange

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:-]*")
MAX_NAME = 128
"""Bytes of an image name: it is a folder's name on the head node."""


class ImageNotFound(Error):
    def __init__(self, name: str, known: list[str]) -> None:
        close = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {close[0]!r}?" if close else "`wwctl container list` shows the images that exist"
        super().__init__(f"there is no image {name!r}", hint=hint)


class ImageExists(Error):
    def __init__(self, name: str) -> None:
        super().__init__(f"image {name!r} exists already", hint="use --force to replace it, or choose another name")


class ImageNotBuilt(Error):
    def __init__(self, name: str) -> None:
        super().__init__(f"image {name!r} has not been built", hint=f"run `wwctl container build {name}`")


class BadImageName(Error):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name!r} cannot be an image's name",
            hint="use letters, digits and `_ - . :`, beginning with a letter or a digit",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Staging:
    """A folder that becomes an image by `Catalog.swap`; it and everything in it vanishes if that never happens."""

    folder: Path

    @property
    def rootfs(self) -> Path:
        return self.folder / "rootfs"


class Catalog:
    def __init__(self, *, chroots: Path, provision: Path) -> None:
        self.chroots = chroots
        self.provision = provision
        self.segments = ObjectStore(provision / "segments")
        self.kernels = ObjectStore(provision / "kernels")

    def names(self) -> list[str]:
        """Every image, sorted: any folder with a legal name that has a `rootfs`."""
        if not self.chroots.is_dir():
            return []
        return sorted(path.name for path in self.chroots.iterdir() if _legal(path.name) and (path / "rootfs").is_dir())

    def exists(self, name: str) -> bool:
        return _legal(name) and (self.chroots / name / "rootfs").is_dir()

    def get(self, name: str) -> Path:
        """The image's rootfs; raises BadImageName or ImageNotFound."""
        check_name(name)
        if not self.exists(name):
            raise ImageNotFound(name, self.names())
        return self.chroots / name / "rootfs"

    def lock_path(self, name: str) -> Path:
        """Whoever changes the tree of an image holds this lock; it lies outside the image's folder, which may be swapped."""
        return self.chroots / f".{name}.lock"

    def provenance(self, name: str) -> Provenance:
        """What `import` noted; a folder that somebody put there is its own source."""
        try:
            return msgspec.json.decode((self.chroots / name / "source.json").read_bytes(), type=Provenance)
        except (FileNotFoundError, msgspec.DecodeError):
            return Provenance(reference=str(self.chroots / name / "rootfs"))

    @contextlib.contextmanager
    def stage(self, name: str) -> Iterator[Staging]:
        """An empty folder on the images' own file system; leftovers of imports that were killed are removed first."""
        check_name(name)
        self.chroots.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._remove_abandoned()
        folder = Path(tempfile.mkdtemp(prefix=f".staging-{name}-", dir=self.chroots))
        descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            staging = Staging(folder=folder)
            staging.rootfs.mkdir(mode=0o755)
            yield staging
        finally:
            if folder.exists():
                remove_tree(folder)
            os.close(descriptor)

    def swap(self, staging: Staging, name: str, provenance: Provenance, *, replace: bool) -> None:
        """Make the staged tree the image, in one rename; the tree that was there before goes with the staging folder."""
        (staging.folder / "source.json").write_bytes(msgspec.json.encode(provenance))
        staging.folder.chmod(0o755)
        place = self.chroots / name
        if replace and place.exists():
            exchange(staging.folder, place)
            return
        try:
            staging.folder.rename(place)
        except OSError as exc:
            raise ImageExists(name) from exc

    def delete(self, name: str) -> None:
        """Remove the image and what was built from it; whether a node still uses it is the caller's question."""
        self.get(name)
        for place in (self.chroots / name, self.provision / "images" / name):
            if place.exists():
                trash = Path(tempfile.mkdtemp(prefix=".staging-delete-", dir=place.parent))
                place.rename(trash / name)
                remove_tree(trash)
        self.lock_path(name).unlink(missing_ok=True)

    def current(self, name: str) -> Generation | None:
        """The generation that nodes get now, or None when the image was never built."""
        link = self.provision / "images" / name / "current"
        try:
            return self.generation(f"sha256:{os.path.basename(os.readlink(link))}")
        except FileNotFoundError:
            return None

    def generation(self, digest: str) -> Generation | None:
        """A published generation by its name (`sha256:<hex>`), or None."""
        folder = self._generation_folder(digest)
        try:
            manifest = generations.parse((folder / "manifest.json").read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        return Generation(digest, manifest, folder, self.segments, self.kernels)

    def publish(self, name: str, manifest: bytes, index: bytes, sidecar: Sidecar) -> Generation:
        """Write a generation whole, then point `current` at it; both by rename."""
        digest = generations.name_of(manifest)
        folder = self._generation_folder(digest)
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if folder.is_dir():
            write_whole(folder / "index", index)
        else:
            with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as temporary:
                new = Path(temporary) / folder.name
                new.mkdir(mode=0o700)
                write_whole(new / "manifest.json", manifest)
                write_whole(new / "index", index)
                write_whole(new / "sidecar.json", msgspec.json.encode(sidecar))
                new.rename(folder)
        images = self.provision / "images" / name
        images.mkdir(mode=0o700, parents=True, exist_ok=True)
        swap_link(images / "current", f"../../generations/{folder.name}")
        return Generation(digest, generations.parse(manifest), folder, self.segments, self.kernels)

    def _generation_folder(self, digest: str) -> Path:
        return self.provision / "generations" / digest.removeprefix("sha256:")

    def _remove_abandoned(self) -> None:
        for folder in self.chroots.glob(".staging-*"):
            descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_tree(folder)
            except BlockingIOError:
                continue
            finally:
                os.close(descriptor)


def check_name(name: str) -> None:
    if not _legal(name):
        raise BadImageName(name)


def _legal(name: str) -> bool:
    return _NAME.fullmatch(name) is not None and len(name) <= MAX_NAME


def write_whole(path: Path, data: bytes) -> None:
    """Write beside, fsync, rename: a reader sees the old file or the new one."""
    with tempfile.NamedTemporaryFile(dir=path.parent, prefix=".new-", delete=False) as file:
        try:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
            os.replace(file.name, path)
        except BaseException:
            os.unlink(file.name)
            raise


def swap_link(link: Path, target: str) -> None:
    """Point a symbolic link elsewhere in one rename, and keep it over a crash."""
    temporary = link.with_name(f".new-{link.name}-{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.rename(link)
    descriptor = os.open(link.parent, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove_tree(path: Path) -> None:
    """Remove a tree that may hold another machine's files; never follows a link, never crosses into a mount."""
    shutil.rmtree(path)
