"""`wwctl overlay` with a site's Go templates beside Jinja2 ones, and warewulf.conf as those name it."""

from ipaddress import IPv6Interface
from pathlib import Path

import pytest
from head_node import HeadNode

from bootsvc.config import Config
from netboot.head_conf import ExportConf, HeadConf, head_conf

pytestmark = pytest.mark.root

NODES = """\
nodes:
  n1:
    cluster name: alpha
    system overlay: [site]
    network devices: {default: {ipaddr: 10.0.0.11, netmask: 255.255.255.0, device: eth0}}
  n2:
    system overlay: [site]
    network devices: {default: {ipaddr: 10.0.0.12, netmask: 255.255.255.0, device: eth0}}
"""
FILES = {
    "etc/motd.ww": "{{/* .ClusterName: whose cluster it is */}}welcome to {{ .Id }} of {{ default `none` .ClusterName }}\n",
    "etc/issue.j2": "{{ node.id }}\n",
    "etc/net/if.ww": "{{ range .NetDevs }}{{ file .Device }}{{ .IpCIDR }}\n{{ end }}{{ file `link` }}{{ softlink `eth0` }}",
    "etc/never.ww": "{{ abort }}",
}


class Site(HeadNode):
    def __init__(self, root: Path) -> None:
        super().__init__(root)
        (root / "etc/warewulf").mkdir(parents=True)
        (root / "etc/warewulf/nodes.conf").write_text(NODES)
        self.rootfs = root / "lib/warewulf/overlays/site/rootfs"
        for name, content in FILES.items():
            self.write(name, content)

    def write(self, name: str, content: str) -> None:
        (self.rootfs / name).parent.mkdir(parents=True, exist_ok=True)
        (self.rootfs / name).write_text(content)

    def run(self, *args: str, code: int = 0) -> str:
        done = self.wwctl("overlay", *args)
        assert done.returncode == code, done.stderr
        return done.stdout


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_show_renders_a_go_template(site: Site) -> None:
    assert site.run("show", "site", "etc/motd", "--render", "n1", "--quiet") == "welcome to n1 of alpha\n"
    shown = site.run("show", "site", "etc/net/if.ww", "--render", "n2")
    assert "Filename: etc/net/eth0\n10.0.0.12/24\n" in shown
    assert "Filename: etc/net/link\nSymlink: eth0\n" in shown
    assert site.run("show", "site", "etc/never.ww", "--render", "n1") == "Aborted\n"


def test_info_lists_its_variables(site: Site) -> None:
    rows = [row.split() for row in site.run("info", "site", "etc/motd.ww").splitlines()]
    assert [".ClusterName", "--cluster", "text", "whose", "cluster", "it", "is"] in rows


def test_check_names_file_and_line_of_both_engines(site: Site) -> None:
    assert site.run("check", "site").endswith("0 problem(s)\n")
    site.write("etc/bad.ww", "fine\n{{ if eq .Id `n2` }}{{ .Nothing }}{{ end }}\n")
    said = site.run("check", "site", code=1)
    assert "overlay site, etc/bad.ww:2: " in said
    assert "can't evaluate field Nothing" in said
    assert "(node n2)" in said


def test_build_is_current_until_what_it_read_changes(site: Site) -> None:
    assert "2 overlay image(s) built" in site.run("build", "n1")
    assert "0 overlay image(s) built" in site.run("build", "n1")
    nodes = site.root / "etc/warewulf/nodes.conf"
    nodes.write_text(NODES.replace("cluster name: alpha", "cluster name: beta"))
    assert "1 overlay image(s) built" in site.run("build", "n1")


def test_warewulf_conf_as_go_templates_name_it(tmp_path: Path) -> None:
    (tmp_path / "warewulf.conf").write_text("""\
ipaddr: 10.0.0.1/24
ipaddr6: fd00::1
prefixlen6: 64
warewulf: {port: 9999, secure: no, update interval: 5}
dhcp: {range start: 10.0.0.10, range end: 10.0.0.20, systemd name: dnsmasq}
nfs:
  export paths:
    - path: /home
      export options: ro
    - path: /opt
ssh: {key types: [rsa]}
paths: {sysconfdir: /usr/local/etc, datadir: /usr/local/share}
""")
    conf = Config.load(tmp_path / "warewulf.conf").head
    assert conf.ipaddr6 == IPv6Interface("fd00::1/64")
    assert (conf.warewulf.port, conf.warewulf.secure, conf.warewulf.update_interval) == (9999, False, 5)
    assert (conf.dhcp.range_start, conf.dhcp.systemd_name, conf.dhcp.template) == ("10.0.0.10", "dnsmasq", "default")
    assert conf.nfs.exports == (ExportConf(path="/home", options="ro"), ExportConf(path="/opt"))
    assert conf.key_types == ("rsa",)
    assert {name: conf.paths[name] for name in ("sysconfdir", "datadir", "srvdir")} == {
        "sysconfdir": "/usr/local/etc",
        "datadir": "/usr/local/share",
        "srvdir": "/srv",
    }


@pytest.mark.parametrize(
    "document", [{}, {"nfs": "x", "ssh": [], "paths": None}, {"nfs": {"export paths": ["x", {}]}, "ipaddr6": "y"}]
)
def test_what_is_no_section_counts_as_unsaid(document: dict[str, object]) -> None:
    conf = head_conf(document, {})
    assert conf.warewulf == HeadConf().warewulf
    assert conf.ipaddr6 is None
