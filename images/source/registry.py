"""`docker://…`: an image from a registry; several blobs at once, unpacked in order while later ones still come."""

import asyncio
from dataclasses import dataclass
from pathlib import Path

from images.auth import IncompleteCredentials, find_credentials
from images.blobs import BlobStore, DigestMismatch, digest_of
from images.challenge import Credentials
from images.errors import Error
from images.interruptible import run_interruptible
from images.layers import Layer
from images.manifest import (
    MAX_CONFIG,
    OCI_MANIFEST,
    Descriptor,
    ImageConfig,
    Manifest,
    PlatformMissing,
    UnusableImage,
    parse_config,
    parse_manifest,
)
from images.progress import BlobAdvanced, BlobCopied, ConfigCopied, Event, ManifestWritten, Progress, Started, Waiting
from images.reference import Digest, Reference, parse_digest
from images.rootfs import remove_tree
from images.source.contract import Provenance, SourceOptions
from images.source.distribution import Repository
from images.source.transport import Patience, Transport
from images.source.unpacking import StartedOver, Unpacking

_AT_ONCE = 4
"""Blobs downloaded at the same time; registries throttle clients that take more."""
_MAX_NESTING = 3
"""Indexes within indexes."""


class DamagedCache(Error):
    def __init__(self, digest: str) -> None:
        super().__init__(f"the cached copy of blob {digest} was damaged and has been removed", hint="import the image again")
        self.digest = digest


@dataclass(frozen=True, slots=True, kw_only=True)
class _Image:
    digest: Digest
    manifest: Manifest
    config: ImageConfig

    def layers(self, store: BlobStore) -> list[Layer]:
        return [
            Layer(digest=layer.digest, diff_id=diff_id, path=store.path(layer.digest))
            for layer, diff_id in zip(self.manifest.layers, self.config.rootfs.diff_ids, strict=True)
        ]


