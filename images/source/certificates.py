"""A registry's own CA and client certificates, from `certs.d/HOST[:PORT]` folders (containers-certs.d(5))."""

import ssl
from collections.abc import Sequence
from pathlib import Path

from images.errors import Error


class UnusableCertificate(Error):
    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"the certificate {path} cannot be used: {reason}",
            hint="it must be PEM; a client certificate NAME.cert needs its key beside it, as NAME.key",
        )
        self.path = path


def tls_context(host: str, folders: Sequence[Path], *, insecure: bool) -> ssl.SSLContext | bool:
    """How to speak TLS with a registry (`HOST[:PORT]`): True is the system's way, False accepts any certificate.

    The first of `folders` that has a folder of that name decides. Raises UnusableCertificate.
    """
    folder = next((place for folder in folders if (place := folder / host).is_dir()), None)
    if folder is None:
        return not insecure
    context = ssl.create_default_context()
    if insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    for path in sorted(folder.iterdir()):
        try:
            if path.suffix == ".crt":
                context.load_verify_locations(path)
            elif path.suffix == ".cert":
                context.load_cert_chain(path, path.with_suffix(".key"), password=_no_password)
        except FileNotFoundError as exc:
            raise UnusableCertificate(path, "its key is missing") from exc
        except (ssl.SSLError, OSError, ValueError) as exc:
            raise UnusableCertificate(path, getattr(exc, "reason", None) or str(exc)) from exc
    return context


def _no_password() -> str:
    """Without this, OpenSSL would ask the terminal for the pass phrase of an encrypted key."""
    raise ValueError("its key is encrypted")
