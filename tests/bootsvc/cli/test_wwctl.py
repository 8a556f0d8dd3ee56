"""The command as a user has it: `run` for what it prints and returns, processes for pipes, signals and time."""

import errno
import json
import logging
import os
import signal
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest
from in_process import Run, runner

from bootsvc.cli.main import NOUNS
from bootsvc.store import Store

CONF = """\
ipaddr: 10.0.0.1/24
paths:
  sysconfdir: {root}/etc
  localstatedir: {root}/lib
"""


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for image in ("debian-12", "rocky-9"):
        (tmp_path / "lib/warewulf/chroots" / image / "rootfs").mkdir(parents=True)
    (tmp_path / "warewulf.conf").write_text(CONF.format(root=tmp_path))
    monkeypatch.setenv("WAREWULFCONF", str(tmp_path / "warewulf.conf"))
    return tmp_path


@pytest.fixture
def store(root: Path) -> Store:
    return Store(root / "etc/warewulf/nodes.conf")


@pytest.fixture
def wwctl(root: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    return runner(capsys, monkeypatch)


def test_add_and_list(wwctl: Run) -> None:
    assert wwctl("node add n[1-2] --image debian-12 --ipaddr 10.0.0.11 -A quiet") == (
        0,
        "Added node: n1\nAdded node: n2\n",
        "",
    )
    assert wwctl("node list") == (
        0,
        "NODE NAME  PROFILES  NETWORK\n"
        "---------  --------  -------\n"
        "n1         default   default\n"
        "n2         default   default\n",
        "",
    )
    assert wwctl("nodes ls -n n2")[1] == (
        "NODE  NETWORK  HWADDR  IPADDR     GATEWAY  DEVICE\n"
        "----  -------  ------  ------     -------  ------\n"
        "n2    default  --      10.0.0.12  --       --\n"
    )
    assert wwctl("node list -l")[1].splitlines()[0] == "NODE NAME  KERNEL VERSION  IMAGE      OVERLAYS (S/R)"
    assert "n1    kernelargs               default,n1  quiet,crashkernel=no,net.ifnames=1,quiet" in wwctl("node list -a")[1]
    assert json.loads(wwctl("node list -j n1")[1])["n1"]["image name"] == "debian-12"
    assert wwctl("node list -y n1")[1].startswith("n1:\n")


def test_aliases(wwctl: Run, store: Store) -> None:
    for line in ("node new a", "node create b", "nodes add c", "node modify a -y --comment x", "node rm -y c"):
        assert wwctl(line)[0] == 0
    assert {name: entry.get("comment") for name, entry in store.load().nodes.items()} == {"a": "x", "b": None}


def test_old_flags(wwctl: Run, store: Store) -> None:
    assert wwctl("node add n1 -C rocky-9 --runtime a,b --wwinit c --wwinit d")[0] == 0
    assert store.load().nodes["n1"] == {
        "profiles": ["default"],
        "image name": "rocky-9",
        "runtime overlay": ["a", "b"],
        "system overlay": ["c", "d"],
    }


@pytest.mark.parametrize(
    ("flags", "value"),
    [("--onboot", "true"), ("--onboot=false", "false"), ("--onboot no", "false"), ("--onboot --mtu 1500", "true")],
)
def test_boolean_flag_alone_means_true(wwctl: Run, store: Store, flags: str, value: str) -> None:
    assert wwctl(f"node add {flags} n1")[0] == 0
    assert store.load().nodes["n1"]["network devices"]["default"]["onboot"] == value


def test_set_shows_a_diff_and_asks(wwctl: Run, store: Store) -> None:
    wwctl("node add n[01-03] n04 --comment", "old")
    diff = 'n[01-03]:\n  comment: "old" → "new"\n  tag[a]: <unset> → "1=2"\n'
    question = "Apply these changes to 3 node(s)? [y/N] "
    before = store.load()
    for answer in ("n\n", "Y\n", "\n", "yes please\n"):
        code, out, _ = wwctl("node set n[01-03] --comment new --tagadd a=1=2", stdin=answer)
        assert (code, out) == (0, f"{diff}{question}No changes made!\n")
    assert wwctl("node set n[01-03] --comment new --tagadd a=1=2")[1] == f"{diff}{question}\nNo changes made!\n"
    assert store.load() == before
    assert wwctl("node set n[01-03] --comment new --tagadd a=1=2", stdin="y\n")[:2] == (0, diff + question)
    assert wwctl("node set n[01-03] --comment new")[1] == "No changes to apply.\n"
    assert wwctl("node set -a --comment UNSET --tagdel a -y")[1].startswith("Applying following changes:\n")
    assert {tuple(entry) for entry in store.load().nodes.values()} == {("profiles",)}


def test_set_networks(wwctl: Run, store: Store) -> None:
    wwctl("node add n1 --ipaddr 10.0.0.11")
    wwctl("node set -y n1 --netname ib0 --hwaddr 52-54-00-00-00-01 --nettagadd DNS=10.0.0.1,master=b0")
    assert store.load().nodes["n1"]["network devices"] == {
        "default": {"ipaddr": "10.0.0.11"},
        "ib0": {"hwaddr": "52:54:00:00:00:01", "tags": {"DNS": "10.0.0.1", "master": "b0"}},
    }
    wwctl("node set -y n1 --netdel default --netname ib0 --nettagdel DNS,master")
    assert store.load().nodes["n1"]["network devices"] == {"ib0": {"hwaddr": "52:54:00:00:00:01"}}


def test_delete_asks(wwctl: Run, store: Store) -> None:
    wwctl("node add n1,n2")
    question = "Are you sure you want to delete 2 node(s)? [y/N] "
    assert wwctl("node delete n[1-2]", stdin="no\n") == (0, f"{question}No changes made!\n", "")
    assert wwctl("node delete n[1-2]", stdin="yes\n") == (0, f"{question}Deleted node: n1\nDeleted node: n2\n", "")
    assert store.load().nodes == {}


def test_unknown_nodes_beside_known_ones_are_warnings(wwctl: Run) -> None:
    wwctl("node add node1")
    for line in ("node list node1,nod2", "node set node1,nod2 -y --comment x", "node delete node1,nod2 -y"):
        code, _, err = wwctl(line)
        assert (code, err) == (0, "wwctl: warning: there is no node 'nod2'\n(did you mean 'node1'?)\n")


@pytest.mark.parametrize(
    ("line", "code", "error"),
    [
        ("node add n1", 1, "wwctl: the node 'n1' exists already\n(`wwctl node set n1` changes it)\n"),
        ("node add n2 --image debian-11", 1, "wwctl: there is no image 'debian-11'\n(did you mean 'debian-12'?)\n"),
        ("node add n2 -P defalt", 1, "wwctl: there is no profile 'defalt'\n(did you mean 'default'?)\n"),
        ("node add n2 --hwaddr 52:54", 1, "wwctl: --hwaddr: '52:54' is no hardware address\n"),
        ("node add n2 --tagadd rack", 1, "wwctl: --tagadd: 'rack' is no KEY=VALUE\n(such as --tagadd rack=7)\n"),
        ("node add n2 --netname a/b --mtu 1500", 1, "wwctl: --netname: 'a/b' cannot be the name of a network\n"),
        ("node add n[2-", 1, "wwctl: host list 'n[2-', column 2: [ without ] after it\n"),
        ("node set n2 --comment x", 1, "wwctl: there is no node 'n2'\n(these exist: n1)\n"),
        ("node delete n2", 1, "wwctl: there is no node 'n2'\n(these exist: n1)\n"),
        ("node add", 2, "wwctl: no node is named\n"),
        ("node set --comment x", 2, "wwctl: no nodes specified\n(name some, or use --all to change all nodes)\n"),
        ("node add n2 --hwadr x", 2, "wwctl: `wwctl node add` has no flag --hwadr\n(did you mean --hwaddr?)\n"),
        ("node add n2 --comment", 2, "wwctl: option '--comment' requires an argument\n"),
        ("node ad n2", 2, "wwctl: `wwctl node` has no command 'ad'\n(did you mean `wwctl node add`?)\n"),
        ("nod list", 2, "wwctl: `wwctl` has no command 'nod'\n(did you mean `wwctl node`?)\n"),
        ("xyzzy", 2, "wwctl: `wwctl` has no command 'xyzzy'\n(`wwctl --help` lists them)\n"),
        ("--warewulfconf /nonexistent node list", 1, "wwctl: /nonexistent: no such file\n"),
        ("node list --warewulfconf /nonexistent", 1, "wwctl: /nonexistent: no such file\n"),
    ],
)
def test_mistakes_get_a_sentence_and_change_nothing(wwctl: Run, store: Store, line: str, code: int, error: str) -> None:
    wwctl("node add n1")
    before = store.path.read_bytes()
    result, out, err = wwctl(line)
    assert (result, out) == (code, "")
    assert err.startswith(error)
    assert store.path.read_bytes() == before


def test_broken_configuration_names_the_place(wwctl: Run, root: Path) -> None:
    (root / "warewulf.conf").write_text("dhcp:\n  enabled: perhaps\n")
    assert wwctl("node list") == (
        1,
        "",
        f"wwctl: {root}/warewulf.conf:2:12: dhcp: enabled: 'perhaps' cannot be used\n(expected true or false)\n",
    )


def test_warnings_are_shown(wwctl: Run, root: Path, store: Store) -> None:
    with (root / "warewulf.conf").open("a") as file:
        file.write("fqnd: x\n")
    wwctl("node add n1")
    store.path.write_text(store.path.read_text() + "    hwadr: x\n")
    assert wwctl("node list")[2] == (
        f"wwctl: warning: {root}/warewulf.conf:5: unknown key 'fqnd' (did you mean 'fqdn'?)\n"
        "wwctl: warning: node n1: unknown key 'hwadr'\n"
    )


@pytest.mark.parametrize("line", ["", "node", "--help", "node -h", "node add --help"])
def test_help_is_a_result(wwctl: Run, line: str) -> None:
    code, out, err = wwctl(line)
    assert (code, err) == (0, "")
    assert out.startswith("Usage: wwctl")


def test_bug_is_an_internal_error(wwctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(store: Store) -> None:
        raise RuntimeError("oh")

    monkeypatch.setattr(Store, "load", fail)
    code, _, err = wwctl("node list")
    assert (code, err) == (1, "wwctl: internal error: RuntimeError: oh\n(this is a bug in wwctl; --debug shows where)\n")
    assert "Traceback" in wwctl("node list --debug")[2]


def test_debug_is_about_us(wwctl: Run) -> None:
    assert wwctl("node list --debug")[0] == 0
    told = [name for name in ("bootsvc.dhcp.service", "images.catalog", "pyroute2.netlink", "asyncio", "aiohttp.server")
            if logging.getLogger(name).isEnabledFor(logging.DEBUG)]  # fmt: skip
    assert told == ["bootsvc.dhcp.service", "images.catalog"]


@pytest.mark.parametrize("noun", NOUNS)
def test_every_noun_has_its_command(noun: str, wwctl: Run) -> None:
    import_module(NOUNS[noun].module)
    assert wwctl(f"{noun} --help")[1].startswith(f"Usage: wwctl {noun}")


def test_help_imports_no_noun() -> None:
    code = (
        "import sys; from bootsvc.cli.main import run; run(['--help']); "
        "heavy = {'aiohttp', 'asyncio', 'cryptography', 'jinja2', 'msgspec', 'rich', 'subprocess', 'yaml'}; "
        "print(*sorted(heavy & set(sys.modules)), file=sys.stderr)"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stderr == "\n"


@pytest.mark.parametrize(
    ("refusal", "sentence", "hint"),
    [
        (OSError(errno.EROFS, "Read-only file system", "/srv/x"), "/srv/x: Read-only file system", "look at it"),
        (OSError(errno.ENOSPC, "No space left on device"), "standard output, or a file: No space left on device", "look at it"),
        (OSError(errno.ENOENT, "No such file or directory"), "the current folder does not exist any more", "go to another one"),
        (PermissionError(errno.EACCES, "Permission denied", b"/srv/x"), "only root can use /srv/x", "use sudo"),
    ],
)
def test_what_the_system_refuses_is_no_bug(
    wwctl: Run, monkeypatch: pytest.MonkeyPatch, refusal: OSError, sentence: str, hint: str
) -> None:
    def fail(store: Store) -> None:
        raise refusal

    monkeypatch.setattr(Store, "load", fail)
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    code, _, err = wwctl("node list")
    assert (code, err.splitlines()[0]) == (1, f"wwctl: {sentence}")
    assert err.splitlines()[1].startswith(f"({hint}")


def test_closed_streams_are_no_files(root: Path) -> None:
    code = "import os; from bootsvc.cli.main import main; main(); os.write(2, str(os.open('/', 0)).encode())"
    command = f'exec {sys.executable} -c "{code}" version <&- >&-'
    result = subprocess.run(["/bin/sh", "-c", command], stderr=subprocess.PIPE, text=True, check=True)
    assert result.stderr == "3"


def test_an_interrupt_while_it_is_loaded_says_nothing(root: Path) -> None:
    """A module that takes for ever to load stands in for a slow disk."""
    (root / "slow").mkdir()
    slow = "import sys, time\nprint('loading', flush=True)\ntime.sleep(60)\n"
    (root / "slow/click.py").write_text(slow)
    code = f"import sys; sys.path.insert(0, {str(root / 'slow')!r}); from bootsvc.cli.entry import main; sys.exit(main())"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"loading\n"
        process.send_signal(signal.SIGINT)
        assert process.communicate(timeout=30) == (b"", b"")
    assert process.returncode == -signal.SIGINT


def test_an_interrupt_is_one_sentence(wwctl: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(store: Store) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Store, "load", interrupt)
    code, out, err = wwctl("node list")
    assert (code, out, err.strip()) == (130, "", "wwctl: interrupted")


@pytest.mark.parametrize("unbuffered", ["", "1"])
@pytest.mark.parametrize("line", ["", "--help", "container", "image --help", "image list", "image list -j", "version"])
def test_reader_that_has_gone(root: Path, line: str, unbuffered: str) -> None:
    command = [sys.executable, "-c", "import sys; from bootsvc.cli.entry import main; sys.exit(main())", *line.split()]
    read, write = os.pipe()
    os.close(read)
    environment = os.environ | {"PYTHONUNBUFFERED": unbuffered}
    with os.fdopen(write, "wb") as output:
        done = subprocess.run(command, stdout=output, stderr=subprocess.PIPE, env=environment, check=False)
    assert (done.returncode, done.stderr) == (0 if not line or line == "container" else 141, b"")


def test_reader_that_goes_away(wwctl: Run, root: Path) -> None:
    wwctl("node add n[1-5000]")
    command = [sys.executable, "-c", "import sys; from bootsvc.cli.entry import main; sys.exit(main())", "node", "list"]
    # Unbuffered, Python loses the rest of a partial write without an error.
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment) as process:
        assert process.stdout
        assert process.stderr
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141
