"""A generation of a built image: its manifest, which is canonical JSON whose sha256 is the generation's name.

No clock and no host name are in the manifest, so an unchanged tree gives the same generation; those stand in a sidecar.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

import msgspec

from images import cpio
from images.index import Entry
from images.objects import ObjectStore

SCHEMA = 1
MEDIA_TYPE = "application/vnd.bootsvc.generation.v1+json"
GENERATION_FILE = b".bootsvc/generation"
"""What the last archive of a boot holds; our init stops when it is missing or names another generation."""
EXPECTED_FILE = b".bootsvc/expected"
"""Which generation must have arrived, for a boot whose kernel arguments do not say so."""


class Segment(msgspec.Struct, frozen=True, kw_only=True):
    """Sizes in bytes; `digest` as `sha256:<hex>`."""

    digest: str
    size: int
    unpacked_digest: str
    """As `newc+sha256:<hex>` (`segment_archive.Outline`); builds of older versions wrote `sha256:<hex>`, of all the bytes."""
    unpacked_size: int
    entries: int


class Kernel(msgspec.Struct, frozen=True, kw_only=True):
    """A kernel of the image, kept as a blob of the generation; `path` is where it lies in the image."""

    path: str
    version: str
    release: str
    digest: str
    size: int


class Xattrs(msgspec.Struct, frozen=True, kw_only=True):
    """The record of what newc cannot carry: how many entries have xattrs, and its sha256."""

    entries: int
    digest: str


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    schema: int
    media_type: str
    image: str
    source: str | None
    """The digest of the imported manifest; None for a directory."""
    architecture: str
    kernels: tuple[Kernel, ...]
    compression: str
    compressor: str
    segments: tuple[Segment, ...]
    xattrs: Xattrs
    entries: int
    unpacked_size: int


class Sidecar(msgspec.Struct, frozen=True, kw_only=True):
    """Who built a generation, when (seconds since 1970) and from what."""

    created: float
    reference: str
    built_by: str


def serialize(manifest: Manifest) -> bytes:
    """Canonical JSON: keys sorted, no white space."""
    return msgspec.json.encode(manifest, order="sorted")


def parse(data: bytes) -> Manifest:
    """Raises msgspec.DecodeError when it is not a manifest."""
    return msgspec.json.decode(data, type=Manifest)


class Generation:
    """A published generation on disk."""

    def __init__(self, digest: str, manifest: Manifest, folder: Path, segments: ObjectStore, kernels: ObjectStore) -> None:
        self.digest = digest
        self.manifest = manifest
        self.folder = folder
        self._segments = segments
        self._kernels = kernels

    @property
    def index_path(self) -> Path:
        return self.folder / "index"

    @property
    def manifest_path(self) -> Path:
        return self.folder / "manifest.json"

    def image_files(self) -> Iterator[tuple[Path, int]]:
        """The segments' files with their sizes, in the order of the concatenation."""
        for segment in self.manifest.segments:
            yield self._segments.path(segment.digest), segment.size

    @property
    def image_size(self) -> int:
        """Bytes of the concatenation, with the zeros that bring it to a multiple of four."""
        size = sum(segment.size for segment in self.manifest.segments)
        return size + len(cpio.padding(size))

    def missing(self) -> list[Path]:
        """Files of the store that this generation needs and that are not there whole."""
        wanted = [(self._segments, s.digest, s.size) for s in self.manifest.segments]
        wanted += [(self._kernels, k.digest, k.size) for k in self.manifest.kernels]
        return [store.path(digest) for store, digest, size in wanted if not store.has(digest, size)]


def name_of(manifest: bytes) -> str:
    """The generation that these manifest bytes are."""
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"


def end_archive(generation: str) -> bytes:
    """The last archive of a boot (DESIGN: a whole boot or none): it arrives only if everything before it was unpacked."""
    return cpio.archive(end_entries(generation))


def end_entries(generation: str) -> list[tuple[cpio.Entry, bytes]]:
    """What the last archive holds."""
    return _note(GENERATION_FILE, generation)


def begin_entries(generation: str) -> list[tuple[cpio.Entry, bytes]]:
    """What a file that is booted without our boot script holds first: the name that its end must have."""
    return _note(EXPECTED_FILE, generation)


def _note(path: bytes, generation: str) -> list[tuple[cpio.Entry, bytes]]:
    folder = cpio.Entry(path=b".bootsvc", mode=0o040755), b""
    return [folder, cpio.file_entry(path, generation.encode() + b"\n", mode=0o444)]


def xattrs_of(entries: list[Entry], record: bytes) -> Xattrs:
    return Xattrs(entries=sum(1 for entry in entries if entry.xattrs), digest=f"sha256:{hashlib.sha256(record).hexdigest()}")
