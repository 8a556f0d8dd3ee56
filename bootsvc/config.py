"""warewulf.conf as one frozen tree of records; defaults are Warewulf 4.7's. Loaded once, by `cli` and `app`.

Every key of Warewulf 4.7 is accepted, used or not. What only bootsvc knows stands in a section of its own:

    bootsvc:
      dhcp:
        mode: authoritative       or `proxy` beside another DHCP server, or `off`
        unknown: offer            or `ignore`: what a machine gets that no node is
        lease seconds: 3600       how long a dynamic address is lent, in seconds
        router: 10.0.0.1          the default gateway that nodes are told; none: no gateway
        dns: [10.0.0.1]           name servers that nodes are told; likewise `ntp`, `search`; `domain` is one word
        mtu: 9000                 of the boot network; a node's own `mtu` comes first
        subnets:                  networks behind relays or on other interfaces
          - network: 10.1.0.0/16  with `range start`, `range end`, `router`, `dns`, `lease seconds`, `mtu` of its own
      dns:
        enabled: true             answer DNS for the boot network and the subnets
        domain: cluster           nodes are NODE.cluster, and nobody else has names there; none: the head node's own domain
        forwarders: [10.1.0.53]   servers that know all other names; none: those of this machine's /etc/resolv.conf
        networks: [10.2.0.0/16]   who may ask besides those
      tftp:
        networks: [10.2.0.0/16]   who may ask besides the boot network, the subnets, and nodes and their networks
      router advertisements: true answer IPv6 router solicitations "no router here", so that iPXE does not wait
      http:
        listen: all               or `networks`: only on this machine's addresses in the boot network and the subnets
        tls:
          certificate: /etc/…     PEM; unsaid, with `warewulf: tls: true`: SYSCONFDIR/warewulf/tls/warewulf.crt
          key: /etc/…             PEM; likewise warewulf.key
        header seconds: 10        for a request to arrive whole
        stall seconds: 60         for a peer to take something of what is sent to it
        idle seconds: 75          between two requests of one connection
        drain seconds: 3          for transfers that are under way when the server stops
        connections: 4096         at once, at most
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path, PurePosixPath
from typing import Any

import msgspec

from bootsvc.dhcp import settings as dhcp
from bootsvc.dhcp.settings import DhcpConfig, dhcp_config
from bootsvc.dns import settings as dns
from bootsvc.dns.settings import DnsConfig, dns_config
from bootsvc.errors import access_hint
from bootsvc.head_checks import check_head
from bootsvc.http import settings as http
from bootsvc.http.settings import HttpConfig, http_config
from bootsvc.keytable import (
    Anything,
    KeyPath,
    ListOf,
    MapOf,
    RecordsOf,
    Settings,
    Table,
    absolute_path,
    flag,
    given,
    ipv4,
    ipv4_or_cidr,
    network_or_address,
    number,
    subnet,
    text,
)
from bootsvc.tftp import settings as tftp
from bootsvc.tftp.settings import TftpConfig, tftp_config
from bootsvc.yamlfile import compose, read_text, value
from images.errors import Error
from netboot.head_conf import HeadConf, head_conf

DEFAULT_SOURCE = Path("/etc/warewulf/warewulf.conf")


class Paths(msgspec.Struct, frozen=True, kw_only=True):
    """Where things live; a site moves them in the `paths:` section."""

    sysconfdir: Path = Path("/etc")
    localstatedir: Path = Path("/var/lib")
    cachedir: Path = Path("/var/cache")
    ipxesource: Path = Path("/usr/lib/ipxe")
    chroots: Path = Path("/var/lib/warewulf/chroots")
    provision: Path = Path("/var/lib/warewulf/provision")
    overlays: Path = Path("/var/lib/warewulf/overlays")

    @property
    def nodes_conf(self) -> Path:
        return self.sysconfdir / "warewulf" / "nodes.conf"

    @property
    def blob_cache(self) -> Path:
        """OCI layout of downloaded blobs, kept between imports."""
        return self.cachedir / "warewulf"

    @property
    def nodes_cache(self) -> Path:
        """What the last reader of nodes.conf found in it, for the next one."""
        return self.localstatedir / "warewulf" / "bootsvc" / "nodes.cache"

    @property
    def state(self) -> Path:
        """The SQLite database: leases and boot events."""
        return self.localstatedir / "warewulf" / "bootsvc" / "state.db"


class ImageMount(msgspec.Struct, frozen=True, kw_only=True):
    """What every exec and shell shows of this machine; with `copy` the image gets a file of its own, if it has none."""

    source: Path
    dest: PurePosixPath
    readonly: bool = False
    copy: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """The whole of warewulf.conf; `ipaddr` and `network` are the boot network's, autodetected when not given."""

    source: Path = DEFAULT_SOURCE
    fqdn: str = ""
    ipaddr: IPv4Address | None = None
    network: IPv4Network | None = None
    paths: Paths = field(default_factory=Paths)
    dhcp: DhcpConfig = field(default_factory=DhcpConfig)
    tftp: TftpConfig = field(default_factory=TftpConfig)
    http: HttpConfig = field(default_factory=HttpConfig)
    dns: DnsConfig = field(default_factory=DnsConfig)
    image_mounts: tuple[ImageMount, ...] = ()
    head: HeadConf = field(default_factory=HeadConf)
    """What `wwctl configure` makes of the head node, and what templates may name of it."""
    warnings: tuple[str, ...] = ()
    lines: Mapping[KeyPath, int] = field(default_factory=dict, compare=False, repr=False)
    """Where in `source` a key stands; one that is not here has its default."""

    @classmethod
    def load(cls, path: Path | None = None) -> "Config":
        """Read warewulf.conf; without `path` the usual place, where a missing file means all defaults.

        Raises Error when `path` is given and missing, and YamlError (file, line, key) for what it holds.
        """
        source = path or DEFAULT_SOURCE
        try:
            content = read_text(source)
        except FileNotFoundError as exc:
            if path is None:
                return cls()
            raise Error(f"{path}: no such file", hint="--warewulfconf and $WAREWULFCONF name a warewulf.conf") from exc
        except OSError as exc:
            raise Error(f"cannot read {source}: {exc.strerror}", hint=access_hint(exc)) from exc
        document = compose(content, source)
        settings = Settings(source)
        if document is not None:
            settings.read(document, TABLE)
        check_head(settings)
        return replace(_config(settings), head=_head({} if document is None else value(document, source), settings))


