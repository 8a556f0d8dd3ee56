"""What nodes and profiles have in common, and edit, export and import."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from in_process import Run, runner

from bootsvc.cli.main import run
from bootsvc.store import Store

CONF = "ipaddr: 10.0.0.1/24\npaths:\n  sysconfdir: {root}/etc\n  localstatedir: {root}/lib\n"
NODES_CONF = """\
# The cluster of the physics department
nodeprofiles:
  default:
    comment: for all   # really
    system overlay: [wwinit, hosts]
    kernel: {args: [quiet]}
  gpu:
    profiles: [default]
    image name: rocky-9
    kernel:
      args: [~quiet, "console=ttyS0,115200"]
nodes:
  # rack 1
  n1:
    profiles: [default]
    ipmi: {ipaddr: 10.1.0.1, password: "0123"}
    network devices:
      default:
        hwaddr: "52:54:00:00:00:01"
        ipaddr: 10.0.0.11  # by hand
      bond0:
        type: bond
        tags: {mode: 802.3ad}
    disks:
      /dev/sda:
        wipe_table: true
        partitions:
          root: {number: 1, should_exist: true}
    resources:
      fstab:
      - {spec: "warewulf:/home", freq: 0}
  n2:
    profiles: [gpu, ~default]
    site key: kept
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    (tmp_path / "lib/warewulf/chroots/rocky-9/rootfs").mkdir(parents=True)
    (tmp_path / "warewulf.conf").write_text(CONF.format(root=tmp_path))
    (tmp_path / "etc/warewulf").mkdir(parents=True)
    (tmp_path / "etc/warewulf/nodes.conf").write_text(NODES_CONF)
    monkeypatch.setenv("WAREWULFCONF", str(tmp_path / "warewulf.conf"))
    return tmp_path


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root / "etc/warewulf/nodes.conf")


