"""Scenarios: a small TOML file each (vm-lab/scenarios)."""

import tomllib
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

import installed
import msgspec
import roots
from machine import Firmware
from msgspec.structs import replace
from places import CHECKOUT

from images.compress import Compression
from images.errors import Error

FOLDER = CHECKOUT / "vm-lab" / "scenarios"


class Image(Enum):
    """What the node boots."""

    TINY = "tiny"
    """busybox and a kernel."""
    ODD = "odd"
    """The tiny one, and all that is easily lost on the way to a node."""
    DEBIAN = "debian"
    """Debian 12 with systemd-networkd."""
    IFUPDOWN = "ifupdown"
    """Debian 12 with ifupdown in its place."""

    @property
    def is_debian(self) -> bool:
        return self in (Image.DEBIAN, Image.IFUPDOWN)


class Surroundings(Enum):
    """Who else is on the node's network."""

    NONE = "none"
    DNSMASQ = "dnsmasq"
    """A dnsmasq that gives the addresses; our server is to run as proxyDHCP."""
    RELAY = "relay"
    """The node is on a network of its own, behind a router that relays DHCP."""


class Fact(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A command that is run on the node, and a regular expression that its output must show."""

    command: str
    shows: str


class Scenario(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="machine", tag="node"):
    """One node, what it boots, and what must be seen of it; vm-lab/README.md explains the keys."""

    name: str = ""
    description: str
    firmware: Firmware
    memory: int
    """MiB; 0: as much as the doctor says that the image needs."""
    image: Image
    console: str
    stage: str
    seconds: int
    filling: int = 0
    compression: Compression = Compression.ZSTD
    segments: int = 2
    conf: Mapping[str, Any] = {}
    node: Mapping[str, Any] = {}
    surroundings: Surroundings = Surroundings.NONE
    discoverable: bool = False
    unsigned: bool = False
    server_log: tuple[str, ...] = ()
    tree: bool = False
    recorded: bool = False
    facts: tuple[Fact, ...] = ()

    def prepare(self) -> tuple[Path, Path]:
        """The image's root and its kernel; needs the distribution's mirrors the first time."""
        roots.static_busybox()
        if self.image.is_debian:
            root = roots.debian_root() if self.image is Image.DEBIAN else roots.ifupdown_root()
            return root, roots.debian_kernel(root)
        root = roots.tiny_root()
        return root, next(root.glob("boot/vmlinuz-*"))


class Proof(Fact, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A fact of a head node, and what it proves in words."""

    proves: str


class Installation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="machine", tag="head"):
    """One head node, on which this checkout is installed, and what is done there, one command after the other."""

    name: str = ""
    description: str
    memory: int
    seconds: int
    proofs: tuple[Proof, ...]

    def prepare(self) -> tuple[Path, Path]:
        """Debian and the Python packages as an initramfs, and the kernel; needs the mirrors the first time."""
        roots.static_busybox()
        return installed.head_root()


def load_scenario(name: str) -> Scenario | Installation:
    """Read scenarios/NAME.toml; raises Error for a missing file or a wrong key."""
    path = FOLDER / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(scenario.stem for scenario in FOLDER.glob("*.toml")))
        raise Error(f"there is no scenario {name!r}", hint=f"there are: {known}")
    try:
        table = tomllib.loads(path.read_text())
        if table.get("machine") == Installation.__struct_config__.tag:
            return replace(msgspec.convert(table, Installation), name=name)
        return replace(msgspec.convert(table, Scenario), name=name)
    except (msgspec.ValidationError, tomllib.TOMLDecodeError) as exc:
        raise Error(f"{path}: {exc}", hint="see vm-lab/README.md") from exc
