"""X.509 for the boot server: a certificate authority of its own, a certificate by it, and whether a given pair fits."""

from collections.abc import Sequence
from datetime import datetime, timedelta
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from images.errors import Error

if TYPE_CHECKING:
    # Imported where it is used: it takes a tenth of a second.
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

RSA_BITS = 3072
"""iPXE of Debian 12 and EL 9 speaks TLS with RSA only."""
VALID = timedelta(days=3650)
EARLIER = timedelta(days=1)
"""A node's clock may be behind."""


class Authority(NamedTuple):
    """PEM texts: what nodes trust, the server's certificate with the authority's after it, and both private keys."""

    ca: bytes
    ca_key: bytes
    certificate: bytes
    key: bytes


class BadCertificate(Error):
    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"{path}: {reason}", hint="the folder must hold warewulf.crt and warewulf.key in PEM, which belong together"
        )


def make_authority(names: Sequence[str], addresses: Sequence[IPv4Address | IPv6Address], now: datetime) -> Authority:
    """A new authority and a certificate for these names and addresses; `now` has a time zone."""
    from cryptography.hazmat.primitives.serialization import Encoding

    ca_key, key = _new_key(), _new_key()
    ca = _signed("bootsvc CA", ca_key, "bootsvc CA", ca_key, now, authority=True, names=(), addresses=())
    leaf = _signed("Warewulf Server", key, "bootsvc CA", ca_key, now, authority=False, names=names, addresses=addresses)
    return Authority(
        ca=ca.public_bytes(Encoding.PEM),
        ca_key=_pem(ca_key),
        certificate=leaf.public_bytes(Encoding.PEM) + ca.public_bytes(Encoding.PEM),
        key=_pem(key),
    )


def _new_key() -> "RSAPrivateKey":
    from cryptography.hazmat.primitives.asymmetric import rsa

    return rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)


def _pem(key: "RSAPrivateKey") -> bytes:
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def _signed(
    subject: str,
    key: "RSAPrivateKey",
    issuer: str,
    issuer_key: "RSAPrivateKey",
    now: datetime,
    *,
    authority: bool,
    names: Sequence[str],
    addresses: Sequence[IPv4Address | IPv6Address],
) -> "x509.Certificate":
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    builder = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - EARLIER)
        .not_valid_after(now + VALID)
        .add_extension(x509.BasicConstraints(ca=authority, path_length=0 if authority else None), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer_key.public_key()), critical=False)
        .add_extension(_usage(authority=authority), critical=True)
    )
    if not authority:
        alternatives = [*map(x509.DNSName, names), *map(x509.IPAddress, addresses)]
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        builder = builder.add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
    return builder.sign(issuer_key, hashes.SHA256())


def _usage(*, authority: bool) -> "x509.KeyUsage":
    from cryptography import x509

    return x509.KeyUsage(
        digital_signature=not authority,
        key_encipherment=not authority,
        key_cert_sign=authority,
        crl_sign=authority,
        content_commitment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def check_pair(certificate: bytes, key: bytes, folder: Path, now: datetime) -> None:
    """Raises BadCertificate when the two are no pair, or the certificate is not valid at `now`."""
    from cryptography import x509
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

    try:
        found = x509.load_pem_x509_certificate(certificate)
    except ValueError as exc:
        raise BadCertificate(folder / "warewulf.crt", "it is no certificate in PEM") from exc
    try:
        private = load_pem_private_key(key, password=None)
    except (ValueError, TypeError) as exc:
        raise BadCertificate(folder / "warewulf.key", "it is no private key in PEM without a passphrase") from exc
    form = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if private.public_key().public_bytes(*form) != found.public_key().public_bytes(*form):
        raise BadCertificate(folder / "warewulf.crt", "it is not the certificate of warewulf.key")
    if not found.not_valid_before_utc <= now <= found.not_valid_after_utc:
        span = f"{found.not_valid_before_utc:%Y-%m-%d} to {found.not_valid_after_utc:%Y-%m-%d}"
        raise BadCertificate(folder / "warewulf.crt", f"it is valid from {span} only")


def describe(certificate: bytes) -> list[str]:
    """What a person wants to know of the first certificate in a PEM text, a line each."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes

    found = x509.load_pem_x509_certificate(certificate)
    lines = [
        f"subject: {found.subject.rfc4514_string()}",
        f"issuer: {found.issuer.rfc4514_string()}",
        f"valid: {found.not_valid_before_utc:%Y-%m-%d} to {found.not_valid_after_utc:%Y-%m-%d}",
    ]
    try:
        names = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        lines.append(f"names: {', '.join(str(name.value) for name in names)}")
    except x509.ExtensionNotFound:
        pass
    return [*lines, f"sha256: {found.fingerprint(hashes.SHA256()).hex(':')}"]
