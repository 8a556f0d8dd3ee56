"""Images in files, made by skopeo, umoci and tar: the tree is the one that umoci makes of the same image."""

import bz2
import gzip
import io
import json
import lzma
import os
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import oci_image as oci
import pytest
import zstandard
from artefacts import Artefacts

from images.errors import Error
from images.layers import MalformedLayer
from images.manifest import PlatformMissing
from images.progress import ArchiveAdvanced, ArchiveUnpacking, Event, LayerUnpacking
from images.source.archived import ArchiveSource
from images.source.contract import Provenance, SourceOptions
from images.source.layout import ImageNotInFile
from images.source.naming import NoSuchFile, name_of_file
from images.source.oci import LayoutSource
from images.source.scheme import open_source
from images.source.tarball import TarballSource
from images.source.unpacking import MalformedArchive

pytestmark = pytest.mark.root

Snapshot = Callable[..., dict[bytes, tuple[object, ...]]]
_CHECKED = zstandard.ZstdCompressor(write_checksum=True)
PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "plain": lambda data: data,
    "gz": gzip.compress,
    "zst": _CHECKED.compress,
    "xz": lambda data: lzma.compress(data, preset=0),
    "bz2": lambda data: bz2.compress(data, 1),
}


class Bring:
    """Imports into new trees."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.cache = folder / "cache"
        self.events: list[Event] = []

    async def __call__(self, text: object, **options: Any) -> tuple[Path, Provenance]:
        source = open_source(str(text), SourceOptions(blobs=self.cache, **options))
        tree = self.folder / f"tree{len(list(self.folder.glob('tree*')))}"
        tree.mkdir()
        self.events = []
        known = await source.find_digest()
        provenance = await source.unpack(tree, self.events.append)
        assert known == provenance.digest
        return tree, provenance


@pytest.fixture
def bring(tmp_path: Path) -> Bring:
    return Bring(tmp_path)


async def test_oci_layout(artefacts: Artefacts, bring: Bring, snapshot: Snapshot) -> None:
    layout, expected = artefacts.layout, snapshot(artefacts.tree)
    for text in (f"oci:{layout}:rocky:9", f"oci:{layout}", f"oci://{layout}", layout, f"file://{layout}"):
        tree, provenance = await bring(text)
        assert snapshot(tree) == expected
        assert (provenance.digest, provenance.architecture) == (artefacts.image.digest, "amd64")
        assert provenance.reference.startswith(f"oci:{layout}")
    assert [event for event in bring.events if isinstance(event, LayerUnpacking)] == [
        LayerUnpacking(digest=digest) for digest in artefacts.image.layer_digests
    ]
    assert bring.events[0] == ArchiveUnpacking(path=layout)
    assert list(bring.cache.rglob("*")) == []


@pytest.mark.parametrize("packing", PACKERS)
@pytest.mark.parametrize("kind", ["oci-archive", "docker-archive"])
async def test_archives(artefacts: Artefacts, bring: Bring, snapshot: Snapshot, kind: str, packing: str) -> None:
    """Under a name that says nothing; with and without scheme."""
    made = bring.folder / "made"
    artefacts.skopeo(f"{kind}:{made}:rocky:9" if kind == "docker-archive" else f"{kind}:{made}")
    file = bring.folder / "x.y"
    file.write_bytes(PACKERS[packing](made.read_bytes()))
    for text in (file, f"{kind}:{file}"):
        tree, provenance = await bring(text)
        assert snapshot(tree) == snapshot(artefacts.tree)
        assert provenance.reference == f"{kind}:{file}"
    expected = artefacts.image.digest if kind == "oci-archive" else artefacts.image.config_digest
    assert provenance.digest == expected
    assert any(isinstance(event, ArchiveAdvanced) for event in bring.events) == (packing != "plain")
    assert [path for path in bring.cache.rglob("*") if path.is_file()] == []


async def test_which_image_of_a_docker_archive(artefacts: Artefacts, bring: Bring) -> None:
    file = bring.folder / "two.tar"
    artefacts.skopeo(f"docker-archive:{file}:rocky:9", "--additional-tag=docker.io/library/other:1")
    oci.write_layout(bring.folder / "b", oci.build([oci.layer([oci.Member("b")])]), "t")
    two = bring.folder / "again.tar"
    with tarfile.open(file) as first, tarfile.open(two, "w") as target:
        manifest = json.load(first.extractfile("manifest.json"))  # type: ignore[arg-type]
        doubled = json.dumps([manifest[0], {**manifest[0], "RepoTags": ["quay.io/lab/c:2"]}]).encode()
        for member in first:
            if member.name != "manifest.json":
                target.addfile(member, first.extractfile(member) if member.isfile() else None)
        info = tarfile.TarInfo("manifest.json")
        info.size = len(doubled)
        target.addfile(info, io.BytesIO(doubled))
    for name in ("rocky:9", "docker.io/library/rocky:9", "other:1", "quay.io/lab/c:2", "@1"):
        _, provenance = await bring(f"docker-archive:{two}:{name}")
        assert provenance.reference == f"docker-archive:{two}:{name}"
    with pytest.raises(ImageNotInFile, match="several") as several:
        await bring(two)
    assert "quay.io/lab/c:2" in (several.value.hint or "")
    with pytest.raises(ImageNotInFile, match="'rocky:10'"):
        await bring(f"docker-archive:{two}:rocky:10")


async def test_docker_archive_with_links_and_compressed_layers(artefacts: Artefacts, bring: Bring, snapshot: Snapshot) -> None:
    """Older Dockers write a layer once and link to it; some builders compress layers."""
    layers = [data for digest, data in artefacts.image.blobs.items() if digest != artefacts.image.config_digest]
    config = artefacts.image.blobs[artefacts.image.config_digest]
    manifest = [{"Config": "c.json", "RepoTags": None, "Layers": ["0/layer.tar", "1/layer.tar"]}]
    files = {
        "base/layer.tar": layers[0],
        "1/layer.tar": layers[1],
        "c.json": config,
        "manifest.json": json.dumps(manifest).encode(),
    }
    with tarfile.open(bring.folder / "d.tar", "w") as archive:
        link = tarfile.TarInfo("0/layer.tar")
        link.type, link.linkname = tarfile.SYMTYPE, "../base/layer.tar"
        archive.addfile(link)
        for name, data in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    tree, _ = await bring(f"docker-archive:{bring.folder}/d.tar")
    assert snapshot(tree) == snapshot(artefacts.tree)


async def test_platforms_of_a_layout(bring: Bring) -> None:
    images = {f"linux/{name}": oci.build([oci.layer([oci.Member(name)])], architecture=name) for name in ("amd64", "arm64")}
    layout = bring.folder / "layout"
    oci.write_layout(layout, images["linux/amd64"], "x")
    index = oci.index(images)
    for image in (*images.values(),):
        for digest, data in {**image.blobs, image.digest: image.manifest, oci.digest(index): index}.items():
            (layout / "blobs/sha256" / digest.removeprefix("sha256:")).write_bytes(data)
    entry = {"mediaType": oci.OCI_INDEX, "digest": oci.digest(index), "size": len(index)}
    (layout / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    for platform in ("linux/arm64", "amd64"):
        tree, provenance = await bring(f"oci:{layout}", platform=platform)
        assert os.listdir(tree) == [provenance.architecture]
        assert platform.endswith(provenance.architecture or "?")
    with pytest.raises(PlatformMissing):
        await bring(f"oci:{layout}", platform="riscv64")


async def test_tags_of_a_layout(artefacts: Artefacts, bring: Bring) -> None:
    layout = bring.folder / "with:colon"
    shutil.copytree(artefacts.layout, layout)
    index = json.loads((layout / "index.json").read_text())
    other = {**index["manifests"][0], "annotations": {"org.opencontainers.image.ref.name": "10"}}
    (layout / "index.json").write_text(json.dumps({**index, "manifests": [*index["manifests"], other]}))
    await bring(f"oci:{layout}:10")
    with pytest.raises(ImageNotInFile, match="several") as several:
        await bring(f"oci:{layout}")
    assert "10, rocky:9" in (several.value.hint or "")
    with pytest.raises(ImageNotInFile, match="'11'"):
        await bring(f"oci:{layout}:11")


async def test_damaged_layouts(artefacts: Artefacts, bring: Bring) -> None:
    def damage(digest: str, change: Callable[[bytes], bytes] | None) -> Path:
        layout = bring.folder / f"layout{len(list(bring.folder.iterdir()))}"
        shutil.copytree(artefacts.layout, layout)
        blob = layout / "blobs/sha256" / digest.removeprefix("sha256:")
        if change is None:
            blob.unlink()
        else:
            blob.write_bytes(change(blob.read_bytes()))
        return layout

    image = artefacts.image
    layer = image.layer_digests[1]
    for digest, change, said in (
        (image.digest, lambda data: data.replace(b"1", b"2", 1), "has the digest"),
        (image.config_digest, lambda data: data.replace(b"amd64", b"amd63"), "has the digest"),
        (layer, lambda data: data[:-1], "of .* bytes"),
        (layer, None, "missing"),
    ):
        with pytest.raises(MalformedArchive, match=said) as caught:
            await bring(f"oci:{damage(digest, change)}")
        assert digest.removeprefix("sha256:") in caught.value.message
    with pytest.raises(MalformedLayer):
        await bring(f"oci:{damage(layer, lambda data: data[:-9] + bytes(9))}")


def tar_of(artefacts: Artefacts, target: Path, *options: str) -> Path:
    xattrs = ["--xattrs", "--xattrs-include=*"]
    subprocess.run(["tar", "-C", artefacts.tree, "--format=pax", *xattrs, *options, "-cf", target, "."], check=True)
    return target


@pytest.mark.parametrize("option", ["", "--gzip", "--zstd", "--xz", "--bzip2"])
async def test_root_file_system_in_a_tar(artefacts: Artefacts, bring: Bring, snapshot: Snapshot, option: str) -> None:
    file = tar_of(artefacts, bring.folder / "root.bin", *([option] if option else []))
    tree, provenance = await bring(file)
    assert snapshot(tree) == snapshot(artefacts.tree)
    assert provenance == Provenance(reference=str(file))
    assert bring.events[0] == ArchiveUnpacking(path=file)
    assert list(bring.cache.rglob("*")) == []


async def test_streams_one_after_the_other(artefacts: Artefacts, bring: Bring, snapshot: Snapshot) -> None:
    """As pixz, pbzip2 and `xz --threads` with several blocks write."""
    data = tar_of(artefacts, bring.folder / "t").read_bytes()
    half = len(data) // 2
    for packer in ("xz", "bz2"):
        parts = [PACKERS[packer](data[:half]), PACKERS[packer](data[half:])]
        file = bring.folder / packer
        file.write_bytes((bytes(4) if packer == "xz" else b"").join(parts))
        tree, _ = await bring(file)
        assert snapshot(tree) == snapshot(artefacts.tree)


async def test_a_tree_is_no_layer(bring: Bring) -> None:
    file = bring.folder / "t.tar"
    file.write_bytes(oci.layer([oci.directory("etc"), oci.Member("etc/.wh.x"), oci.Member("etc/x")]))
    tree, _ = await bring(file)
    assert sorted(os.listdir(tree / "etc")) == [".wh.x", "x"]


@pytest.mark.parametrize("packing", list(PACKERS))
async def test_broken_tars(artefacts: Artefacts, bring: Bring, packing: str) -> None:
    data = PACKERS[packing](tar_of(artefacts, bring.folder / "t").read_bytes())
    cut = bring.folder / "cut"
    cut.write_bytes(data[: len(data) * 9 // 10])
    with pytest.raises(MalformedArchive) as caught:
        await bring(cut)
    assert str(cut) in caught.value.message
    if packing == "plain":
        return
    spoilt = bytearray(data)
    spoilt[len(data) // 2] ^= 0xFF
    cut.write_bytes(spoilt)
    with pytest.raises(Error):
        await bring(cut)


def kind_of(path: Path) -> str:
    source = open_source(str(path), SourceOptions(blobs=path.parent))
    return source._kind if isinstance(source, ArchiveSource) else type(source).__name__


def test_recognised_by_content(artefacts: Artefacts, tmp_path: Path) -> None:
    """Names that say something else."""
    artefacts.skopeo(f"oci-archive:{tmp_path}/rootfs.tar")
    artefacts.skopeo(f"docker-archive:{tmp_path}/oci.sif:x:1")
    tar_of(artefacts, tmp_path / "manifest.json")
    assert kind_of(tmp_path / "rootfs.tar") == "oci-archive"
    assert kind_of(tmp_path / "oci.sif") == "docker-archive"
    assert kind_of(tmp_path / "manifest.json") == "TarballSource"
    assert kind_of(artefacts.layout) == "LayoutSource"
    assert kind_of(artefacts.tree) == "DirectorySource"


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "empty"),
        (b"hello world\n", "ASCII text"),
        (bytes(10240), "data"),
        (gzip.compress(b"hello world" * 100), "no tar archive"),
        (gzip.compress(b"x" * 10_000)[:-20], "no tar archive|decompressed"),
        (b"\x7fELF" + bytes(2000), "ELF"),
        (b"GIF89a" + bytes(20), "it is GIF image data$"),
    ],
)
def test_files_that_are_no_image(tmp_path: Path, data: bytes, said: str) -> None:
    file = tmp_path / "x.tar.gz"
    file.write_bytes(data)
    with pytest.raises(MalformedArchive, match=said) as caught:
        open_source(str(file), SourceOptions(blobs=tmp_path))
    assert caught.value.hint


async def test_a_layout_whose_index_is_broken(artefacts: Artefacts, tmp_path: Path) -> None:
    shutil.copytree(artefacts.layout, tmp_path / "layout")
    (tmp_path / "layout/index.json").write_text("{")
    source = open_source(f"oci:{tmp_path}/layout", SourceOptions(blobs=tmp_path / "cache"))
    with pytest.raises(MalformedArchive, match=r"layout' cannot be imported: its index\.json is no index: ") as caught:
        await source.find_digest()
    assert caught.value.hint == "make or copy the file again"


def test_what_is_no_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    options = SourceOptions(blobs=tmp_path)
    (tmp_path / "dangling").symlink_to("nowhere")
    for name, said in (("fifo", "it is neither a file nor a folder"), ("dangling", "it is a link to nothing")):
        with pytest.raises(MalformedArchive, match=said):
            open_source(str(tmp_path / name), options)
    for text in ("oci:/no/such", "oci-archive:/no/such:tag", "docker-archive:/no/such", "file:///no/such", "oci:"):
        with pytest.raises(NoSuchFile) as caught:
            open_source(text, options)
        assert caught.value.hint


@pytest.mark.parametrize(
    ("file", "name"),
    [
        ("rocky-9.tar.gz", "rocky-9"),
        ("a.b.TXZ", "a.b"),
        ("x.sif", "x"),
        ("debian", "debian"),
        ("v1.2", "v1.2"),
        (".tar", ".tar"),
    ],
)
def test_default_names(file: str, name: str) -> None:
    assert name_of_file(Path("/x") / file) == name
    assert TarballSource(Path(file)).default_name == name


def test_default_name_of_a_layout(tmp_path: Path) -> None:
    (tmp_path / "lay").mkdir()
    options = SourceOptions(blobs=tmp_path)
    assert LayoutSource.parse(f"{tmp_path}/lay:9", options).default_name == "lay"


@pytest.mark.parametrize(("kind", "other"), [("oci-archive", "docker-archive"), ("docker-archive", "oci-archive")])
async def test_an_archive_of_another_kind_is_said_to_be_one(artefacts: Any, bring: Bring, kind: str, other: str) -> None:
    made = bring.folder / "made"
    artefacts.skopeo(f"{kind}:{made}:rocky:9")
    with pytest.raises(MalformedArchive, match="is missing in it") as caught:
        await bring(f"{other}:{made}")
    assert "without a scheme" in str(caught.value.hint)
