"""`docker-daemon://NAME[:TAG]`: an image that a Docker engine (or Podman's service) on this machine has, over its socket."""

import asyncio
import os
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

import msgspec

from images.blobs import BlobStore
from images.errors import Error
from images.interruptible import run_interruptible
from images.manifest import PlatformMissing, PlatformRecord
from images.progress import ArchiveAdvanced, Progress, Started
from images.reference import Reference, parse_digest
from images.source.archive import list_members, nameless, spool
from images.source.client import aiohttp
from images.source.contract import Provenance, SourceOptions
from images.source.layout import find_in_docker_archive

_ANSWER_SECONDS = 300
"""An engine may pack for long before the first byte comes."""
_MAX_INSPECT = 8 << 20
_MAX_PROBLEM = 1 << 16


class EngineFailed(Error):
    def __init__(self, socket: str, reason: str, *, hint: str) -> None:
        super().__init__(f"the Docker engine at {socket} {reason}", hint=hint)
        self.socket = socket


class _Inspected(msgspec.Struct, frozen=True, rename="pascal"):
    """GET /images/NAME/json of the engine's API."""

    id: str
    architecture: str = ""
    os: str = ""
    variant: str = ""


class _Problem(msgspec.Struct, frozen=True):
    message: str = ""


class DaemonSource:
    """Raises EngineFailed, CacheFailed, and what reading the archive raises that the engine sends."""

    def __init__(self, name: str, options: SourceOptions) -> None:
        self.default_name = Reference.parse(name).default_name if not name.startswith("sha256:") else name[7:19]
        self._name = name
        self._options = options
        self._socket = _socket_path(options.docker_host)

    @classmethod
    def parse(cls, text: str, options: SourceOptions) -> "DaemonSource":
        return cls(text, options)

    async def find_digest(self) -> str | None:
        async with self._session() as session:
            return (await self._inspect(session)).id

    async def unpack(self, rootfs: Path, progress: Progress) -> Provenance:
        progress(Started())
        store = BlobStore(self._options.blobs)
        with await asyncio.to_thread(store.scratch) as scratch:
            async with self._session() as session:
                inspected = await self._inspect(session)
                async with self._get(session, "get") as response:
                    await self._spool(response, scratch, progress)
            shown = Path(self._name)
            archive = await run_interruptible(lambda stopped: list_members(scratch, nameless(scratch), shown))
            image = await run_interruptible(lambda stopped: find_in_docker_archive(archive, None, self._options))
            unpacked = await image.unpack(shown, f"docker-daemon://{self._name}", rootfs, progress)
        return Provenance(reference=unpacked.reference, digest=inspected.id, architecture=unpacked.architecture)

    def _session(self) -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=aiohttp.UnixConnector(str(self._socket)),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=_ANSWER_SECONDS),
            read_bufsize=1 << 20,
        )

    async def _inspect(self, session: aiohttp.ClientSession) -> _Inspected:
        async with self._get(session, "json") as response:
            data = await response.content.read(_MAX_INSPECT)
            while more := await response.content.read(_MAX_INSPECT - len(data)):
                data += more
        try:
            found = msgspec.json.decode(data, type=_Inspected)
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise self._failed(f"answers nonsense: {exc}", hint="is it a Docker engine that listens there?") from exc
        parse_digest(found.id)
        have = PlatformRecord(architecture=found.architecture, os=found.os or "linux", variant=found.variant)
        if self._options.platform is not None and not self._options.wanted_platform.accepts(have):
            raise PlatformMissing(self._options.wanted_platform, [str(have)])
        return found

    @asynccontextmanager
    async def _get(self, session: aiohttp.ClientSession, what: str) -> AsyncIterator[aiohttp.ClientResponse]:
        url = f"http://docker/images/{quote(self._name, safe='/:@')}/{what}"
        try:
            async with session.get(url) as response:
                if response.status == 404:
                    raise self._failed(f"has no image {self._name!r}", hint="`docker image ls` shows those it has")
                if response.status != 200:
                    reason = _problem(await response.content.read(_MAX_PROBLEM))
                    raise self._failed(f"answers HTTP {response.status}: {reason}", hint="look at its log")
                yield response
        except TimeoutError as exc:
            raise self._failed("does not answer in time", hint="look at its log") from exc
        except aiohttp.ClientConnectorError as exc:
            hint = "start it, or name its socket in DOCKER_HOST=unix:///PATH"
            raise self._failed(f"cannot be reached: {exc.os_error.strerror or exc.os_error}", hint=hint) from exc
        except aiohttp.ClientError as exc:
            raise self._failed(f"stopped answering: {exc}", hint="look at its log, and try again") from exc

    async def _spool(self, response: aiohttp.ClientResponse, scratch: BinaryIO, progress: Progress) -> None:
        done = 0
        async for chunk in response.content.iter_any():
            done += len(chunk)
            await self._write([chunk], scratch)
            progress(ArchiveAdvanced(name=self._name, size=None, done=done))

    async def _write(self, chunks: Iterable[bytes], scratch: BinaryIO) -> None:
        await run_interruptible(lambda stopped: spool(chunks, scratch, self._options.blobs))

    def _failed(self, reason: str, *, hint: str) -> EngineFailed:
        return EngineFailed(str(self._socket), reason, hint=hint)


def _socket_path(docker_host: str) -> Path:
    """Of DOCKER_HOST; raises EngineFailed for an engine that is not reached by a socket of this machine."""
    scheme, _, rest = docker_host.partition("://")
    if scheme != "unix" or not os.path.isabs(rest):
        raise EngineFailed(
            docker_host.rpartition("@")[2],
            "is not reached by a socket of this machine",
            hint="set DOCKER_HOST=unix:///PATH, or `docker save` the image there and import the file",
        )
    return Path(rest)


def _problem(body: bytes) -> str:
    try:
        return msgspec.json.decode(body, type=_Problem).message or "no reason given"
    except (msgspec.DecodeError, UnicodeDecodeError):
        return "no reason given"
