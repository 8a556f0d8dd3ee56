"""Asks the upstream servers: which they are, one query for all who wait for it, random ports and ids, TCP when cut off."""

import asyncio
import logging
import os
import secrets
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address
from pathlib import Path

from bootsvc.dns.cache import Cache, Key
from bootsvc.dns.packet import CD, Body, Query, Response, parse_response, serialize_query
from bootsvc.dns.records import Rcode
from bootsvc.errors import MalformedPacket

log = logging.getLogger(__name__)

PORT = 53
TRY_SECONDS = 1.5
"""How long one server may take; then the next one is asked, and at the end the first again."""
ROUNDS = 2
TCP_SECONDS = 4.0
MAX_PENDING = 256
"""Different questions asked upstream at one time, each with a socket of its own."""
MAX_WAITING = 2048
"""Clients that wait for them."""
MAX_WAITING_PER_CLIENT = 128
CHECK_SECONDS = 2.0
MAX_SERVERS = 4
_STUB = IPv4Address("127.0.0.53")

RESOLV_CONF = Path("/etc/resolv.conf")
BEHIND_STUB = Path("/run/systemd/resolve/resolv.conf")
"""The servers that systemd-resolved itself asks; through its stub a question could come back to us."""

_FAILED = Body(rcode=Rcode.SERVFAIL, counts=(0, 0, 0), data=b"")
Server = IPv4Address | IPv6Address
Done = Callable[[Body], None]


@dataclass(slots=True)
class UpstreamCounters:
    """Of the forwarder, for `/status`."""

    asked: int = 0
    cached: int = 0
    shared: int = 0
    """Questions that somebody else was waiting for already."""
    failed: int = 0
    dropped: int = 0
    """Questions beyond a cap."""


def read_resolv_conf(text: str, own: Sequence[Server]) -> tuple[Server, ...]:
    """The servers of a resolv.conf, without our own addresses."""
    found: list[Server] = []
    for line in text.splitlines():
        words = line.split()
        if len(words) < 2 or words[0] != "nameserver":
            continue
        try:
            server = ip_address(words[1])
        except ValueError:
            continue
        if server not in own and server not in found:
            found.append(server)
    return tuple(found[:MAX_SERVERS])


class HostServers:
    """The servers of this machine's resolv.conf; the file is looked at again now and then."""

    def __init__(self, own: Sequence[Server], path: Path = RESOLV_CONF, behind: Path = BEHIND_STUB) -> None:
        self._own = own
        self._paths = (path, behind)
        self._seen: tuple[object, ...] = ()
        self._servers: tuple[Server, ...] = ()
        self._next_check = 0.0

    def __call__(self, now: float) -> tuple[Server, ...]:
        if now >= self._next_check:
            self._next_check = now + CHECK_SECONDS
            seen = tuple(map(_identity, self._paths))
            if seen != self._seen:
                self._seen = seen
                self._servers = self._read()
        return self._servers

    def _read(self) -> tuple[Server, ...]:
        path, behind = self._paths
        servers = read_resolv_conf(_text(path), self._own)
        if _STUB in servers:
            servers = read_resolv_conf(_text(behind), self._own) or servers
        return servers


