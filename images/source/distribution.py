"""A client of one repository in one registry (OCI distribution specification 1.1, pull only)."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from types import TracebackType
from typing import TypeVar

from yarl import URL

from images import challenge
from images.blobs import BlobStore, DigestMismatch, Receiving
from images.challenge import Challenge, Credentials
from images.interruptible import run_interruptible
from images.manifest import ACCEPTED, MAX_MANIFEST, Descriptor
from images.reference import Reference
from images.source.client import aiohttp
from images.source.failures import (
    BadRedirect,
    Broken,
    NotFound,
    RateLimited,
    RegistryError,
    Unauthorized,
    Unreachable,
    refusal,
)
from images.source.transport import Patience, Transport, pieces, read_whole

T = TypeVar("T")
Login = Callable[[], Credentials | None]
"""Finds the credentials; called in a thread, once the registry wants some."""
Opened = Callable[[int, int], None]
"""Told to what open file a blob is written from now on, and from which byte."""
_WORTH_A_TRY = 1 << 20
"""Bytes more than before that make a broken download one that goes on."""


class Repository:
    """Manifests and blobs of `reference`'s repository; use it with `async with`."""

    def __init__(
        self,
        reference: Reference,
        transport: Transport,
        *,
        login: Login,
        patience: Patience,
        waiting: Callable[[float], None],
    ) -> None:
        self.reference = reference
        self._transport = transport
        self._host = reference.api_host
        self._login = login
        self._patience = patience
        self._waiting = waiting
        self._base: URL | None = None
        self._authorization: str | None = None
        self._has_answered = False
        self._lock = asyncio.Lock()

    async def __aenter__(self) -> "Repository":
        await self._transport.__aenter__()
        return self

    async def __aexit__(self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None) -> None:
        await self._transport.__aexit__(kind, exc, trace)

    async def find_digest(self, tag: str) -> str | None:
        """The digest of what a tag names now, None if the registry does not say; no pull, where pulls are counted."""

        async def once() -> str | None:
            async with self._get(f"manifests/{tag}", self._describe(tag), ", ".join(ACCEPTED), method="HEAD") as response:
                return response.headers.get("Docker-Content-Digest")

        return await self._retrying(once)

    async def manifest(self, target: str) -> tuple[bytes, str, str | None]:
        """Bytes, Content-Type, and the digest that the registry says they have; `target` is a tag or a digest."""

        async def once() -> tuple[bytes, str, str | None]:
            async with self._get(f"manifests/{target}", self._describe(target), ", ".join(ACCEPTED)) as response:
                data = await read_whole(response, MAX_MANIFEST, self._host)
                return data, response.content_type, response.headers.get("Docker-Content-Digest")

        return await self._retrying(once)

    async def fetch(
        self,
        descriptor: Descriptor,
        store: BlobStore,
        advanced: Callable[[int], None],
        opened: Opened = lambda file, start: None,
    ) -> None:
        """Download a blob into the store, from where an earlier try ended.

        `opened` is told of each answer, `advanced` of the bytes on disk; the blob is what it should be only when this returns.
        Raises RegistryError, DigestMismatch, SizeMismatch, CacheFailed.
        """
        most = 0

        def note(done: int) -> None:
            nonlocal most
            most = max(most, done)
            advanced(done)

        try:
            await self._retrying(lambda: self._fetch(descriptor, store, note, opened), progress=lambda: most)
        except NotFound as exc:
            if descriptor.is_foreign:
                hint = f"get the layer from where it is kept ({', '.join(descriptor.urls) or 'unknown'}) and push it"
                raise NotFound(self._host, f"blob for foreign layer {descriptor.digest}", hint=hint) from exc
            raise

    async def _fetch(self, descriptor: Descriptor, store: BlobStore, advanced: Callable[[int], None], opened: Opened) -> None:
        with await store.receive(descriptor) as receiving:
            if receiving.resumed and await self._resume(descriptor, receiving, advanced, opened):
                return
            receiving.restart()
            async with self._get_blob(descriptor) as response:
                opened(receiving.fileno(), 0)
                await receiving.append(pieces(response, self._host), advanced)
            await run_interruptible(lambda stopped: receiving.commit())

    async def _resume(
        self, descriptor: Descriptor, receiving: Receiving, advanced: Callable[[int], None], opened: Opened
    ) -> bool:
        """Get what is missing (RFC 9110 section 14); False if the blob has to come from its beginning."""
        if not receiving.is_complete:
            async with self._get_blob(descriptor, start=receiving.done) as response:
                if response.status == 416:
                    return False
                if response.status == 200:
                    # A registry without ranges sends all of it.
                    receiving.restart()
                opened(receiving.fileno(), receiving.done)
                await receiving.append(pieces(response, self._host), advanced)
        try:
            await run_interruptible(lambda stopped: receiving.commit())
        except DigestMismatch:
            if not receiving.resumed:
                raise
            # What lay there was spoilt, by a crash for example.
            return False
        return True

    def _get_blob(self, descriptor: Descriptor, *, start: int = 0) -> AbstractAsyncContextManager[aiohttp.ClientResponse]:
        what = f"blob {descriptor.digest} of {self.reference.repository!r}"
        return self._get(f"blobs/{descriptor.digest}", what, "*/*", start=start)

    def _describe(self, target: str) -> str:
        return f"{'manifest' if ':' in target else 'tag'} {target!r} of {self.reference.repository!r}"

    async def _retrying(self, once: Callable[[], Awaitable[T]], progress: Callable[[], int] = lambda: 0) -> T:
        """Again after a moment of trouble; as often as `progress` grows, and a few times more."""
        pauses: Iterator[float] = iter(self._patience.pauses)
        done, waited = 0, 0.0
        while True:
            try:
                return await once()
            except RegistryError as exc:
                pause: float | None
                if isinstance(exc, RateLimited) and exc.seconds is not None:
                    pause = max(exc.seconds, 1)
                    waited += pause
                    if waited > self._patience.longest:
                        raise
                    self._waiting(pause)
                else:
                    # Whoever answered before has no wrong name: it restarts.
                    if not exc.transient and not (isinstance(exc, Unreachable) and self._has_answered):
                        raise
                    if progress() >= done + _WORTH_A_TRY:
                        done, pauses = progress(), iter(self._patience.pauses)
                    if (pause := next(pauses, None)) is None:
                        raise
            await self._patience.sleep(pause)

    @asynccontextmanager
    async def _get(
        self, path: str, what: str, accept: str, *, start: int = 0, method: str = "GET"
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """A 200 answer below `/v2/NAME/`, or 206 or 416 for a `start`; authorised if the registry wants that.

        Raises RegistryError.
        """
        url = (await self._find_base()) / self.reference.repository / path
        headers = {"Accept": accept} | ({"Range": f"bytes={start}-"} if start else {})
        used = self._authorization
        response = await self._transport.follow(url, headers, used, method=method)
        self._has_answered = True
        if response.status == 401 and response.url.origin() == url.origin():
            # The first request, or a token at its end: once more with a new one.
            challenges = challenge.parse_challenges(response.headers.getall("WWW-Authenticate", []))
            response.close()
            authorization = await self._authorize(challenges, used, what)
            response = await self._transport.follow(url, headers, authorization, method=method)
        async with response:
            if response.status != 200 and not (start and response.status in (206, 416)):
                raise await self._refusal(response, self._host, what)
            yield response

    async def _refusal(self, response: aiohttp.ClientResponse, host: str, what: str) -> RegistryError:
        body = await read_whole(response, 1 << 16, host)
        plain = "" if self._base is None or self._base.scheme == "https" else "--tls-verify=false "
        tags = f"skopeo list-tags {plain}docker://{self.reference.host}/{self.reference.repository}"
        retry_after = response.headers.get("Retry-After")
        return refusal(host, what, status=response.status, body=body, retry_after=retry_after, tags=tags)

    async def _find_base(self) -> URL:
        """`https://HOST/v2`, or `http://HOST/v2` where plain http is allowed and answers."""
        async with self._lock:
            if self._base is None:
                plain = URL(f"http://{self._host}/v2")
                allowed = self._transport.insecure or self.reference.is_loopback
                self._base = plain if allowed and await self._answers(plain) else plain.with_scheme("https")
        return self._base

    async def _answers(self, base: URL) -> bool:
        """Something speaks the protocol there; a redirect, or the 400 of a TLS port, does not."""
        try:
            response = await self._transport.request(base / "", {})
        except (Broken, Unreachable):
            return False
        response.close()
        return response.status in (200, 401, 403, 404) or response.status >= 429

    async def _authorize(self, challenges: list[Challenge], used: str | None, what: str) -> str:
        """What to answer a challenge with; several requests that were refused together ask for one token."""
        chosen = challenge.choose_challenge(challenges)
        async with self._lock:
            current = self._authorization
            if current is not None and current != used:
                return current
            if chosen is None:
                raise Unauthorized(self._host, what, 401)
            credentials = await asyncio.to_thread(self._login)
            if chosen.scheme == "bearer":
                self._authorization = await self._fetch_token(chosen, credentials)
            elif credentials is not None and credentials.username:
                self._authorization = credentials.header()
            else:
                raise Unauthorized(self._host, what, 401)
            return self._authorization

    async def _fetch_token(self, chosen: Challenge, credentials: Credentials | None) -> str:
        scope = challenge.pull_scope(self.reference.repository)
        realm = chosen.parameters["realm"]
        identity = credentials.identity_token if credentials is not None else ""
        account = credentials.username if credentials is not None and not identity else None
        try:
            address = realm if identity else challenge.token_url(chosen, scope=scope, account=account)
            url = URL(address, encoded=True)
        except ValueError as exc:
            raise BadRedirect(self._host, f"to the token server {realm[:80]!r}, which is no URL") from exc
        assert self._base is not None
        if url.scheme != "https" and (url.scheme != "http" or self._base.scheme == "https"):
            raise BadRedirect(self._host, f"to the token server {realm[:80]!r}, which is not safe")
        host = url.host_port_subcomponent or self._host
        if identity:
            form = challenge.refresh_form(chosen, scope=scope, identity_token=identity)
            request = self._transport.request(url, {}, method="POST", form=form)
        else:
            headers = {} if credentials is None else {"Authorization": credentials.header()}
            request = self._transport.request(url, headers)
        async with await request as response:
            if response.status != 200:
                raise await self._refusal(response, host, f"a token for {self.reference.repository!r}")
            body = await read_whole(response, 1 << 20, host)
        return challenge.parse_token(body, realm=realm)
