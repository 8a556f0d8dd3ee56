"""What every source takes and gives."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from images.auth import AuthFiles, find_auth_files
from images.manifest import Platform
from images.progress import Progress
from images.provenance import Provenance
from images.source.proxies import Proxies

__all__ = ["Provenance", "Source", "SourceOptions"]

_DOCKER_HOST = "unix:///var/run/docker.sock"


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """`blobs`: the cache of downloaded blobs; `platform`: `os/arch[/variant]` or `arch`, None for this machine's;
    `insecure`: plain http is allowed and certificates are not checked; `certificates`: folders of `HOST[:PORT]` folders."""

    blobs: Path
    platform: str | None = None
    insecure: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    auth_files: AuthFiles = field(default_factory=AuthFiles)
    proxies: Proxies = field(default_factory=Proxies)
    certificates: tuple[Path, ...] = ()
    docker_host: str = _DOCKER_HOST

    @classmethod
    def from_environment(
        cls,
        environment: Mapping[str, str],
        *,
        uid: int,
        home: Path,
        blobs: Path,
        platform: str | None = None,
        insecure: bool = False,
        username: str | None = None,
        password: str | None = None,
    ) -> "SourceOptions":
        """With what container tools take from the environment and the places that they know; nothing is read yet."""
        return cls(
            blobs=blobs,
            platform=platform,
            insecure=insecure,
            username=username,
            password=password,
            auth_files=find_auth_files(environment, uid=uid, home=home),
            proxies=Proxies.from_environment(environment),
            certificates=(
                home / ".config/containers/certs.d",
                Path("/etc/containers/certs.d"),
                Path("/etc/docker/certs.d"),
            ),
            docker_host=environment.get("DOCKER_HOST") or _DOCKER_HOST,
        )

    @property
    def wanted_platform(self) -> Platform:
        """Raises Error for what is no platform."""
        return Platform.parse(self.platform or platform.machine())


class Source(Protocol):
    """One place that an image can come from."""

    @property
    def default_name(self) -> str:
        """The image's name if the user gives none."""
        ...

    async def find_digest(self) -> str | None:
        """What `unpack` would note as the digest, if that is known without reading the whole image. Raises Error."""
        ...

    async def unpack(self, rootfs: Path, progress: Progress) -> Provenance:
        """Fill the existing, empty directory `rootfs`; its own owner, mode, times and xattrs, too. Raises Error."""
        ...
