"""What was built, on disk: each image's generations, which one is current, its history, pins and leases.

`<provision>/generations/<hex>` holds manifest, index and sidecar of one generation, and `handed`, whose mtime says when a node
was last given it. `<provision>/images/NAME` holds `current` (a link to one of them), `history/<hex>` (when and by whom it was
built) and, after a rollback, `pin`. Every step is one rename, in an order that leaves a whole current generation whenever the
process dies. Whoever publishes, rolls back or unpins holds the store's lock together with others (`store_lock.in_use`).
"""

import contextlib
import errno
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import msgspec

from images import generation as manifests
from images import store_lock
from images.atomic import swap_link, sync_folder, write_whole
from images.errors import Error
from images.generation import Generation, Sidecar
from images.objects import ObjectStore

log = logging.getLogger(__name__)

SHORT = 12
"""Hex digits by which people are told a generation."""


class ImageNotBuilt(Error):
    def __init__(self, name: str) -> None:
        super().__init__(f"image {name!r} has not been built", hint=f"run `wwctl image build {name}`")


class GenerationNotFound(Error):
    def __init__(self, name: str, wanted: str) -> None:
        super().__init__(
            f"image {name!r} has no generation {wanted!r}", hint=f"`wwctl image history {name}` shows those that it has"
        )


class AmbiguousGeneration(Error):
    def __init__(self, name: str, wanted: str, found: list[str]) -> None:
        super().__init__(f"{wanted!r} means {len(found)} generations of {name!r}: {', '.join(found)}", hint="give more digits")


class NothingBefore(Error):
    def __init__(self, name: str) -> None:
        super().__init__(
            f"image {name!r} has no generation before the current one", hint=f"`wwctl image history {name}` shows what there is"
        )


class GenerationBroken(Error):
    def __init__(self, digest: str, missing: Path) -> None:
        super().__init__(
            f"generation {short(digest)} is not whole: {missing} is missing or cut short",
            hint="build the image with --force, or choose another generation",
        )


class Built(msgspec.Struct, frozen=True, kw_only=True):
    """One line of an image's history; `serial` rises with each build, `created` is in seconds since 1970."""

    serial: int
    created: float
    reference: str
    built_by: str
    digest: str = ""
    """`sha256:<hex>`; in the file it is the file's name."""


class Pin(msgspec.Struct, frozen=True, kw_only=True):
    """Since when (seconds since 1970) and by whom nodes are kept at a generation."""

    generation: str
    since: float
    by: str


class Published(msgspec.Struct, frozen=True, kw_only=True):
    """`pin` is what kept the generation from becoming current; None when it is."""

    generation: Generation
    pin: Pin | None


