from ipaddress import IPv4Address, IPv4Network, IPv6Interface
from pathlib import Path, PurePosixPath

import pytest

from bootsvc.config import Config, ImageMount, Paths
from bootsvc.dhcp.settings import DhcpConfig, Mode, Subnet, Unknown
from bootsvc.http.settings import HttpConfig, Listen, TlsConfig
from bootsvc.tftp.settings import TftpConfig
from bootsvc.yamlfile import YamlError
from images.errors import Error
from netboot.head_conf import PATHS, DaemonConf, DhcpConf, ExportConf, HeadConf, NfsConf, TftpConf

# Warewulf 4.7's keys, each with a value of its own kind.
EVERY_KEY = """\
comment: a cluster
fqdn: head.cluster
ipaddr: 10.0.0.1/16
netmask: 255.255.0.0
network: 10.0.0.0
ipaddr6: fd00::1/64
prefixlen6: 64
warewulf:
  port: 9873
  tls port: 9874
  secure: false
  secure files: false
  tls: false
  update interval: 60
  autobuild overlays: true
  host overlay: true
  grubboot: false
  systemd name: warewulfd
api: {enabled: false, tls: false, allowed subnets: [127.0.0.0/8, "::1/128"]}
dhcp:
  enabled: true
  template: default
  range start: 10.0.1.1
  range end: 10.0.1.255
  range6 start: fd00::100
  range6 end: fd00::200
  systemd name: dhcpd
tftp:
  enabled: true
  tftproot: /srv/tftp
  systemd name: tftp
  ipxe:
    00:00: undionly.kpxe
    00:07: snponly.efi
nfs:
  enabled: true
  export paths:
  - path: /home
    export options: rw,sync
  systemd name: nfsd
ssh: {key types: [ed25519]}
image mounts:
- {source: /etc/resolv.conf, dest: /etc/resolv.conf, readonly: true}
wwclient: {port: 0}
paths:
  bindir: /usr/bin
  sysconfdir: /etc
  localstatedir: /srv/state
  cachedir: /var/cache
  ipxesource: /usr/share/ipxe
  srvdir: /srv
  firewallddir: /usr/lib/firewalld/services
  systemddir: /usr/lib/systemd/system
  datadir: /usr/share
  wwoverlaydir: /srv/overlays
  wwclientdir: /warewulf
  wwfilesdir: /srv/files
bootsvc:
  dhcp:
    lease seconds: 600
    router: 10.0.0.1
    dns: [10.0.0.1, 10.0.0.2]
  router advertisements: no
"""

MOVED = {
    "localstatedir": "/srv/state",
    "ipxesource": "/usr/share/ipxe",
    "wwoverlaydir": "/srv/overlays",
    "wwchrootdir": "/srv/state/warewulf/chroots",
    "wwprovisiondir": "/srv/state/warewulf/provision",
    "wwfilesdir": "/srv/files",
}


def load(tmp_path: Path, text: str) -> Config:
    path = tmp_path / "warewulf.conf"
    path.write_text(text)
    return Config.load(path)


def test_every_key(tmp_path: Path) -> None:
    loaded = load(tmp_path, EVERY_KEY)
    assert loaded == Config(
        source=tmp_path / "warewulf.conf",
        fqdn="head.cluster",
        ipaddr=IPv4Address("10.0.0.1"),
        network=IPv4Network("10.0.0.0/16"),
        paths=Paths(
            localstatedir=Path("/srv/state"),
            ipxesource=Path("/usr/share/ipxe"),
            chroots=Path("/srv/state/warewulf/chroots"),
            provision=Path("/srv/state/warewulf/provision"),
            overlays=Path("/srv/overlays"),
        ),
        dhcp=DhcpConfig(
            range_start=IPv4Address("10.0.1.1"),
            range_end=IPv4Address("10.0.1.255"),
            lease_seconds=600,
            router=IPv4Address("10.0.0.1"),
            dns=(IPv4Address("10.0.0.1"), IPv4Address("10.0.0.2")),
            router_advertisements=False,
        ),
        tftp=TftpConfig(ipxe={"00:00": "undionly.kpxe", "00:07": "snponly.efi"}),
        http=HttpConfig(port=9873),
        image_mounts=(ImageMount(source=Path("/etc/resolv.conf"), dest=PurePosixPath("/etc/resolv.conf"), readonly=True),),
        head=HeadConf(
            ipaddr6=IPv6Interface("fd00::1/64"),
            warewulf=DaemonConf(secure=False, systemd_name="warewulfd"),
            dhcp=DhcpConf(range_start="10.0.1.1", range_end="10.0.1.255", range6_start="fd00::100", range6_end="fd00::200"),
            tftp=TftpConf(root="/srv/tftp", ipxe={"00:00": "undionly.kpxe", "00:07": "snponly.efi"}),
            nfs=NfsConf(exports=(ExportConf(path="/home", options="rw,sync"),)),
            key_types=("ed25519",),
            paths={**PATHS, **MOVED},
        ),
    )


