"""An HTTP client as boot loaders have it: one GET a connection, from the machine's own address, hashed as it comes."""

import asyncio
import hashlib
import socket
from collections.abc import Callable
from urllib.parse import urlsplit

STALL_SECONDS = 20.0
"""Without one more byte the connection is given up."""
MAX_KEPT = 1 << 20
"""Of an answer, the first so many bytes are kept; longer ones are only hashed."""
READ = 1 << 18
_buffer = memoryview(bytearray(READ))


class HttpFailed(Exception):
    """The connection ended before the answer did."""


class Download:
    """One file over as many connections as it takes; with `resumes` the next one asks for what is missing."""

    def __init__(self, address: str, url: str, *, resumes: bool, on_bytes: Callable[[int], None] | None = None) -> None:
        self._address = address
        self._url = urlsplit(url)
        self._resumes = resumes
        self._on_bytes = on_bytes
        self.resumed = 0
        self.etag = ""
        self._clear()

    def _clear(self) -> None:
        self.received = 0
        self.kept = bytearray()
        self._hash = hashlib.sha256()
        self.size = -1

    @property
    def digest(self) -> str:
        return self._hash.hexdigest()

    async def attempt(self) -> int:
        """The status of one answer that came whole. Raises HttpFailed."""
        loop = asyncio.get_running_loop()
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        try:
            async with asyncio.timeout(STALL_SECONDS):
                sock.bind((self._address, 0))
                await loop.sock_connect(sock, (self._url.hostname, self._url.port))
                await loop.sock_sendall(sock, self._request())
                status, length, rest = await self._head(sock)
            end = self.received + length
            self._take(rest)
            await self._body(sock, end)
        except (OSError, TimeoutError) as exc:
            raise HttpFailed(repr(exc)) from exc
        finally:
            sock.close()
        if self.received != end:
            raise HttpFailed(f"{self.received} of {end} bytes")
        return status

    def _request(self) -> bytes:
        path = self._url.path + (f"?{self._url.query}" if self._url.query else "")
        lines = [f"GET {path} HTTP/1.1", f"Host: {self._url.netloc}", "User-Agent: iPXE/1.21.1"]
        if self._resumes and self.received and self.etag:
            lines += [f"Range: bytes={self.received}-", f"If-Range: {self.etag}"]
        return "\r\n".join([*lines, "", ""]).encode()

    async def _head(self, sock: socket.socket) -> tuple[int, int, bytes]:
        loop, data = asyncio.get_running_loop(), b""
        while b"\r\n\r\n" not in data:
            more = await loop.sock_recv(sock, 4096)
            if not more:
                raise HttpFailed("no answer")
            data += more
        head, _, rest = data.partition(b"\r\n\r\n")
        first, *lines = head.decode().split("\r\n")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        status = int(first.split()[1])
        if status == 206:
            if not fields["content-range"].startswith(f"bytes {self.received}-"):
                raise HttpFailed(f"another range than asked for: {fields['content-range']}")
            self.resumed += 1
        else:
            self._clear()
        self.etag = fields.get("etag", "")
        length = int(fields["content-length"])
        self.size = self.received + length
        return status, length, rest

    async def _body(self, sock: socket.socket, end: int) -> None:
        """Reading in the callback costs one call for each READ bytes, and no task switch."""
        loop = asyncio.get_running_loop()
        done: asyncio.Future[None] = loop.create_future()

        def readable() -> None:
            try:
                size = sock.recv_into(_buffer)
            except BlockingIOError:
                return
            except OSError as exc:
                if not done.done():
                    done.set_exception(exc)
                return
            self._take(_buffer[:size])
            if (not size or self.received >= end) and not done.done():
                done.set_result(None)

        if self.received >= end:
            return
        loop.add_reader(sock.fileno(), readable)
        try:
            while not done.done():
                before = self.received
                await asyncio.wait([done], timeout=STALL_SECONDS)
                if not done.done() and self.received == before:
                    raise HttpFailed(f"stalled after {self.received} bytes")
            done.result()
        finally:
            loop.remove_reader(sock.fileno())

    def _take(self, data: "bytes | memoryview") -> None:
        self._hash.update(data)
        self.received += len(data)
        if len(self.kept) < MAX_KEPT:
            self.kept += data
        if self._on_bytes is not None:
            self._on_bytes(len(data))
