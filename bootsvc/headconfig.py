"""What warewulf.conf says of the head node itself: NFS, ssh keys, TLS, and how often its nodes look for news."""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv6Interface
from pathlib import Path

from bootsvc.keytable import Settings

KEY_TYPES = ("ed25519", "ecdsa", "rsa")
"""What `wwctl configure ssh` can make."""
DEFAULT_EXPORT = "rw,sync,no_subtree_check"


@dataclass(frozen=True, slots=True, kw_only=True)
class NfsExport:
    path: Path
    options: str = DEFAULT_EXPORT


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadConfig:
    """What `wwctl configure` makes of the head node, and what its nodes are told of it; `update_interval` is in seconds."""

    ipaddr6: IPv6Interface | None = None
    nfs: bool = True
    nfs_unit: str = "nfsd"
    exports: tuple[NfsExport, ...] = ()
    key_types: tuple[str, ...] = KEY_TYPES
    tls: bool = False
    host_overlay: bool = True
    update_interval: int = 60


def head_config(settings: Settings) -> HeadConfig:
    """Raises YamlError."""
    said = settings.get("ssh", "key types", default=())
    key_types = [kind for kind in said if kind in KEY_TYPES]
    for kind in said:
        # Warewulf once made dsa keys, and its files still say so: not a word at every command of every such site.
        if kind not in (*KEY_TYPES, "dsa"):
            settings.warnings.append(f"{settings.source}: ssh: no keys of type {kind!r} are made ({', '.join(KEY_TYPES)} are)")
    return HeadConfig(
        ipaddr6=_ipaddr6(settings),
        exports=tuple(_exports(settings)),
        nfs=settings.get("nfs", "enabled", default=True),
        nfs_unit=settings.get("nfs", "systemd name", default="nfsd"),
        key_types=tuple(key_types) or KEY_TYPES,
        tls=settings.get("warewulf", "tls", default=False),
        host_overlay=settings.get("warewulf", "host overlay", default=True),
        update_interval=settings.get("warewulf", "update interval", default=60),
    )


def _ipaddr6(settings: Settings) -> IPv6Interface | None:
    """`ipaddr6`, with `prefixlen6` where it has no prefix of its own."""
    given, length = settings.get("ipaddr6"), settings.get("prefixlen6")
    if not given:
        return None
    try:
        return IPv6Interface(given if "/" in given or length is None else f"{given}/{length}")
    except ValueError as exc:
        raise settings.error(("ipaddr6",), f"{given!r} is no IPv6 address: {exc}", "such as fd00::1/64") from exc


def _exports(settings: Settings) -> Iterator[NfsExport]:
    for record in settings.get("nfs", "export paths", default=()):
        path: Path | None = record.get("path")
        if path is None:
            raise settings.error(("nfs", "export paths"), "one of them has no path", "such as `- path: /home`")
        yield NfsExport(path=path, options=record.get("export options", DEFAULT_EXPORT))