@pytest.fixture
def wwctl(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return runner(capsys, monkeypatch)


@pytest.fixture
def editor(root: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """`editor("s/a/b/", …)` makes $EDITOR apply the n-th sed script at the n-th call; the path is what it was last given."""

    def install(*scripts: str) -> Path:
        for index, script in enumerate(scripts):
            (root / f"script{index}").write_text(script)
        program = root / "editor"
        program.write_text(
            f'#!/bin/sh\ncp "$1" "{root}/given"\nn=$(cat "{root}/count" 2>/dev/null || echo 0)\n'
            f'sed -i -f "{root}/script$n" "$1"\necho $((n + 1)) > "{root}/count"\n'
        )
        program.chmod(0o755)
        (root / "count").unlink(missing_ok=True)
        monkeypatch.setenv("EDITOR", str(program))
        return root / "given"

    return install


def test_profiles_are_added_set_listed_and_deleted(wwctl: Run, store: Store) -> None:
    assert wwctl("profile add rack,row -P gpu --tagadd rack=7")[1] == "Added profile: rack\nAdded profile: row\n"
    assert wwctl("profile set rack -y --comment", "rack 7")[1] == (
        'Applying following changes:\nrack:\n  comment: <unset> → "rack 7"\n'
    )
    assert wwctl("profile list rack,gpu")[1] == (
        "PROFILE NAME  COMMENT/DESCRIPTION\n------------  -------------------\nrack          rack 7\ngpu           --\n"
    )
    assert "rack     tag[rack]  7\n" in wwctl("profile ls -a rack")[1]
    assert json.loads(wwctl("profile list -j row")[1]) == {"row": {"profiles": ["gpu"], "tags": {"rack": "7"}}}
    assert json.loads(wwctl("profile list -a -j row")[1])[0] == {"profile": "row", "field": "profile", "value": "gpu"}
    assert wwctl("profile rm rack,row -y")[1] == "Deleted profile: rack\nDeleted profile: row\n"
    assert store.path.read_text() == NODES_CONF


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("profile delete gpu -y", 1, "wwctl: the profile 'gpu' is used by node n2\n"),
        ("profile delete default -y", 1, "wwctl: the profile 'default' cannot be deleted\n"),
        ("profile set default -y -P gpu", 1, "wwctl: the profile 'default' would contain itself\n"),
        ("profile set gpu -y --ipaddr 10.0.0.11", 1, "wwctl: node n2: the ipaddr 10.0.0.11 belongs to node n1\n"),
        ("profile add a/b", 1, "wwctl: 'a/b' cannot be the name of a profile\n"),
        ("profile add x --asset 1", 2, "wwctl: `wwctl profile add` has no flag --asset\n"),
        ("profile set gpu -y --image rocky-8", 1, "wwctl: there is no image 'rocky-8'\n(did you mean 'rocky-9'?)\n"),
        ("profile set --comment x", 2, "wwctl: no profiles specified\n"),
        ("node unset n1", 2, "wwctl: no fields specified to unset\n"),
        ("node unset n1,n9 --comment -y", 1, "wwctl: there is no node 'n9'\n"),
        ("node unset n1 --diskwipe", 1, "wwctl: --diskwipe needs --diskname\n"),
        ("node set n1 --partname root --partsize 5", 1, "wwctl: --partsize needs --diskname\n"),
        ("node set n1 --fsname sda1 --fsformat xfs", 1, "wwctl: --fsname: 'sda1' is no block device\n"),
        ("node set n1 --diskname /dev/sdb", 1, "wwctl: --diskname /dev/sdb: nothing is said about that disk\n"),
        ("node set n1 --diskname /dev/sda --diskwipe=maybe", 1, "wwctl: --diskwipe: 'maybe' is neither true nor false\n"),
        ("node import /nonexistent", 1, "wwctl: cannot read /nonexistent: No such file or directory\n"),
        ("node export n9", 1, "wwctl: there is no node 'n9'\n"),
        ("completion tcsh", 2, "wwctl: no completion for the shell 'tcsh'\n(there is one for bash, zsh, fish)\n"),
    ],
)
def test_mistakes_change_nothing(wwctl: Run, store: Store, line: str, code: int, error: str) -> None:
    result, out, err = wwctl(line)
    assert (result, out) == (code, "")
    assert err.startswith(error)
    assert store.path.read_text() == NODES_CONF


def test_unset(wwctl: Run, store: Store) -> None:
    code, out, _ = wwctl("node unset n1 --ipmipass --ipaddr -y")
    assert (code, out.splitlines()[-1]) == (0, "Successfully unset fields on 1 node(s)")
    assert wwctl("node unset n1 --nettag mode --netname bond0", stdin="y\n")[1].splitlines()[:2] == [
        "n1:",
        '  netname[bond0].tag[mode]: "802.3ad" → <unset>',
    ]
    assert wwctl("node unset n1 --netname bond0 -y")[0] == 0
    assert wwctl("node unset n1,n9 -f --diskname /dev/sda -y")[2].startswith("wwctl: warning: there is no node 'n9'")
    assert wwctl("node unset -a --profile", stdin="n\n")[1].endswith(
        "Apply these changes to 2 node(s)? [y/N] No changes made!\n"
    )
    n1 = store.load().nodes["n1"]
    assert n1["ipmi"] == {"ipaddr": "10.1.0.1"}
    assert n1["network devices"] == {"default": {"hwaddr": "52:54:00:00:00:01"}}
    assert "disks" not in n1
    assert wwctl("profile unset gpu --kernelargs -y")[0] == 0
    assert "kernel" not in store.load().profiles["gpu"]


