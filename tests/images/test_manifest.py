"""Manifests, indexes, configs and the choice of a platform."""

import contextlib
import json

import oci_image as oci
import pytest
from hypothesis import given
from hypothesis import strategies as st

from images.errors import Error
from images.manifest import Index, Manifest, Platform, PlatformMissing, UnusableImage, parse_config, parse_manifest
from images.reference import InvalidDigest

DIGEST = "sha256:" + "ab" * 32


@pytest.mark.parametrize("docker", [False, True])
@pytest.mark.parametrize("compression", ["gzip", "zstd", "none"])
def test_manifest(docker: bool, compression: str) -> None:
    image = oci.build([oci.layer([oci.Member("a")])], docker=docker, compression=compression)
    manifest = parse_manifest(image.manifest)
    assert isinstance(manifest, Manifest)
    assert manifest.config.digest == image.config_digest
    assert tuple(layer.digest for layer in manifest.layers) == image.layer_digests
    assert parse_config(image.blobs[image.config_digest], layers=1).architecture == "amd64"


def test_type_from_header_where_the_document_names_none() -> None:
    image = oci.build([oci.layer([])])
    document = json.loads(image.manifest)
    del document["mediaType"]
    assert isinstance(parse_manifest(json.dumps(document).encode(), image.media_type), Manifest)
    index = json.loads(oci.index({"linux/amd64": image}))
    del index["mediaType"]
    assert isinstance(parse_manifest(json.dumps(index).encode(), "application/json"), Index)


def _index(*platforms: str, docker: bool = False) -> Index:
    images = {name: oci.build([oci.layer([])], architecture=name, docker=docker) for name in platforms}
    index = parse_manifest(oci.index(images, docker=docker))
    assert isinstance(index, Index)
    return index


@pytest.mark.parametrize(
    ("asked", "position"),
    [("linux/amd64", 0), ("x86_64", 0), ("arm64", 1), ("aarch64", 1), ("linux/arm64/v8", 1), ("linux/arm/v7", 3), ("arm", 2)],
)
@pytest.mark.parametrize("docker", [False, True])
def test_platform_choice(asked: str, position: int, docker: bool) -> None:
    index = _index("linux/amd64", "linux/arm64/v8", "linux/arm/v6", "linux/arm/v7", docker=docker)
    assert index.choose(Platform.parse(asked)) == index.manifests[position]


def test_missing_platform_lists_what_there_is() -> None:
    with pytest.raises(PlatformMissing) as caught:
        _index("linux/arm64", "linux/s390x", "unknown/unknown").choose(Platform.parse("amd64"))
    assert "linux/amd64" in caught.value.message
    assert "linux/arm64, linux/s390x" in (caught.value.hint or "")
    assert "unknown" not in (caught.value.hint or "")


@pytest.mark.parametrize("text", ["", "/", "linux/", "a/b/c/d"])
def test_bad_platform(text: str) -> None:
    with pytest.raises(Error, match="not a platform"):
        Platform.parse(text)


def _changed(**changes: object) -> bytes:
    return json.dumps(json.loads(oci.build([oci.layer([])]).manifest) | changes).encode()


def test_schema_1() -> None:
    for data, content_type in (
        (b'{"schemaVersion": 1, "fsLayers": [], "history": []}', ""),
        (b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    ):
        with pytest.raises(UnusableImage, match="schema 1"):
            parse_manifest(data, content_type)


def test_refuses_what_is_no_image() -> None:
    descriptor = {"mediaType": "x", "digest": DIGEST, "size": 1}
    with pytest.raises(UnusableImage, match=r"artifact of type 'application/vnd\.cncf\.helm"):
        parse_manifest(_changed(config=descriptor | {"mediaType": "application/vnd.cncf.helm.config.v1+json"}))
    encrypted = descriptor | {"mediaType": "application/vnd.oci.image.layer.v1.tar+gzip+encrypted"}
    with pytest.raises(UnusableImage, match=r"unknown type .*encrypted"):
        parse_manifest(_changed(layers=[encrypted]))
    with pytest.raises(UnusableImage, match="both index and image"):
        parse_manifest(_changed(manifests=[]))
    with pytest.raises(InvalidDigest):
        parse_manifest(_changed(config=descriptor | {"digest": "sha256:../../../etc/passwd"}))
    with pytest.raises(UnusableImage, match="negative"):
        parse_manifest(_changed(config=descriptor | {"size": -1}))


def test_config_needs_one_diff_id_a_layer() -> None:
    image = oci.build([oci.layer([])])
    with pytest.raises(UnusableImage, match="has 2 layers and the config 1"):
        parse_config(image.blobs[image.config_digest], layers=2)


def test_foreign_layers_are_known() -> None:
    layer = {"mediaType": "application/vnd.oci.image.layer.nondistributable.v1.tar+gzip", "digest": DIGEST, "size": 1}
    config = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": DIGEST, "size": 1}
    manifest = parse_manifest(json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode())
    assert isinstance(manifest, Manifest)
    assert manifest.layers[0].is_foreign


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["schemaVersion", "mediaType", "config", "layers", "manifests", "digest"]), inner)
    ),
    max_leaves=10,
)


@given(data=st.binary(max_size=60) | _json.map(lambda value: json.dumps(value).encode()))
def test_only_errors(data: bytes) -> None:
    for parse in (parse_manifest, lambda text: parse_config(text, layers=1)):
        with contextlib.suppress(Error):
            parse(data)
