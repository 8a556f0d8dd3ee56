"""What warewulf.conf says of the head node itself, for `wwctl configure` and for templates: Warewulf's defaults, and otherwise
the text as it stands in the file."""

from collections.abc import Mapping
from ipaddress import IPv6Interface
from typing import Any

import msgspec

KEY_TYPES = ("ed25519", "ecdsa", "rsa")
"""Of sshd's host keys; `wwctl configure ssh` makes them."""
DEFAULT_EXPORT = "rw,sync,no_subtree_check"
TRUE_WORDS = ("true", "yes", "on")


class DaemonConf(msgspec.Struct, frozen=True, kw_only=True):
    """The section `warewulf`; `update_interval` is in seconds."""

    port: int = 9873
    tls_port: int = 9874
    secure: bool = True
    tls: bool = False
    update_interval: int = 60
    autobuild_overlays: bool = True
    host_overlay: bool = True
    grubboot: bool = False
    systemd_name: str = ""


class DhcpConf(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool = True
    template: str = "default"
    range_start: str = ""
    range_end: str = ""
    range6_start: str = ""
    range6_end: str = ""
    systemd_name: str = "dhcpd"


class TftpConf(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool = True
    root: str = "/var/lib/tftpboot"
    systemd_name: str = "tftp"
    ipxe: dict[str, str] = msgspec.field(
        default_factory=lambda: {
            "00:00": "undionly.kpxe",
            "00:07": "ipxe-snponly-x86_64.efi",
            "00:09": "ipxe-snponly-x86_64.efi",
            "00:0B": "arm64-efi/snponly.efi",
        }
    )


class ExportConf(msgspec.Struct, frozen=True, kw_only=True):
    """A folder that the head node lends by NFS."""

    path: str = ""
    options: str = DEFAULT_EXPORT


class NfsConf(msgspec.Struct, frozen=True, kw_only=True):
    enabled: bool = True
    exports: tuple[ExportConf, ...] = ()
    systemd_name: str = "nfsd"


class HeadConf(msgspec.Struct, frozen=True, kw_only=True):
    """The whole; `paths` has Warewulf's own keys."""

    ipaddr6: IPv6Interface | None = None
    warewulf: DaemonConf = DaemonConf()
    dhcp: DhcpConf = DhcpConf()
    tftp: TftpConf = msgspec.field(default_factory=TftpConf)
    nfs: NfsConf = NfsConf()
    key_types: tuple[str, ...] = KEY_TYPES
    paths: dict[str, str] = msgspec.field(default_factory=lambda: dict(PATHS))

    @property
    def made_key_types(self) -> tuple[str, ...]:
        """Those of `key_types` that can be made; all where that leaves none."""
        return tuple(kind for kind in self.key_types if kind in KEY_TYPES) or KEY_TYPES


PATHS: Mapping[str, str] = {
    "bindir": "/usr/bin",
    "sysconfdir": "/etc",
    "localstatedir": "/var/lib",
    "cachedir": "/var/cache",
    "ipxesource": "/usr/lib/ipxe",
    "srvdir": "/srv",
    "firewallddir": "/usr/lib/firewalld/services",
    "systemddir": "/usr/lib/systemd/system",
    "datadir": "/usr/share",
    "wwoverlaydir": "/var/lib/warewulf/overlays",
    "wwchrootdir": "/var/lib/warewulf/chroots",
    "wwprovisiondir": "/var/lib/warewulf/provision",
    "wwclientdir": "/warewulf",
    "wwfilesdir": "/srv/warewulf",
}


def head_conf(document: Mapping[str, Any], paths: Mapping[str, str]) -> HeadConf:
    """Out of warewulf.conf with all of its values as text; `paths` are those that were worked out already."""
    section = _Section(document)
    daemon, dhcp, tftp, nfs = (section.below(name) for name in ("warewulf", "dhcp", "tftp", "nfs"))
    ipxe = tftp.given("ipxe")
    key_types = section.below("ssh").texts("key types")
    return HeadConf(
        ipaddr6=_ipaddr6(section.text("ipaddr6"), section.text("prefixlen6")),
        warewulf=DaemonConf(
            port=daemon.number("port", 9873),
            tls_port=daemon.number("tls port", 9874),
            secure=daemon.flag("secure", True),
            tls=daemon.flag("tls", False),
            update_interval=daemon.number("update interval", 60),
            autobuild_overlays=daemon.flag("autobuild overlays", True),
            host_overlay=daemon.flag("host overlay", True),
            grubboot=daemon.flag("grubboot", False),
            systemd_name=daemon.text("systemd name"),
        ),
        dhcp=DhcpConf(
            enabled=dhcp.flag("enabled", True),
            template=dhcp.text("template", "default"),
            range_start=dhcp.text("range start"),
            range_end=dhcp.text("range end"),
            range6_start=dhcp.text("range6 start"),
            range6_end=dhcp.text("range6 end"),
            systemd_name=dhcp.text("systemd name", "dhcpd"),
        ),
        tftp=TftpConf(
            enabled=tftp.flag("enabled", True),
            root=tftp.text("tftproot", "/var/lib/tftpboot"),
            systemd_name=tftp.text("systemd name", "tftp"),
            **({"ipxe": {str(key): str(value) for key, value in ipxe.items()}} if isinstance(ipxe, Mapping) else {}),
        ),
        nfs=NfsConf(
            enabled=nfs.flag("enabled", True),
            exports=tuple(_exports(nfs.given("export paths"))),
            systemd_name=nfs.text("systemd name", "nfsd"),
        ),
        paths={**PATHS, **{key: value for key, value in section.below("paths").texts_by_key() if key in PATHS}, **paths},
        **({"key_types": key_types} if key_types else {}),
    )


def _exports(given: object) -> list[ExportConf]:
    records = [_Section(record) for record in given if isinstance(record, Mapping)] if isinstance(given, list | tuple) else []
    return [ExportConf(path=one.text("path"), options=one.text("export options", DEFAULT_EXPORT)) for one in records]


def _ipaddr6(given: str, length: str) -> IPv6Interface | None:
    """Without a prefix length it is that of one address; what is no address is none here: its readers say so."""
    try:
        return IPv6Interface(given if "/" in given or not length else f"{given}/{length}") if given else None
    except ValueError:
        return None


class _Section:
    """A mapping of the file; what is of another kind than expected counts as unsaid, as its readers have warned of it."""

    def __init__(self, values: object) -> None:
        self._values: Mapping[str, Any] = values if isinstance(values, Mapping) else {}

    def given(self, key: str) -> object:
        return self._values.get(key)

    def below(self, key: str) -> "_Section":
        return _Section(self._values.get(key))

    def text(self, key: str, default: str = "") -> str:
        value = self._values.get(key)
        return value if isinstance(value, str) else default

    def texts(self, key: str) -> tuple[str, ...]:
        value = self._values.get(key)
        if isinstance(value, str):
            return (value,)
        return tuple(member for member in value if isinstance(member, str)) if isinstance(value, list | tuple) else ()

    def texts_by_key(self) -> list[tuple[str, str]]:
        return [(key, value) for key, value in self._values.items() if isinstance(value, str)]

    def flag(self, key: str, default: bool) -> bool:
        value = self.text(key)
        return value.lower() in TRUE_WORDS if value else default

    def number(self, key: str, default: int) -> int:
        value = self.text(key)
        return int(value) if value.isascii() and value.isdigit() and len(value) < 10 else default
