"""Warewulf can start again on what we wrote: only keys and types of its own stand in nodes.conf and warewulf.conf.

The tables here are written from Warewulf 4.7's documentation and not made from our fields, which could be wrong.
"""

from collections.abc import Mapping
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
import yaml
from warewulf_site import Site, site

from bootsvc.cli.main import run
from bootsvc.config import Config
from bootsvc.discovery import Found, discover
from bootsvc.store import Snapshot, Store

__all__ = ["site"]

TEXT, BOOL, IP, TEXTS, TEXT_MAP, NUMBER, ANY = "text", "boolean", "address", "texts", "map of texts", "number", "anything"
EVERY = "*"
"""A mapping whose keys are the site's own."""


def keys(kind: Any, names: str) -> dict[str, Any]:
    return dict.fromkeys(names.split(","), kind)


NETWORK = keys(TEXT, "type,device,hwaddr,mtu,prefixlen6,onboot") | keys(IP, "ipaddr,netmask,gateway,ipaddr6,gateway6")
IPMI = keys(TEXT, "username,password,port,interface,escapechar,template,write") | keys(IP, "ipaddr,gateway,netmask")
PARTITION = keys(TEXT, "number,size_mib,start_mib,type_guid,guid") | keys(BOOL, "wipe_partition_entry,should_exist,resize")
FILESYSTEM = keys(TEXT, "format,path,label,uuid,mount_options") | {"options": TEXTS, "wipe_filesystem": BOOL}
PROFILE = {
    **keys(TEXTS, "profiles,runtime overlay,system overlay"),
    **keys(TEXT, "comment,cluster name,image name,init,root,ipxe template,primary network"),
    "kernel": {"version": TEXT, "args": TEXTS},
    "ipmi": IPMI | {"tags": TEXT_MAP},
    "network devices": {EVERY: NETWORK | {"tags": TEXT_MAP}},
    "tags": TEXT_MAP,
    "disks": {EVERY: {"wipe_table": BOOL, "partitions": {EVERY: PARTITION}}},
    "filesystems": {EVERY: FILESYSTEM},
    "resources": {EVERY: ANY},
}
NODES_CONF = {
    "WW_INTERNAL": NUMBER,
    "nodeprofiles": {EVERY: PROFILE},
    "nodes": {EVERY: PROFILE | keys(TEXT, "discoverable,asset key")},
}
WAREWULF_CONF = {
    "WW_INTERNAL": NUMBER,
    **keys(TEXT, "comment,fqdn,ipaddr,netmask,network,ipaddr6"),
    # Text or a number; Warewulf takes both.
    "prefixlen6": ANY,
    "warewulf": {
        **keys(NUMBER, "port,tls port,update interval"),
        **keys(BOOL, "secure,secure files,tls,autobuild overlays,host overlay,grubboot"),
        "systemd name": TEXT,
    },
    "api": {"enabled": BOOL, "tls": BOOL, "allowed subnets": TEXTS},
    "dhcp": {"enabled": BOOL, **keys(TEXT, "template,range start,range end,range6 start,range6 end,systemd name")},
    "tftp": {"enabled": BOOL, "tftproot": TEXT, "systemd name": TEXT, "ipxe": TEXT_MAP},
    "nfs": {"enabled": BOOL, "systemd name": TEXT, "export paths": [keys(TEXT, "path,export options")]},
    "ssh": {"key types": TEXTS},
    "image mounts": [keys(TEXT, "source,dest,options") | keys(BOOL, "readonly,copy")],
    "wwclient": {"port": NUMBER},
    "paths": keys(
        TEXT,
        "bindir,sysconfdir,localstatedir,cachedir,ipxesource,srvdir,firewallddir,systemddir,datadir,wwoverlaydir,wwchrootdir,"
        "wwprovisiondir,wwclientdir,wwfilesdir",
    ),
}


