"""Images in files: an OCI layout (OCI image spec, "Image Layout") and what `docker save` writes; read, checked, not copied."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from images.blobs import digest_of
from images.errors import Error
from images.layers import Layer
from images.manifest import (
    MAX_CONFIG,
    MAX_MANIFEST,
    Descriptor,
    ImageConfig,
    Index,
    Manifest,
    PlatformMissing,
    UnusableImage,
    parse_config,
    parse_manifest,
)
from images.progress import ArchiveUnpacking, Progress
from images.reference import InvalidReference, Reference
from images.source.contract import Provenance, SourceOptions
from images.source.unpacking import MalformedArchive, unpack_layers
from images.window import Window

INDEX_FILE = "index.json"
LAYOUT_FILE = "oci-layout"
DOCKER_FILE = "manifest.json"
_NAMES = ("org.opencontainers.image.ref.name", "io.containerd.image.name")
"""Annotations of index.json that hold what people call an image."""
_MAX_NESTING = 3


class Files(Protocol):
    """The files of a folder or of an archive."""

    @property
    def path(self) -> Path: ...

    def locate(self, name: str) -> Window | None: ...


class ImageNotInFile(Error):
    def __init__(self, path: Path, wanted: str | None, known: Sequence[str]) -> None:
        listed = ", ".join(known) or "none has a name"
        super().__init__(
            f"{str(path)!r} holds no image {wanted!r}" if wanted else f"{str(path)!r} holds several images",
            hint=f"say which after a colon; it holds: {listed}",
        )
        self.known = tuple(known)


@dataclass(frozen=True, slots=True, kw_only=True)
class FiledImage:
    """`digest` is the manifest's, or the config's where there is no manifest."""

    digest: str
    architecture: str
    layers: list[Layer]

    async def unpack(self, path: Path, reference: str, rootfs: Path, progress: Progress) -> Provenance:
        progress(ArchiveUnpacking(path=path))
        await unpack_layers(self.layers, rootfs, progress)
        return Provenance(reference=reference, digest=self.digest, architecture=self.architecture or None)


class _DockerImage(msgspec.Struct, frozen=True, rename="pascal"):
    """One element of manifest.json (Docker image spec 1.2, "Combined Image JSON + Filesystem Changeset Format")."""

    config: str
    layers: tuple[str, ...]
    repo_tags: tuple[str, ...] | None = None


def find_in_layout(files: Files, tag: str | None, options: SourceOptions) -> FiledImage:
    """The image that `tag` names, or the only one. Blocks. Raises MalformedArchive, ImageNotInFile, PlatformMissing…"""
    try:
        index = parse_manifest(_read(files, INDEX_FILE, MAX_MANIFEST))
    except UnusableImage as exc:
        # Its hint is for registries.
        raise MalformedArchive(files.path, f"its {INDEX_FILE} is no index: {exc.message}") from exc
    if not isinstance(index, Index):
        raise MalformedArchive(files.path, f"its {INDEX_FILE} is no index")
    document: Index | Manifest = Index(manifests=tuple(_named(files, index, tag)))
    digest = ""
    for _ in range(_MAX_NESTING + 1):
        if isinstance(document, Manifest):
            return _filed(files, digest, document, options)
        only = document.manifests[0] if len(document.manifests) == 1 else None
        chosen = only or document.choose(options.wanted_platform)
        digest = chosen.digest
        document = parse_manifest(_read_blob(files, chosen, MAX_MANIFEST), chosen.media_type)
    raise UnusableImage(f"{files.path} is an index of indexes without end", hint="make the file again")


def find_in_docker_archive(files: Files, name: str | None, options: SourceOptions) -> FiledImage:
    """As `find_in_layout`, for an archive with a manifest.json; `name` is NAME[:TAG] or @NUMBER."""
    try:
        images = msgspec.json.decode(_read(files, DOCKER_FILE, MAX_MANIFEST), type=list[_DockerImage])
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise MalformedArchive(files.path, f"its {DOCKER_FILE} cannot be read: {exc}") from exc
    image = _docker_named(files, images, name)
    data = _read(files, image.config, MAX_CONFIG)
    config = parse_config(data, layers=len(image.layers))
    _check_platform(config, options)
    layers = []
    for member, diff_id in zip(image.layers, config.rootfs.diff_ids, strict=True):
        window = _locate(files, member)
        layers.append(Layer(digest=diff_id, diff_id=diff_id, path=window.path, offset=window.offset, size=window.size))
    return FiledImage(digest=digest_of(data), architecture=config.architecture, layers=layers)


def _named(files: Files, index: Index, tag: str | None) -> list[Descriptor]:
    names = [[(one.annotations or {}).get(key) for key in _NAMES] for one in index.manifests]
    if tag is not None:
        found = [one for one, have in zip(index.manifests, names, strict=True) if tag in have]
    else:
        # Several without different names are the platforms of one image.
        found = list(index.manifests) if len({tuple(have) for have in names}) == 1 else []
    if not found:
        known = sorted({name for have in names for name in have if name})
        if not index.manifests:
            raise MalformedArchive(files.path, "it holds no image")
        raise ImageNotInFile(files.path, tag, known)
    return found


def _docker_named(files: Files, images: list[_DockerImage], name: str | None) -> _DockerImage:
    if not images:
        raise MalformedArchive(files.path, "it holds no image")
    if name is None and len(images) == 1:
        return images[0]
    if name is not None and name.startswith("@") and name[1:].isdecimal() and int(name[1:]) < len(images):
        return images[int(name[1:])]
    for image in images:
        if name is not None and any(_same_reference(name, tag) for tag in image.repo_tags or ()):
            return image
    raise ImageNotInFile(files.path, name, sorted(tag for image in images for tag in image.repo_tags or ()))


def _same_reference(one: str, other: str) -> bool:
    try:
        return str(Reference.parse(one)) == str(Reference.parse(other))
    except InvalidReference:
        return one == other


def _filed(files: Files, digest: str, manifest: Manifest, options: SourceOptions) -> FiledImage:
    config = parse_config(_read_blob(files, manifest.config, MAX_CONFIG), layers=len(manifest.layers))
    _check_platform(config, options)
    layers = []
    for described, diff_id in zip(manifest.layers, config.rootfs.diff_ids, strict=True):
        window = _locate_blob(files, described)
        layers.append(Layer(digest=described.digest, diff_id=diff_id, path=window.path, offset=window.offset, size=window.size))
    return FiledImage(digest=digest, architecture=config.architecture, layers=layers)


def _check_platform(config: ImageConfig, options: SourceOptions) -> None:
    if options.platform is not None and not options.wanted_platform.accepts(config.platform):
        raise PlatformMissing(options.wanted_platform, [str(config.platform)])


def _locate(files: Files, name: str) -> Window:
    window = files.locate(name)
    if window is None and name in (INDEX_FILE, DOCKER_FILE):
        hint = f"it is of another kind, perhaps: `import {files.path}`, without a scheme, finds out which"
        raise MalformedArchive(files.path, f"{name!r} is missing in it", hint=hint)
    if window is None:
        raise MalformedArchive(files.path, f"{name!r} is missing in it")
    return window


def _read(files: Files, name: str, limit: int) -> bytes:
    window = _locate(files, name)
    if window.size > limit:
        raise MalformedArchive(files.path, f"{name!r} in it has {window.size} bytes")
    return window.read()


def _locate_blob(files: Files, descriptor: Descriptor) -> Window:
    """The blob of a digest that was checked, so its name is safe."""
    algorithm, _, encoded = descriptor.digest.partition(":")
    window = _locate(files, f"blobs/{algorithm}/{encoded}")
    if window.size != descriptor.size:
        raise MalformedArchive(files.path, f"blob {descriptor.digest} has {window.size} of {descriptor.size} bytes")
    return window


def _read_blob(files: Files, descriptor: Descriptor, limit: int) -> bytes:
    if descriptor.size > limit:
        raise MalformedArchive(files.path, f"blob {descriptor.digest} in it has {descriptor.size} bytes")
    data = _locate_blob(files, descriptor).read()
    if (got := digest_of(data, like=descriptor.digest)) != descriptor.digest:
        raise MalformedArchive(files.path, f"blob {descriptor.digest} in it has the digest {got}")
    return data
