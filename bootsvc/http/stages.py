"""The boot over HTTP: each stage of a node under Warewulf's URLs, content by digest, and the node's own report."""

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from functools import partial
from ipaddress import IPv4Address
from typing import Protocol

from aiohttp import web
from msgspec.structs import replace

from bootsvc.bootfiles import SCRIPTS, Asked, BootFiles, Found, Identify, Reason, Refused
from bootsvc.boots import BootEvent
from bootsvc.errors import BadState
from bootsvc.http.files import Answer, ArtifactResponse, BytesAnswer
from bootsvc.http.held import HeldArtifacts
from bootsvc.http.lines import Lines
from bootsvc.http.peers import Peer, is_privileged, local_address, peer_of
from images.errors import Error
from netboot import hwaddr as hardware
from netboot import urls
from netboot.node import Node
from netboot.urls import Event, Stage

log = logging.getLogger(__name__)

_STATUS = {
    Reason.UNKNOWN_NODE: 400,
    Reason.BAD_REQUEST: 400,
    Reason.BAD_ASSET: 401,
    Reason.DENIED: 401,
    Reason.TLS_ONLY: 403,
    Reason.NOT_FOUND: 404,
}
GRUB_CFG = "grub.cfg"
REPEAT_SECONDS = 1.0
"""Within which the same event of the same machine counts once."""
MAX_TOLD = 20_000
"""Machines whose last event is remembered for that."""


Recorder = Callable[[BootEvent], None]
"""Where boot events go."""


class Kept(Protocol):
    """Waits until what was recorded is on disk; raises BadState when that cannot be."""

    def __call__(self) -> Awaitable[None]: ...


async def _at_once() -> None:
    """Of a recorder that keeps nothing."""


