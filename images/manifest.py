"""Manifests, indexes and configs of images: OCI image spec 1.1 and Docker image manifest version 2, schema 2."""

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

from images.errors import Error
from images.reference import Digest, parse_digest

OCI_INDEX = "application/vnd.oci.image.index.v1+json"
OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
INDEX_TYPES = (OCI_INDEX, DOCKER_LIST)
MANIFEST_TYPES = (OCI_MANIFEST, DOCKER_MANIFEST)
ACCEPTED = (*INDEX_TYPES, *MANIFEST_TYPES)
MAX_MANIFEST = 4 << 20
"""Bytes of a manifest that a registry must take (OCI distribution spec, "Pushing Manifests"); no more is read."""
MAX_CONFIG = 8 << 20

_SCHEMA_1 = "application/vnd.docker.distribution.manifest.v1"
_CONFIG_TYPES = ("application/vnd.oci.image.config.v1+json", "application/vnd.docker.container.image.v1+json")
_LAYER_TYPES = (
    "application/vnd.oci.image.layer.v1.tar",
    "application/vnd.oci.image.layer.nondistributable.v1.tar",
    "application/vnd.docker.image.rootfs.diff.tar",
    "application/vnd.docker.image.rootfs.foreign.diff.tar",
)
_COMPRESSIONS = ("", "+gzip", "+zstd", ".gzip", ".zstd")
# What uname(2) calls a machine, as Go and OCI call it.
_MACHINES = {
    "x86_64": ("amd64", ""),
    "amd64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "i386": ("386", ""),
}


class UnusableImage(Error):
    """What the registry has under this name is no image that bootsvc can unpack."""


class PlatformMissing(Error):
    def __init__(self, platform: "Platform", available: Sequence[str]) -> None:
        listed = ", ".join(available) or "none is named"
        super().__init__(
            f"the image has no variant for platform {platform}", hint=f"choose one with --platform; available: {listed}"
        )
        self.platform = platform
        self.available = tuple(available)


@dataclass(frozen=True, slots=True, kw_only=True)
class Platform:
    os: str = "linux"
    architecture: str
    variant: str = ""

    @classmethod
    def parse(cls, text: str) -> "Platform":
        """`os/arch[/variant]` or `arch`, with uname's names understood; raises Error."""
        parts = text.split("/")
        if len(parts) > 3 or not all(parts):
            raise Error(f"{text!r} is not a platform", hint="write OS/ARCH[/VARIANT], for example linux/arm64")
        operating_system, machine = ("linux", parts[0]) if len(parts) == 1 else (parts[0], parts[1])
        architecture, variant = _MACHINES.get(machine, (machine, ""))
        return cls(os=operating_system, architecture=architecture, variant=parts[2] if len(parts) == 3 else variant)

    def accepts(self, other: "PlatformRecord") -> bool:
        """`other` can be used where this one is asked for; a variant that was not asked for does not matter."""
        return (
            self.os == other.os
            and self.architecture == other.architecture
            and (not self.variant or not other.variant or self.variant == other.variant)
        )

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class PlatformRecord(msgspec.Struct, frozen=True):
    architecture: str = ""
    os: str = ""
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


class Descriptor(msgspec.Struct, frozen=True, rename="camel"):
    """Points at a blob or manifest (OCI image spec, "Content Descriptors")."""

    media_type: str
    digest: Digest
    size: int
    platform: PlatformRecord | None = None
    urls: tuple[str, ...] = ()
    annotations: dict[str, str] | None = None

    @property
    def is_foreign(self) -> bool:
        """A layer that registries need not have: its licence forbids them to hand it out."""
        return ".nondistributable." in self.media_type or ".foreign." in self.media_type


class Index(msgspec.Struct, frozen=True, rename="camel"):
    manifests: tuple[Descriptor, ...]

    def choose(self, platform: Platform) -> Descriptor:
        """The manifest (or inner index) for a platform; raises PlatformMissing."""
        usable = [one for one in self.manifests if one.media_type in ACCEPTED]
        matching = [one for one in usable if one.platform is not None and platform.accepts(one.platform)]
        exact = [one for one in matching if one.platform is not None and one.platform.variant == platform.variant]
        # An index of indexes, or of one single image, names no platforms.
        unnamed = [one for one in usable if one.platform is None] if len(usable) == 1 else []
        for candidates in (exact, matching, unnamed):
            if candidates:
                return candidates[0]
        named = (str(one.platform) for one in usable if one.platform is not None and one.platform.os != "unknown")
        raise PlatformMissing(platform, sorted(set(named)))


