"""A client of one repository in one registry (OCI distribution specification 1.1, pull only)."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from types import TracebackType
from typing import TypeVar
from urllib.request import getproxies, proxy_bypass

import aiohttp
from yarl import URL

from images import auth
from images.blobs import BlobStore
from images.manifest import ACCEPTED, MAX_MANIFEST, Descriptor
from images.reference import Reference
from images.source.failures import (
    BadRedirect,
    Broken,
    NotFound,
    RegistryError,
    Unauthorized,
    Unreachable,
    explain,
    refusal,
)

T = TypeVar("T")

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 5
_ERRORS = (aiohttp.ClientError, TimeoutError, OSError, ssl.SSLError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """Seconds: until a connection stands, between two pieces of an answer, and before each further try."""

    connect: float = 15
    read: float = 60
    pauses: Sequence[float] = (0.5, 2)


class Repository:
    """Manifests and blobs of `reference`'s repository; use it with `async with`."""

    def __init__(
        self,
        reference: Reference,
        *,
        credentials: auth.Credentials | None = None,
        insecure: bool = False,
        patience: Patience | None = None,
    ) -> None:
        self.reference = reference
        self._host = reference.api_host
        self._credentials = credentials
        self._insecure = insecure
        self._patience = patience or Patience()
        self._base: URL | None = None
        self._authorization: str | None = None
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> "Repository":
        timeout = aiohttp.ClientTimeout(total=None, sock_connect=self._patience.connect, sock_read=self._patience.read)
        self._session = aiohttp.ClientSession(
            timeout=timeout,
            connector=aiohttp.TCPConnector(ssl=not self._insecure),
            auto_decompress=False,
            read_bufsize=1 << 20,
            headers={"User-Agent": "bootsvc", "Accept-Encoding": "identity"},
        )
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        await self._session.close()

    async def manifest(self, target: str) -> tuple[bytes, str, str | None]:
        """Bytes, Content-Type, and the digest that the registry says they have; `target` is a tag or a digest."""

        async def once() -> tuple[bytes, str, str | None]:
            what = f"{'manifest' if ':' in target else 'tag'} {target!r} of {self.reference.repository!r}"
            async with self._get(f"manifests/{target}", what, ", ".join(ACCEPTED)) as response:
                data = await _read_whole(response, MAX_MANIFEST, self._host)
                return data, response.content_type, response.headers.get("Docker-Content-Digest")

        return await self._retrying(once)

    async def fetch(self, descriptor: Descriptor, store: BlobStore, advanced: Callable[[int], None]) -> None:
        """Download a blob into the store. Raises RegistryError, DigestMismatch, SizeMismatch."""

        async def once() -> None:
            what = f"blob {descriptor.digest} of {self.reference.repository!r}"
            async with self._get(f"blobs/{descriptor.digest}", what, "*/*") as response:
                await store.write(descriptor, _pieces(response, self._host), advanced)

        try:
            await self._retrying(once)
        except NotFound as exc:
            if descriptor.is_foreign:
                hint = f"get the layer from where it is kept ({', '.join(descriptor.urls) or 'unknown'}) and push it"
                raise NotFound(self._host, f"blob for foreign layer {descriptor.digest}", hint=hint) from exc
            raise

    async def _retrying(self, once: Callable[[], Awaitable[T]]) -> T:
        for pause in self._patience.pauses:
            try:
                return await once()
            except RegistryError as exc:
                if not exc.transient:
                    raise
                await asyncio.sleep(pause)
        return await once()

    @asynccontextmanager
    async def _get(self, path: str, what: str, accept: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """A 200 answer below `/v2/NAME/`; authorised if the registry wants that. Raises RegistryError."""
        url = (await self._find_base()) / self.reference.repository / path
        used = self._authorization
        response = await self._follow(url, accept, used)
        if response.status == 401 and response.url.origin() == url.origin():
            # The first request, or a token at its end: once more with a new one.
            challenges = auth.parse_challenges(response.headers.getall("WWW-Authenticate", []))
            response.close()
            response = await self._follow(url, accept, await self._authorize(challenges, used, what))
        async with response:
            if response.status != 200:
                body = await _read_whole(response, 1 << 16, self._host)
                retry_after = response.headers.get("Retry-After")
                raise refusal(self._host, what, status=response.status, body=body, retry_after=retry_after)
            yield response

    async def _follow(self, url: URL, accept: str, authorization: str | None) -> aiohttp.ClientResponse:
        """GET, following redirects; another origin is never shown the Authorization header."""
        origin = url.origin()
        for _ in range(_MAX_REDIRECTS + 1):
            headers = {"Accept": accept}
            if authorization is not None and url.origin() == origin:
                headers["Authorization"] = authorization
            response = await self._request(url, headers)
            if response.status not in _REDIRECTS or "Location" not in response.headers:
                return response
            location = response.headers["Location"]
            response.close()
            try:
                # A signed URL must go out as it came in.
                url = url.join(URL(location, encoded=True))
                downgraded = origin.scheme == "https" and url.scheme != "https" and not self._insecure
            except ValueError as exc:
                raise BadRedirect(self._host, f"to {location[:80]!r}, which is no URL") from exc
            if url.scheme not in ("http", "https") or not url.host or downgraded:
                raise BadRedirect(self._host, f"to {url.scheme}://{url.host}, which is not safe")
        raise BadRedirect(self._host, f"more than {_MAX_REDIRECTS} times")

    async def _request(self, url: URL, headers: dict[str, str]) -> aiohttp.ClientResponse:
        try:
            return await self._session.get(url, headers=headers, allow_redirects=False, proxy=self._proxy(url))
        except _ERRORS as exc:
            raise explain(exc, url.host_port_subcomponent or self._host) from exc

    def _proxy(self, url: URL) -> str | None:
        """As the environment says, but never for this machine's own registry.

        Not aiohttp's trust_env: that takes credentials from ~/.netrc, too, and refuses ours then.
        """
        if self.reference.is_loopback or url.host is None or proxy_bypass(url.host):
            return None
        return getproxies().get(url.scheme)

    async def _find_base(self) -> URL:
        """`https://HOST/v2`, or `http://HOST/v2` where plain http is allowed and answers."""
        async with self._lock:
            if self._base is None:
                plain = URL(f"http://{self._host}/v2")
                allowed = self._insecure or self.reference.is_loopback
                self._base = plain if allowed and await self._answers(plain) else plain.with_scheme("https")
        return self._base

    async def _answers(self, base: URL) -> bool:
        """Something speaks the protocol there; a redirect, or the 400 of a TLS port, does not."""
        try:
            response = await self._request(base / "", {})
        except (Broken, Unreachable):
            return False
        response.close()
        return response.status in (200, 401, 403, 404) or response.status >= 429

    async def _authorize(self, challenges: list[auth.Challenge], used: str | None, what: str) -> str:
        """What to answer a challenge with; several requests that were refused together ask for one token."""
        challenge = auth.choose_challenge(challenges)
        async with self._lock:
            current = self._authorization
            if current is not None and current != used:
                return current
            if challenge is None:
                raise Unauthorized(self._host, what, 401)
            if challenge.scheme == "bearer":
                self._authorization = await self._fetch_token(challenge)
            elif self._credentials is not None:
                self._authorization = self._credentials.header()
            else:
                raise Unauthorized(self._host, what, 401)
            return self._authorization

    async def _fetch_token(self, challenge: auth.Challenge) -> str:
        scope = auth.pull_scope(self.reference.repository)
        account = None if self._credentials is None else self._credentials.username
        realm = challenge.parameters["realm"]
        try:
            url = URL(auth.token_url(challenge, scope=scope, account=account), encoded=True)
        except ValueError as exc:
            raise BadRedirect(self._host, f"to the token server {realm[:80]!r}, which is no URL") from exc
        assert self._base is not None
        if url.scheme != "https" and (url.scheme != "http" or self._base.scheme == "https"):
            raise BadRedirect(self._host, f"to the token server {realm[:80]!r}, which is not safe")
        headers = {} if self._credentials is None else {"Authorization": self._credentials.header()}
        async with await self._request(url, headers) as response:
            body = await _read_whole(response, 1 << 20, url.host_port_subcomponent or self._host)
            if response.status != 200:
                what = f"a token for {self.reference.repository!r}"
                retry_after = response.headers.get("Retry-After")
                raise refusal(
                    url.host_port_subcomponent or self._host, what, status=response.status, body=body, retry_after=retry_after
                )
        return auth.parse_token(body, realm=realm)


async def _pieces(response: aiohttp.ClientResponse, host: str) -> AsyncIterator[bytes]:
    try:
        async for piece in response.content.iter_any():
            yield piece
    except _ERRORS as exc:
        raise explain(exc, host) from exc


async def _read_whole(response: aiohttp.ClientResponse, limit: int, host: str) -> bytes:
    data = b""
    async for piece in _pieces(response, host):
        data += piece
        if len(data) > limit:
            raise Broken(host, f"an answer is larger than {limit} bytes")
    return data