def strange(value: Any, expected: Any, path: str = "") -> list[str]:
    """The paths of what Warewulf does not know, or knows as something else."""
    if expected == ANY:
        return []
    if isinstance(expected, Mapping):
        if not isinstance(value, Mapping):
            return [path]
        known = {key: expected.get(key, expected.get(EVERY)) for key in value}
        unknown = [f"{path}/{key}" for key, kind in known.items() if kind is None]
        return unknown + [one for key, kind in known.items() if kind for one in strange(value[key], kind, f"{path}/{key}")]
    if isinstance(expected, list):
        return [one for member in value for one in strange(member, expected[0], path)] if isinstance(value, list) else [path]
    return [] if _is(value, expected) else [path]


def _is(value: Any, kind: str) -> bool:
    if kind == TEXTS:
        return isinstance(value, list) and all(isinstance(member, str) for member in value)
    if kind == TEXT_MAP:
        return isinstance(value, dict) and all(isinstance(member, str) for member in value.values())
    if kind == IP:
        return isinstance(ip_address(value), IPv4Address | IPv6Address) and str(ip_address(value)) == value
    return {TEXT: isinstance(value, str), BOOL: isinstance(value, bool), NUMBER: type(value) is int}[kind]


def read(text: str) -> Any:
    """As a YAML 1.1 reader takes it: what is to be text, and looks like something else, needs its quotes."""
    return yaml.safe_load(text)


SAMPLES = {
    "ipaddr": "10.10.9.1", "netmask": "255.255.0.0", "gateway": "10.10.9.254", "ipaddr6": "FD00::0:9", "gateway6": "fd00::fffe",
    "hwaddr": "52-54-00-12-34-59", "mtu": "9000", "prefixlen6": "64", "type": "ethernet", "onboot": "no", "netdev": "0123",
    "ipmiaddr": "10.11.9.1", "ipmigateway": "10.11.9.254", "ipminetmask": "255.255.0.0", "ipmiport": "623", "ipmiwrite": "yes",
    "ipmiuser": "yes", "ipmipass": "0x10", "ipmiinterface": "lanplus", "ipmiescapechar": "~", "ipmitemplate": "null",
    "profile": "compute,~gpu", "comment": "12:34:56", "cluster": "1e3", "image": "rocky-9", "ipxe": "true", "init": "on",
    "root": "2024-01-01", "primarynet": "0777", "kernelversion": "5.10", "kernelargs": "1,~quiet,a=b", "asset": "0o17",
    "discoverable": "1", "runtime-overlays": "hosts,~x", "system-overlays": "010", "diskwipe": "true", "partnumber": "1",
    "partsize": "0100", "parttype": "0FC63DAF-8483-4772-8E79-3D69D8477DE4", "partwipe": "no", "partcreate": "yes",
    "fsformat": "y", "fspath": "/1", "fswipe": "false",
}  # fmt: skip
"""What no reader may take for a number, a boolean or a time, in every field that has a flag."""


def words(*without: str) -> list[str]:
    scopes = ["--netname", "7", "--diskname", "/dev/sda", "--partname", "1", "--fsname", "1"]
    tags = ["--tagadd", "1=2,no=yes", "--ipmitagadd", "a=null", "--nettagadd", "DNS=10.10.0.1"]
    return [*(f"--{flag}={value}" for flag, value in SAMPLES.items() if flag not in without), *scopes, *tags]


def test_the_tables_find_what_is_strange(site: Site) -> None:
    node = {"kernel": {"args": "quiet"}, "odd": "x", "comment": 5, "disks": {"d": {"wipe_table": "no"}}}
    wrong = ["odd", "kernel/args", "comment", "disks/d/wipe_table"]
    assert strange({"nodes": {"n": node}}, NODES_CONF) == [f"/nodes/n/{path}" for path in wrong]
    # What the administrator wrote: a key of their own, and words that an old YAML reader takes for something else.
    assert set(strange(read(site.nodes_conf.read_text()), NODES_CONF)) == {
        "/nodes/n01/network devices/default/hwaddr",
        "/nodes/g01/network devices/vlan7/onboot",
        "/nodes/g02/physics inventory",
        "/nodes/s01.storage/network devices/default/hwaddr",
        "/nodes/s01.storage/network devices/port1/hwaddr",
        "/nodes/s01.storage/network devices/port2/hwaddr",
    }
    assert strange(read(site.warewulf_conf.read_text()), WAREWULF_CONF) == []