def test_what_the_head_node_is_told(tmp_path: Path) -> None:
    config = load(
        tmp_path,
        "ipaddr6: fd00::1\nprefixlen6: 64\nssh: {key types: [dsa, rsa, rot13]}\nwarewulf: {update interval: 5, tls: yes}\n",
    )
    assert (config.head.ipaddr6, config.head.made_key_types) == (IPv6Interface("fd00::1/64"), ("rsa",))
    assert config.head.warewulf == DaemonConf(update_interval=5, tls=True)
    assert [warning.partition(": ")[2] for warning in config.warnings] == [
        "ssh: no keys of type 'rot13' are made (ed25519, ecdsa, rsa are)"
    ]
    for text in ("ipaddr6: 10.0.0.1", "nfs: {export paths: [{export options: ro}]}"):
        with pytest.raises(YamlError):
            load(tmp_path, text)


@pytest.mark.parametrize("text", ["", "# nothing\n", "dhcp:\ntftp: ~\npaths: {}\n"])
def test_what_says_nothing_is_the_defaults(tmp_path: Path, text: str) -> None:
    assert load(tmp_path, text) == Config(source=tmp_path / "warewulf.conf")


def test_named_file_must_exist(tmp_path: Path) -> None:
    with pytest.raises(Error, match="no such file") as caught:
        Config.load(tmp_path / "gone.conf")
    assert "--warewulfconf" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("text", "ipaddr", "network"),
    [
        ("ipaddr: 10.0.0.1", "10.0.0.1", None),
        ("ipaddr: 10.0.0.1/24", "10.0.0.1", "10.0.0.0/24"),
        ("ipaddr: 10.0.0.1\nnetmask: 255.255.0.0", "10.0.0.1", "10.0.0.0/16"),
        ("ipaddr: 10.0.0.1\nnetmask: 255.255.0.0\nnetwork: 10.0.0.0", "10.0.0.1", "10.0.0.0/16"),
        ("ipaddr: 10.0.0.1/24\nnetwork: 10.0.0.0", "10.0.0.1", "10.0.0.0/24"),
        ("ipaddr: 10.0.0.1\nnetwork: 10.0.0.0/24", "10.0.0.1", "10.0.0.0/24"),
        ("network: 10.0.0.0\nnetmask: 255.255.255.0", None, "10.0.0.0/24"),
        ("network: 10.0.0.0/24", None, "10.0.0.0/24"),
    ],
)
def test_address_and_network(tmp_path: Path, text: str, ipaddr: str | None, network: str | None) -> None:
    config = load(tmp_path, text)
    assert config.ipaddr == (IPv4Address(ipaddr) if ipaddr else None)
    assert config.network == (IPv4Network(network) if network else None)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ipaddr: 10.0.0.300", "1:9: ipaddr: '10.0.0.300' cannot be used"),
        ("ipaddr: [10.0.0.1]", "1:9: ipaddr: expected one value, not a list"),
        ("ipaddr: 10.0.0.1\nnetwork: 10.1.0.0/24", "1:9: ipaddr: 10.0.0.1 is not in the network 10.1.0.0/24"),
        ("network: 10.0.0.1\nnetmask: 255.255.255.0", "1:10: network: 10.0.0.1 with the netmask 255.255.255.0 is no"),
        ("network: 10.0.0.1/24", "1:10: network: '10.0.0.1/24' cannot be used"),
        ("ipaddr: 10.0.0.1\nnetmask: 255.0.255.0", "2:10: netmask: 10.0.0.1 with the netmask 255.0.255.0 is no network"),
        ("warewulf:\n  port: 99999", "2:9: warewulf: port: '99999' cannot be used"),
        ("warewulf:\n  port: many", "2:9: warewulf: port: 'many' cannot be used"),
        ("dhcp: yes", "1:7: dhcp: expected keys below this one"),
        ("dhcp:\n  enabled: perhaps", "2:12: dhcp: enabled: 'perhaps' cannot be used"),
        ("dhcp:\n  range start: 10.0.0.9", "2:16: dhcp: range start: there is no range end"),
        ("dhcp:\n  range end: 10.0.0.9", "2:14: dhcp: range end: there is no range start"),
        ("dhcp:\n  range start: 10.0.0.9\n  range end: 10.0.0.8", "3:14: dhcp: range end: 10.0.0.8 comes before"),
        (
            "ipaddr: 10.0.0.1/24\nbootsvc: {dhcp: {router: 10.9.0.1}}",
            "2:26: bootsvc: dhcp: router: the router 10.9.0.1 is not in",
        ),
        ("ipaddr: 10.0.0.1/24\ndhcp: {range start: 10.0.1.1, range end: 10.0.1.2}", "2:21: dhcp: range start: 10.0.1.1"),
        ("ipaddr: 10.0.0.1/24\ndhcp: {range start: 10.0.0.9, range end: 10.0.0.255}", "2:42: dhcp: range end: 10.0.0.255"),
        ("paths:\n  cachedir: var", "2:13: paths: cachedir: 'var' cannot be used"),
        ("tftp: {ipxe: {00:00: [x]}}", "1:22: tftp: ipxe: expected one value, not a list"),
        ("bootsvc: {dhcp: {dns: [10.0.0.1, x]}}", "1:34: bootsvc: dhcp: dns: 'x' cannot be used"),
        ("ipaddr: 10.0.0.1\nipaddr: 10.0.0.2", "2:1: the key 'ipaddr' stands here twice"),
    ],
)
def test_errors_name_line_and_key(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(YamlError) as caught:
        load(tmp_path, text)
    assert caught.value.message.startswith(f"{tmp_path}/warewulf.conf:{message}")


def test_unknown_keys_are_warnings_with_the_closest(tmp_path: Path) -> None:
    config = load(tmp_path, "ipadr: x\ndhcp:\n  range strt: 10.0.0.1\nxyzzy: 1\nbootsvc: {lease: 3}\n")
    source = tmp_path / "warewulf.conf"
    assert config.warnings == (
        f"{source}:1: unknown key 'ipadr' (did you mean 'ipaddr'?)",
        f"{source}:3: unknown key 'dhcp: range strt' (did you mean 'range start'?)",
        f"{source}:4: unknown key 'xyzzy'",
        f"{source}:5: unknown key 'bootsvc: lease'",
    )


def test_one_name_server_needs_no_list(tmp_path: Path) -> None:
    assert load(tmp_path, "bootsvc: {dhcp: {dns: 10.0.0.1}}").dhcp.dns == (IPv4Address("10.0.0.1"),)


@pytest.mark.parametrize(("text", "secure"), [("ipaddr: 10.0.0.1/16", False), ("warewulf: {secure: true}", True)])
def test_secure(tmp_path: Path, text: str, secure: bool) -> None:
    (tmp_path / "warewulf.conf").write_text(text + "\n")
    assert Config.load(tmp_path / "warewulf.conf").http.secure is secure


def test_who_else_may_ask(tmp_path: Path) -> None:
    config = load(tmp_path, "bootsvc: {dns: {networks: [10.2.0.0/16]}, tftp: {networks: [10.3.0.0/16, 192.0.2.1]}}")
    assert config.dns.networks == (IPv4Network("10.2.0.0/16"),)
    assert config.tftp.networks == (IPv4Network("10.3.0.0/16"), IPv4Network("192.0.2.1"))
    with pytest.raises(Error, match=r"bootsvc: tftp: networks: .everybody. cannot be used"):
        load(tmp_path, "bootsvc: {tftp: {networks: [everybody]}}")


def test_dhcp_mode_unknown_machines_and_subnets(tmp_path: Path) -> None:
    dhcp = load(
        tmp_path,
        "ipaddr: 10.0.0.1/24\nbootsvc:\n  dhcp:\n    mode: proxy\n    unknown: ignore\n    search: [a.b, c]\n    mtu: 1400\n"
        "    subnets:\n      - network: 10.1.0.0/24\n        range start: 10.1.0.5\n        range end: 10.1.0.9\n"
        "        router: 10.1.0.1\n        dns: [10.1.0.2]\n        mtu: 9000\n",
    ).dhcp
    assert dhcp.mtu == 1400
    assert (dhcp.mode, dhcp.unknown, dhcp.search, dhcp.enabled) == (Mode.PROXY, Unknown.IGNORE, ("a.b", "c"), True)
    assert dhcp.subnets == (
        Subnet(
            network=IPv4Network("10.1.0.0/24"),
            range_start=IPv4Address("10.1.0.5"),
            range_end=IPv4Address("10.1.0.9"),
            router=IPv4Address("10.1.0.1"),
            dns=(IPv4Address("10.1.0.2"),),
            mtu=9000,
        ),
    )
    assert not load(tmp_path, "bootsvc: {dhcp: {mode: off}}").dhcp.enabled


@pytest.mark.parametrize(
    ("subnets", "reason"),
    [
        ("[{range start: 10.1.0.5}]", "one of them has no network"),
        ("[{network: 10.1.0.0}]", "'10.1.0.0' cannot be used"),
        ("[{network: 10.1.0.0/24, range start: 10.1.0.5}]", "one end of a range"),
        ("[{network: 10.1.0.0/24, range start: 10.2.0.5, range end: 10.1.0.9}]", "10.2.0.5 is not in the network"),
        ("[{network: 10.1.0.0/24, range start: 10.1.0.9, range end: 10.1.0.5}]", "comes before range start"),
        ("[{network: 10.1.0.0/24, router: 10.2.0.1}]", "the router 10.2.0.1 is not in 10.1.0.0/24"),
        ("[{network: 10.0.0.0/16}]", "10.0.0.0/16 overlaps 10.0.0.0/24"),
        ("[{network: 10.1.0.0/24}, {network: 10.1.0.0/25}]", "overlaps"),
    ],
)
def test_subnets_that_cannot_be(tmp_path: Path, subnets: str, reason: str) -> None:
    with pytest.raises(Error, match=reason):
        load(tmp_path, f"ipaddr: 10.0.0.1/24\nbootsvc: {{dhcp: {{subnets: {subnets}}}}}")


def test_http_settings(tmp_path: Path) -> None:
    path = tmp_path / "warewulf.conf"
    path.write_text(
        "warewulf: {port: 80, tls: true, tls port: 443}\n"
        "api: {allowed subnets: [10.0.0.0/8, fd00::/8, 192.0.2.1]}\n"
        "bootsvc: {http: {listen: networks, stall seconds: 5, drain seconds: 0, connections: 9}}\n"
        "paths: {sysconfdir: /x}\n"
    )
    http = Config.load(path).http
    assert http.tls is not None
    assert (http.port, http.tls.port, str(http.tls.key)) == (80, 443, "/x/warewulf/tls/warewulf.key")
    assert [str(subnet) for subnet in http.api_subnets] == ["10.0.0.0/8", "fd00::/8", "192.0.2.1/32"]
    assert http.listen is Listen.NETWORKS
    assert (http.stall_seconds, http.drain_seconds, http.max_connections, http.header_seconds) == (5, 0, 9, 10)
    path.write_text("bootsvc: {http: {tls: {certificate: /c, key: /k}}}\n")
    assert Config.load(path).http.listen is Listen.ALL, "as Warewulf's server"
    assert str(Config.load(path).http.tls) == str(TlsConfig(certificate=Path("/c"), key=Path("/k")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("bootsvc: {http: {tls: {certificate: /c}}}", "there is no key for it"),
        ("api: {allowed subnets: [everybody]}", "expected a network such as"),
        ("bootsvc: {http: {stall seconds: 0}}", "expected a number from 1"),
    ],
)
def test_http_settings_that_cannot_be(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "warewulf.conf"
    path.write_text(text + "\n")
    with pytest.raises(Error) as caught:
        Config.load(path)
    assert words in f"{caught.value.message} {caught.value.hint}"


def test_grubboot(tmp_path: Path) -> None:
    tftp = load(tmp_path, "warewulf: {grubboot: true}\n").tftp
    assert (tftp.ipxe, tftp.loaders["00:07"], tftp.loaders["00:00"]) == ({}, "shimx64.efi", "undionly.kpxe")
    assert load(tmp_path, "warewulf: {grubboot: false}\n").tftp.loaders == {}