class RegistrySource:
    """One image of one registry. Raises RegistryError and the other Errors of the modules it uses."""

    def __init__(self, reference: Reference, options: SourceOptions, *, patience: Patience | None = None) -> None:
        if (options.username is None) != (options.password is None):
            raise IncompleteCredentials
        self.default_name = reference.default_name
        self._reference = reference
        self._options = options
        self._patience = patience or Patience()
        self._platform = options.wanted_platform

    @classmethod
    def parse(cls, text: str, options: SourceOptions) -> "RegistrySource":
        """`text` is what follows `docker://`."""
        return cls(Reference.parse(text), options)

    async def find_digest(self) -> str | None:
        """Of the manifest of one platform's image; blobs are not asked for.

        The config neither, but to see whether an image that is the only one of its name is of the platform asked for.
        """
        store = BlobStore(self._options.blobs)
        async with self._repository(lambda event: None) as repository:
            target, digest = self._reference.target, self._reference.digest
            if digest is None:
                claimed = await repository.find_digest(target)
                if claimed is not None and await store.read(parse_digest(claimed)) is not None:
                    target = digest = parse_digest(claimed)
            found, manifest = await self._find_manifest(repository, store, target, digest)
            if self._options.platform is not None:
                await self._config(repository, store, manifest)
        return found

    async def unpack(self, rootfs: Path, progress: Progress) -> Provenance:
        progress(Started())
        store = BlobStore(self._options.blobs)
        async with self._repository(progress) as repository:
            image = await self._resolve(repository, store)
            try:
                await self._unpack(repository, store, image, rootfs, progress, follow=True)
            except StartedOver:
                # A download that was interrupted, and had to come anew; rare enough to unpack again what is here.
                await run_interruptible(lambda stopped: remove_tree(rootfs))
                rootfs.mkdir(mode=0o755)
                await self._unpack(repository, store, image, rootfs, progress, follow=False)
        return Provenance(
            reference=f"docker://{self._reference}", digest=image.digest, architecture=image.config.architecture or None
        )

    async def _unpack(
        self, repository: Repository, store: BlobStore, image: _Image, rootfs: Path, progress: Progress, *, follow: bool
    ) -> None:
        """With `follow`, layers are read while they come. Raises StartedOver if what came first is not to be relied upon."""
        held = _HeldProgress(progress)
        with Unpacking(image.layers(store), rootfs) as unpacking:
            try:
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._copy(repository, store, image, unpacking, held, follow=follow))
                    group.create_task(_apply(unpacking, store, held.report))
            except BaseExceptionGroup as exc:
                raise _first(exc) from None

    def _repository(self, progress: Progress) -> Repository:
        options = self._options
        transport = Transport(
            self._reference,
            insecure=options.insecure,
            proxies=options.proxies,
            certificates=options.certificates,
            patience=self._patience,
        )

        def waiting(seconds: float) -> None:
            progress(Waiting(host=self._reference.host, seconds=seconds))

        return Repository(self._reference, transport, login=self._login, patience=self._patience, waiting=waiting)

    def _login(self) -> Credentials | None:
        username, password = self._options.username, self._options.password
        if username is not None and password is not None:
            return Credentials(username=username, password=password)
        return find_credentials(self._reference, self._options.auth_files)

    async def _resolve(self, repository: Repository, store: BlobStore) -> _Image:
        """From the reference to the manifest and config of one platform's image."""
        digest, manifest = await self._find_manifest(repository, store, self._reference.target, self._reference.digest)
        return _Image(digest=digest, manifest=manifest, config=await self._config(repository, store, manifest))

    async def _find_manifest(
        self, repository: Repository, store: BlobStore, target: str, digest: Digest | None
    ) -> tuple[Digest, Manifest]:
        for _ in range(_MAX_NESTING + 1):
            data, content_type = await self._manifest(repository, store, target, digest)
            document = parse_manifest(data, content_type)
            if isinstance(document, Manifest):
                return Digest(digest_of(data, like=digest or "sha256")), document
            chosen = document.choose(self._platform)
            target = digest = chosen.digest
        raise UnusableImage(f"{self._reference} is an index of indexes without end", hint="push the image again")

    async def _manifest(
        self, repository: Repository, store: BlobStore, target: str, expected: Digest | None
    ) -> tuple[bytes, str]:
        """Bytes and Content-Type; what is asked for by digest may come from the cache."""
        if expected is not None and (cached := await store.read(expected)) is not None:
            return cached, ""
        data, content_type, claimed = await repository.manifest(target)
        got = digest_of(data, like=expected or "sha256")
        if expected is not None and got != expected:
            raise DigestMismatch(expected, got, what="manifest")
        if claimed is not None and claimed.startswith("sha256:") and claimed != digest_of(data):
            raise DigestMismatch(claimed, digest_of(data), what="manifest")
        await store.put(Descriptor(media_type=content_type or OCI_MANIFEST, digest=Digest(got), size=len(data)), data)
        return data, content_type

    async def _config(self, repository: Repository, store: BlobStore, manifest: Manifest) -> ImageConfig:
        descriptor = manifest.config
        if descriptor.size > MAX_CONFIG:
            raise UnusableImage(f"the image's config has {descriptor.size} bytes", hint="push the image again")
        data = await store.read(descriptor.digest)
        if data is None:
            await repository.fetch(descriptor, store, lambda done: None)
            data = await store.read(descriptor.digest)
        if data is None:
            raise DamagedCache(descriptor.digest)
        config = parse_config(data, layers=len(manifest.layers))
        if self._options.platform is not None and not self._platform.accepts(config.platform):
            raise PlatformMissing(self._platform, [str(config.platform)])
        return config

    async def _copy(
        self,
        repository: Repository,
        store: BlobStore,
        image: _Image,
        unpacking: Unpacking,
        held: "_HeldProgress",
        *,
        follow: bool,
    ) -> None:
        slots = asyncio.Semaphore(_AT_ONCE)

        async def copy_one(layer: Descriptor) -> None:
            def opened(file: int, start: int) -> None:
                if follow:
                    unpacking.follow(layer.digest, layer.size, file, start)

            def advanced(done: int) -> None:
                unpacking.advance(layer.digest, done)
                held.progress(BlobAdvanced(digest=layer.digest, size=layer.size, done=done))

            cached = store.find(layer) is not None
            if not cached:
                async with slots:
                    await repository.fetch(layer, store, advanced, opened)
            held.progress(BlobCopied(digest=layer.digest, cached=cached))
            unpacking.finish(layer.digest)

        async with asyncio.TaskGroup() as group:
            layers = {layer.digest: layer for layer in image.manifest.layers}.values()
            # Workers are then busy to the end: a large layer that comes last would be read by one of them alone.
            for layer in sorted(layers, key=lambda layer: layer.size, reverse=True):
                group.create_task(copy_one(layer))
        held.progress(ConfigCopied(digest=image.manifest.config.digest))
        held.progress(ManifestWritten(digest=image.digest))
        held.release()


async def _apply(unpacking: Unpacking, store: BlobStore, progress: Progress) -> None:
    try:
        await unpacking.apply(progress)
    except Error:
        # A blob was right when it was written; a disk may have spoilt it since.
        current = unpacking.current
        if current is not None and await asyncio.to_thread(store.drop_if_damaged, current.digest):
            raise DamagedCache(current.digest) from None
        raise


class _HeldProgress:
    """Unpacking begins while blobs still come, but is reported after them, as users know the output."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._held: list[Event] | None = []

    def report(self, event: Event) -> None:
        if self._held is None:
            self.progress(event)
        else:
            self._held.append(event)

    def release(self) -> None:
        held, self._held = self._held or [], None
        for event in held:
            self.progress(event)


def _first(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """The exception that made the others be cancelled; a bug before an Error."""
    leaves: list[BaseException] = []
    for exc in group.exceptions:
        leaves.append(_first(exc) if isinstance(exc, BaseExceptionGroup) else exc)
    return next((exc for exc in leaves if not isinstance(exc, Error)), leaves[0])