def test_every_flag_has_a_sample() -> None:
    from netboot.fields import node_fields

    assert {field.flag for field in node_fields() if field.flag} == set(SAMPLES)


def test_what_the_verbs_write(site: Site) -> None:
    before = set(strange(read(site.nodes_conf.read_text()), NODES_CONF))
    kept = site.warewulf_conf.read_bytes()
    assert site.wwctl("node add", "new1", *words("discoverable")).code == 0
    assert site.wwctl("node set new1 -y --discoverable").code == 0
    assert site.wwctl("node set spare -y", *words("ipaddr", "hwaddr")).code == 0
    shared = words("discoverable", "asset", "ipaddr", "hwaddr", "primarynet")
    assert site.wwctl("profile add new", *shared).code == 0
    assert site.wwctl("profile set bonded -y", *shared).code == 0
    assert site.wwctl("node unset new1 -y --onboot --netname 7 --tag no").code == 0
    exported = site.wwctl("node export new1 -j").out
    assert site.wwctl("node import - -y", stdin=exported.replace("new1", "new2").replace("10.10.9.1", "10.10.9.2")
                      .replace("52:54:00:12:34:59", "52:54:00:12:34:60")).code == 0  # fmt: skip
    site.edit_with("s/^new1:/new3:/", "s/10.10.9.1/10.10.9.3/", "s/34:59/34:63/")
    assert site.wwctl("node edit -y new1").code == 0
    config = Config.load(site.warewulf_conf)
    found: list[Found] = []

    def find(snapshot: Snapshot) -> Snapshot:
        one = discover(snapshot, "52:54:00:99:00:01", config)
        assert one is not None
        found.append(one)
        return one.snapshot

    Store(site.nodes_conf).edit(find)
    assert found[0].is_new
    assert site.wwctl("image rename rocky-9 rocky-9.4").code == 0
    assert set(strange(read(site.nodes_conf.read_text()), NODES_CONF)) == before
    assert site.warewulf_conf.read_bytes() == kept


def test_a_file_of_ours_alone(site: Site) -> None:
    site.nodes_conf.unlink()
    assert site.wwctl("node add n[01-02] --ipaddr 10.10.1.1").code == 0
    assert strange(read(site.nodes_conf.read_text()), NODES_CONF) == []
    assert strange(read(site.wwctl("genconfig defaults").out), NODES_CONF) == []


def test_warewulf_conf(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    """Only `bootsvc:` is not Warewulf's, and nothing of ours writes it into the file."""
    assert strange(read(site.wwctl("genconfig warewulfconf print").out), WAREWULF_CONF) == ["/bootsvc"]
    kept = site.warewulf_conf.read_bytes()
    for verb in ("hostfile", "nfs", "ssh"):
        assert run(["configure", verb, "--root", str(site.root / "head")]) == 0
    capsys.readouterr()
    assert site.warewulf_conf.read_bytes() == kept
    old = (
        "ipaddr: 10.0.0.1\nipv6net: fd00::/64\nwarewulf: {port: 9873, datastore: /x, syslog: false}\n"
        "nfs:\n  export paths:\n  - {path: /home, mount: true, mount options: x}\ncontainer mounts:\n- source: /a\n"
    )
    site.warewulf_conf.write_text(old)
    assert site.wwctl("upgrade config").code == 0
    assert strange(read(site.warewulf_conf.read_text()), WAREWULF_CONF) == []


def test_what_lies_beside_the_files_is_hidden_from_warewulf(site: Site) -> None:
    assert site.wwctl("node set n01 -y --comment x").code == 0
    assert sorted(path.name for path in site.nodes_conf.parent.iterdir()) == ["nodes.conf", "nodes.conf.lock", "warewulf.conf"]
