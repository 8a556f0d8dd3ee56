"""`wwctl configure` below a folder: what it writes, what it keeps, and that twice is as once."""

import contextlib
import io
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from head_node import CONF, HeadNode

from bootsvc.cli.main import run
from bootsvc.hostblock import BEGIN, END

NODES = """\
nodes:
  n1:
    network devices:
      default: {device: eth0, hwaddr: "52:54:00:00:00:01", ipaddr: 10.0.0.11}
      ib: {device: ib0, ipaddr: 10.1.0.11}
  n2:
    network devices: {default: {ipaddr: 10.0.0.12, ipaddr6: "fd00::12"}}
"""
MORE = """\
fqdn: head.cluster
ipaddr6: fd00::1/64
nfs:
  export paths:
  - {path: /home, export options: "rw,sync"}
  - {path: /opt}
ssh: {key types: [ed25519, ecdsa]}
"""


class Site(HeadNode):
    """`etc` is the head node's /etc as `--root` has it; bootsvc's own sysconfdir is below the same root."""

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.conf.write_text(CONF.format(root=root) + MORE)
        (root / "etc/warewulf").mkdir(parents=True)
        (root / "etc/warewulf/nodes.conf").write_text(NODES)
        self.host = root / "host"
        self.etc = self.host / "etc"
        self.etc.mkdir(parents=True)
        self.keys = self.host / str(root).lstrip("/") / "etc/warewulf/keys"
        self.tls = self.keys.parent / "tls"

    def configure(self, *args: str) -> str:
        """What it says; it must succeed, and say nothing on standard error."""
        status, out, err = self.run(*args)
        assert (status, err) == (0, "")
        return out

    def run(self, *args: str) -> tuple[int, str, str]:
        """Exit status, standard output and standard error, in this process."""
        verb, *rest = args
        with contextlib.redirect_stdout(io.StringIO()) as out, contextlib.redirect_stderr(io.StringIO()) as err:
            status = run(["configure", verb, "--root", str(self.host), "--warewulfconf", str(self.conf), *rest])
        return status, out.getvalue(), err.getvalue()

    def files(self) -> dict[Path, bytes]:
        return {path.relative_to(self.host): path.read_bytes() for path in self.host.rglob("*") if path.is_file()}


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return Site(tmp_path)


def test_hostfile(site: Site) -> None:
    hosts = site.etc / "hosts"
    hosts.write_text("127.0.0.1 localhost\n")
    hosts.chmod(0o640)
    assert site.configure("hostfile") == f"Wrote {hosts}\n"
    assert hosts.read_text().splitlines() == [
        "127.0.0.1 localhost",
        "",
        BEGIN,
        "10.0.0.1 head warewulf",
        "10.0.0.11 n1 n1-default n1-eth0",
        "10.1.0.11 n1-ib n1-ib0",
        "10.0.0.12 n2 n2-default",
        "fd00::12 n2 n2-default",
        END,
    ]
    assert stat.S_IMODE(hosts.stat().st_mode) == 0o640
    assert (site.etc / "hosts.wwbackup").read_text() == "127.0.0.1 localhost\n"
    before = hosts.stat()
    assert site.configure("hostfile") == f"{hosts} is current\n"
    assert hosts.stat().st_ino == before.st_ino


def test_hostfile_dryrun(site: Site) -> None:
    (site.etc / "hosts").write_text("127.0.0.1 localhost\n")
    before = site.files()
    said = site.configure("hostfile", "--dryrun")
    assert f"Would write {site.etc / 'hosts'}\n" in said
    assert "\n+10.0.0.11 n1 n1-default n1-eth0\n" in said
    assert site.files() == before


def test_a_site_overlay_host_is_used(site: Site) -> None:
    place = site.root / "lib/warewulf/overlays/host/rootfs/etc/hosts.j2"
    place.parent.mkdir(parents=True)
    place.write_text("{% for other in nodes %}\n{{ other.id }}!\n{% endfor %}\n")
    (place.parent / "exports.j2").write_text("{{ broken")
    site.configure("hostfile")
    assert (site.etc / "hosts").read_text() == f"{BEGIN}\nn1!\nn2!\n{END}\n"


def test_a_go_template_makes_the_whole_file(site: Site) -> None:
    """As Warewulf's own does, which takes what stands before the mark from the file itself."""
    place = site.root / "lib/warewulf/overlays/host/rootfs/etc/hosts.ww"
    place.parent.mkdir(parents=True)
    place.write_text("{{ range $node := $.AllNodes }}{{ $node.Id }} {{ end }}\n")
    (site.etc / "hosts").write_text("127.0.0.1 localhost\n")
    site.configure("hostfile")
    assert (site.etc / "hosts").read_text() == "n1 n2 \n"


