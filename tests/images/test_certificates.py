"""A private registry's CA and client certificates, on registries with TLS on loopback."""

import ssl
import subprocess
from collections.abc import Callable
from pathlib import Path

import fake_registry as fake
import oci_image as oci
import pytest
from oci_image import Image

from images.source.certificates import UnusableCertificate, tls_context
from images.source.contract import SourceOptions
from images.source.failures import RegistryError, TlsFailure
from images.source.scheme import open_source

pytestmark = pytest.mark.root


class Authority:
    """A CA of its own, made with openssl."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir()
        self._openssl("req -x509 -newkey rsa:2048 -nodes -keyout ca.key -out ca.crt -days 2 -subj /CN=LabCA")

    def sign(self, name: str, names: str) -> None:
        """NAME.cert and NAME.key."""
        self._openssl(f"req -newkey rsa:2048 -nodes -keyout {name}.key -out {name}.csr -subj /CN={name}")
        (self.folder / "ext").write_text(f"subjectAltName={names}\n")
        self._openssl(
            f"x509 -req -in {name}.csr -CA ca.crt -CAkey ca.key -CAcreateserial -out {name}.cert -days 2 -extfile ext"
        )

    def server(self, *, ask_clients: bool = False) -> ssl.SSLContext:
        self.sign("server", "IP:127.0.0.1,DNS:localhost")
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / "server.cert", self.folder / "server.key")
        if ask_clients:
            context.verify_mode = ssl.CERT_REQUIRED
            context.load_verify_locations(self.folder / "ca.crt")
        return context

    def _openssl(self, arguments: str) -> None:
        subprocess.run(["openssl", *arguments.split()], cwd=self.folder, check=True, capture_output=True)


@pytest.fixture
def authority(tmp_path: Path, require_tool: Callable[..., Path]) -> Authority:
    require_tool("openssl")
    return Authority(tmp_path / "authority")


@pytest.fixture
def image() -> Image:
    return oci.build([oci.layer([oci.Member("a")])])


async def bring(host: str, folder: Path, *certificates: Path, insecure: bool = False) -> None:
    tree = folder / f"tree{len(list(folder.iterdir()))}"
    tree.mkdir()
    options = SourceOptions(blobs=folder / "cache", certificates=certificates, insecure=insecure)
    await open_source(f"docker://{host}/x:1", options).unpack(tree, lambda event: None)
    assert (tree / "a").exists()


async def test_ca_of_a_registry(authority: Authority, image: Image, tmp_path: Path) -> None:
    """By host and port; of several folders the first that has one for the registry decides."""
    certs, others = tmp_path / "certs.d", tmp_path / "others.d"
    async with fake.FakeRegistry().serve(tls=authority.server()) as server:
        server.add("1", image)
        (others / server.host).mkdir(parents=True)
        (certs / "127.0.0.1").mkdir(parents=True)
        with pytest.raises(TlsFailure):
            await bring(server.host, tmp_path, certs, others)
        (certs / server.host).mkdir(parents=True)
        (certs / server.host / "ca.crt").write_bytes((authority.folder / "ca.crt").read_bytes())
        await bring(server.host, tmp_path, certs, others)
        with pytest.raises(TlsFailure):
            await bring(server.host, tmp_path, others, certs)
        await bring(server.host, tmp_path, others, certs, insecure=True)


async def test_client_certificate(authority: Authority, image: Image, tmp_path: Path) -> None:
    async with fake.FakeRegistry().serve(tls=authority.server(ask_clients=True)) as server:
        server.add("1", image)
        folder = tmp_path / "certs.d" / server.host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes((authority.folder / "ca.crt").read_bytes())
        with pytest.raises(RegistryError):
            await bring(server.host, tmp_path, tmp_path / "certs.d")
        authority.sign("client", "DNS:me")
        for ending in ("cert", "key"):
            (folder / f"client.{ending}").write_bytes((authority.folder / f"client.{ending}").read_bytes())
        await bring(server.host, tmp_path, tmp_path / "certs.d")
        await bring(server.host, tmp_path, tmp_path / "certs.d", insecure=True)


def test_certificates_that_are_none(authority: Authority, tmp_path: Path) -> None:
    folder = tmp_path / "certs.d/quay.io"
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_text("hello")
    with pytest.raises(UnusableCertificate, match=r"ca\.crt"):
        tls_context("quay.io", [tmp_path / "certs.d"], insecure=False)
    (folder / "ca.crt").unlink()
    authority.sign("client", "DNS:me")
    (folder / "client.cert").write_bytes((authority.folder / "client.cert").read_bytes())
    with pytest.raises(UnusableCertificate, match="key is missing"):
        tls_context("quay.io", [tmp_path / "certs.d"], insecure=False)
    encrypt = "openssl rsa -aes128 -passout pass:x -in client.key -out locked.key"
    subprocess.run(encrypt.split(), cwd=authority.folder, check=True, capture_output=True)
    (folder / "client.key").write_bytes((authority.folder / "locked.key").read_bytes())
    with pytest.raises(UnusableCertificate, match="encrypted"):
        tls_context("quay.io", [tmp_path / "certs.d"], insecure=False)


def test_without_a_folder(tmp_path: Path) -> None:
    assert tls_context("quay.io", [tmp_path], insecure=False) is True
    assert tls_context("quay.io", [], insecure=True) is False
