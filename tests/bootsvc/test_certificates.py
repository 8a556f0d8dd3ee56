"""Certificates: openssl takes them for the names and addresses that they are for, and no pair that is none is accepted."""

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

import pytest

from bootsvc.certificates import Authority, BadCertificate, check_pair, describe, make_authority


@pytest.fixture(scope="module")
def made() -> Authority:
    return make_authority(["warewulf", "head.cluster"], [IPv4Address("10.0.0.1"), IPv6Address("fd00::1")], datetime.now(UTC))


@pytest.mark.parametrize(
    ("check", "works"),
    [
        (["-verify_hostname", "head.cluster"], True),
        (["-verify_ip", "10.0.0.1"], True),
        (["-verify_ip", "fd00::1"], True),
        (["-verify_hostname", "other"], False),
        (["-verify_ip", "10.0.0.2"], False),
    ],
)
def test_openssl_verifies(
    check: list[str], works: bool, made: Authority, tmp_path: Path, require_tool: Callable[..., Path]
) -> None:
    (tmp_path / "ca").write_bytes(made.ca)
    (tmp_path / "cert").write_bytes(made.certificate)
    given = ["-x509_strict", "-purpose", "sslserver", "-CAfile", str(tmp_path / "ca"), *check, str(tmp_path / "cert")]
    done = subprocess.run([str(require_tool("openssl")), "verify", *given], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) == works, done.stderr


def test_describe(made: Authority) -> None:
    lines = describe(made.certificate)
    assert lines[:2] == ["subject: CN=Warewulf Server", "issuer: CN=bootsvc CA"]
    assert lines[3] == "names: warewulf, head.cluster, 10.0.0.1, fd00::1"


def test_pairs(made: Authority) -> None:
    folder, now = Path("/x"), datetime.now(UTC)
    check_pair(made.certificate, made.key, folder, now)
    wrong = [
        (made.certificate, made.ca_key, now, "not the certificate of"),
        (b"nonsense", made.key, now, "no certificate in PEM"),
        (made.certificate, b"nonsense", now, "no private key in PEM"),
        (made.certificate, made.key, now + timedelta(days=4000), "valid from .* only"),
    ]
    for certificate, key, when, message in wrong:
        with pytest.raises(BadCertificate, match=message):
            check_pair(certificate, key, folder, when)