def test_disks(wwctl: Run, store: Store) -> None:
    flags = (
        "--diskname /dev/sdb --partname scratch --partnumber 0 --partcreate --fsname scratch --fsformat xfs --fspath /scratch"
    )
    assert wwctl(f"node set n1 -y {flags} --fswipe=false")[0] == 0
    n1 = store.load().nodes["n1"]
    assert n1["disks"]["/dev/sdb"] == {"partitions": {"scratch": {"number": "0", "should_exist": True}}}
    assert n1["filesystems"] == {
        "/dev/disk/by-partlabel/scratch": {"format": "xfs", "path": "/scratch", "wipe_filesystem": False}
    }
    # Warewulf reads these as booleans and stops at text.
    assert "should_exist: true\n" in store.path.read_text()
    assert "wipe_filesystem: false\n" in store.path.read_text()
    wwctl("node set n1 -y --partdel root --fsdel /dev/disk/by-partlabel/scratch")
    assert store.load().nodes["n1"]["disks"]["/dev/sda"] == {"wipe_table": True}
    wwctl("node unset n1 -y --partname scratch")
    wwctl("node set n1 -y --diskdel /dev/sda")
    assert "disks" not in store.load().nodes["n1"]


def test_export_is_what_the_file_says_and_imports_again(wwctl: Run, store: Store, root: Path) -> None:
    code, out, _ = wwctl("node export")
    assert code == 0
    (root / "x.yaml").write_text(out)
    assert wwctl(f"node import {root}/x.yaml -y")[1] == "No changes to apply.\n"
    assert store.path.read_text() == NODES_CONF
    before = store.load().nodes
    wwctl("node delete -y n1,n2")
    assert wwctl(f"node import {root}/x.yaml", stdin="y\n")[1].endswith(
        "Are you sure you want to modify 2 node(s)? [y/N] Imported 2 node(s)\n"
    )
    assert store.load().nodes == before
    assert "system overlay" not in out
    assert json.loads(wwctl("node export --merged -j n2")[1])["n2"]["kernel"] == {"args": ["console=ttyS0,115200"]}


def test_import_merges_or_replaces(wwctl: Run, store: Store, root: Path) -> None:
    new = "nodes:\n  n2: {image name: rocky-9}\n  n3: {profiles: [gpu], ipmi: {port: 1}}\n"
    assert wwctl("node import - -y", stdin=new)[0] == 0
    nodes = store.load().nodes
    assert nodes["n2"] == {"profiles": ["gpu", "~default"], "site key": "kept", "image name": "rocky-9"}
    assert nodes["n3"] == {"profiles": ["gpu"], "ipmi": {"port": "1"}}
    assert wwctl("node import - -y --replace", stdin='{"n2": {"image name": "rocky-9"}}')[0] == 0
    assert store.load().nodes["n2"] == {"image name": "rocky-9"}
    for text, error in (
        ("n3: {profiles: [gpuu]}", "there is no profile 'gpuu'\n(did you mean 'gpu'?)"),
        ("n3: {image name: rocky-8}", "there is no image 'rocky-8'"),
        ("n3: [", "standard input:2:1: not YAML"),
        ("n/3: {}", "'n/3' cannot be the name of a node"),
        ("n3: {network devices: {default: {ipaddr: 10.0.0.11}}}", "node n3: the ipaddr 10.0.0.11 belongs to node n1"),
        ("", "- names no node"),
    ):
        assert wwctl("node import - -y", stdin=text)[2].startswith(f"wwctl: {error}")
    assert store.load().nodes["n3"] == {"profiles": ["gpu"], "ipmi": {"port": "1"}}


def test_edit(wwctl: Run, store: Store, editor: Callable[..., Path]) -> None:
    given = editor("/^n1:/,$s/10.0.0.11/10.0.0.12/\ns/^n2:/n3:/")
    code, out, err = wwctl("node edit", stdin="y\n")
    assert (code, err) == (0, "wwctl: warning: node n3: unknown key 'site key' (did you mean 'asset key'?)\n")
    assert '  netname[default].ipaddr: "10.0.0.11" → "10.0.0.12"\n' in out
    assert out.endswith("n2: deleted\nAre you sure you want to add 1, delete 1, and update 1 nodes? [y/N] ")
    assert store.path.read_text().startswith(NODES_CONF[: NODES_CONF.index("  n2:")].replace("10.0.0.11", "10.0.0.12"))
    assert store.load().nodes["n3"] == {"profiles": ["gpu", "~default"], "site key": "kept"}
    assert "#   network devices: NAME: hwaddr  (hardware (MAC) address)\n" in given.read_text()
    editor("")
    assert wwctl("profile edit gpu --noheader")[1] == "No changes to apply.\n"
    assert given.read_text().startswith("gpu:\n")


