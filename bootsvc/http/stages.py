"""The boot over HTTP: each stage of a node under Warewulf's URLs, content by digest, and the node's own report."""

import logging
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address
from typing import Protocol

from aiohttp import web

from bootsvc.artifacts import Artifact, Artifacts
from bootsvc.boots import BootEvent
from bootsvc.http.files import ArtifactResponse
from bootsvc.registry import Registry
from images.errors import Error
from images.generation import Generation
from netboot import hwaddr as hardware
from netboot import ipxe, urls
from netboot.node import Node
from netboot.urls import Event, Stage, Urls

log = logging.getLogger(__name__)


FIRST_UNPRIVILEGED = 1024
"""Ports below are root's (ip(7), ip_unprivileged_port_start)."""


class Recorder(Protocol):
    """Where boot events go."""

    def __call__(self, event: BootEvent) -> None: ...


class Identify(Protocol):
    """Which machine has an address."""

    def __call__(self, address: IPv4Address) -> str | None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Sent:
    """What is to be recorded of a transfer once it is complete."""

    hwaddr: str
    node: Node
    stage: str
    name: str


class Stages:
    """The handlers; `registry` gives the nodes as they are now."""

    def __init__(
        self, artifacts: Artifacts, registry: Callable[[], Registry], identify: Identify, server_urls: Urls, record: Recorder
    ) -> None:
        self._artifacts = artifacts
        self._registry = registry
        self._identify = identify
        self._urls = server_urls
        self._record = record
        self._stages: dict[Stage, Callable[[web.Request, str, Node], Awaitable[web.StreamResponse]]] = {
            Stage.KERNEL: self._kernel,
            Stage.IMAGE: self._image,
            Stage.SYSTEM: self._overlay,
            Stage.RUNTIME: self._overlay,
        }

    def routes(self) -> list[web.RouteDef]:
        get = web.get
        return [
            get(urls.ROUTE_STAGE, self._stage),
            get(urls.ROUTE_STAGE_QUERY, self._stage),
            get(urls.ROUTE_PROVISION, self._stage),
            get(urls.ROUTE_GENERATION_IMAGE, self._generation_image),
            get(urls.ROUTE_GENERATION_END, self._generation_end),
            get(urls.ROUTE_GENERATION_MANIFEST, self._generation_manifest),
            get(urls.ROUTE_BLOB, self._blob),
            get(urls.ROUTE_REPORT, self._report, allow_head=False),
        ]

    async def _stage(self, request: web.Request) -> web.StreamResponse:
        """`/{stage}/{wwid}`, `/{stage}?wwid=` and `/provision/{wwid}?stage=`."""
        stage = self._which(request)
        _check_compress(request, stage)
        hwaddr = _hwaddr(request)
        node = self._registry().by_hwaddr(hwaddr)
        if stage is Stage.IPXE:
            return self._ipxe(request, hwaddr, node)
        if node is None:
            raise web.HTTPBadRequest(text=f"no node has the hardware address {hwaddr!r}\n")
        if not self._asset_key_fits(node, request):
            self._event(request, hwaddr, node, stage.value, "BAD_ASSET")
            raise web.HTTPUnauthorized(text="the asset key is not this node's\n")
        try:
            return await self._stages[stage](request, hwaddr, node)
        except ConnectionError:
            raise
        except (Error, OSError) as exc:
            log.warning("http %s node=%s hwaddr=%s: %s", stage.name, node.id, hwaddr, exc)
            self._event(request, hwaddr, node, stage.value, "NOT_FOUND")
            raise web.HTTPNotFound(text=f"{exc}\n") from exc

    def _which(self, request: web.Request) -> Stage:
        word = request.match_info.get("stage") or request.query.get("stage", Stage.IPXE.value)
        try:
            return Stage(word)
        except ValueError as exc:
            raise web.HTTPBadRequest(text=f"there is no stage {word!r}\n") from exc

    def _asset_key_fits(self, node: Node, request: web.Request) -> bool:
        return not node.asset_key or request.query.get("assetkey") == node.asset_key

    def _ipxe(self, request: web.Request, hwaddr: str, node: Node | None) -> web.Response:
        if node is None:
            log.info("http IPXE hwaddr=%s: no such node", hwaddr)
            return _text(ipxe.unknown(hwaddr))
        if not self._asset_key_fits(node, request):
            self._event(request, hwaddr, node, Stage.IPXE.value, "BAD_ASSET")
            return _text(ipxe.refusal(f"the asset key of {node.id} is another one"))
        try:
            generation = self._artifacts.generation(node)
            kernel = self._artifacts.kernel(node, generation)
        except Error as exc:
            log.warning("http IPXE node=%s hwaddr=%s: %s", node.id, hwaddr, exc)
            self._event(request, hwaddr, node, Stage.IPXE.value, "NOT_FOUND")
            return _text(ipxe.refusal(exc.message))
        self._event(request, hwaddr, node, Stage.IPXE.value, "default.ipxe")
        boot = ipxe.Boot(generation=generation.digest, kernel=kernel.digest)
        return _text(ipxe.script(node, boot, self._urls, hwaddr=hwaddr, secure=self._artifacts.secure))

    async def _kernel(self, request: web.Request, hwaddr: str, node: Node) -> web.StreamResponse:
        generation = self._artifacts.generation(node)
        kernel = self._artifacts.kernel(node, generation)
        sent = Sent(hwaddr=hwaddr, node=node, stage=Stage.KERNEL.value, name=kernel.path.rsplit("/", 1)[-1])
        return await self._send(request, self._artifacts.blob(kernel.digest), sent, cache_control="no-cache")

    async def _image(self, request: web.Request, hwaddr: str, node: Node) -> web.StreamResponse:
        generation = self._artifacts.generation(node)
        gzip = _wants_gzip(request)
        artifact = await self._artifacts.gzip_image(generation) if gzip else self._artifacts.image(generation)
        sent = Sent(hwaddr=hwaddr, node=node, stage=Stage.IMAGE.value, name=generation.manifest.image)
        return await self._send(request, artifact, sent, cache_control="no-cache")

    async def _overlay(self, request: web.Request, hwaddr: str, node: Node) -> web.StreamResponse:
        stage = self._which(request)
        if stage is Stage.RUNTIME and self._artifacts.secure and not _is_privileged(request):
            self._event(request, hwaddr, node, f"{stage.value} overlay", "DENIED")
            raise web.HTTPUnauthorized(text="the runtime overlay is for ports below 1024 only (`secure` in warewulf.conf)\n")
        pinned = request.query.get("generation")
        generation = self._find(pinned) if pinned else self._artifacts.generation(node)
        artifact = await self._artifacts.overlay(node, stage, generation)
        # Overlays are gzip in any case.
        artifact = artifact.unpadded if _wants_gzip(request) else artifact
        sent = Sent(hwaddr=hwaddr, node=node, stage=f"{stage.value} overlay", name=f"__{stage.name}__.img")
        return await self._send(request, artifact, sent, cache_control="no-cache")

    def _find(self, digest: str) -> Generation:
        """A generation that a script pinned; only whole digests name one, so that no path can be made of it."""
        generation = self._artifacts.published(digest) if urls.is_digest(digest) else None
        if generation is None:
            raise web.HTTPNotFound(text=f"there is no generation {digest}\n")
        return generation

    def _named(self, request: web.Request) -> Generation:
        return self._find("sha256:" + request.match_info["digest"])

    async def _generation_image(self, request: web.Request) -> web.StreamResponse:
        generation = self._named(request)
        try:
            artifact = self._artifacts.image(generation)
        except FileNotFoundError as exc:
            log.error("http IMAGE: %s", exc)
            raise web.HTTPNotFound(text=f"{exc}\n") from exc
        return await self._send(request, artifact, self._by_peer(request, Stage.IMAGE.value, generation.manifest.image))

    async def _generation_end(self, request: web.Request) -> web.StreamResponse:
        return await self._send(request, self._artifacts.end(self._named(request)))

    async def _generation_manifest(self, request: web.Request) -> web.StreamResponse:
        generation = self._named(request)
        return await self._send(request, Artifact.of_file(generation.manifest_path, generation.digest))

    async def _blob(self, request: web.Request) -> web.StreamResponse:
        digest = "sha256:" + request.match_info["digest"]
        try:
            artifact = self._artifacts.blob(digest)
        except FileNotFoundError as exc:
            raise web.HTTPNotFound(text=f"there is no blob {digest}\n") from exc
        return await self._send(request, artifact, self._by_peer(request, Stage.KERNEL.value, digest[:19]))

    async def _report(self, request: web.Request) -> web.StreamResponse:
        """The node says of itself that it is up, or that its boot script failed; only its own address may say so."""
        hwaddr = _hwaddr(request)
        node = self._registry().by_hwaddr(hwaddr)
        try:
            event = Event(request.query.get("event", ""))
        except ValueError as exc:
            raise web.HTTPBadRequest(text=f"there is no event {request.query.get('event')!r}\n") from exc
        if node is None:
            raise web.HTTPNotFound(text=f"no node has the hardware address {hwaddr!r}\n")
        peer = _peer(request)
        own = {device.ipaddr for device in node.network_devices.values()}
        if peer is None or (peer not in own and self._identify(peer) != hwaddr):
            raise web.HTTPForbidden(text=f"{request.remote} is not an address of {node.id}\n")
        generation = request.query.get("generation", "")
        self._event(request, hwaddr, node, event.value, generation[:19] if urls.is_digest(generation) else "")
        return web.Response(text="ok\n")

    async def _send(
        self, request: web.Request, artifact: Artifact, sent: Sent | None = None, *, cache_control: str = urls.IMMUTABLE
    ) -> web.StreamResponse:
        """Send now; `sent` becomes an event only when the last byte of the artifact went out (not for HEAD, 304 or 416)."""
        response = ArtifactResponse(artifact, cache_control=cache_control)
        await response.prepare(request)
        if sent is not None and response.delivered:
            self._event(request, sent.hwaddr, sent.node, sent.stage, sent.name, response.sent)
        return response

    def _by_peer(self, request: web.Request, stage: str, name: str) -> Sent | None:
        """For content without a node in its URL: whose address asks? None when nobody knows."""
        peer = _peer(request)
        registry = self._registry()
        node = None if peer is None else registry.by_address(peer)
        hwaddr = None if peer is None else self._identify(peer)
        if node is None and hwaddr is not None:
            node = registry.by_hwaddr(hwaddr)
        if node is None:
            return None
        return Sent(hwaddr=hwaddr or next((hw for hw, _ in node.hwaddrs()), ""), node=node, stage=stage, name=name)

    def _event(self, request: web.Request, hwaddr: str, node: Node, stage: str, sent: str, size: int = 0) -> None:
        log.info("http %s hwaddr=%s node=%s sent=%s client=%s", stage.upper(), hwaddr, node.id, sent, request.remote)
        self._record(
            BootEvent(hwaddr=hwaddr, node=node.id, stage=stage, sent=sent, size=size, ipaddr=_peer(request), when=time.time())
        )


