"""Every URL that a node is ever told, and the route that serves it; no other file spells one."""

import re
from dataclasses import dataclass
from enum import Enum
from ipaddress import IPv4Address

IMMUTABLE = "public, max-age=31536000, immutable"
"""Cache-Control of whatever is named by its digest."""

_DIGEST = re.compile("sha256:[0-9a-f]{64}")


class Stage(Enum):
    """What a node fetches under its own name, as Warewulf 4.7."""

    IPXE = "ipxe"
    KERNEL = "kernel"
    IMAGE = "image"
    SYSTEM = "system"
    RUNTIME = "runtime"


class Event(Enum):
    """What a node says of itself by fetching `/report`."""

    UP = "up"
    FAILED = "failed"


ROUTE_STAGE = "/{stage:" + "|".join(stage.value for stage in Stage) + "}/{wwid}"
ROUTE_STAGE_QUERY = "/{stage:" + "|".join(stage.value for stage in Stage) + "}"
ROUTE_PROVISION = "/provision/{wwid}"
ROUTE_GENERATION_IMAGE = "/generations/sha256:{digest:[0-9a-f]{64}}/image"
ROUTE_GENERATION_MANIFEST = "/generations/sha256:{digest:[0-9a-f]{64}}/manifest"
ROUTE_GENERATION_END = "/generations/sha256:{digest:[0-9a-f]{64}}/end"
ROUTE_BLOB = "/blobs/sha256:{digest:[0-9a-f]{64}}"
ROUTE_STATUS = "/status"
ROUTE_REPORT = "/report/{wwid}"
ROUTE_DISCOVER = "/discover/{wwid}"
ROUTE_EFIBOOT = "/efiboot/{file:.+}"


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
        return f"{self.base}/{stage.value}/{wwid(hwaddr)}"

    def overlay(self, stage: Stage, hwaddr: str, generation: str) -> str:
        """An overlay built against the links of this generation, whichever is current when it is fetched.

        iPXE fills in the asset key, which the server asks for where the node has one.
        """
        return f"{self.stage(stage, hwaddr)}?generation={generation}&assetkey=${{asset:uristring}}"

    def blob(self, digest: str) -> str:
        """`digest` with its algorithm: `sha256:…`."""
        return f"{self.base}/blobs/{digest}"

    def generation_image(self, generation: str) -> str:
        return f"{self.base}/generations/{generation}/image"

    def generation_end(self, generation: str) -> str:
        """The last archive of a boot, which holds the generation's name."""
        return f"{self.base}/generations/{generation}/end"

    @property
    def report_path(self) -> str:
        """Without the wwid, which a node's own script reads from its kernel arguments."""
        return ROUTE_REPORT.removesuffix("/{wwid}")

    @property
    def runtime_path(self) -> str:
        """As `report_path`, of the runtime overlay."""
        return f"/{Stage.RUNTIME.value}"

    def report(self, hwaddr: str, event: Event) -> str:
        return f"{self.base}/report/{wwid(hwaddr)}?event={event.value}"
