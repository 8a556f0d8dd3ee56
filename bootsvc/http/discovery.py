"""What the iPXE of an unknown machine fetches: it becomes a discoverable node, or shows who it is and asks again."""

import asyncio
import logging
import time
from collections.abc import Callable
from ipaddress import AddressValueError, IPv4Address

from aiohttp import web

from bootsvc.config import Config
from bootsvc.dhcp.settings import Mode, Unknown
from bootsvc.discovery import Places, discover_all, find_place
from bootsvc.http.lines import Lines
from bootsvc.http.peers import local_address, peer_of
from bootsvc.net.udp import Budget
from bootsvc.registry import Registry
from bootsvc.server_urls import ServerUrls
from bootsvc.store import Snapshot, Store
from images.errors import Error
from netboot import hwaddr as hardware
from netboot import ipxe, urls

log = logging.getLogger(__name__)

LOAD_SECONDS = 10.0
"""How long a discovered machine waits for the server to have read the changed nodes.conf."""
_LOOK_SECONDS = 0.05
MAX_ATTEMPTS = 40
"""How often an unknown machine asks again before its firmware goes on to the next boot device: about ten minutes."""


class Discovery:
    """The handler; `registry` and `config` give what is valid now, `identify` the machine that has an address."""

    def __init__(
        self,
        store: Store,
        config: Callable[[], Config],
        registry: Callable[[], Registry],
        identify: Callable[[IPv4Address], str | None],
        server_urls: ServerUrls,
    ) -> None:
        self._store = store
        self._config = config
        self._registry = registry
        self._identify = identify
        self._urls = server_urls
        # Discoveries rewrite nodes.conf, though those that come meanwhile share one change.
        self._budget = Budget(rate=20, burst=1000)
        self._lines = Lines(rate=20, burst=1000)
        self._lock = asyncio.Lock()
        self._asking: dict[str, asyncio.Future[str | None]] = {}

    def routes(self) -> list[web.RouteDef]:
        return [web.get(urls.ROUTE_DISCOVER, self._discover, allow_head=False)]

    async def _discover(self, request: web.Request) -> web.Response:
        hwaddr, server = _hwaddr(request), self._urls.at(local_address(request))
        attempt = request.query.get("attempt", "0")
        count = int(attempt) if attempt.isascii() and attempt.isdigit() and len(attempt) < 5 else MAX_ATTEMPTS
        if self._config().dhcp.unknown is Unknown.IGNORE and self._registry().by_hwaddr(hwaddr) is None:
            raise web.HTTPNotFound(text="unknown machines are ignored here\n")
        self._check_peer(request, hwaddr)
        try:
            name = await self._place(hwaddr)
        except (Error, OSError) as exc:
            self._lines.say("DISCOVER", peer_of(request, hwaddr), None, why=str(exc), level=logging.WARNING)
            name = None
        if name is None:
            self._lines.say("DISCOVER", peer_of(request, hwaddr), None, why="no node is discoverable")
            again = server.discover(hwaddr, count + 1) if count < MAX_ATTEMPTS else None
            return _text(ipxe.who_are_you(hwaddr, again))
        return _text(ipxe.discovered(name, server.ipxe(hwaddr)))

    def _check_peer(self, request: web.Request, hwaddr: str) -> None:
        """Only a machine that got its address for this very hardware address may become a node by it."""
        peer = _peer(request)
        config = self._config()
        if peer is None:
            raise web.HTTPForbidden(text="only machines of the boot networks can be discovered\n")
        if config.dhcp.enabled and config.dhcp.mode is Mode.AUTHORITATIVE:
            if self._identify(peer) == hwaddr:
                return
        elif config.network is None or peer in config.network:
            # Another server gave the address; who has it is not known here.
            return
        raise web.HTTPForbidden(text=f"{peer} is not the address of {hwaddr}\n")

    async def _place(self, hwaddr: str) -> str | None:
        """The node that the machine is, or has become; None when no node waits for one."""
        known = self._registry().by_hwaddr(hwaddr)
        if known is not None:
            return known.id
        if find_place(self._registry()) is None or not self._budget.take(time.monotonic()):
            return None
        place = self._asking.setdefault(hwaddr, asyncio.get_running_loop().create_future())
        # One change at a time here, for all who came during the last one; the lock of nodes.conf keeps other programs away.
        async with self._lock:
            if not place.done():
                await self._register_all()
        # Who goes away must not cancel what others wait for.
        name = await asyncio.shield(place)
        if name is not None:
            await self._until_loaded(hwaddr)
        return name

    async def _register_all(self) -> None:
        asking, self._asking = self._asking, {}
        try:
            places = await asyncio.to_thread(self._register, list(asking))
        except (Error, OSError) as exc:
            for place in asking.values():
                place.set_exception(exc)
                # Whoever asked may be gone.
                place.exception()
            return
        except BaseException:
            for place in asking.values():
                place.cancel()
            raise
        for hwaddr, name in places.new.items():
            log.warning("node %s is now the machine with hwaddr %s: it was discovered", name, hwaddr)
        for hwaddr, place in asking.items():
            place.set_result(places.known.get(hwaddr) or places.new.get(hwaddr))

    def _register(self, hwaddrs: list[str]) -> Places:
        found = Places(known={}, new={}, snapshot=Snapshot())

        def change(snapshot: Snapshot) -> Snapshot:
            nonlocal found
            found = discover_all(snapshot, hwaddrs, self._config(), self._registry())
            return found.snapshot

        # A store of its own: this thread must not share what another one has read.
        Store(self._store.path, self._store.cache).edit(change)
        return found

    async def _until_loaded(self, hwaddr: str) -> None:
        """The server notices the changed file by itself; the machine's next request must find its node."""
        for _ in range(int(LOAD_SECONDS / _LOOK_SECONDS)):
            if self._registry().by_hwaddr(hwaddr) is not None:
                return
            await asyncio.sleep(_LOOK_SECONDS)


def _hwaddr(request: web.Request) -> str:
    try:
        return hardware.parse(request.match_info["wwid"])
    except Error as exc:
        raise web.HTTPBadRequest(text=f"{exc.message}\n") from exc


def _peer(request: web.Request) -> IPv4Address | None:
    try:
        return IPv4Address(request.remote or "")
    except AddressValueError:
        return None


def _text(script: str) -> web.Response:
    return web.Response(text=script, headers={"Cache-Control": "no-store"})
