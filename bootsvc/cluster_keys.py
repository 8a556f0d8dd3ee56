"""Pairs of ssh keys in OpenSSH's own format, for `wwctl configure ssh`."""

from typing import NamedTuple

RSA_BITS = 3072
"""NIST SP 800-57 part 1: as strong as 128 bits."""


class KeyPair(NamedTuple):
    """The texts of the two files."""

    private: bytes
    public: bytes


def public_half(private: bytes, comment: str) -> bytes | None:
    """The public key's text, made of the private one's; None when that is no key of OpenSSH's without a passphrase."""
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_ssh_private_key

    try:
        key = load_ssh_private_key(private, password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    return key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH) + f" {comment}\n".encode()


def make_key_pair(kind: str, comment: str) -> KeyPair:
    """A new pair of one of `netboot.head_conf.KEY_TYPES`, without a passphrase."""
    # Only here: it takes a tenth of a second to import.
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
    from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

    key: ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
    if kind == "ed25519":
        key = ed25519.Ed25519PrivateKey.generate()
    elif kind == "ecdsa":
        key = ec.generate_private_key(ec.SECP256R1())
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=RSA_BITS)
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return KeyPair(
        private=key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()),
        public=public + f" {comment}\n".encode(),
    )