def test_the_host_overlay_can_be_off(site: Site) -> None:
    site.conf.write_text(site.conf.read_text() + "warewulf: {host overlay: false}\n")
    assert "the host overlay is off" in site.configure("hostfile")
    assert site.files() == {}


def test_nfs(site: Site) -> None:
    exports = site.etc / "exports"
    exports.write_text("/srv *(ro)\n")
    assert site.configure("nfs") == f"Wrote {exports}\n"
    assert exports.read_text().splitlines() == [
        "/srv *(ro)",
        "",
        BEGIN,
        "/home 10.0.0.0/255.255.255.0(rw,sync) fd00::/64(rw,sync)",
        "/opt 10.0.0.0/255.255.255.0(rw,sync,no_subtree_check) fd00::/64(rw,sync,no_subtree_check)",
        END,
    ]
    assert site.configure("nfs") == f"{exports} is current\n"
    site.conf.write_text(site.conf.read_text().replace("nfs:\n", "nfs:\n  enabled: false\n"))
    assert site.configure("nfs") == "NFS is off in warewulf.conf (nfs: enabled: false); nothing to do\n"


def test_ssh(site: Site, require_tool: Callable[..., Path]) -> None:
    keygen = require_tool("ssh-keygen", package="openssh-client")
    site.configure("ssh")
    ssh = site.host / "root/.ssh"
    for path in (site.keys / "ssh_host_ed25519_key", site.keys / "ssh_host_ecdsa_key", ssh / "id_ed25519"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        derived = subprocess.run([keygen, "-y", "-f", path], capture_output=True, text=True, check=True).stdout.split()
        assert path.with_name(path.name + ".pub").read_text().split()[:2] == derived[:2]
    assert not (site.keys / "ssh_host_rsa_key").exists()
    assert (ssh / "authorized_keys").read_bytes() == (ssh / "id_ed25519.pub").read_bytes()
    assert "-t ed25519" in (site.etc / "profile.d/ssh_setup.sh").read_text()
    before = site.files()
    said = site.configure("ssh")
    assert site.files() == before
    assert f"{site.keys / 'ssh_host_ed25519_key'} is there, and stays\n" in said
    site.configure("ssh", "--keytypes", "rsa,ed25519")
    assert (site.keys / "ssh_host_rsa_key").exists()
    assert {path: content for path, content in site.files().items() if path in before} == before


def test_ssh_makes_a_pair_whole_again(site: Site) -> None:
    site.configure("ssh")
    before = site.files()
    public = site.keys / "ssh_host_ed25519_key.pub"
    public.unlink()
    assert f"Wrote {public}\n" in site.configure("ssh")
    assert site.files() == before
    (site.keys / "ssh_host_ecdsa_key").unlink()
    status, _, err = site.run("ssh")
    assert (status, "ssh_host_ecdsa_key.pub is there without ssh_host_ecdsa_key\n" in err) == (0, True)
    public.unlink()
    public.with_suffix("").write_text("no key")
    assert "ssh_host_ed25519_key is there without ssh_host_ed25519_key.pub\n" in site.run("ssh")[2]


@pytest.mark.parametrize(("verb", "link"), [("hostfile", "etc/hosts"), ("hostfile", "etc"), ("ssh", "root/.ssh")])
def test_a_link_below_root_does_not_lead_out_of_it(site: Site, verb: str, link: str) -> None:
    outside = site.root / "outside"
    outside.mkdir()
    place = site.host / link
    if place.exists():
        place.rmdir()
    place.parent.mkdir(exist_ok=True)
    place.symlink_to(outside / "file" if link.endswith("hosts") else outside)
    status, _, err = site.run(verb)
    assert (status, "leads out of it" in err) == (1, True)
    assert list(outside.iterdir()) == []


def test_ssh_of_a_type_that_is_none(site: Site) -> None:
    status, _, err = site.run("ssh", "-t", "dsa")
    assert status == 2
    assert err == "wwctl: --keytypes: 'dsa' is no type of key\n(one of ed25519, ecdsa, rsa)\n"
    assert site.files() == {}


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that every user can get into, as those of pytest are not."""
    with tempfile.TemporaryDirectory(prefix="bootsvc-login-") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.mark.root
def test_users_get_a_key_at_login(site: Site, public: Path, require_tool: Callable[..., Path]) -> None:
    """Both shells' scripts, as a user who is not root; the second login changes nothing."""
    require_tool("ssh-keygen", package="openssh-client")
    setpriv, tcsh = require_tool("setpriv", package="util-linux"), require_tool("tcsh")
    site.configure("ssh")
    scripts = {"sh": ["/bin/sh"], "csh": [str(tcsh), "-f"]}
    for suffix, shell in scripts.items():
        home = public / f"home-{suffix}"
        home.mkdir()
        script = public / f"setup.{suffix}"
        script.write_bytes((site.etc / f"profile.d/ssh_setup.{suffix}").read_bytes())
        subprocess.run(["chown", "65534:65534", home], check=True)
        states = []
        for _ in range(2):
            subprocess.run(
                [setpriv, "--reuid=65534", "--regid=65534", "--clear-groups", *shell, script],
                env={"HOME": str(home), "PATH": "/usr/bin:/bin"},
                cwd="/",
                check=True,
                timeout=60,
            )
            states.append({path.name: path.read_bytes() for path in (home / ".ssh").iterdir()})
        assert states[0] == states[1]
        assert states[0]["authorized_keys"] == states[0]["cluster.pub"]
        assert stat.S_IMODE((home / ".ssh").stat().st_mode) == 0o700
        assert stat.S_IMODE((home / ".ssh/authorized_keys").stat().st_mode) == 0o600


def test_tls(site: Site, require_tool: Callable[..., Path]) -> None:
    said = site.configure("tls")
    assert "  names: warewulf, head.cluster, 10.0.0.1, fd00::1\n" in said
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in site.tls.iterdir()} == {
        "ca.crt": 0o644,
        "ca.key": 0o600,
        "warewulf.crt": 0o644,
        "warewulf.key": 0o600,
    }
    before = site.files()
    assert "which stay; --force makes new ones" in site.configure("tls")
    assert site.files() == before
    out = site.root / "out"
    out.mkdir()
    site.configure("keys", "--export", str(out))
    assert {path.name: stat.S_IMODE(path.stat().st_mode) for path in out.iterdir()} == {
        "warewulf.crt": 0o644,
        "warewulf.key": 0o600,
    }
    site.configure("tls", "--force")
    assert site.files() != before
    site.configure("tls", "--import", str(out))
    assert (site.tls / "warewulf.key").read_bytes() == (out / "warewulf.key").read_bytes()
    assert not (site.tls / "ca.crt").exists()


