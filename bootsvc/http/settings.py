"""What warewulf.conf says of HTTP: its record, its keys below `bootsvc: http:`, and where the certificate lies."""

from enum import Enum
from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Any

import msgspec

from bootsvc.keytable import Settings, Table, absolute_path, choice, given, number


class TlsConfig(msgspec.Struct, frozen=True, kw_only=True):
    """PEM files, and the port."""

    certificate: Path
    key: Path
    port: int = 9874


class Listen(Enum):
    """On which of this machine's addresses HTTP is served."""

    ALL = "all"
    """As Warewulf's server does."""
    NETWORKS = "networks"
    """Those in the boot network and in the subnets, and the loopback ones."""


class HttpConfig(msgspec.Struct, frozen=True, kw_only=True):
    """Times in seconds. `secure`: runtime overlays only for whom only root can be, who asks from a port below 1024.

    With `tls` the runtime overlay, which holds secrets, is given by TLS only, as in Warewulf.
    """

    port: int = 9873
    listen: Listen = Listen.ALL
    secure: bool = False
    """Warewulf's program takes true when nothing is said, but the file that it ships says false; iPXE cannot ask so."""
    tls: TlsConfig | None = None
    header_seconds: int = 10
    """For a request to arrive whole, once it began."""
    stall_seconds: int = 60
    """Within which a peer must acknowledge something of what is sent to it."""
    idle_seconds: int = 75
    """Between two requests of one connection."""
    drain_seconds: int = 3
    """For transfers that are under way when the server stops."""
    max_connections: int = 4096
    api_subnets: tuple[IPv4Network | IPv6Network, ...] = (IPv4Network("127.0.0.0/8"), IPv6Network("::1/128"))
    """Who may use the API and its events."""


KEYS: Table = {
    "listen": choice(Listen),
    "tls": {"certificate": absolute_path, "key": absolute_path},
    **dict.fromkeys(("header seconds", "stall seconds", "idle seconds"), number(1, 86_400)),
    "drain seconds": number(0, 3600),
    "connections": number(1, 1_000_000),
}
"""Below `bootsvc: http:`."""


def http_config(settings: Settings, sysconfdir: Path) -> HttpConfig:
    """The record; raises YamlError for a certificate without a key."""

    def get(key: str) -> Any:
        return settings.get("bootsvc", "http", key)

    return HttpConfig(
        **given(
            port=settings.get("warewulf", "port"),
            listen=get("listen"),
            secure=settings.get("warewulf", "secure"),
            tls=_tls(settings, sysconfdir),
            header_seconds=get("header seconds"),
            stall_seconds=get("stall seconds"),
            idle_seconds=get("idle seconds"),
            drain_seconds=get("drain seconds"),
            max_connections=get("connections"),
            api_subnets=settings.get("api", "allowed subnets"),
        )
    )


def _tls(settings: Settings, sysconfdir: Path) -> TlsConfig | None:
    """On by Warewulf's `tls: true`, or by naming a certificate."""
    named = {key: settings.get("bootsvc", "http", "tls", key) for key in ("certificate", "key")}
    for key, path in named.items():
        if path is None and any(named.values()):
            other = next(each for each in named if each != key)
            raise settings.error(("bootsvc", "http", "tls", other), f"there is no {key} for it", f"give `{key}:` too")
    if not settings.get("warewulf", "tls") and not any(named.values()):
        return None
    folder = sysconfdir / "warewulf" / "tls"
    return TlsConfig(
        certificate=named["certificate"] or folder / "warewulf.crt",
        key=named["key"] or folder / "warewulf.key",
        # As in Warewulf, 0 is as good as nothing.
        **given(port=settings.get("warewulf", "tls port") or None),
    )
