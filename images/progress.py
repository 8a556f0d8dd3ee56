"""What a source reports while it brings an image in; the CLI turns each event into a line or a bar."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """The source is about to be asked for the image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobAdvanced:
    """`done` of `size` bytes of a blob are on disk."""

    digest: str
    size: int
    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class BlobCopied:
    """A layer's blob is in the cache; `cached`: it was there already and nothing was downloaded."""

    digest: str
    cached: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ConfigCopied:
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ManifestWritten:
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerUnpacking:
    """A layer goes into the tree; held back until every blob is reported, so that the lines come in order."""

    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerAdvanced:
    """`done` of `size` bytes of a layer's blob are unpacked."""

    digest: str
    size: int
    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveUnpacking:
    """A root file system in one file goes into the tree."""

    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveAdvanced:
    """`done` of `size` bytes of a file, or of what an engine sends, are read; None if nobody knows how many there are."""

    name: str
    size: int | None
    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """A registry wants fewer requests; the next one goes out after so many seconds."""

    host: str
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeCopying:
    path: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeAdvanced:
    """`done` bytes of a tree's files are copied; blocks that the file system shares are not, and are not counted."""

    path: Path
    done: int


@dataclass(frozen=True, slots=True, kw_only=True)
class XattrSkipped:
    """The destination's file system refuses this extended attribute; reported once per name, `path` is the first."""

    name: str
    path: str


Event = (
    Started
    | BlobAdvanced
    | BlobCopied
    | ConfigCopied
    | ManifestWritten
    | LayerUnpacking
    | LayerAdvanced
    | ArchiveUnpacking
    | ArchiveAdvanced
    | Waiting
    | TreeCopying
    | TreeAdvanced
    | XattrSkipped
)
Progress = Callable[[Event], None]