class Forwarder:
    """Asks `servers` on behalf of clients; runs inside `group`."""

    def __init__(
        self,
        group: asyncio.TaskGroup,
        servers: Callable[[float], Sequence[Server]],
        counters: UpstreamCounters,
        *,
        port: int = PORT,
    ) -> None:
        self._group = group
        self._servers = servers
        self._port = port
        self._cache = Cache()
        self._pending: dict[Key, list[tuple[str, Done]]] = {}
        self._waiting = 0
        self._by_client: dict[str, int] = {}
        self._preferred: Server | None = None
        self.counters = counters

    def ask(self, query: Query, client: str, done: Done) -> bool:
        """Call `done` with the answer, at once when it is known; False when too much is asked already."""
        edns = query.edns
        key = Key(
            question=query.question[:-5].lower() + query.question[-5:],
            dnssec_ok=edns is not None and edns.dnssec_ok,
            checking_disabled=bool(query.flags & CD),
        )
        now = asyncio.get_running_loop().time()
        found = self._cache.find(key, now)
        if found is not None:
            self.counters.cached += 1
            done(found)
            return True
        waiters = self._pending.get(key)
        if (
            (waiters is None and len(self._pending) >= MAX_PENDING)
            or self._waiting >= MAX_WAITING
            or self._by_client.get(client, 0) >= MAX_WAITING_PER_CLIENT
        ):
            self.counters.dropped += 1
            return False
        self._waiting += 1
        self._by_client[client] = self._by_client.get(client, 0) + 1
        if waiters is not None:
            self.counters.shared += 1
            waiters.append((client, done))
            return True
        self._pending[key] = [(client, done)]
        self._group.create_task(self._resolve(key, self._servers(now)))
        return True

    @property
    def servers(self) -> Sequence[Server]:
        return self._servers(asyncio.get_running_loop().time())

    def forget(self) -> None:
        """Empty the cache: other servers may say something else."""
        self._cache.clear()

    async def _resolve(self, key: Key, servers: Sequence[Server]) -> None:
        body = _FAILED
        try:
            body = await self._find(key, servers)
        except Exception:
            log.exception("dns question %r", key.question)
        finally:
            waiters = self._pending.pop(key)
            for client, _ in waiters:
                self._waiting -= 1
                left = self._by_client[client] - 1
                if left:
                    self._by_client[client] = left
                else:
                    del self._by_client[client]
        self._cache.put(key, body, asyncio.get_running_loop().time())
        if body is _FAILED:
            self.counters.failed += 1
        for _, done in waiters:
            done(body)

    async def _find(self, key: Key, servers: Sequence[Server]) -> Body:
        """The first useful answer; a server that answered last time is asked first."""
        ordered = sorted(servers, key=lambda server: server != self._preferred)
        last = _FAILED
        for server in [*ordered] * ROUNDS:
            try:
                response = await self._exchange(server, key)
            except (OSError, TimeoutError, MalformedPacket, asyncio.IncompleteReadError) as exc:
                log.debug("dns upstream %s: %r", server, exc)
                continue
            if response.body.rcode in (Rcode.NOERROR, Rcode.NXDOMAIN):
                self._preferred = server
                return response.body
            last = response.body
        return last

    async def _exchange(self, server: Server, key: Key) -> Response:
        response = await self._udp(server, key, edns=True)
        if response.body.rcode in (Rcode.FORMERR, Rcode.NOTIMP):
            # A server that does not know EDNS (RFC 6891 §7).
            response = await self._udp(server, key, edns=False)
        if response.truncated:
            response = await self._tcp(server, key)
        return response

    async def _udp(self, server: Server, key: Key, *, edns: bool) -> Response:
        self.counters.asked += 1
        loop = asyncio.get_running_loop()
        family = socket.AF_INET if server.version == 4 else socket.AF_INET6
        with socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC) as sock:
            # Connected: the kernel chooses a random port, and drops what others send there.
            sock.connect((str(server), self._port))
            identifier, data = _query(key, edns=edns)
            async with asyncio.timeout(TRY_SECONDS):
                await loop.sock_sendall(sock, data)
                while True:
                    received = await loop.sock_recv(sock, 65535)
                    response = _matching(received, identifier, key)
                    if response is not None:
                        return response

    async def _tcp(self, server: Server, key: Key) -> Response:
        self.counters.asked += 1
        async with asyncio.timeout(TCP_SECONDS):
            reader, writer = await asyncio.open_connection(str(server), self._port)
            try:
                identifier, data = _query(key, edns=True)
                writer.write(len(data).to_bytes(2, "big") + data)
                size = int.from_bytes(await reader.readexactly(2), "big")
                response = _matching(await reader.readexactly(size), identifier, key)
            finally:
                writer.close()
        if response is None or response.truncated:
            raise MalformedPacket("dns", 0, "an answer to another question")
        return response


def _query(key: Key, *, edns: bool) -> tuple[int, bytes]:
    identifier = secrets.randbits(16)
    flags = CD if key.checking_disabled else 0
    return identifier, serialize_query(identifier, key.question, flags=flags, dnssec_ok=key.dnssec_ok, edns=edns)


def _matching(data: bytes, identifier: int, key: Key) -> Response | None:
    """The response when it is one to this query; a forged or late one is not worth ending the wait."""
    try:
        response = parse_response(data)
    except MalformedPacket:
        return None
    same = response.question[:-5].lower() + response.question[-5:] == key.question
    return response if same and response.id == identifier else None


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_ino, info.st_mtime_ns


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(65536).decode(errors="replace")
    except OSError:
        return ""
