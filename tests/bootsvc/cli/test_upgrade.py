"""Old spellings of nodes.conf and warewulf.conf, as whole commands."""

from collections.abc import Callable
from pathlib import Path

import pytest

from bootsvc.cli.main import run
from bootsvc.config import Config
from bootsvc.registry import Registry
from bootsvc.store import Store

NODES = """\
WW_INTERNAL: 43
nodeprofiles:
  default:
    comment: c   # kept
    container name: rocky-8
    kernel override: 4.18.0
    kernel args: quiet crashkernel=no
    system overlay: wwinit
    runtime overlay: [generic, mine]
    keys: {a: b}
nodes:
  # first
  n1:
    profiles: [default]
    ipmi ipaddr: 10.1.0.1
    ipmi write: true
    odd key: kept
    network devices:
      eth0:
        hwaddr: 52:54:00:00:00:01
        ip6addr: fd00::1/64
        ipcidr: 10.0.0.11/24
        primary: true
"""
CONF = """\
# ours
ipaddr: 10.0.0.1/24   # head
warewulf:
  port: 9873
  datastore: /x
container mounts:
- {source: /etc/hosts, readonly: true}
nfs:
  export paths:
  - path: /home
    mount: true
    mount options: defaults
  - path: /opt
"""

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture
def wwctl(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Run:
    (tmp_path / "nodes.conf").write_text(NODES)
    (tmp_path / "warewulf.conf").write_text(CONF)

    def call(line: str) -> tuple[int, str, str]:
        code = run(line.replace("@", str(tmp_path)).split())
        captured = capsys.readouterr()
        return code, captured.out, captured.err

    return call


def test_nodes(wwctl: Run, tmp_path: Path) -> None:
    command = "upgrade nodes -i @/nodes.conf --add-defaults=false --replace-overlays=true"
    assert wwctl(command)[:2] == (0, f"Kept the old file as {tmp_path}/nodes.conf-old\nWrote {tmp_path}/nodes.conf\n")
    assert (tmp_path / "nodes.conf-old").read_text() == NODES
    text = (tmp_path / "nodes.conf").read_text()
    assert "    comment: c   # kept\n" in text
    assert "  # first\n  n1:\n    profiles: [default]\n" in text
    assert "    runtime overlay: [hosts, ssh.authorized_keys, syncuser, mine]\n" in text
    snapshot = Store(tmp_path / "nodes.conf").load()
    assert snapshot.profiles["default"]["kernel"] == {"version": "4.18.0", "args": ["quiet", "crashkernel=no"]}
    assert snapshot.profiles["default"]["image name"] == "rocky-8"
    assert snapshot.profiles["default"]["tags"] == {"a": "b"}
    assert snapshot.nodes["n1"] == {
        "profiles": ["default"],
        "odd key": "kept",
        "ipmi": {"ipaddr": "10.1.0.1", "write": "true"},
        "primary network": "eth0",
        "network devices": {
            "eth0": {
                "hwaddr": "52:54:00:00:00:01",
                "ipaddr": "10.0.0.11",
                "netmask": "255.255.255.0",
                "ipaddr6": "fd00::1",
                "prefixlen6": "64",
            }
        },
    }
    assert Registry.build(snapshot).problems == ("node n1: unknown key 'odd key'",)
    assert wwctl(command)[1] == f"{tmp_path}/nodes.conf needs no upgrade.\n"


def test_defaults_and_mounts(wwctl: Run, tmp_path: Path) -> None:
    flags = "--add-defaults=true --replace-overlays=false --with-warewulfconf @/warewulf.conf -o @/new"
    assert wwctl(f"upgrade nodes -i @/nodes.conf {flags}")[1] == f"Wrote {tmp_path}/new\n"
    default = Store(tmp_path / "new").load().profiles["default"]
    assert default["comment"] == "c"
    assert default["system overlay"] == ["wwinit"]
    assert default["init"] == "/sbin/init"
    assert default["resources"] == {
        "fstab": [{"spec": "warewulf:/home", "file": "/home", "vfstype": "nfs", "mntops": "defaults"}]
    }
    assert (tmp_path / "nodes.conf").read_text() == NODES


def test_config(wwctl: Run, tmp_path: Path) -> None:
    code, out, _ = wwctl("upgrade config -i @/warewulf.conf -o -")
    assert code == 0
    assert out.startswith("# ours\nipaddr: 10.0.0.1/24   # head\nwarewulf:\n  port: 9873\n")
    assert "mount options" not in out
    (tmp_path / "new.conf").write_text(out)
    assert Config.load(tmp_path / "new.conf").warnings == ()
    assert (tmp_path / "warewulf.conf").read_text() == CONF


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("upgrade nodes -i @/nodes.conf --add-defaults=true", 2, "--replace-overlays is not said\n"),
        ("upgrade config -i @/none", 1, "cannot read"),
        ("upgrade nodes -i @/bad --add-defaults=true --replace-overlays=true", 1, ""),
    ],
)
def test_mistakes_write_nothing(wwctl: Run, tmp_path: Path, line: str, code: int, error: str) -> None:
    (tmp_path / "bad").write_text(NODES.replace("10.0.0.11/24", "10.0.0.300/24"))
    result, out, err = wwctl(line)
    assert (result, out) == (code, "")
    assert err.startswith(f"wwctl: {error}")
    assert not list(tmp_path.glob("*-old"))