class Generations:
    def __init__(self, provision: Path) -> None:
        self.provision = provision
        self.segments = ObjectStore(provision / "segments")
        self.kernels = ObjectStore(provision / "kernels")

    def images(self) -> list[str]:
        """Names of images that were ever built, whether their trees still exist or not."""
        return sorted(path.name for path in _folders(self.provision / "images") if not path.name.startswith("."))

    def digests(self) -> list[str]:
        """Every generation there is, of whatever image."""
        return sorted(f"sha256:{path.name}" for path in _folders(self.provision / "generations") if len(path.name) == 64)

    def folder(self, digest: str) -> Path:
        """Where this generation lies, whether it is there or not."""
        return self.provision / "generations" / digest.removeprefix("sha256:")

    def get(self, digest: str) -> Generation | None:
        """A published generation by its name (`sha256:<hex>`), or None, also when it is damaged: a build mends it."""
        folder = self.folder(digest)
        path = folder / "manifest.json"
        try:
            manifest = manifests.parse(path.read_bytes())
        except (FileNotFoundError, NotADirectoryError):
            return None
        except msgspec.DecodeError as exc:
            log.info("%s is damaged: %s", path, exc)
            return None
        return Generation(digest, manifest, folder, self.segments, self.kernels)

    def current_digest(self, name: str) -> str | None:
        """Where `current` points to; None also when something else than a link stands there."""
        try:
            # Not by pathlib, which would cost more than the call: each script that a node fetches asks this.
            return f"sha256:{os.readlink(f'{self.provision}/images/{name}/current').rpartition('/')[2]}"
        except OSError as exc:
            if exc.errno in (errno.ENOENT, errno.ENOTDIR, errno.EINVAL):
                return None
            raise

    def current(self, name: str) -> Generation | None:
        """The generation that nodes get now, or None when the image was never built."""
        digest = self.current_digest(name)
        return None if digest is None else self.get(digest)

    def newest(self, name: str) -> Generation | None:
        """What the last build gave, current or not: the next build goes on from it."""
        for built in self.history(name):
            found = self.get(built.digest)
            if found is not None:
                return found
        return None

    def history(self, name: str) -> list[Built]:
        """The image's generations that are still there, the last built first."""
        found = {}
        for path in (self._image(name) / "history").glob("[0-9a-f]*"):
            with contextlib.suppress(FileNotFoundError, msgspec.DecodeError):
                record = msgspec.json.decode(path.read_bytes(), type=Built)
                found[path.name] = msgspec.structs.replace(record, digest=f"sha256:{path.name}")
        current = self.current_digest(name)
        if current is not None and current.removeprefix("sha256:") not in found:
            built = self._from_sidecar(current)
            if built is not None:
                found[self.folder(current).name] = built
        there = [built for built in found.values() if (self.folder(built.digest) / "manifest.json").exists()]
        return sorted(there, key=lambda built: built.serial, reverse=True)

    def _from_sidecar(self, digest: str) -> Built | None:
        """For a generation without a line in the history: what was noted when it was first built."""
        try:
            noted = msgspec.json.decode((self.folder(digest) / "sidecar.json").read_bytes(), type=Sidecar)
        except (FileNotFoundError, msgspec.DecodeError):
            return None
        return Built(serial=0, created=noted.created, reference=noted.reference, built_by=noted.built_by, digest=digest)

    def find(self, name: str, wanted: str) -> Built:
        """The generation that `wanted` means: its digest or the beginning of it, with or without `sha256:`.

        Raises GenerationNotFound or AmbiguousGeneration.
        """
        digits = wanted.lower().removeprefix("sha256:")
        found = [built for built in self.history(name) if built.digest[7:].startswith(digits)] if digits else []
        if not found:
            raise GenerationNotFound(name, wanted)
        if len(found) > 1:
            raise AmbiguousGeneration(name, wanted, [short(built.digest) for built in found])
        return found[0]

    def before_current(self, name: str) -> Built:
        """The generation built before the current one. Raises ImageNotBuilt or NothingBefore."""
        current = self.current_digest(name)
        history = self.history(name)
        places = [at for at, built in enumerate(history) if built.digest == current]
        if not places:
            raise ImageNotBuilt(name)
        if places[0] + 1 == len(history):
            raise NothingBefore(name)
        return history[places[0] + 1]

    def pin_file(self, name: str) -> Path:
        """It is there as long as the image is pinned."""
        return self._image(name) / "pin"

    def pin(self, name: str) -> Pin | None:
        """What keeps new builds from becoming current."""
        path = self.pin_file(name)
        try:
            return msgspec.json.decode(path.read_bytes(), type=Pin)
        except FileNotFoundError:
            return None
        except msgspec.DecodeError as exc:
            raise Error(f"{path} is damaged: {exc}", hint=f"`wwctl image unpin {name}` removes it") from exc

    def publish(self, name: str, manifest: bytes, index: bytes, sidecar: Sidecar) -> Published:
        """Write a generation whole, then make it current unless the image is pinned; both by rename."""
        digest = manifests.name_of(manifest)
        self._write(digest, manifest, index, sidecar)
        with store_lock.publishing(self.provision):
            self._note(name, digest, sidecar)
            pin = self.pin(name)
            if pin is None:
                self.activate(name, digest)
        generation = Generation(digest, manifests.parse(manifest), self.folder(digest), self.segments, self.kernels)
        return Published(generation=generation, pin=pin)

    def _write(self, digest: str, manifest: bytes, index: bytes, sidecar: Sidecar) -> None:
        folder = self.folder(digest)
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        fixed = {"manifest.json": manifest, "end": manifests.end_archive(digest)}
        if folder.is_dir():
            write_whole(folder / "index", index)
            for name, content in fixed.items():
                if not _holds(folder / name, content):
                    write_whole(folder / name, content)
            return
        with tempfile.TemporaryDirectory(prefix=".new-", dir=folder.parent) as temporary:
            new = Path(temporary) / folder.name
            new.mkdir(mode=0o700)
            write_whole(new / "index", index)
            write_whole(new / "sidecar.json", msgspec.json.encode(sidecar))
            for name, content in fixed.items():
                write_whole(new / name, content)
            new.rename(folder)
        sync_folder(folder.parent)

    def _note(self, name: str, digest: str, sidecar: Sidecar) -> None:
        """A line in the history, unless the generation is the newest already."""
        known = self.history(name)
        if known and known[0].digest == digest and known[0].serial:
            return
        place = self._image(name) / "history"
        for folder in (place.parent.parent, place.parent, place):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        record = Built(
            serial=known[0].serial + 1 if known else 1,
            created=sidecar.created,
            reference=sidecar.reference,
            built_by=sidecar.built_by,
        )
        write_whole(place / digest.removeprefix("sha256:"), msgspec.json.encode(record))

    def activate(self, name: str, digest: str) -> None:
        """Nodes get this generation from now on; the caller holds the lock (`store_lock.publishing`)."""
        if self.current_digest(name) != digest:
            swap_link(self._image(name) / "current", f"../../generations/{digest.removeprefix('sha256:')}")

    def mark_handed(self, digest: str, now: float) -> None:
        """A node was given this generation: it is a lease of a day. Raises FileNotFoundError when the generation has gone."""
        path = self.folder(digest) / "handed"
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))
        os.utime(path, (now, now))

    def handed(self, digest: str) -> float | None:
        """When a node was last given this generation, to about a minute; in seconds since 1970."""
        try:
            return (self.folder(digest) / "handed").stat().st_mtime
        except FileNotFoundError:
            return None

    def _image(self, name: str) -> Path:
        return self.provision / "images" / name


def short(digest: str) -> str:
    """How people are told a generation."""
    return digest.removeprefix("sha256:")[:SHORT]


def _holds(path: Path, content: bytes) -> bool:
    try:
        return path.read_bytes() == content
    except FileNotFoundError:
        return False


def _folders(place: Path) -> Iterator[Path]:
    if place.is_dir():
        yield from (path for path in place.iterdir() if path.is_dir())