def test_edit_goes_back_after_a_mistake(wwctl: Run, store: Store, editor: Callable[..., Path]) -> None:
    editor("s/^n1:/n1: [/", "s/^n1: \\[/n1:/\ns/10.0.0.11/10.0.0.300/", "s/10.0.0.300/10.0.0.30/")
    code, _, err = wwctl("node edit n1 -y", stdin="y\nyes\n")
    assert code == 0
    assert ": not YAML: " in err
    assert "octet 300" in err
    assert store.load().nodes["n1"]["network devices"]["default"]["ipaddr"] == "10.0.0.30"
    before = store.path.read_text()
    editor("s/^n1:/n1: [/")
    assert wwctl("node edit n1 -y", stdin="")[1].endswith("Go back to the editor? [y/N] \nNo changes made!\n")
    assert store.path.read_text() == before


def test_edit_does_not_undo_another_command(wwctl: Run, store: Store, editor: Callable[..., Path], root: Path) -> None:
    editor("s/10.0.0.11/10.0.0.12/")
    program = root / "editor"
    # The file changes while the editor is open, as when a second administrator is at work.
    program.write_text(program.read_text() + f"sed -i s/10.1.0.1/10.1.0.2/ {store.path}\n")
    code, _, err = wwctl("node edit n1 -y")
    assert (code, err) == (1, "wwctl: the node 'n1' was changed while it was being edited\n(edit it once more)\n")
    assert store.load().nodes["n1"]["network devices"]["default"]["ipaddr"] == "10.0.0.11"


