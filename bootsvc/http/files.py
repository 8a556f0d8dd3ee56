"""Answer with files as they lie on disk: one, or a concatenation of segments, by sendfile; Range, ETag and HEAD (RFC 9110)."""

import asyncio
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from bootsvc.artifacts import Artifact

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """`count` bytes of a file from `offset` on; without a path: that many zeros."""

    path: Path | None
    offset: int
    count: int


def pieces(artifact: Artifact, start: int, stop: int) -> Iterator[Piece]:
    """The bytes from `start` up to `stop` of the concatenation, as stretches of its files."""
    at = 0
    for path, size in artifact.parts:
        first, last = max(start, at), min(stop, at + size)
        if first < last:
            yield Piece(path=path, offset=first - at, count=last - first)
        at += size
    first = max(start, at)
    if first < stop:
        yield Piece(path=None, offset=0, count=stop - first)


class ArtifactResponse(web.StreamResponse):
    """Sends an Artifact.

    `sent` counts the bytes of the body that the kernel took; `delivered` says whether the artifact's last one was among them.
    """

    def __init__(self, artifact: Artifact, *, cache_control: str = "no-cache") -> None:
        super().__init__()
        self.artifact = artifact
        self.sent = 0
        self.delivered = False
        self.headers["Cache-Control"] = cache_control
        self.headers["Accept-Ranges"] = "bytes"
        self.content_type = "application/octet-stream"
        self.etag = artifact.etag

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send head and body; aiohttp calls this once more after the handler, for nothing.

        Raises ConnectionError when the body could not be sent whole: the connection must end there, for whatever else is
        written to it would be taken for a part of the file.
        """
        if self.prepared:
            return await super().prepare(request)
        start, stop = self._decide(request)
        if self.status == web.HTTPNotModified.status_code:
            return await super().prepare(request)
        self.content_length = stop - start
        writer = await super().prepare(request)
        if request.method != "HEAD":
            try:
                await self._send_body(request, start, stop)
            except ConnectionError:
                raise
            except RuntimeError as exc:
                # So asyncio calls a transport that is closing.
                raise ConnectionResetError("the client closed the connection") from exc
            except OSError as exc:
                log.error("http a file could not be sent to its end to %s: %s", request.remote, exc)
                raise ConnectionResetError(str(exc)) from exc
            self.delivered = stop == self.artifact.size and self.status != web.HTTPRequestRangeNotSatisfiable.status_code
        return writer

    def _decide(self, request: web.BaseRequest) -> tuple[int, int]:
        """Set the status, and say which bytes are due."""
        size = self.artifact.size
        matching = request.if_none_match or ()
        if any(tag.value in (self.artifact.etag, "*") for tag in matching):
            self.set_status(web.HTTPNotModified.status_code)
            return 0, 0
        if "Range" not in request.headers or not self._range_applies(request):
            return 0, size
        try:
            start, stop, _ = request.http_range.indices(size)
        except ValueError:
            return 0, size
        if start >= stop:
            self.set_status(web.HTTPRequestRangeNotSatisfiable.status_code)
            self.headers["Content-Range"] = f"bytes */{size}"
            return 0, 0
        self.set_status(web.HTTPPartialContent.status_code)
        self.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        return start, stop

    def _range_applies(self, request: web.BaseRequest) -> bool:
        """If-Range names the version that the client has a part of; another one is sent whole (RFC 9110 §13.1.5)."""
        known = request.headers.get("If-Range")
        return known is None or known == f'"{self.artifact.etag}"'

    async def _send_body(self, request: web.BaseRequest, start: int, stop: int) -> None:
        loop = asyncio.get_running_loop()
        for piece in pieces(self.artifact, start, stop):
            if piece.path is None:
                await self.write(bytes(piece.count))
                self.sent += piece.count
                continue
            transport = request.transport
            if transport is None:
                raise ConnectionResetError("the client closed the connection")
            with piece.path.open("rb") as file:
                count = await loop.sendfile(transport, file, piece.offset, piece.count)
            self.sent += count
            if count < piece.count:
                raise ConnectionResetError(f"{piece.path} is shorter than it was")
        await self.write_eof()
