"""A hundred rounds of kill -9 at seeded random moments of every verb that changes images, as a person would run it.

After each one: every image is whole or absent, nodes boot, and the next command leaves no process, mount, lock or staging.
`BOOTSVC_SEED=N` repeats a run's choices, though not the machine's timing.
"""

import fcntl
import os
import random
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from bootsvc.cli.image import noun
from bootsvc.cli.main import run
from bootsvc.registry import Registry
from bootsvc.store import Store
from images.catalog import Catalog
from images.rebuild import BuildContext, rebuild
from images.renaming import MARK

pytestmark = pytest.mark.root

ROUNDS = 100
SEED = int(os.environ.get("BOOTSVC_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
DEADLINE = 30.0
"""Seconds after which what should have ended is given up."""
WWCTL = Path(sys.executable).with_name("wwctl")
CONF = """\
ipaddr: 10.0.0.1/24
paths:
  sysconfdir: {root}/etc
  localstatedir: {root}/lib
  cachedir: {root}/cache
"""
NODES = "nodes:\n  n1:\n    image name: used\n"
EXEC = "mkdir -p /opt/new && echo 1 > /opt/new/file && echo 2 >> /etc/changed && cat /mnt/a/b/name /etc/copied"

Snapshot = dict[bytes, tuple[object, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Verb:
    """A command line, and which images it may change or make absent; `{other}` is the name that `used` has not now."""

    args: str
    changes: tuple[str, ...] = ()
    makes: tuple[str, ...] = ()
    again: bool = False
    """Whether the same command must complete what was begun."""


VERBS = {
    "import": Verb(args="import {root}/source fresh", makes=("fresh",)),
    "import --force": Verb(args="import --force {root}/newer spare", changes=("spare",)),
    "import --update": Verb(args="import --update {root}/newer {used}", changes=("{used}",)),
    "build": Verb(args="build {used}"),
    "build --force": Verb(args="build --force {used}"),
    "exec": Verb(
        args="exec -b {root}/source/etc:/mnt/a/b:ro -b {root}/source/etc/name:/etc/copied:copy spare /bin/sh -c",
        changes=("spare",),
    ),
    "copy": Verb(args="copy {used} fresh", makes=("fresh",)),
    "rename": Verb(args="rename {used} {other}", again=True),
    "delete": Verb(args="delete --yes spare", changes=("spare",)),
}


@dataclass(slots=True)
class Head:
    """A head node with an image that node n1 boots (`used` or `other`) and one that nobody boots (`spare`)."""

    root: Path
    describe: Callable[[Path], Snapshot]
    used: str = "used"
    trees: dict[str, Snapshot] = field(default_factory=dict)
    catalog: Catalog = field(init=False)

    def __post_init__(self) -> None:
        self.catalog = Catalog(chroots=self.root / "lib/warewulf/chroots", provision=self.root / "lib/warewulf/provision")
        (self.root / "warewulf.conf").write_text(CONF.format(root=self.root))
        (self.root / "etc/warewulf").mkdir(parents=True)
        (self.root / "etc/warewulf/nodes.conf").write_text(NODES)
        make_tree(self.root / "source", "old")
        make_tree(self.root / "newer", "new")
        for name in ("source", "newer"):
            self.trees[name] = self.describe(self.root / name)

    @property
    def other(self) -> str:
        return "other" if self.used == "used" else "used"

    def command(self, verb: Verb) -> list[str]:
        words = verb.args.format(root=self.root, used=self.used, other=self.other).split()
        script = [EXEC] if words[-1] == "-c" else []
        return [str(WWCTL), "--warewulfconf", str(self.root / "warewulf.conf"), "container", *words, *script]

    def start(self, verb: Verb) -> "subprocess.Popen[bytes]":
        environment = os.environ | {"WW_TEST_SITE": str(self.root)}
        return subprocess.Popen(
            self.command(verb), env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            start_new_session=True,
        )  # fmt: skip

    def wwctl(self, *args: str) -> int:
        """A command that is let alone, in this process."""
        return run(["--warewulfconf", str(self.root / "warewulf.conf"), *args])

    def prepare(self) -> None:
        """The state that every round begins with."""
        for name in self.catalog.names():
            if name not in (self.used, "spare") or self.tree(name) != self.trees["source"]:
                self.catalog.delete(name)
        for name in (self.used, "spare"):
            if not self.catalog.exists(name):
                (self.catalog.chroots / name).mkdir(parents=True)
                subprocess.run(["cp", "-a", self.root / "source", self.catalog.chroots / name / "rootfs"], check=True)
            rebuild(self.catalog, name, BuildContext(own=[], built_by="test", now=0.0, processes=1))

    def tree(self, name: str) -> Snapshot:
        """The image's tree, but for what exec is told to change and import does to resolv.conf."""
        found = self.describe(self.catalog.get(name))
        ours = (b"opt", b"opt/new", b"opt/new/file", b"etc/changed", b"etc/resolv.conf")
        return {path: without_mtime(path, entry) for path, entry in found.items() if path not in ours}

    def processes(self) -> list[str]:
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                marked = f"WW_TEST_SITE={self.root}\0".encode() in (entry / "environ").read_bytes()
                if marked and entry.name != str(os.getpid()):
                    found.append((entry / "cmdline").read_bytes().replace(b"\0", b" ").decode())
            except OSError:
                continue
        return found


def without_mtime(path: bytes, entry: tuple[object, ...]) -> tuple[object, ...]:
    """Of the directories in which exec makes something and import resolv.conf."""
    return (*entry[:3], 0, *entry[4:]) if path in (b"", b"etc") else entry


def make_tree(root: Path, content: str) -> None:
    for name in ("bin", "boot", "etc", "mnt", "usr/share/deep/er"):
        (root / name).mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for name in ("sh", "cat", "mkdir"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/name").write_text(content)
    (root / "etc/resolv.conf").write_text("")
    (root / "boot/vmlinuz-6.1.0").write_text(f"kernel {content}")
    for number in range(60):
        (root / f"usr/share/deep/er/{number}").write_text(f"{content} {number}" * 500)
    (root / "usr/share/hard").hardlink_to(root / "usr/share/deep/er/1")
    os.mkfifo(root / "usr/share/fifo")
    (root / "bin/busybox").chmod(0o4755)
    os.chown(root / "usr/share/deep", 1000, 1001)


@pytest.fixture
def head(tmp_path: Path, snapshot: Callable[[Path], Snapshot], require_tool: Callable[..., Path]) -> Head:
    require_tool("busybox", package="busybox-static")

    def describe(root: Path) -> Snapshot:
        return {path: without_mtime(path, entry) for path, entry in snapshot(root).items() if path != b"etc/resolv.conf"}

    return Head(root=tmp_path, describe=describe)


def measure(head: Head, verbs: dict[str, Verb]) -> dict[str, tuple[float, float]]:
    """For each verb the seconds before it can have done anything, and those that it takes in all."""
    took = {}
    began = time.monotonic()
    subprocess.run([WWCTL, "--help"], stdout=subprocess.DEVNULL, check=True)
    idle = time.monotonic() - began
    for name, verb in verbs.items():
        head.prepare()
        began = time.monotonic()
        process = head.start(verb)
        output, _ = process.communicate(timeout=DEADLINE)
        took[name] = idle, time.monotonic() - began
        assert process.returncode == 0, output.decode()
        if verb.again:
            head.used = head.other
    return took


def kill(process: "subprocess.Popen[bytes]", how: str) -> None:
    match how:
        case "group":
            os.killpg(process.pid, signal.SIGKILL)
        case "supervisor":
            # The sandbox's; where there is none it is wwctl.
            children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            os.kill(int(children[0]) if children else process.pid, signal.SIGKILL)
        case _:
            process.kill()


def wait_until(holds: Callable[[], object], otherwise: str) -> None:
    end = time.monotonic() + DEADLINE
    while not holds():
        assert time.monotonic() < end, otherwise


def half_renamed(head: Head) -> bool:
    return (head.catalog.provision / "images" / head.other / MARK).exists()


def assert_clean(head: Head) -> None:
    wait_until(lambda: not head.processes(), f"processes are left: {head.processes()}")
    assert head.wwctl("container", "list") == 0
    assert str(head.root) not in Path("/proc/self/mountinfo").read_text()
    for lock in (head.root / "lib").rglob("*.lock"):
        with lock.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    strays = [
        path
        for path in (*(head.root / "lib").rglob(".*"), *(head.root / "etc").rglob(".*"))
        if not path.name.endswith(".lock") and "/rootfs/" not in str(path)
    ]
    assert strays == []
    assert {path.name for path in (head.root / "etc/warewulf").iterdir()} <= {
        "nodes.conf",
        "nodes.conf.lock",
        ".nodes.conf.lock",
    }


def difference(found: Snapshot, allowed: list[Snapshot]) -> str:
    """Nothing when the tree is one of those, else what differs from the first."""
    if found in allowed:
        return ""
    first = allowed[0]
    paths = sorted(path for path in {*found, *first} if found.get(path) != first.get(path))
    return ", ".join(f"{path!r} {str(found.get(path))[:90]} for {str(first.get(path))[:90]}" for path in paths[:4])


def assert_whole(head: Head, verb: Verb) -> None:
    changes = [name.format(used=head.used) for name in verb.changes]
    names = head.catalog.names()
    moved = head.other if verb.again and head.other in names else head.used
    assert {moved, "spare"} - set(changes) <= set(names) <= {moved, "spare", *verb.makes}
    for name in names:
        allowed = [head.trees["source"], *([head.trees["newer"]] if name in changes and "import" in verb.args else [])]
        assert not difference(head.tree(name), allowed), f"{name} is not whole: {difference(head.tree(name), allowed)}"
    for name in (*names, *(path.name for path in (head.catalog.provision / "images").iterdir())):
        generation = head.catalog.current(name)
        assert generation is None or generation.missing() == []
    node = Registry.build(Store(head.root / "etc/warewulf/nodes.conf").load()).by_name("n1")
    assert node is not None
    assert node.image_name in (moved, head.used, head.other)
    assert head.catalog.current(node.image_name) is not None, "node n1 cannot boot"


def test_kill_9_at_random_moments(head: Head, capsys: pytest.CaptureFixture[str]) -> None:
    with capsys.disabled():
        print(f"BOOTSVC_SEED={SEED}", end=" ", flush=True)
    random_moments = random.Random(SEED)
    verbs = {name: verb for name, verb in VERBS.items() if name.split()[0] in noun.VERBS}
    took = measure(head, verbs)
    killed: Counter[str] = Counter()
    order = [name for _ in range(ROUNDS // len(verbs) + 1) for name in verbs][:ROUNDS]
    random_moments.shuffle(order)
    for number, name in enumerate(order):
        verb = verbs[name]
        head.prepare()
        idle, whole = took[name]
        delay = random_moments.uniform(idle, whole)
        how = random_moments.choice(("wwctl", "wwctl", "group", "supervisor"))
        process = head.start(verb)
        try:
            process.wait(delay)
        except subprocess.TimeoutExpired:
            kill(process, how)
        output, _ = process.communicate(timeout=DEADLINE)
        killed[name] += process.returncode != 0
        told = f"round {number}: {how} of `{name}` killed after {delay:.3f} of {whole:.3f} s, seed {SEED}\n{output.decode()}"
        try:
            assert_clean(head)
            assert_whole(head, verb)
            if verb.again:
                unfinished = head.used in head.catalog.names() or half_renamed(head)
                assert head.wwctl(*head.command(verb)[3:]) == (0 if unfinished else 1), "what was begun is not completed"
                head.used = head.other
                assert_whole(head, verb)
        except (AssertionError, OSError) as exc:
            raise AssertionError(f"{told}{exc}") from exc
    assert sum(killed.values()) > ROUNDS // 3, f"most were over before they were killed: {killed}"


def test_what_this_test_compares_is_noticed(head: Head) -> None:
    """A harness that cannot fail proves nothing."""
    head.prepare()
    assert_whole(head, VERBS["build"])
    (head.catalog.get("used") / "usr/share/deep/er/7").write_text("x")
    with pytest.raises(AssertionError, match="used is not whole"):
        assert_whole(head, VERBS["build"])
    (head.catalog.chroots / ".staging-x").mkdir()
    assert_clean(head)
    (head.catalog.chroots / ".other").touch()
    with pytest.raises(AssertionError):
        assert_clean(head)
    segment: Any = next(head.catalog.current("spare").image_files())  # type: ignore[union-attr]
    segment[0].unlink()
    with pytest.raises(AssertionError):
        assert_whole(head, Verb(args="import", changes=("used",)))
    assert stat.S_ISDIR(head.catalog.get("used").stat().st_mode)