def test_editor_that_fails(wwctl: Run, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for editor, error in (("false", "the editor 'false' ended with status 1"), ("/nonexistent -x", "cannot run the editor")):
        monkeypatch.setenv("EDITOR", editor)
        code, _, err = wwctl("node edit n1 -y")
        assert code == 1
        assert err.startswith(f"wwctl: {error}")
    assert store.path.read_text() == NODES_CONF


def test_every_table_has_json_and_yaml(wwctl: Run) -> None:
    for view in ("-n", "-i", "-l", "-a"):
        rows = json.loads(wwctl(f"node list -j {view} n1")[1])
        assert rows
        assert all(name in ("n1",) for row in rows for key, name in row.items() if key in ("node", "node name"))
        assert wwctl(f"node list -y {view} n1")[1].startswith("- ")
    assert json.loads(wwctl("node list -j -i n1")[1]) == [
        {"node": "n1", "ipmi ipaddr": "10.1.0.1", "ipmi port": "", "ipmi username": "", "ipmi interface": ""}
    ]


def test_unknown_overlay_is_a_warning(wwctl: Run) -> None:
    code, _, err = wwctl("node set n1 -y --system-overlays wwinit,hostnam")
    assert (code, err.splitlines()[0]) == (0, "wwctl: warning: there is no overlay 'hostnam'")
    assert "did you mean" in err


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("wwctl node set n", ["n1", "n2"]),
        ("wwctl profile delete g", ["gpu"]),
        ("wwctl node set n1 -P default,g", ["default,gpu"]),
        ("wwctl node set n1 --image r", ["rocky-9"]),
        ("wwctl node set n1 --system-overlays hostn", ["hostname"]),
        ("wwctl profi", ["profile"]),
        ("wwctl node uns", ["unset"]),
    ],
)
def test_completion_offers_live_names(
    words: str, offered: list[str], wwctl: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("_WWCTL_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split()) - 1))
    with pytest.raises(SystemExit):
        run([])
    assert capsys.readouterr().out.split() == [f"plain,{name}" for name in offered]


def test_completion_is_silent_about_a_broken_file(
    store: Store, wwctl: Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    store.path.write_text("nodes: [")
    test_completion_offers_live_names("wwctl node set n", [], wwctl, monkeypatch, capsys)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_script(shell: str, wwctl: Run) -> None:
    code, out, err = wwctl(f"completion {shell}")
    assert (code, err) == (0, "")
    assert "_WWCTL_COMPLETE" in out


def test_version(wwctl: Run) -> None:
    assert wwctl("version")[1] == wwctl("--version")[1] == wwctl("vers -f")[1]


def test_a_network_can_be_set_whole_from_the_command_line(wwctl: Run, store: Store) -> None:
    line = (
        "node set n1 -y --netname ib --type infiniband --netdev ib0 --onboot=false --mtu 2044 --ipaddr 10.1.0.5 --netmask"
        " 255.255.0.0 --gateway 10.1.0.1 --ipaddr6 fd00::5 --prefixlen6 64 --gateway6 fd00::1"
        " --hwaddr 80:00:02:08:fe:80:00:00:00:00:00:00:52:54:00:03:00:00:00:51 --nettagadd"
    )
    code, _, stderr = wwctl(line, 'DNS1=10.0.0.3,"route1=10.8.0.0/16,10.1.0.254"')
    assert (code, stderr) == (0, "")
    found = store.load().nodes["n1"]["network devices"]["ib"]
    assert found["tags"] == {"DNS1": "10.0.0.3", "route1": "10.8.0.0/16,10.1.0.254"}
    assert {*found} == {
        *(
            "type",
            "device",
            "onboot",
            "mtu",
            "ipaddr",
            "netmask",
            "gateway",
            "ipaddr6",
            "prefixlen6",
            "gateway6",
            "hwaddr",
            "tags",
        )
    }
    # One pair alone needs no quotes.
    assert wwctl("node set n1 -y --netname ib --nettagadd route2=10.9.0.0/16,10.1.0.254")[0] == 0
    assert store.load().nodes["n1"]["network devices"]["ib"]["tags"]["route2"] == "10.9.0.0/16,10.1.0.254"
    assert wwctl("node set n1 -y --netname ib --nettagdel DNS1,route2")[0] == 0
    assert set(store.load().nodes["n1"]["network devices"]["ib"]["tags"]) == {"route1"}


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["node", "set", "n1", "--netdev", "eth0\n[Route]"], "'eth0\\n[Route]' cannot be the name of a network device"),
        (["node", "set", "n1", "--netname", "a]\nb", "--mtu", "9000"], "cannot be the name of a network"),
        (["node", "set", "n1", "--nettagadd", "DNSSEARCH=a]"], "node n1: network 'default': tag DNSSEARCH: 'a]' is no domain"),
        (["node", "set", "n1", "--nettagadd", "DNS1=dns"], "node n1: network 'default': tag DNS1: 'dns' is no IP address"),
        (["node", "set", "n1", "--nettagadd", "rack=1\n[x]"], "holds a line break"),
        (
            ["profile", "set", "gpu", "--type", "bond", "--nettagadd", "mode=quick"],
            "profile gpu: network 'default': tag mode: 'quick' is no mode",
        ),
    ],
)
def test_a_network_that_no_overlay_could_write_is_refused(wwctl: Run, store: Store, words: list[str], sentence: str) -> None:
    before = store.load()
    code, _, stderr = wwctl(words[0], *words[1:], "-y")
    assert code == 1
    assert sentence in stderr
    assert "\n  (" in stderr or "\n(" in stderr
    assert store.load() == before


def test_what_was_wrong_before_does_not_keep_a_node_from_being_changed(wwctl: Run, root: Path) -> None:
    """A cluster comes with tags that other templates knew what to do with."""
    conf = root / "etc/warewulf/nodes.conf"
    conf.write_text(conf.read_text().replace("tags: {mode: 802.3ad}", "tags: {mode: site-special}"))
    assert wwctl("node set n1 -y --comment moved")[0] == 0
    code, _, stderr = wwctl("node set n1 -y --netname bond0 --nettagadd miimon=fast")
    assert code == 1
    assert "tag miimon: 'fast' is no number" in stderr
