"""Every URL that a node is ever told, and the route that serves it; no other file spells one."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address
from typing import Generic, TypeVar

IMMUTABLE = "public, max-age=31536000, immutable"
"""Cache-Control of whatever is named by its digest."""
NO_CACHE = "no-cache"
"""Of what has a version that may change."""
NO_STORE = "no-store"
"""Of what is made for one node at one moment."""
GUARDED = ("/api", "/events")
"""Paths below which only the addresses of `api: allowed subnets` may ask."""

_DIGEST = re.compile("sha256:[0-9a-f]{64}")


class Stage(Enum):
    """What a node fetches under its own name, as Warewulf 4.7."""

    IPXE = "ipxe"
    GRUB = "grub"
    KERNEL = "kernel"
    IMAGE = "image"
    INITRAMFS = "initramfs"
    SYSTEM = "system"
    RUNTIME = "runtime"


class Event(Enum):
    """What a node says of itself by fetching `/report`."""

    UP = "up"
    FAILED = "failed"


OLD_STAGES: Mapping[str, Stage] = {
    "container": Stage.IMAGE,
    "overlay-system": Stage.SYSTEM,
    "overlay-runtime": Stage.RUNTIME,
}
"""What Warewulf called them once, and still answers to."""
_STAGE_NAMES: Mapping[str, Stage] = {**OLD_STAGES, **{stage.value: stage for stage in Stage}}
_STAGES = "{stage:" + "|".join([*(stage.value for stage in Stage), *OLD_STAGES]) + "}"
ROUTE_STAGE = f"/{_STAGES}/{{wwid}}"
ROUTE_STAGE_QUERY = f"/{_STAGES}"
ROUTE_PROVISION = "/provision/{wwid}"
ROUTE_PROVISION_QUERY = "/provision"
ROUTE_EFIBOOT = "/efiboot/{file}"
ROUTE_GENERATION_IMAGE = "/generations/sha256:{digest:[0-9a-f]{64}}/image"
ROUTE_GENERATION_MANIFEST = "/generations/sha256:{digest:[0-9a-f]{64}}/manifest"
ROUTE_GENERATION_END = "/generations/sha256:{digest:[0-9a-f]{64}}/end"
ROUTE_BLOB = "/blobs/sha256:{digest:[0-9a-f]{64}}"
ROUTE_STATUS = "/status"
ROUTE_REPORT = "/report/{wwid}"
ROUTE_DISCOVER = "/discover/{wwid}"
ROUTE_EFIBOOT = "/efiboot/{file:.+}"


def stage(word: str) -> Stage | None:
    """The stage that a path or `?stage=` names, by its present name or an old one."""
    return _STAGE_NAMES.get(word)


def is_digest(text: str) -> bool:
    """Whether this is a whole sha256 digest, `sha256:` and 64 hex digits."""
    return _DIGEST.fullmatch(text) is not None


def wwid(hwaddr: str) -> str:
    """A hardware address as URLs spell it: lower case, with hyphens."""
    return hwaddr.lower().replace(":", "-")


@dataclass(frozen=True, slots=True, kw_only=True)
class Urls:
    """The URLs of one server, as nodes reach it."""

    address: IPv4Address
    port: int
    tls: bool = False
    """The runtime overlay is given by TLS only; no boot loader of today can fetch it, and the scripts leave it out."""

    @property
    def base(self) -> str:
        return f"http://{self.address}:{self.port}"

    def ipxe(self, hwaddr: str) -> str:
        """What DHCP hands iPXE; iPXE itself fills in asset key and UUID."""
        return f"{self.base}/ipxe/{wwid(hwaddr)}?assetkey=${{asset:uristring}}&uuid=${{uuid}}"

    def discover(self, hwaddr: str, attempt: int | None = None) -> str:
        """What DHCP hands the iPXE of a machine that no node is; `attempt` counts how often it asked before."""
        counted = "" if attempt is None else f"&attempt={attempt}"
        return f"{self.base}/discover/{wwid(hwaddr)}?uuid=${{uuid}}&serial=${{serial:uristring}}{counted}"

    def efiboot(self, file: str) -> str:
        """A loader for firmware that boots over HTTP."""
        return f"{self.base}/efiboot/{file}"

    def stage(self, stage: Stage, hwaddr: str) -> str:
        return self.base + self.path_stage(stage, hwaddr)

    def path_stage(self, stage: Stage, hwaddr: str) -> str:
        return f"/{stage.value}/{wwid(hwaddr)}"

    def overlay(self, stage: Stage, hwaddr: str, generation: str) -> str:
        """An overlay built against the links of this generation, whichever is current when it is fetched.

        iPXE fills in the asset key, which the server asks for where the node has one.
        """
        return f"{self.stage(stage, hwaddr)}?generation={generation}&assetkey=${{asset:uristring}}"

    def blob(self, digest: str) -> str:
        """`digest` with its algorithm: `sha256:…`."""
        return self.base + self.path_blob(digest)

    def path_blob(self, digest: str) -> str:
        return f"/blobs/{digest}"

    def generation_image(self, generation: str) -> str:
        return self.base + self.path_generation_image(generation)

    def path_generation_image(self, generation: str) -> str:
        return f"/generations/{generation}/image"

    def generation_end(self, generation: str) -> str:
        """The last archive of a boot, which holds the generation's name."""
        return self.base + self.path_generation_end(generation)

    def path_generation_end(self, generation: str) -> str:
        return f"/generations/{generation}/end"

    @property
    def report_path(self) -> str:
        """Without the wwid, which a node's own script reads from its kernel arguments."""
        return ROUTE_REPORT.removesuffix("/{wwid}")

    @property
    def runtime_path(self) -> str:
        """As `report_path`, of the runtime overlay."""
        return f"/{Stage.RUNTIME.value}"

    def report(self, hwaddr: str, event: Event) -> str:
        return self.base + self.path_report(hwaddr, event)

    def path_report(self, hwaddr: str, event: Event) -> str:
        return f"/report/{wwid(hwaddr)}?event={event.value}"