class Stages:
    """The handlers."""

    def __init__(self, files: BootFiles, identify: Identify, record: Recorder, kept: Kept = _at_once) -> None:
        self._files = files
        self._identify = identify
        self._record = record
        self._kept = kept
        self._held = HeldArtifacts()
        self._lines = Lines()
        self._told: dict[str, tuple[tuple[str, str, IPv4Address | None], float]] = {}

    def routes(self) -> list[web.RouteDef]:
        get = web.get
        return [
            get(urls.ROUTE_STAGE, self._stage),
            get(urls.ROUTE_STAGE_QUERY, self._stage),
            get(urls.ROUTE_PROVISION, self._stage),
            get(urls.ROUTE_PROVISION_QUERY, self._stage),
            get(urls.ROUTE_EFIBOOT, self._efiboot),
            get(urls.ROUTE_GENERATION_IMAGE, self._image),
            get(urls.ROUTE_GENERATION_END, self._content(self._files.generation_end)),
            get(urls.ROUTE_GENERATION_MANIFEST, self._content(self._files.generation_manifest)),
            get(urls.ROUTE_BLOB, self._content(self._files.blob)),
            get(urls.ROUTE_REPORT, self._report, allow_head=False),
        ]

    def _stage(self, request: web.Request) -> Awaitable[web.StreamResponse]:
        """`/{stage}/{wwid}`, `/{stage}?wwid=` and `/provision/{wwid}?stage=`."""
        word = request.match_info.get("stage") or request.query.get("stage", Stage.IPXE.value)
        stage = urls.stage(word)
        if stage is None:
            return _refuse(Reason.BAD_REQUEST, f"there is no stage {word!r}")
        return self._script(request, stage) if stage in SCRIPTS else self._send_stage(request, stage)

    def _script(self, request: web.Request, stage: Stage) -> Answer:
        try:
            asked = self._asked(request)
        except Error as exc:
            return _refuse(Reason.BAD_REQUEST, exc.message)
        peer = peer_of(request, asked.hwaddr)
        try:
            found = self._files.script(stage, asked)
        except Refused as exc:
            return self._refused(exc, peer, stage)
        if found.node is None:
            self._lines.say(stage.name, peer, None, f"sent={Reason.UNKNOWN_NODE.value}")
        if stage is Stage.GRUB and found.node is None:
            # As Warewulf; a machine that no node has gets its script from `/efiboot/grub.cfg`.
            return _refuse(Reason.NOT_FOUND, f"no node has the hardware address {asked.hwaddr!r}")
        return self._answer(found, peer)

    async def _send_stage(self, request: web.Request, stage: Stage) -> web.StreamResponse:
        """What may have to be made first, or lies in files."""
        try:
            asked = self._asked(request)
        except Error as exc:
            return _refuse(Reason.BAD_REQUEST, exc.message)
        peer = peer_of(request, asked.hwaddr)
        try:
            return await self._send(request, await self._files.stage(stage, asked), peer)
        except Refused as exc:
            return self._refused(exc, peer, stage)

    def _asked(self, request: web.Request) -> Asked:
        """Raises Error where nothing says which machine is meant."""
        return Asked(
            hwaddr=self._hwaddr(request),
            query=request.query,
            secure=request.secure,
            privileged=is_privileged(request),
            local=local_address(request),
        )

    def _refused(self, refused: Refused, peer: Peer, stage: Stage) -> BytesAnswer:
        if refused.node is not None:
            self._event(peer, refused.node, stage.value, refused.reason.value, why=refused.message)
        elif refused.reason is Reason.UNKNOWN_NODE:
            self._lines.say(stage.name, peer, None, f"sent={refused.reason.value}")
        return _refuse(refused.reason, refused.message)

    async def _efiboot(self, request: web.Request) -> web.StreamResponse:
        """shim, GRUB and its script, for firmware that boots over HTTP; the node is the one that asks."""
        name = request.match_info["file"]
        try:
            hwaddr = self._hwaddr(request)
        except Error as exc:
            # The loaders themselves are for everybody.
            if request.query.get("wwid") or name == GRUB_CFG:
                return _refuse(Reason.BAD_REQUEST, exc.message)
            hwaddr = ""
        peer = peer_of(request, hwaddr)
        try:
            if name == GRUB_CFG:
                asked = Asked(hwaddr=hwaddr, query=request.query, secure=request.secure, local=local_address(request))
                return await self._send(request, await self._files.stage(Stage.GRUB, asked), peer)
            loader = await asyncio.to_thread(self._files.loader, name, self._files.registry().by_hwaddr(hwaddr))
            if loader is None:
                return _refuse(Reason.NOT_FOUND, f"there is no boot loader {name!r}, neither in the image nor on the server")
            return await self._send(request, loader, peer)
        except Refused as exc:
            return self._refused(exc, peer, Stage.GRUB)

    def _content(self, find: Callable[[str], Found]) -> Callable[[web.Request], Awaitable[web.StreamResponse]]:
        """What is named by a digest, for whoever asks; the peer's address says which node that is."""

        def handler(request: web.Request) -> Awaitable[web.StreamResponse]:
            try:
                found = find("sha256:" + request.match_info["digest"])
            except (Refused, FileNotFoundError) as exc:
                return _refuse(Reason.NOT_FOUND, str(exc))
            answer = self._answer(found, peer_of(request, ""))
            return answer if answer.at_hand else self._send_content(request, answer, found)

        return handler

    async def _image(self, request: web.Request) -> web.StreamResponse:
        """Not `_content`: it is no small answer, and looking for its segments takes a while."""
        return await self._content(self._files.generation_image)(request)

    async def _send_content(self, request: web.Request, answer: Answer, found: Found) -> web.StreamResponse:
        try:
            return await self._send_files(request, answer, found, peer_of(request, ""))
        except Refused as exc:
            return _refuse(Reason.NOT_FOUND, str(exc))

    async def _send(self, request: web.Request, found: Found, peer: Peer) -> web.StreamResponse:
        return await self._send_files(request, self._answer(found, peer), found, peer)

    def _answer(self, found: Found, peer: Peer) -> BytesAnswer | ArtifactResponse:
        """An event is recorded only when the peer's TCP acknowledged the last byte (not for HEAD, 304 or 416)."""
        node = found.node
        if found.problem and node is not None:
            self._event(peer, node, found.stage, found.name, why=found.why)
        delivered: Callable[[int], None] | None = None
        if found.stage and not found.problem:
            delivered = partial(self._delivered, peer, found)
        if found.artifact is None:
            return BytesAnswer(found.script, on_delivered=delivered)
        held = self._held.find(found.artifact)
        return ArtifactResponse(found.artifact, cache_control=found.cache_control, on_delivered=delivered, held=held)

    async def _send_files(self, request: web.Request, answer: Answer, found: Found, peer: Peer) -> web.StreamResponse:
        """Raises Refused when that cannot begin."""
        if found.stage and not answer.at_hand and request.method == "GET":
            self._received(peer, found)
        try:
            await answer.prepare(request)
        except ConnectionError:
            raise
        except OSError as exc:
            log.warning("http %s: %s", found.name, exc)
            raise Refused(Reason.NOT_FOUND, f"{found.name} cannot be read: {exc.strerror or exc}", node=found.node) from exc
        return answer

    def _received(self, peer: Peer, found: Found) -> None:
        """A line when a file begins to be sent, which may take minutes; what lies in memory has one for its end alone."""
        whose = self._whose(peer, found)
        if whose is not None and found.artifact is not None:
            self._lines.say(f"{found.stage.upper()} received", *whose, f"file={found.name} size={found.artifact.size}")

    def _delivered(self, peer: Peer, found: Found, size: int) -> None:
        whose = self._whose(peer, found)
        # Nothing is recorded when nobody knows.
        if whose is not None:
            self._event(*whose, found.stage, found.name, size)

    def _whose(self, peer: Peer, found: Found) -> tuple[Peer, Node] | None:
        """The machine and its node: for content without a node in its URL, whose address asked."""
        node = found.node
        if node is not None and peer.hwaddr:
            return peer, node
        registry = self._files.registry()
        hwaddr = self._identify(peer.address) if peer.address is not None else None
        if node is None:
            node = registry.by_address(peer.address) if peer.address is not None else None
        if node is None and hwaddr is not None:
            node = registry.by_hwaddr(hwaddr)
        if node is None:
            return None
        known = hwaddr or next((own for own, _ in node.hwaddrs()), "")
        return replace(peer, hwaddr=known), node

    async def _report(self, request: web.Request) -> web.StreamResponse:
        """The node says of itself that it is up, or that its boot script failed; only its own address may say so."""
        word = request.query.get("event", "")
        try:
            event, hwaddr = Event(word), self._hwaddr(request)
        except ValueError:
            return _refuse(Reason.BAD_REQUEST, f"there is no event {word!r}")
        except Error as exc:
            return _refuse(Reason.BAD_REQUEST, exc.message)
        node = self._files.registry().by_hwaddr(hwaddr)
        if node is None:
            return _refuse(Reason.NOT_FOUND, f"no node has the hardware address {hwaddr!r}")
        peer = peer_of(request, hwaddr)
        own = {device.ipaddr for device in node.network_devices.values()}
        if peer.address is None or (peer.address not in own and self._identify(peer.address) != hwaddr):
            return BytesAnswer(f"{peer.remote} is not an address of {node.id}\n".encode(), status=403)
        generation = request.query.get("generation", "")
        self._event(peer, node, event.value, generation[:19] if urls.is_digest(generation) else "")
        try:
            # A node says this once: "ok" means that no crash forgets it.
            await self._kept()
        except BadState as exc:
            return BytesAnswer(f"{exc.message}\n".encode(), status=503)
        return BytesAnswer(b"ok\n")

    def _hwaddr(self, request: web.Request) -> str:
        """The hardware address that the URL names, else the one that the peer's address belongs to.

        What is none ends here, with an Error, and comes into no script and no log.
        """
        word = request.match_info.get("wwid") or request.query.get("wwid", "")
        if word:
            return hardware.parse(word)
        address = peer_of(request, "").address
        known = self._identify(address) if address is not None else None
        if known is None:
            raise Error(f"nobody knows which machine has the address {request.remote}: name it by `?wwid=`")
        return known

    def _event(self, peer: Peer, node: Node, stage: str, sent: str, size: int = 0, why: str = "") -> None:
        now = time.time()
        # A loader that asks in a loop, or somebody who wants to fill the log, tells nothing new.
        what = (stage, sent, peer.address)
        known = self._told.get(peer.hwaddr)
        if known is not None and known[0] == what and 0 <= now - known[1] < REPEAT_SECONDS:
            return
        if len(self._told) >= MAX_TOLD:
            self._told.clear()
        self._told[peer.hwaddr] = what, now
        self._lines.say(stage.upper(), peer, node, f"sent={sent}")
        hwaddr, ipaddr = peer.hwaddr, peer.address
        self._record(
            BootEvent(hwaddr=hwaddr, node=node.id, stage=stage, sent=sent, size=size, ipaddr=ipaddr, why=why, when=now)
        )


def _refuse(reason: Reason, sentence: str) -> BytesAnswer:
    return BytesAnswer(f"{sentence}\n".encode(), status=_STATUS[reason])