_UNUSED_PATHS = ("bindir", "srvdir", "firewallddir", "systemddir", "datadir", "wwclientdir", "wwfilesdir")

TABLE: Table = {
    "WW_INTERNAL": Anything,
    "comment": Anything,
    "fqdn": text,
    "ipaddr": ipv4_or_cidr,
    "netmask": ipv4,
    "network": network_or_address,
    "ipaddr6": text,
    "prefixlen6": number(0, 128),
    "ipv6net": Anything,
    "warewulf": {
        "port": number(1, 65535),
        **dict.fromkeys(("secure", "secure files", "tls", "autobuild overlays", "host overlay", "grubboot"), flag),
        **dict.fromkeys(("tls port", "update interval"), number(0, 65535)),
        **dict.fromkeys(("systemd name", "datastore", "syslog"), Anything),
    },
    "api": {"enabled": flag, "tls": flag, "allowed subnets": ListOf(subnet)},
    "dhcp": {
        "enabled": flag,
        "template": text,
        "range start": ipv4,
        "range end": ipv4,
        **dict.fromkeys(("range6 start", "range6 end", "systemd name"), Anything),
    },
    "tftp": {"enabled": flag, "tftproot": absolute_path, "systemd name": Anything, "ipxe": MapOf(text)},
    "nfs": {
        "enabled": flag,
        "export paths": RecordsOf(
            {"path": absolute_path, "export options": text, "mount options": Anything, "mount": Anything}
        ),
        "systemd name": text,
    },
    "ssh": {"key types": ListOf(text)},
    "image mounts": RecordsOf(
        {"source": absolute_path, "dest": absolute_path, "readonly": flag, "copy": flag, "options": Anything}
    ),
    "wwclient": {"port": number(0, 65535)},
    "paths": {
        **dict.fromkeys(("sysconfdir", "localstatedir", "cachedir", "ipxesource"), absolute_path),
        **dict.fromkeys(("wwchrootdir", "wwprovisiondir", "wwoverlaydir"), absolute_path),
        **dict.fromkeys(_UNUSED_PATHS, absolute_path),
    },
    "bootsvc": {
        "dhcp": dhcp.KEYS,
        "dns": dns.KEYS,
        "tftp": tftp.KEYS,
        "router advertisements": flag,
        "http": http.KEYS,
    },
}
"""Warewulf 4.7's keys, and ours."""


