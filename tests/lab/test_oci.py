"""The images that the lab makes, read by others: tarfile for a layer, skopeo for a pushed image."""

import gzip
import hashlib
import io
import json
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
from debian_image import ADDED, TAKEN_AWAY
from oci import LAYER_GZIP, files_tar, layer

Start = Callable[[str], subprocess.Popen[str]]

PUSH = """
import asyncio
from pathlib import Path
from debian_image import ADDED, TAKEN_AWAY
from head import Head
from isolation import isolated
from network import build_network
from oci import LAYER_GZIP, LAYER_ZSTD, files_tar, layer, push
from places import Run
from process import check

async def work() -> None:
    here = Path(".").resolve()
    (here / "etc").mkdir()
    head = Head(run=Run(path=here), network=await build_network())
    registry = await head.serve_registry()
    layers = [
        layer(files_tar(here / "a.tar", ADDED), here, LAYER_ZSTD),
        layer(files_tar(here / "b.tar", TAKEN_AWAY), here, LAYER_GZIP),
    ]
    print(await push("127.0.0.1:5000", "lab/x", "1", layers, here))
    print(layers[0].digest, layers[1].digest)
    await check(["skopeo", "copy", "--src-tls-verify=false", "docker://127.0.0.1:5000/lab/x:1", f"dir:{here}/out"])
    await registry.stop()

def body() -> int:
    asyncio.run(work())
    return 0

print("status", isolated(body))
"""


def test_a_layer_holds_its_files_and_their_directories(tmp_path: Path) -> None:
    blob = layer(files_tar(tmp_path / "x.tar", ADDED), tmp_path, LAYER_GZIP)
    content = blob.path.read_bytes()
    assert blob.size == len(content)
    assert blob.digest == "sha256:" + hashlib.sha256(content).hexdigest()
    data = gzip.decompress(content)
    assert blob.diff_id == "sha256:" + hashlib.sha256(data).hexdigest()
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = tar.getnames()
        found = {name: file.read() for name in ADDED if (file := tar.extractfile(name)) is not None}
    assert found == ADDED
    assert names.index("opt") < names.index("opt/lab") < names.index("opt/lab/notes.txt")
    assert names.count("opt/lab") == 1


def test_whiteouts_are_empty_files(tmp_path: Path) -> None:
    with tarfile.open(files_tar(tmp_path / "x.tar", TAKEN_AWAY)) as tar:
        sizes = {entry.name: entry.size for entry in tar if ".wh." in entry.name}
    assert sizes == {
        "opt/lab/.wh.draft.txt": 0,
        "opt/lab/old/.wh..wh..opq": 0,
        "etc/apt/apt.conf.d/.wh.01autoremove": 0,
    }


@pytest.mark.root
def test_skopeo_takes_what_was_pushed(lab_script: Start, require_tool: Callable[..., Path], tmp_path: Path) -> None:
    require_tool("skopeo")
    require_tool("docker-registry")
    output, _ = lab_script(PUSH).communicate(timeout=100)
    manifest_digest, layers, status = output.splitlines()
    assert status == "status 0"
    manifest = (tmp_path / "out/manifest.json").read_bytes()
    assert "sha256:" + hashlib.sha256(manifest).hexdigest() == manifest_digest
    assert [item["digest"] for item in json.loads(manifest)["layers"]] == layers.split()
