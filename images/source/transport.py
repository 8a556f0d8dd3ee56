"""HTTP to a registry and to whatever it redirects to: proxies, certificates, and no credentials for strangers."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import TracebackType

from yarl import URL

from images.reference import Reference
from images.source.certificates import tls_context
from images.source.client import aiohttp
from images.source.failures import BadRedirect, Broken, explain
from images.source.proxies import Proxies

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_ERRORS = (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds: until a connection stands, between two pieces of an answer, before each further try, and the longest that a
    registry which has had too many requests may ask to wait, in all."""

    connect: float = 15
    read: float = 60
    pauses: Sequence[float] = (0.5, 2, 8)
    longest: float = 180
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep


class Transport:
    """Requests to the registry of a reference; use it with `async with`."""

    def __init__(
        self, reference: Reference, *, insecure: bool, proxies: Proxies, certificates: Sequence[Path], patience: Patience
    ) -> None:
        self.host = reference.api_host
        self.insecure = insecure
        self._is_loopback = reference.is_loopback
        self._proxies = proxies
        # As container tools do, also for token servers and redirects: a site's CA signs all of its hosts.
        self._own_tls = tls_context(reference.host, certificates, insecure=insecure)
        self._patience = patience

    async def __aenter__(self) -> "Transport":
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._patience.connect, sock_read=self._patience.read)
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            auto_decompress=False,
            read_bufsize=1 << 20,
            headers={"User-Agent": "bootsvc", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.close()

    async def follow(
        self, url: URL, headers: Mapping[str, str], authorization: str | None, *, method: str = "GET"
    ) -> aiohttp.ClientResponse:
        """A request, following redirects; another origin is never shown the Authorization header."""
        origin = url.origin()
        for _ in range(_MAX_REDIRECTS + 1):
            own = {"Authorization": authorization} if authorization is not None and url.origin() == origin else {}
            response = await self.request(url, {**headers, **own}, method=method)
            if response.status not in _REDIRECTS or "Location" not in response.headers:
                return response
            location = response.headers["Location"]
            response.close()
            try:
                # A signed URL must go out as it came in.
                url = url.join(URL(location, encoded=True))
                downgraded = origin.scheme == "https" and url.scheme != "https" and not self.insecure
            except ValueError as exc:
                raise BadRedirect(self.host, f"to {location[:80]!r}, which is no URL") from exc
            if url.scheme not in ("http", "https") or not url.host or downgraded:
                raise BadRedirect(self.host, f"to {url.scheme}://{url.host}, which is not safe")
        raise BadRedirect(self.host, f"more than {_MAX_REDIRECTS} times")

    async def request(
        self, url: URL, headers: Mapping[str, str], *, method: str = "GET", form: Mapping[str, str] | None = None
    ) -> aiohttp.ClientResponse:
        """One request. Raises RegistryError and UnusableProxy."""
        proxy = self._proxy(url)
        try:
            return await self._session.request(
                method,
                url,
                headers=dict(headers),
                data=None if form is None else dict(form),
                allow_redirects=False,
                proxy=proxy,
                ssl=True if proxy is None and url.scheme == "http" else self._tls,
            )
        except _ERRORS as exc:
            raise explain(exc, url.host_port_subcomponent or self.host) from exc

    @cached_property
    def _tls(self) -> ssl.SSLContext | bool:
        """For a registry over plain http, the system's certificates are never read."""
        if self._own_tls is not True:
            return self._own_tls
        context = ssl.create_default_context()
        context.set_alpn_protocols(["http/1.1"])
        return context

    def _proxy(self, url: URL) -> str | None:
        """As the environment says, but never for this machine's own registry."""
        if self._is_loopback or url.host is None:
            return None
        return self._proxies.choose(url.scheme, url.host, url.port)


async def pieces(response: aiohttp.ClientResponse, host: str) -> AsyncIterator[bytes]:
    """The body as it comes. Raises RegistryError."""
    try:
        async for piece in response.content.iter_any():
            yield piece
    except _ERRORS as exc:
        raise explain(exc, host) from exc


async def read_whole(response: aiohttp.ClientResponse, limit: int, host: str) -> bytes:
    """A body of at most `limit` bytes. Raises RegistryError."""
    data = b""
    async for piece in pieces(response, host):
        data += piece
        if len(data) > limit:
            raise Broken(host, f"an answer is larger than {limit} bytes")
    return data
