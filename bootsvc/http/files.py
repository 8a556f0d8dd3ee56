"""Answers that are sent as they lie on disk or in memory, heads included; Range, ETag and HEAD (RFC 9110)."""

import logging
import time
from collections.abc import Callable, Generator
from email.utils import formatdate
from http import HTTPStatus
from typing import Self

from aiohttp import web
from aiohttp.abc import AbstractStreamWriter

from bootsvc.artifacts import Artifact
from bootsvc.http.connection import Connection
from bootsvc.http.ranges import is_known, parse_range, range_applies
from bootsvc.http.sending import Pieces, Sender, pieces
from netboot import urls

log = logging.getLogger(__name__)

READ_BYTES = 256 << 10
"""At once, where sendfile cannot be used."""
_PHRASES = {int(status): status.phrase for status in HTTPStatus}
_OCTETS = "application/octet-stream"


class Answer(web.StreamResponse):
    """An answer that writes its own head. `complete` says that the body's last byte was written, and the beginning too.

    `on_delivered` is called once the peer's TCP has acknowledged that byte, and never if it does not.
    """

    def __init__(self, *, status: int = 200, on_delivered: Callable[[int], None] | None = None) -> None:
        super().__init__(status=status)
        self.on_delivered = on_delivered
        self.complete = False
        self.sent = 0
        self.at_hand = True
        """Whether it is sent without reading a file."""

    async def prepare(self, request: web.BaseRequest) -> AbstractStreamWriter | None:
        """Send everything; aiohttp calls this once more after the handler, for nothing.

        Raises ConnectionError when the body could not be sent whole: the connection must end there, for whatever else is
        written to it would be taken for a part of the file.
        """
        if not self.at_once(request):
            await self._send(request)
            self._eof_sent = True
        return None

    def at_once(self, request: web.BaseRequest) -> bool:
        """Send everything if that needs no waiting; False: nothing was sent, and `prepare` is to be called.

        Raises ConnectionError as `prepare`.
        """
        if not self._eof_sent:
            self._keep_alive = request.keep_alive
            self._eof_sent = self._write_whole(request)
        return self._eof_sent

    def _write_whole(self, request: web.BaseRequest) -> bool:
        """Write head and body when all of it is in memory; False: nothing was written."""
        raise NotImplementedError

    async def _send(self, request: web.BaseRequest) -> None:
        """What `_write_whole` could not write."""
        raise NotImplementedError

    def __await__(self) -> Generator[None, None, Self]:
        """A handler that need not wait returns its answer, where others return something to wait for."""
        yield from ()
        return self

    def _head(self, request: web.BaseRequest, fields: str) -> bytes:
        """Status line and fields (RFC 9112 §4); `Connection` where the version's own default is another."""
        connection = ""
        if not request.keep_alive:
            connection = "Connection: close\r\n"
        elif request.version < (1, 1):
            connection = "Connection: keep-alive\r\n"
        return f"HTTP/1.1 {self.status} {_PHRASES[self.status]}\r\nDate: {_date()}\r\n{connection}{fields}\r\n".encode()


def _date() -> str:
    """Now, made once a second."""
    global _stamp
    now = int(time.time())
    if _stamp[0] != now:
        _stamp = (now, formatdate(now, usegmt=True))
    return _stamp[1]


_stamp = (0, "")


def _write(request: web.BaseRequest, data: bytes) -> None:
    if request.transport is None:
        raise ConnectionResetError("the client closed the connection")
    request.transport.write(data)


class BytesAnswer(Answer):
    """A script or a small file, from memory."""

    def __init__(
        self,
        body: bytes,
        *,
        status: int = 200,
        content_type: str = "text/plain; charset=utf-8",
        cache_control: str = urls.NO_STORE,
        allow: str = "",
        on_delivered: Callable[[int], None] | None = None,
    ) -> None:
        """`allow`: the methods that may be used here, which a 405 must name (RFC 9110 §15.5.6)."""
        super().__init__(status=status, on_delivered=on_delivered)
        self._bytes = body
        self._fields = f"Content-Type: {content_type}\r\nCache-Control: {cache_control}\r\nContent-Length: {len(body)}\r\n"
        if allow:
            self._fields += f"Allow: {allow}\r\n"

    def _write_whole(self, request: web.BaseRequest) -> bool:
        head = self._head(request, self._fields)
        if request.method == "HEAD":
            _write(request, head)
        else:
            _write(request, head + self._bytes)
            self.sent, self.complete = len(self._bytes), True
        return True


