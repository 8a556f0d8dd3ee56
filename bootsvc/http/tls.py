"""The certificate that HTTP is served with."""

import ssl

from bootsvc.http.settings import TlsConfig
from images.errors import Error


def load_certificate(settings: TlsConfig) -> ssl.SSLContext:
    """Raises Error when certificate and key cannot be read, or do not belong together."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    try:
        context.load_cert_chain(settings.certificate, settings.key)
    except (OSError, ssl.SSLError) as exc:
        missing = next((path for path in (settings.certificate, settings.key) if not path.exists()), None)
        raise Error(
            f"TLS cannot use the certificate {settings.certificate} with the key {settings.key}: "
            + (str(exc) if missing is None else f"there is no {missing}"),
            hint="both are PEM files that belong together; `warewulf: tls: false` serves without TLS",
        ) from exc
    return context