def _check_compress(request: web.Request, stage: Stage) -> None:
    """`compress=gz` of Warewulf's clients, for what is an archive; anything else is not there, and nothing is sent."""
    word = request.query.get("compress", "")
    if word and (not _wants_gzip(request) or stage in (Stage.IPXE, Stage.KERNEL)):
        raise web.HTTPNotFound(text=f"there is no {stage.value} with compress={word!r}\n")


def _wants_gzip(request: web.Request) -> bool:
    return request.query.get("compress") == "gz"


def _hwaddr(request: web.Request) -> str:
    """The hardware address that the URL names; what is none ends here, and comes into no script and no log."""
    try:
        return hardware.parse(request.match_info.get("wwid") or request.query.get("wwid", ""))
    except Error as exc:
        raise web.HTTPBadRequest(text=f"{exc.message}\n") from exc


def _peer(request: web.Request) -> IPv4Address | None:
    try:
        return IPv4Address(request.remote or "")
    except AddressValueError:
        return None


def _is_privileged(request: web.Request) -> bool:
    """Whether only root of the asking machine can have that port."""
    name = request.transport.get_extra_info("peername") if request.transport else None
    return name is not None and int(name[1]) < FIRST_UNPRIVILEGED


def _text(script: str) -> web.Response:
    return web.Response(text=script, headers={"Cache-Control": "no-store"})