def _config(settings: Settings) -> Config:
    ipaddr, network = _network(settings)
    paths = _paths(settings)
    return Config(
        source=settings.source,
        ipaddr=ipaddr,
        network=network,
        paths=paths,
        dhcp=dhcp_config(settings, network),
        tftp=tftp_config(settings),
        http=http_config(settings, paths.sysconfdir),
        dns=dns_config(settings),
        image_mounts=tuple(_image_mounts(settings)),
        warnings=tuple(settings.warnings),
        lines=settings.lines,
        **given(fqdn=settings.get("fqdn")),
    )


def _network(settings: Settings) -> tuple[IPv4Address | None, IPv4Network | None]:
    """The server's address and the boot network, out of `ipaddr`, `netmask` and `network`."""
    stated, netmask, network = settings.get("ipaddr"), settings.get("netmask"), settings.get("network")
    ipaddr = stated.ip if isinstance(stated, IPv4Interface) else stated
    if isinstance(network, IPv4Address):
        if netmask is None and isinstance(stated, IPv4Interface):
            netmask = stated.netmask
        network = _with_mask(settings, "network", network, netmask) if netmask else None
    elif network is None and netmask is not None and ipaddr is not None:
        network = _with_mask(settings, "netmask", ipaddr, netmask, strict=False)
    elif network is None and isinstance(stated, IPv4Interface):
        network = stated.network
    if network is not None and ipaddr is not None and ipaddr not in network:
        raise settings.error(
            ("ipaddr",), f"{ipaddr} is not in the network {network}", "ipaddr is this server's address on the network"
        )
    return ipaddr, network


def _with_mask(settings: Settings, key: str, address: IPv4Address, netmask: IPv4Address, *, strict: bool = True) -> IPv4Network:
    try:
        return IPv4Network(f"{address}/{netmask}", strict=strict)
    except ValueError as exc:
        raise settings.error(
            (key,), f"{address} with the netmask {netmask} is no network: {exc}", "such as 10.0.0.0 and 255.255.255.0"
        ) from exc


def _paths(settings: Settings) -> Paths:
    def get(key: str) -> Path | None:
        path: Path | None = settings.get("paths", key)
        return path

    state = (get("localstatedir") or Paths().localstatedir) / "warewulf"
    return Paths(
        chroots=get("wwchrootdir") or state / "chroots",
        provision=get("wwprovisiondir") or state / "provision",
        overlays=get("wwoverlaydir") or state / "overlays",
        **given(**{key: get(key) for key in ("sysconfdir", "localstatedir", "cachedir", "ipxesource")}),
    )


def _head(document: Mapping[str, Any], settings: Settings) -> HeadConf:
    paths = _paths(settings)
    known = {
        "sysconfdir": paths.sysconfdir,
        "localstatedir": paths.localstatedir,
        "cachedir": paths.cachedir,
        "ipxesource": paths.ipxesource,
        "wwchrootdir": paths.chroots,
        "wwprovisiondir": paths.provision,
        "wwoverlaydir": paths.overlays,
    }
    return head_conf(document, {name: str(path) for name, path in known.items()})


def _image_mounts(settings: Settings) -> Iterator[ImageMount]:
    for record in settings.get("image mounts", default=()):
        source: Path | None = record.get("source")
        if source is None:
            raise settings.error(("image mounts",), "one of them has no source", "such as `- source: /etc/yum.repos.d`")
        dest = PurePosixPath(record.get("dest", source))
        if ".." in dest.parts or dest == PurePosixPath("/"):
            raise settings.error(("image mounts",), f"the dest {dest} is no place in an image", "name a path below /")
        yield ImageMount(source=source, dest=dest, **{key: record[key] for key in ("readonly", "copy") if key in record})
