"""What can go wrong between us and a registry, each as one sentence with a hint."""

import os
import socket
import ssl
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

import msgspec

from images.errors import Error
from images.source.client import aiohttp

_LOGIN = "give --username and --password, or check that the name is right"


class RegistryError(Error):
    """`transient`: the same request may succeed in a moment."""

    def __init__(self, message: str, *, hint: str, host: str, transient: bool = False) -> None:
        super().__init__(message, hint=hint)
        self.host = host
        self.transient = transient


class UnknownHost(RegistryError):
    def __init__(self, host: str) -> None:
        super().__init__(
            f"registry host {host!r} is not known", hint="check the spelling, and the name servers of this machine", host=host
        )


class Unreachable(RegistryError):
    def __init__(self, host: str, reason: str) -> None:
        super().__init__(
            f"registry {host} cannot be reached: {reason}",
            hint="check that it runs, its port, and the firewall between",
            host=host,
        )


class TlsFailure(RegistryError):
    def __init__(self, host: str, reason: str) -> None:
        super().__init__(
            f"registry {host} has no TLS certificate that this machine trusts, or speaks no TLS: {reason}",
            hint="use --nohttps if you trust the network, or install the registry's CA certificate",
            host=host,
        )


class Unauthorized(RegistryError):
    def __init__(self, host: str, what: str, status: int) -> None:
        super().__init__(f"registry {host} refuses access to {what} (HTTP {status})", hint=_LOGIN, host=host)
        self.status = status


class NotFound(RegistryError):
    def __init__(self, host: str, what: str, *, hint: str) -> None:
        super().__init__(f"registry {host} has no {what}", hint=hint, host=host)


class RateLimited(RegistryError):
    """`seconds` is how long the registry asks to wait; None if it does not say."""

    def __init__(self, host: str, seconds: float | None) -> None:
        wait = f"wait {_duration(seconds)}" if seconds else "wait"
        super().__init__(
            f"registry {host} has had too many requests from here (HTTP 429)",
            hint=f"{wait} and try again, or give --username and --password: registries allow more to whom they know",
            host=host,
            transient=seconds is None,
        )
        self.seconds = seconds


class TimedOut(RegistryError):
    def __init__(self, host: str) -> None:
        super().__init__(
            f"registry {host} did not answer in time", hint="check the network and try again", host=host, transient=True
        )


class ServerFailure(RegistryError):
    def __init__(self, host: str, status: int, reason: str) -> None:
        super().__init__(
            f"registry {host} answers HTTP {status}: {reason}",
            hint="try again later" if status >= 500 else "check the image's name",
            host=host,
            transient=status >= 500 or status == 408,
        )
        self.status = status


class Broken(RegistryError):
    """The connection ended in the middle."""

    def __init__(self, host: str, reason: str) -> None:
        super().__init__(
            f"the connection to registry {host} broke: {reason}",
            hint="check the network and try again",
            host=host,
            transient=True,
        )


class BadRedirect(RegistryError):
    def __init__(self, host: str, reason: str) -> None:
        super().__init__(f"registry {host} redirects {reason}", hint="the registry is misconfigured", host=host)


def explain(exc: BaseException, host: str) -> RegistryError:
    """The sentence for what aiohttp raised."""
    match exc:
        case aiohttp.ClientConnectorDNSError():
            return UnknownHost(host)
        case aiohttp.ClientSSLError():
            return TlsFailure(host, _tls_reason(exc))
        case aiohttp.ClientProxyConnectionError() | aiohttp.ClientHttpProxyError():
            return Unreachable(host, _proxy_reason(exc))
        case aiohttp.ClientConnectorError():
            if isinstance(exc.os_error, socket.gaierror):
                return UnknownHost(host)
            return Unreachable(host, _system_reason(exc.os_error))
        case TimeoutError():
            return TimedOut(host)
        case ssl.SSLError():
            return TlsFailure(host, str(exc))
        case _:
            return Broken(host, str(exc) or type(exc).__name__)


def _proxy_reason(exc: aiohttp.ClientProxyConnectionError | aiohttp.ClientHttpProxyError) -> str:
    """Without the proxy's URL, in which a password may stand."""
    if isinstance(exc, aiohttp.ClientHttpProxyError):
        return f"the proxy answers HTTP {exc.status}"
    return f"its proxy {exc.host}:{exc.port} cannot be reached: {_system_reason(exc.os_error)}"


def _system_reason(exc: OSError) -> str:
    """In the system's words; asyncio's would repeat the address as Python writes it."""
    return os.strerror(exc.errno) if exc.errno else exc.strerror or str(exc)


def _tls_reason(exc: aiohttp.ClientSSLError) -> str:
    inner = exc.__cause__ or exc.os_error
    if isinstance(inner, ssl.SSLCertVerificationError):
        return inner.verify_message
    return getattr(inner, "reason", None) or str(inner)


def _seconds(retry_after: str | None) -> float | None:
    """Retry-After (RFC 9110 section 10.2.3): seconds, or a date."""
    if retry_after is None:
        return None
    if retry_after.strip().isdecimal():
        return float(retry_after)
    try:
        until = parsedate_to_datetime(retry_after)
    except ValueError:
        return None
    return max((until - datetime.now(UTC)).total_seconds(), 0) if until.tzinfo is not None else None


def _duration(seconds: float) -> str:
    if seconds < 300:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} minutes" if seconds < 7200 else f"{seconds / 3600:.0f} hours"


class _Problem(msgspec.Struct, frozen=True):
    code: str = ""
    message: str = ""


class _Problems(msgspec.Struct, frozen=True):
    errors: tuple[_Problem, ...] = ()


def refusal(host: str, what: str, *, status: int, body: bytes, retry_after: str | None, tags: str) -> RegistryError:
    """The sentence for an answer that is not 200; `what` names the manifest or blob that was asked for, `tags` a command that
    lists the tags that there are."""
    if status in (401, 403):
        return Unauthorized(host, what, status)
    if status == 429:
        return RateLimited(host, _seconds(retry_after))
    try:
        problems = msgspec.json.decode(body, type=_Problems).errors
    except (msgspec.DecodeError, UnicodeDecodeError):
        problems = ()
    if status == 404:
        if any(problem.code == "NAME_UNKNOWN" for problem in problems):
            return NotFound(host, what, hint="the registry does not know the repository: check the name before the colon")
        return NotFound(host, what, hint=f"check the name and the tag, for example with `{tags}`")
    said = "; ".join(problem.message or problem.code for problem in problems)
    return ServerFailure(host, status, said or "no reason given")
