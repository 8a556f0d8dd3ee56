"""Make an OCI image out of a root tar and push it: three layers, of which the last takes things away again.

OCI image specification v1.1 (layer.md: whiteouts), distribution specification v1.1 (pushing a blob in one PUT).
"""

import gzip
import hashlib
import io
import json
import shutil
import tarfile
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import zstandard

from images.errors import Error

LAYER_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
LAYER_ZSTD = "application/vnd.oci.image.layer.v1.tar+zstd"
CONFIG = "application/vnd.oci.image.config.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
PLATFORM = {"architecture": "amd64", "os": "linux"}
CHUNK = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """A blob in a file, with its descriptor's fields and, for a layer, the digest of what is in it."""

    media_type: str
    digest: str
    size: int
    path: Path
    diff_id: str = ""

    @property
    def descriptor(self) -> dict[str, object]:
        return {"mediaType": self.media_type, "digest": self.digest, "size": self.size}


def layer(tar: Path, folder: Path, media_type: str) -> Blob:
    """Compress a tar into a layer blob in `folder`."""
    path = folder / f"{tar.name}.{media_type.rpartition('+')[2]}"
    with tar.open("rb") as source:
        diff_id = "sha256:" + hashlib.file_digest(source, "sha256").hexdigest()
        source.seek(0)
        if media_type == LAYER_GZIP:
            with gzip.GzipFile(path, "wb", compresslevel=1, mtime=0) as target:
                shutil.copyfileobj(source, target, CHUNK)
        else:
            with path.open("wb") as target_file:
                zstandard.ZstdCompressor(level=3).copy_stream(source, target_file)
    return _blob(path, media_type, diff_id)


def files_tar(path: Path, files: Mapping[str, bytes]) -> Path:
    """A tar of root's files, with the directories on the way; an empty content makes an empty file (a whiteout is one)."""
    made: set[str] = set()
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in files.items():
            parents = name.split("/")[:-1]
            for depth in range(1, len(parents) + 1):
                parent = "/".join(parents[:depth])
                if parent not in made:
                    made.add(parent)
                    directory = tarfile.TarInfo(parent)
                    directory.type, directory.mode = tarfile.DIRTYPE, 0o755
                    tar.addfile(directory)
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o644
            tar.addfile(entry, io.BytesIO(content))
    return path


async def push(registry: str, name: str, tag: str, layers: Iterable[Blob], folder: Path) -> str:
    """Push layers, configuration, manifest and an index of one platform; returns the manifest's digest.

    `registry` is HOST:PORT and is spoken to in plain HTTP.
    """
    layers = list(layers)
    config = _json_blob(
        folder / "config.json",
        CONFIG,
        {**PLATFORM, "config": {}, "rootfs": {"type": "layers", "diff_ids": [blob.diff_id for blob in layers]}},
    )
    manifest = _json_blob(
        folder / "manifest.json",
        MANIFEST,
        {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.descriptor,
            "layers": [blob.descriptor for blob in layers],
        },
    )
    index = _json_blob(
        folder / "index.json",
        INDEX,
        {"schemaVersion": 2, "mediaType": INDEX, "manifests": [{**manifest.descriptor, "platform": PLATFORM}]},
    )
    async with aiohttp.ClientSession(f"http://{registry}") as session:
        for blob in (*layers, config):
            await _push_blob(session, name, blob)
        await _push_manifest(session, name, manifest.digest, manifest)
        await _push_manifest(session, name, tag, index)
    return manifest.digest


async def _push_blob(session: aiohttp.ClientSession, name: str, blob: Blob) -> None:
    async with session.post(f"/v2/{name}/blobs/uploads/") as answer:
        await _expect(answer, 202)
        location = answer.headers["Location"]
    separator = "&" if "?" in location else "?"
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(blob.size)}
    with blob.path.open("rb") as content:
        async with session.put(f"{location}{separator}digest={blob.digest}", data=content, headers=headers) as answer:
            await _expect(answer, 201)


async def _push_manifest(session: aiohttp.ClientSession, name: str, reference: str, blob: Blob) -> None:
    headers = {"Content-Type": blob.media_type}
    content = blob.path.read_bytes()
    async with session.put(f"/v2/{name}/manifests/{reference}", data=content, headers=headers) as answer:
        await _expect(answer, 201)


async def _expect(answer: aiohttp.ClientResponse, status: int) -> None:
    if answer.status != status:
        raise Error(f"the registry answered {answer.status} to {answer.method} {answer.url.path}", hint=await answer.text())


def _json_blob(path: Path, media_type: str, value: Mapping[str, object]) -> Blob:
    path.write_text(json.dumps(value, indent=2))
    return _blob(path, media_type)


def _blob(path: Path, media_type: str, diff_id: str = "") -> Blob:
    with path.open("rb") as content:
        digest = "sha256:" + hashlib.file_digest(content, "sha256").hexdigest()
    return Blob(media_type=media_type, digest=digest, size=path.stat().st_size, path=path, diff_id=diff_id)