class ArtifactResponse(Answer):
    """Sends an Artifact; `held` are its bytes, where they are in memory already."""

    def __init__(
        self,
        artifact: Artifact,
        *,
        cache_control: str = urls.NO_CACHE,
        on_delivered: Callable[[int], None] | None = None,
        held: bytes | None = None,
    ) -> None:
        super().__init__(on_delivered=on_delivered)
        self.artifact = artifact
        self._cache_control = cache_control
        self._held = held
        self.at_hand = held is not None

    def _write_whole(self, request: web.BaseRequest) -> bool:
        if self._held is None:
            return False
        head, due = self._begin(request)
        if due is None:
            _write(request, head)
        else:
            start, stop = due
            _write(request, head + self._held[start:stop])
            self.sent, self.complete = stop - start, stop == self.artifact.size
        return True

    async def _send(self, request: web.BaseRequest) -> None:
        head, due = self._begin(request)
        if due is None:
            return _write(request, head)
        await self._send_files(request, head, *due)
        self.complete = due[1] == self.artifact.size

    def _begin(self, request: web.BaseRequest) -> tuple[bytes, tuple[int, int] | None]:
        """The head, and which bytes are due after it; None for no body."""
        start, stop, content_range = self._decide(request)
        fields = (
            f"Content-Type: {_OCTETS}\r\nCache-Control: {self._cache_control}\r\nAccept-Ranges: bytes\r\n"
            f'ETag: "{self.artifact.etag}"\r\n{content_range}'
        )
        if self.status == HTTPStatus.NOT_MODIFIED:
            return self._head(request, fields), None
        head = self._head(request, f"{fields}Content-Length: {stop - start}\r\n")
        bare = request.method == "HEAD" or self.status == HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
        return head, None if bare else (start, stop)

    def _decide(self, request: web.BaseRequest) -> tuple[int, int, str]:
        """Set the status, and say which bytes are due, with the field that says so."""
        size, etag, headers = self.artifact.size, self.artifact.etag, request.headers
        if is_known(headers.get("If-None-Match"), etag):
            self.set_status(HTTPStatus.NOT_MODIFIED)
            return 0, 0, ""
        header = headers.get("Range")
        found = None
        if header is not None and range_applies(headers.get("If-Range"), etag):
            found = parse_range(header, size)
        if found is None:
            return 0, size, ""
        start, stop = found
        if start >= stop:
            self.set_status(HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE)
            return 0, 0, f"Content-Range: bytes */{size}\r\n"
        self.set_status(HTTPStatus.PARTIAL_CONTENT)
        return start, stop, f"Content-Range: bytes {start}-{stop - 1}/{size}\r\n"

    async def _send_files(self, request: web.BaseRequest, head: bytes, start: int, stop: int) -> None:
        """Raises FileNotFoundError before anything was sent, and ConnectionError afterwards."""
        due = Pieces(pieces(self.artifact.parts, start, stop))
        try:
            _write(request, head)
            await request.writer.drain()
            connection = request.protocol
            assert isinstance(connection, Connection)
            if request.secure:
                await self._read_and_write(request, due)
            else:
                sender = Sender(connection, due)
                try:
                    await sender.run()
                finally:
                    self.sent = sender.sent
        except OSError as exc:
            if not isinstance(exc, ConnectionError):
                log.error("http a file could not be sent to its end to %s: %s", request.remote, exc)
            if request.transport is not None:
                request.transport.close()
            raise ConnectionResetError(str(exc)) from exc
        finally:
            due.close()

    async def _read_and_write(self, request: web.BaseRequest, due: Pieces) -> None:
        while not due.done:
            data = due.read(READ_BYTES)
            _write(request, data)
            await request.writer.drain()
            self.sent += len(data)
            due.took(len(data))
