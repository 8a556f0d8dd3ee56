"""What TFTP serves that lies in no directory: scripts for the asking node, signed loaders, and what GRUB's script names.

Debian 12's signed GRUB can fetch by TFTP only, so kernel, image and overlays have the same paths here as over HTTP.
"""

import asyncio
import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from fnmatch import fnmatchcase
from ipaddress import IPv4Address
from urllib.parse import parse_qsl

from bootsvc.bootfiles import Asked, BootFiles, Found, Identify, Reason, Refused
from bootsvc.boots import with_why
from bootsvc.loaders import LOADERS
from bootsvc.tftp.files import Memory, Parts, Source
from images.errors import Error
from netboot import hwaddr as hardware
from netboot import urls
from netboot.grub import Device
from netboot.urls import Event, Stage

AUTOEXEC = "autoexec.ipxe"
GRUB_CFG = "grub.cfg"
_GRUB_CFG_OF = re.compile(r"grub\.cfg-01-((?:[0-9a-f]{2}-){5}[0-9a-f]{2})", re.IGNORECASE)
"""As PXELINUX names files: the ARP type of Ethernet, then the address."""
OPTIONAL = (
    "*/grub.cfg-*",
    "*/x86_64-efi/*",
    "*/arm64-efi/*",
    "*/fonts/*",
    "*/locale/*",
    "*.pf2",
    "*/revocations*.efi",
    "*/shim_certificate*.efi",
)
"""Names that GRUB and shim try, and do without: each boot misses them all, which is no event."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Made:
    """A source that the caller closes, and what is recorded of it; `node` is a name."""

    source: Source
    hwaddr: str | None
    node: str | None
    stage: str
    name: str


Handler = Callable[[dict[str, str], dict[str, str], IPv4Address], Awaitable[tuple[Found, str | None]]]


def optional(name: str) -> bool:
    """Whether a loader that misses this file goes on as if nothing were."""
    return any(fnmatchcase("/" + name.replace("\\", "/").lstrip("/"), pattern) for pattern in OPTIONAL)


class MadeFiles:
    """`wants` is cheap and asked for each request."""

    def __init__(self, files: BootFiles, identify: Identify, local: IPv4Address | None = None) -> None:
        """`local` is the address of ours at which they are asked for."""
        self._files = files
        self._local = local
        self._identify = identify
        self._routes: urls.Routes[Handler] = urls.Routes(
            {
                urls.ROUTE_STAGE: self._stage,
                urls.ROUTE_GENERATION_IMAGE: self._content(files.generation_image),
                urls.ROUTE_GENERATION_END: self._content(files.generation_end),
                urls.ROUTE_BLOB: self._content(files.blob),
                urls.ROUTE_REPORT: self._report,
            }
        )

    def wants(self, name: str) -> bool:
        path, _ = _split(name)
        base = path.rpartition("/")[2]
        if base in (AUTOEXEC, GRUB_CFG) or base in LOADERS or _GRUB_CFG_OF.fullmatch(base) is not None:
            return True
        return not optional(path) and self._routes.find(path) is not None

    async def open(self, name: str, peer: IPv4Address) -> Made:
        """Raises Refused, or OSError."""
        found, hwaddr = await self._find(name, peer)
        if found.artifact is None:
            source: Source = Memory(found.script)
        else:
            source = await asyncio.to_thread(Parts, found.artifact)
        node = found.node.id if found.node is not None else None
        return Made(source=source, hwaddr=hwaddr, node=node, stage=found.stage, name=with_why(found.name, found.why))

    async def _find(self, name: str, peer: IPv4Address) -> tuple[Found, str | None]:
        path, query = _split(name)
        base = path.rpartition("/")[2]
        if (own := _GRUB_CFG_OF.fullmatch(base)) is not None:
            return await self._script(Stage.GRUB, hardware.parse(own[1]))
        if base in (AUTOEXEC, GRUB_CFG):
            hwaddr = self._identify(peer)
            if hwaddr is None:
                raise Refused(Reason.NOT_FOUND, f"nobody knows which machine has the address {peer}")
            return await self._script(Stage.IPXE if base == AUTOEXEC else Stage.GRUB, hwaddr)
        if base in LOADERS:
            return await self._loader(base, peer)
        route = self._routes.find(path)
        if route is None:
            raise Refused(Reason.NOT_FOUND, f"there is no {path!r}")
        handler, parameters = route
        return await handler(parameters, query, peer)

    async def _script(self, stage: Stage, hwaddr: str) -> tuple[Found, str | None]:
        return await self._files.stage(stage, Asked(hwaddr=hwaddr, device=Device.TFTP, local=self._local)), hwaddr

    async def _loader(self, name: str, peer: IPv4Address) -> tuple[Found, str | None]:
        hwaddr = self._identify(peer)
        node = self._files.registry().by_hwaddr(hwaddr) if hwaddr else self._files.registry().by_address(peer)
        found = await asyncio.to_thread(self._files.loader, name, node)
        if found is None:
            raise Refused(Reason.NOT_FOUND, f"there is no boot loader {name}, neither in the image nor on the server")
        return found, hwaddr

    async def _stage(self, parameters: dict[str, str], query: dict[str, str], _: IPv4Address) -> tuple[Found, str | None]:
        stage = urls.stage(parameters["stage"])
        try:
            hwaddr = hardware.parse(parameters["wwid"])
        except Error as exc:
            raise Refused(Reason.BAD_REQUEST, exc.message) from exc
        assert stage is not None
        return await self._files.stage(stage, Asked(hwaddr=hwaddr, query=query, device=Device.TFTP, local=self._local)), hwaddr

    async def _report(self, parameters: dict[str, str], query: dict[str, str], peer: IPv4Address) -> tuple[Found, str | None]:
        """GRUB's word that it could not boot the node, from the node's own address only."""
        try:
            hwaddr = hardware.parse(parameters["wwid"])
        except Error as exc:
            raise Refused(Reason.BAD_REQUEST, exc.message) from exc
        node = self._files.registry().by_hwaddr(hwaddr)
        if node is None or query.get("event") != Event.FAILED.value or self._identify(peer) != hwaddr:
            raise Refused(Reason.BAD_REQUEST, f"{peer} cannot say that of {hwaddr}")
        return Found(script=b"ok\n", node=node, stage=Event.FAILED.value, name="grub.cfg"), hwaddr

    def _content(self, find: Callable[[str], Found]) -> Handler:
        async def handler(parameters: dict[str, str], _: dict[str, str], peer: IPv4Address) -> tuple[Found, str | None]:
            return find("sha256:" + parameters["digest"]), self._identify(peer)

        return handler


def _split(name: str) -> tuple[str, dict[str, str]]:
    """Path with one leading slash, and the query that GRUB's script puts behind it."""
    path, _, query = name.partition("?")
    try:
        fields = dict(parse_qsl(query, max_num_fields=8))
    except ValueError:
        fields = {}
    return "/" + path.replace("\\", "/").lstrip("/"), fields
