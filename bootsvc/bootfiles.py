"""What a machine gets under each name, whichever protocol it asks by: scripts, kernels, images, overlays, loaders."""

import hmac
import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import msgspec

from bootsvc.artifacts import Artifact, Artifacts
from bootsvc.loaders import find_initramfs, find_loader, served_loader
from bootsvc.net.udp import Budget
from bootsvc.registry import Registry
from bootsvc.server_urls import ServerUrls
from images.errors import Error
from images.generation import Generation
from netboot import grub, ipxe, urls
from netboot.grub import Device
from netboot.node import Node
from netboot.urls import Stage, Urls

log = logging.getLogger(__name__)

SCRIPTS = (Stage.IPXE, Stage.GRUB)
MAX_SCRIPTS = 50_000
"""Scripts kept; there are a few for each hardware address of a node."""
SCRIPT_SECONDS = 30.0
"""How long one is kept; less than the time after which it is noted again that a generation was handed out."""
HEAD_ROOT = Path("/")
"""Where this machine's own packages lie."""


Identify = Callable[[IPv4Address], str | None]
"""Which machine has an address."""


class Reason(Enum):
    UNKNOWN_NODE = "UNKNOWN_NODE"
    BAD_ASSET = "BAD_ASSET"
    DENIED = "DENIED"
    NOT_FOUND = "NOT_FOUND"
    TLS_ONLY = "TLS_ONLY"
    BAD_REQUEST = "BAD_REQUEST"


class Refused(Error):
    """Nothing is sent, for this reason; `node` where one is concerned, to be recorded."""

    def __init__(self, reason: Reason, message: str, *, node: Node | None = None) -> None:
        super().__init__(message)
        self.reason = reason
        self.node = node


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """Who asks, and how."""

    hwaddr: str
    query: Mapping[str, str] = msgspec.field(default_factory=dict)
    device: Device = Device.HTTP
    secure: bool = False
    """By TLS."""
    privileged: bool = False
    """From a port that only root can have."""
    local: IPv4Address | None = None
    """The address of ours that was asked."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What to send: an artifact, or a script made for this node; `name` is what is recorded of it, and `stage` where."""

    artifact: Artifact | None = None
    script: bytes = b""
    node: Node | None = None
    stage: str = ""
    name: str = ""
    problem: bool = False
    """The script only says why the node does not boot; it counts as no delivery."""
    why: str = ""
    """That sentence."""
    cache_control: str = urls.NO_CACHE


@dataclass(frozen=True, slots=True, kw_only=True)
class _Kept:
    """A script, and what it holds for."""

    node: Node
    generation: str
    until: float
    found: Found