T = TypeVar("T")
_PARAMETER = re.compile(r"\{(\w+)(?::([^{}]*(?:\{[^{}]*\}[^{}]*)*))?\}")
_SLASHES = re.compile("/{2,}")


def collapse(path: str) -> str:
    """With one slash where several stand in a row."""
    return _SLASHES.sub("/", path) if "//" in path else path


class Routes(Generic[T]):
    """What stands behind a path, by patterns such as ROUTE_STAGE.

    Slashes in a row are one: shim asks for `//grubx64.efi`. One at the end is none: Warewulf knows `/ipxe/?wwid=…`.
    """

    def __init__(self, patterns: Mapping[str, T]) -> None:
        self._fixed = {pattern: value for pattern, value in patterns.items() if "{" not in pattern}
        self._patterns = [(_compile(pattern), value) for pattern, value in patterns.items() if "{" in pattern]

    def find(self, path: str) -> tuple[T, dict[str, str]] | None:
        """The value of the first pattern that fits, and the path's parameters."""
        path = collapse(path)
        fixed = self._fixed.get(path)
        if fixed is not None:
            return fixed, {}
        for pattern, value in self._patterns:
            found = pattern.fullmatch(path)
            if found is not None:
                return value, found.groupdict()
        return self.find(path[:-1]) if len(path) > 1 and path.endswith("/") else None


def _compile(pattern: str) -> re.Pattern[str]:
    parts, at = [], 0
    for parameter in _PARAMETER.finditer(pattern):
        name, expression = parameter.groups()
        parts += [re.escape(pattern[at : parameter.start()]), f"(?P<{name}>{expression or '[^/]+'})"]
        at = parameter.end()
    return re.compile("".join(parts) + re.escape(pattern[at:]))
