"""The data of a `.ww` template: what `{{ .Name }}` means at its root, from a node, all nodes and the head node."""

from collections.abc import Mapping
from datetime import UTC, datetime
from ipaddress import IPv4Interface

from netboot.engine import RenderContext
from netboot.gotemplate.go_time import unix
from netboot.gotemplate.node_data import NODE
from netboot.gotemplate.time_layouts import strftime
from netboot.gotemplate.values import GoList, Value
from netboot.gotemplate.views import Getter, Struct, View, flag, number, part, tags, text, texts
from netboot.reads import COUNT, EACH, Trace

BUILD_TIME = "01-02-2006 15:04:05 MST"

DHCP = Struct(
    "config.DHCPConf",
    {
        "Enabled": flag("enabled"),
        "Template": text("template"),
        "RangeStart": text("range_start"),
        "RangeEnd": text("range_end"),
        "Range6Start": text("range6_start"),
        "Range6End": text("range6_end"),
        "SystemdName": text("systemd_name"),
    },
)
EXPORT = Struct(
    "*config.NFSExportConf",
    {
        "Path": text("path"),
        "ExportOptions": text("options"),
        # 4.5 had these two; mounts are the resource fstab now.
        "MountOptions": lambda view: "defaults",
        "Mount": lambda view: False,
    },
)


def _exports(view: View) -> Value:
    view.trace.paths.add((*view.path, "exports", COUNT))
    path = (*view.path, "exports", EACH)
    return GoList((View(EXPORT, one, path, view.trace) for one in view.record.exports), EXPORT.name)


NFS = Struct(
    "config.NFSConf",
    {"Enabled": flag("enabled"), "ExportsExtended": _exports, "SystemdName": text("systemd_name")},
)
SSH = Struct("config.SSHConf", {"KeyTypes": texts("key_types")})
TFTP = Struct(
    "config.TFTPConf",
    {
        "Enabled": flag("enabled"),
        "TftpRoot": text("root"),
        "SystemdName": text("systemd_name"),
        "IpxeBinaries": tags("ipxe"),
    },
)
WAREWULF = Struct(
    "config.WarewulfConf",
    {
        "Port": number("port"),
        "TlsPort": number("tls_port"),
        "Secure": flag("secure"),
        "TLSEnabled": flag("tls"),
        "EnableTLS": flag("tls"),
        "UpdateInterval": number("update_interval"),
        "AutobuildOverlays": flag("autobuild_overlays"),
        "EnableHostOverlay": flag("host_overlay"),
        "GrubBoot": flag("grubboot"),
        "SystemdName": text("systemd_name"),
    },
)

_PATH_NAMES = {
    "Bindir": "bindir",
    "Sysconfdir": "sysconfdir",
    "Localstatedir": "localstatedir",
    "Cachedir": "cachedir",
    "Ipxesource": "ipxesource",
    "Srvdir": "srvdir",
    "Firewallddir": "firewallddir",
    "Systemddir": "systemddir",
    "Datadir": "datadir",
    "WWOverlaydir": "wwoverlaydir",
    "WWChrootdir": "wwchrootdir",
    "WWProvisiondir": "wwprovisiondir",
    "WWClientdir": "wwclientdir",
    "WWFilesdir": "wwfilesdir",
}


def _path(key: str) -> Getter:
    def get(view: View) -> Value:
        paths: Mapping[str, str] = view.read("paths")
        return paths.get(key, "")

    return get


PATHS = Struct("config.BuildConfig", {name: _path(key) for name, key in _PATH_NAMES.items()})


class Root:
    """The root data of one rendering."""

    def __init__(self, context: RenderContext, trace: Trace, *, source: str, now: datetime) -> None:
        self._trace, self._source, self._now = trace, source, now
        self._context = View(CONTEXT, context, (), trace)
        self._server = View(CONTEXT, context.server, ("server",), trace)
        self._conf = View(CONF, context.server.conf, ("server", "conf"), trace)
        self.node = View(NODE, context.node, ("node",), trace, parent=self._context)

    def go_type(self) -> str:
        return "overlay.TemplateStruct"

    def go_method(self, name: str) -> None:
        return None

    def go_string(self) -> str:
        return "{" + str(self._context.record.node.id) + "}"

    def go_json(self) -> Value:
        return self.node.go_json()

    def go_field(self, name: str) -> Value:
        own = _ROOT.get(name)
        if own is not None:
            return own(self)
        if name in CONF.fields:
            return self._conf.go_field(name)
        return self.node.go_field(name)

    def all_nodes(self) -> Value:
        self._trace.paths.add(("nodes", COUNT))
        nodes = self._context.record.nodes
        return GoList((View(NODE, node, ("nodes", EACH), self._trace) for node in nodes), "node.Node")

    def build_time(self, layout: str) -> str:
        return strftime(layout, self._now)

    def build_time_unix(self) -> str:
        return str(unix(self._now.astimezone(UTC)))

    def build_source(self) -> str:
        return self._source

    def overlay(self) -> str:
        return str(self._context.record.overlay)

    def server(self, name: str) -> Value:
        value: Value = self._server.read(name)
        return value

    def interface(self) -> IPv4Interface:
        """The server's address with the netmask of the boot network."""
        return IPv4Interface(f"{self.server('address')}/{self._server.read('network').netmask}")

    def interface6(self) -> str:
        """The server's IPv6 address with its prefix, or empty."""
        found = self._conf.read("ipaddr6")
        return "" if found is None else str(found)

    def network6(self) -> str:
        """The network of `interface6` with its prefix, or empty."""
        found = self._conf.read("ipaddr6")
        return "" if found is None else str(found.network)


CONTEXT = Struct("overlay.TemplateStruct", {})
CONF = Struct(
    "config.WarewulfYaml",
    {
        "Dhcp": part("dhcp", DHCP),
        "Nfs": part("nfs", NFS),
        "Ssh": lambda view: View(SSH, view.record, view.path, view.trace),
        "Warewulf": part("warewulf", WAREWULF),
        "Tftp": part("tftp", TFTP),
        "Paths": lambda view: View(PATHS, view.record, view.path, view.trace),
    },
)


def _prefix6(root: Root) -> str:
    return root.interface6().partition("/")[2]


_ROOT = {
    "Hostname": lambda root: root.node.go_field("Id"),
    "Container": lambda root: root.node.go_field("ImageName"),
    "ThisNode": lambda root: root.node,
    "AllNodes": Root.all_nodes,
    "BuildHost": lambda root: root.server("name"),
    "BuildTime": lambda root: root.build_time(BUILD_TIME),
    "BuildTimeUnix": Root.build_time_unix,
    "BuildSource": Root.build_source,
    "Overlay": Root.overlay,
    "Ipaddr": lambda root: str(root.server("address")),
    "IpCIDR": lambda root: str(root.interface()),
    "Netmask": lambda root: str(root.interface().netmask),
    "Network": lambda root: str(root.interface().network.network_address),
    "NetworkCIDR": lambda root: str(root.interface().network),
    "Ipv6": lambda root: root.interface6() != "",
    "Ipaddr6": lambda root: root.interface6().partition("/")[0],
    "PrefixLen6": _prefix6,
    "IpCIDR6": Root.interface6,
    "Network6": lambda root: root.network6().partition("/")[0],
    "NetworkCIDR6": Root.network6,
}
"""What is no field of the node; the parts of warewulf.conf are CONF's."""