class BootFiles:
    """`registry` gives the nodes as they are now, `rootfs` an image's tree if there is one, `directories` where iPXE lies."""

    def __init__(
        self,
        artifacts: Artifacts,
        registry: Callable[[], Registry],
        server_urls: Urls,
        rootfs: Callable[[str], Path | None] = lambda image: None,
        *,
        directories: Callable[[], Iterable[Path]] = lambda: (),
        subnets: Callable[[], Sequence[IPv4Network]] = lambda: (),
    ) -> None:
        """`subnets` are those besides the boot network; see `ServerUrls`."""
        self.registry = registry
        self._artifacts = artifacts
        self._urls = ServerUrls(server_urls, subnets)
        self._rootfs = rootfs
        self._directories = directories
        self._scripts: dict[tuple[str, Stage, Device, IPv4Address | None], _Kept] = {}
        # A cluster that powers on without an image is told of node by node; a loop of somebody's must not fill the disk.
        self._log_budget = Budget(rate=20, burst=5000)

    def _say(self, level: int, text: str, *args: object) -> None:
        if self._log_budget.take(time.monotonic()):
            log.log(level, text, *args)

    async def stage(self, stage: Stage, asked: Asked) -> Found:
        """Raises Refused."""
        if stage in SCRIPTS:
            return self.script(stage, asked)
        node = self.registry().by_hwaddr(asked.hwaddr)
        _check_compress(asked, stage)
        if node is None:
            raise Refused(Reason.UNKNOWN_NODE, f"no node has the hardware address {asked.hwaddr!r}")
        if not asset_key_fits(node, asked):
            raise Refused(Reason.BAD_ASSET, "the asset key is not this node's", node=node)
        if stage is Stage.RUNTIME and self._urls.boot.tls and not asked.secure:
            raise Refused(Reason.TLS_ONLY, "the runtime overlay is given by TLS only", node=node)
        if stage is Stage.RUNTIME and self._artifacts.secure and not asked.privileged:
            sentence = "the runtime overlay is for ports below 1024 only (`secure` in warewulf.conf)"
            raise Refused(Reason.DENIED, sentence, node=node)
        try:
            return await self._artifact(stage, asked, node)
        except Refused as exc:
            raise Refused(exc.reason, exc.message, node=node) from exc
        except (Error, OSError) as exc:
            self._say(logging.WARNING, "%s of node %s (%s): %s", stage.value, node.id, asked.hwaddr, exc)
            raise Refused(Reason.NOT_FOUND, str(exc), node=node) from exc

    def script(self, stage: Stage, asked: Asked) -> Found:
        """What `stage` gives for one of SCRIPTS, which nobody need wait for. Raises Refused."""
        node = self.registry().by_hwaddr(asked.hwaddr)
        _check_compress(asked, stage)
        write = ipxe if stage is Stage.IPXE else grub
        hwaddr = asked.hwaddr
        if node is None:
            return Found(script=write.unknown(hwaddr).encode(), problem=True)
        # GRUB learns the asset key in its script, so that it stands in the names of the files, not yet in the script's; and
        # over TFTP a loader asks for a fixed name.
        if stage is Stage.IPXE and asked.device is Device.HTTP and not asset_key_fits(node, asked):
            sentence = f"the asset key of {node.id} is another one"
            return _problem(stage, node, Reason.BAD_ASSET, sentence, write.refusal(sentence))
        kept = self._kept(stage, asked, node)
        if kept is not None:
            return kept
        try:
            generation = self._artifacts.generation(node)
            kernel = self._artifacts.kernel(node, generation)
        except Error as exc:
            self._say(logging.WARNING, "%s node=%s hwaddr=%s: %s", stage.name, node.id, hwaddr, exc)
            return _problem(stage, node, Reason.NOT_FOUND, exc.message, write.refusal(exc.message))
        found = self._write(stage, asked, node, ipxe.Boot(generation=generation.digest, kernel=kernel.digest))
        if len(self._scripts) >= MAX_SCRIPTS:
            self._scripts.clear()
        self._scripts[hwaddr, stage, asked.device, asked.local] = _Kept(
            node=node, generation=generation.digest, until=time.monotonic() + SCRIPT_SECONDS, found=found
        )
        return found

    def _kept(self, stage: Stage, asked: Asked, node: Node) -> Found | None:
        """The script of a moment ago, if node and generation are the same."""
        kept = self._scripts.get((asked.hwaddr, stage, asked.device, asked.local))
        if kept is None or kept.node is not node or time.monotonic() > kept.until:
            return None
        return kept.found if self._artifacts.is_current(node, kept.generation) else None

    def _write(self, stage: Stage, asked: Asked, node: Node, boot: ipxe.Boot) -> Found:
        hwaddr, secure, server = asked.hwaddr, self._artifacts.secure, self._urls.at(asked.local)
        if stage is Stage.IPXE:
            script, name = ipxe.script(node, boot, server, hwaddr=hwaddr, secure=secure), "default.ipxe"
        else:
            script, name = grub.script(node, boot, server, asked.device, hwaddr=hwaddr, secure=secure), "grub.cfg"
        return Found(script=script.encode(), node=node, stage=stage.value, name=name)

    async def _artifact(self, stage: Stage, asked: Asked, node: Node) -> Found:
        generation = self._generation(asked, node)
        gzip = wants_gzip(asked)
        match stage:
            case Stage.KERNEL:
                kernel = self._artifacts.kernel(node, generation)
                name = kernel.path.rpartition("/")[2]
                return Found(artifact=self._artifacts.blob(kernel.digest), node=node, stage=stage.value, name=name)
            case Stage.INITRAMFS:
                return Found(artifact=self._initramfs(node, generation), node=node, stage=stage.value, name="initramfs")
            case Stage.IMAGE:
                image = await self._artifacts.gzip_image(generation) if gzip else self._artifacts.image(generation)
                return Found(artifact=image, node=node, stage=stage.value, name=generation.manifest.image)
            case _:
                artifact = await self._artifacts.overlay(node, stage, generation)
                # Overlays are gzip in any case.
                artifact = artifact.unpadded if gzip else artifact
                return Found(artifact=artifact, node=node, stage=f"{stage.value} overlay", name=f"__{stage.name}__.img")

    def _initramfs(self, node: Node, generation: Generation) -> Artifact:
        kernel = self._artifacts.kernel(node, generation)
        rootfs = self._rootfs(node.image_name)
        found = find_initramfs(kernel.release, rootfs) if rootfs is not None else None
        if found is None:
            raise Refused(Reason.NOT_FOUND, f"image {node.image_name} has no initramfs for its kernel {kernel.release}")
        return found

    def _generation(self, asked: Asked, node: Node) -> Generation:
        pinned = asked.query.get("generation")
        return self.published(pinned) if pinned else self._artifacts.generation(node)

    def published(self, digest: str) -> Generation:
        """A generation that a script pinned; only whole digests name one, so that no path can be made of it."""
        generation = self._artifacts.published(digest) if urls.is_digest(digest) else None
        if generation is None:
            raise Refused(Reason.NOT_FOUND, f"there is no generation {digest[:80]!r}")
        return generation

    def generation_image(self, digest: str) -> Found:
        """Raises Refused, when the store has lost a segment too."""
        generation = self.published(digest)
        try:
            artifact = self._artifacts.image(generation)
        except FileNotFoundError as exc:
            self._say(logging.ERROR, "image: %s", exc)
            raise Refused(Reason.NOT_FOUND, str(exc)) from exc
        return Found(artifact=artifact, stage=Stage.IMAGE.value, name=generation.manifest.image, cache_control=urls.IMMUTABLE)

    def generation_end(self, digest: str) -> Found:
        return Found(artifact=self._artifacts.end(self.published(digest)), cache_control=urls.IMMUTABLE)

    def generation_manifest(self, digest: str) -> Found:
        generation = self.published(digest)
        artifact = Artifact.of_file(generation.manifest_path, generation.digest)
        return Found(artifact=artifact, cache_control=urls.IMMUTABLE)

    def blob(self, digest: str) -> Found:
        try:
            artifact = self._artifacts.blob(digest)
        except FileNotFoundError as exc:
            raise Refused(Reason.NOT_FOUND, f"there is no blob {digest}") from exc
        return Found(artifact=artifact, stage=Stage.KERNEL.value, name=digest[:19], cache_control=urls.IMMUTABLE)

    def loader(self, name: str, node: Node | None) -> Found | None:
        """shim, GRUB or iPXE for this node, or for a machine that no node has; None when it is none of them or not there."""
        rootfs = self._rootfs(node.image_name) if node is not None and node.image_name else None
        artifact = find_loader(name, [HEAD_ROOT] if rootfs is None else [rootfs, HEAD_ROOT])
        if artifact is None:
            artifact = served_loader(name, self._directories())
        return None if artifact is None else Found(artifact=artifact, node=node, stage="efiboot", name=name)


def _problem(stage: Stage, node: Node, reason: Reason, sentence: str, script: str) -> Found:
    return Found(script=script.encode(), node=node, stage=stage.value, name=reason.value, problem=True, why=sentence)


def asset_key_fits(node: Node, asked: Asked) -> bool:
    """Compared in a time that tells nothing of the key."""
    given = asked.query.get("assetkey", "")
    return not node.asset_key or hmac.compare_digest(given.encode(), node.asset_key.encode())


def wants_gzip(asked: Asked) -> bool:
    return asked.query.get("compress") == "gz"


def _check_compress(asked: Asked, stage: Stage) -> None:
    """`compress=gz` of Warewulf's clients, for what is an archive; anything else is not there, and nothing is sent."""
    word = asked.query.get("compress", "")
    plain = stage not in (Stage.IMAGE, Stage.SYSTEM, Stage.RUNTIME)
    if word and (not wants_gzip(asked) or plain):
        raise Refused(Reason.NOT_FOUND, f"there is no {stage.value} with compress={word[:80]!r}")
