"""The demo's image: Debian 12 as an OCI image of three layers, pushed to a registry."""

import asyncio
import json
from dataclasses import asdict
from pathlib import Path

from head import REGISTRY
from oci import LAYER_GZIP, LAYER_ZSTD, Blob, files_tar, layer, push
from places import CACHE

NAME = "lab/debian"
TAG = "12"
REFERENCE = f"docker://{REGISTRY}/{NAME}:{TAG}"

ADDED = {
    "opt/lab/notes.txt": b"The second layer brought this file.\n",
    "opt/lab/draft.txt": b"The third layer takes this file away.\n",
    "opt/lab/old/one": b"An opaque directory hides this file.\n",
    "etc/motd": b"A stateless node of the bootsvc lab.\n",
}
"""The second layer."""

TAKEN_AWAY = {
    "opt/lab/.wh.draft.txt": b"",
    "opt/lab/old/.wh..wh..opq": b"",
    "opt/lab/old/two": b"This file stands in the opaque directory.\n",
    "etc/apt/apt.conf.d/.wh.01autoremove": b"",
}
"""The third layer: two whiteouts and an opaque directory."""

PRESENT = ("/opt/lab/notes.txt", "/opt/lab/old/two")
ABSENT = ("/opt/lab/draft.txt", "/opt/lab/old/one", "/etc/apt/apt.conf.d/01autoremove")


async def push_debian(root: Path, folder: Path) -> list[Blob]:
    """Pack the root tar and push the image; `folder` takes what is made for it. Returns the layers, lowest first."""
    layers = await asyncio.to_thread(_layers, root, folder)
    await push(REGISTRY, NAME, TAG, layers, folder)
    return layers


def _layers(root: Path, folder: Path) -> list[Blob]:
    added = files_tar(folder / "added.tar", ADDED)
    taken = files_tar(folder / "taken-away.tar", TAKEN_AWAY)
    return [_base(root), layer(added, folder, LAYER_ZSTD), layer(taken, folder, LAYER_GZIP)]


def _base(root: Path) -> Blob:
    """The root tar as a layer; it is compressed once and kept beside the tar."""
    description = root.with_suffix(".layer.json")
    if description.exists():
        known = json.loads(description.read_text())
        return Blob(**{**known, "path": CACHE / known["path"]})
    blob = layer(root, CACHE, LAYER_GZIP)
    description.write_text(json.dumps({**asdict(blob), "path": blob.path.name}))
    return blob
