"""What every source takes and gives."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from images.progress import Progress
from images.provenance import Provenance

__all__ = ["Provenance", "Source", "SourceOptions"]


@dataclass(frozen=True, slots=True, kw_only=True)
class SourceOptions:
    """`blobs`: the cache of downloaded blobs; `platform`: `os/arch[/variant]` or `arch`, None for this machine's;
    `insecure`: plain http is allowed and certificates are not checked."""

    blobs: Path
    platform: str | None = None
    insecure: bool = False
    username: str | None = None
    password: str | None = field(default=None, repr=False)


class Source(Protocol):
    """One place that an image can come from."""

    default_name: str
    """The image's name if the user gives none."""

    async def unpack(self, rootfs: Path, progress: Progress) -> Provenance:
        """Fill the existing, empty directory `rootfs`; its own owner, mode, times and xattrs, too. Raises Error."""
        ...