def test_a_certificate_of_another_key_is_said(site: Site) -> None:
    """As a command leaves it that was killed between the two."""
    site.configure("tls")
    old = (site.tls / "warewulf.crt").read_bytes()
    site.configure("tls", "--force")
    (site.tls / "warewulf.crt").write_bytes(old)
    status, _, err = site.run("tls")
    assert (status, "is not the certificate of warewulf.key\n(--force makes new ones" in err) == (1, True)


def test_tls_import_of_what_is_no_pair_changes_nothing(site: Site) -> None:
    site.configure("tls")
    out = site.root / "out"
    out.mkdir()
    site.configure("tls", "--export", str(out))
    site.configure("tls", "--force")
    before = site.files()
    (out / "warewulf.key").write_bytes((site.tls / "warewulf.key").read_bytes())
    status, _, err = site.run("tls", "--import", str(out))
    assert status == 1
    assert err.startswith(f"wwctl: {out / 'warewulf.crt'}: it is not the certificate of warewulf.key\n")
    assert site.files() == before


def test_what_the_server_does_itself(site: Site) -> None:
    assert site.configure("dhcp").startswith("`wwctl server` serves DHCP itself: nothing to configure")
    assert site.configure("tftp", "--show").startswith("`wwctl server` serves TFTP itself: nothing to configure")
    assert "takes the place of warewulfd" in site.configure("warewulfd")
    assert site.files() == {}


def test_all(site: Site) -> None:
    said = site.configure("--all")
    assert [line for line in said.splitlines() if line.startswith("# ")] == [
        f"# {target}" for target in ("tls", "warewulfd", "tftp", "dhcp", "nfs", "ssh", "hostfile")
    ]
    assert (site.etc / "exports").exists()
    assert (site.etc / "hosts").exists()
    assert (site.keys / "ssh_host_ed25519_key").exists()
    assert not site.tls.exists()
    before = site.files()
    site.configure("--all")
    assert site.files() == before


def test_without_a_verb_it_is_help(site: Site) -> None:
    done = site.wwctl("configure")
    assert done.returncode == 0
    assert done.stdout.startswith("Usage: wwctl configure")
    done = site.wwctl("configure", "--all", "nfs")
    assert (done.returncode, done.stderr.splitlines()[0]) == (2, "wwctl: --all stands before nfs")