class Manifest(msgspec.Struct, frozen=True, rename="camel"):
    config: Descriptor
    layers: tuple[Descriptor, ...]


class _RootFs(msgspec.Struct, frozen=True):
    diff_ids: tuple[Digest, ...] = ()


class ImageConfig(msgspec.Struct, frozen=True):
    """What is needed of the image's config (OCI image spec, "Image Configuration")."""

    rootfs: _RootFs
    architecture: str = ""
    os: str = ""
    variant: str = ""

    @property
    def platform(self) -> PlatformRecord:
        return PlatformRecord(architecture=self.architecture, os=self.os or "linux", variant=self.variant)


class _Shape(msgspec.Struct, frozen=True, rename="camel"):
    """Enough of a document to tell what it is."""

    schema_version: int = 0
    media_type: str = ""
    manifests: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    layers: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    fs_layers: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET


def parse_manifest(data: bytes, content_type: str = "") -> Index | Manifest:
    """Parse what a registry answers; `content_type` decides where the document does not name its own type.

    Raises UnusableImage and InvalidDigest.
    """
    try:
        shape = msgspec.json.decode(data, type=_Shape)
        media_type = shape.media_type or content_type.partition(";")[0].strip()
        if shape.schema_version == 1 or shape.fs_layers is not msgspec.UNSET or media_type.startswith(_SCHEMA_1):
            raise UnusableImage(
                "the image has only a Docker schema 1 manifest, a format withdrawn in 2019",
                hint="push it again with a current tool (skopeo copy --format v2s2 …)",
            )
        if shape.manifests is not msgspec.UNSET and shape.layers is not msgspec.UNSET:
            # Two readers could take it for two different images (CVE-2021-41190).
            raise UnusableImage("the manifest says both index and image", hint="push the image again")
        if media_type in INDEX_TYPES or (media_type not in ACCEPTED and shape.manifests is not msgspec.UNSET):
            index = msgspec.json.decode(data, type=Index)
            _check_descriptors(index.manifests)
            return index
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise UnusableImage(f"the manifest cannot be read: {exc}", hint="push the image again") from exc
    _check_descriptors((manifest.config, *manifest.layers))
    _check_media_types(manifest)
    return manifest


def parse_config(data: bytes, *, layers: int) -> ImageConfig:
    """Parse an image's config, which must name one diffID a layer; raises UnusableImage and InvalidDigest."""
    try:
        config = msgspec.json.decode(data, type=ImageConfig)
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise UnusableImage(f"the image's config cannot be read: {exc}", hint="push the image again") from exc
    for diff_id in config.rootfs.diff_ids:
        parse_digest(diff_id)
    if len(config.rootfs.diff_ids) != layers:
        raise UnusableImage(
            f"the manifest has {layers} layers and the config {len(config.rootfs.diff_ids)}", hint="push the image again"
        )
    return config


def _check_descriptors(descriptors: Sequence[Descriptor]) -> None:
    for descriptor in descriptors:
        parse_digest(descriptor.digest)
        if descriptor.size < 0:
            raise UnusableImage(f"blob {descriptor.digest} has a negative size", hint="push the image again")


def _check_media_types(manifest: Manifest) -> None:
    if manifest.config.media_type not in _CONFIG_TYPES:
        raise UnusableImage(
            f"it is no container image but an artifact of type {manifest.config.media_type!r}",
            hint="give the name of a container image",
        )
    known = {kind + compression for kind in _LAYER_TYPES for compression in _COMPRESSIONS}
    for layer in manifest.layers:
        if layer.media_type not in known:
            raise UnusableImage(
                f"layer {layer.digest} has the unknown type {layer.media_type!r}",
                hint="layers are tar archives, plain or with gzip or zstd; encrypted ones cannot be read",
            )
