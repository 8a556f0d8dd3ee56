"""Kill -9 at seeded random moments of imports from a registry, most of them while layers are on their way.

After each one: every image is whole or absent, the next command leaves nothing behind, and the next import takes up what had
come and ends with the right digest. `BOOTSVC_SEED=N` repeats a run's choices, `BOOTSVC_PROOF=full` takes a hundred rounds.
"""

import contextlib
import hashlib
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import oci_image as oci
import pytest
from killed_head import (
    DEADLINE,
    FULL,
    SEED,
    Head,
    Snapshot,
    Verb,
    assert_clean,
    assert_whole,
    kill,
    make_head,
    measure,
    wait_until,
)
from oci_image import Image, Registry
from slow_relay import SlowRelay, slow_relay

pytestmark = pytest.mark.root

ROUNDS, PARTS = 9, 12 if FULL else 1
PAUSE = 0.001
"""Seconds for each 32 KiB: a part of a layer is kept from its first MiB on."""
BIG = 4_000_000
LAYERS = (
    ("bin", "boot", "etc", "mnt"),
    ("usr/share/deep", "usr/share/hard", "usr/share/fifo"),
    ("usr/lib/same-1",),
    ("usr/lib/same-2",),
    ("usr/lib/other",),
)
"""What each layer brings, parents with it; `same-1` and `same-2` are in both images."""


@dataclass(slots=True)
class Site:
    """The head node, the relay before its registry, and the images `old` and `new` there."""

    head: Head
    relay: SlowRelay
    old: Image
    new: Image

    @property
    def verbs(self) -> dict[str, Verb]:
        place = f"docker://{self.relay.host}/lab/killed"
        return {
            "import": Verb(args=f"import --nohttps {place}:old fresh", makes=("fresh",)),
            "import --force": Verb(args=f"import --nohttps --force {place}:new spare", changes=("spare",)),
            "import --update": Verb(args=f"import --nohttps --update {place}:new {{used}}", changes=("{used}",)),
        }

    def prepare(self) -> None:
        """The images as they came from `old`, which node n1 boots."""
        self.relay.pause = 0.0
        for name in self.head.catalog.names():
            if name not in ("used", "spare") or self.head.tree(name) != self.head.trees["source"]:
                self.head.catalog.delete(name)
        for name in ("used", "spare"):
            if not self.head.catalog.exists(name):
                assert self.run(Verb(args=f"import --nohttps docker://{self.relay.host}/lab/killed:old {name}")) == 0
        self.head.prepare()

    def run(self, verb: Verb) -> int:
        return self.head.wwctl(*self.head.command(verb)[3:])

    def cached(self) -> dict[str, int]:
        """What has come of each layer's blob, by digest; a whole one must be what its name says."""
        found = {}
        for path in self.blobs.glob("*"):
            size = path.stat().st_size
            if path.name.startswith(".partial-"):
                found[f"sha256:{path.name.removeprefix('.partial-')}"] = size
            else:
                assert not path.name.startswith("."), f"{path} stays for ever"
                with path.open("rb") as file:
                    assert hashlib.file_digest(file, "sha256").hexdigest() == path.name, f"{path} is damaged"
                found[f"sha256:{path.name}"] = size
        return found

    @property
    def blobs(self) -> Path:
        (found,) = (self.head.root / "cache").rglob("blobs")
        return found / "sha256"


def layer_of(tree: Path, names: tuple[str, ...]) -> bytes:
    """A layer by GNU tar: these paths with all below them, and the folders that they are in."""
    parents = sorted({str(parent) for name in names for parent in Path(name).parents})
    below = [os.path.relpath(path, tree) for name in names for path in (tree / name, *sorted((tree / name).rglob("*")))]
    command = ["tar", "-C", str(tree), "--format=posix", "--pax-option=delete=atime,delete=ctime", "--no-recursion", "-c"]
    return subprocess.run([*command, *parents, *below], check=True, capture_output=True).stdout


@pytest.fixture
def site(
    tmp_path: Path,
    snapshot: Callable[[Path], Snapshot],
    require_tool: Callable[..., Path],
    registry: Registry,
) -> Iterator[Site]:
    require_tool("busybox", package="busybox-static")
    head = make_head(tmp_path, snapshot)
    contents = random.Random(SEED)
    same = {name: contents.randbytes(BIG) for name in ("same-1", "same-2")}
    images = {}
    for tag, tree in (("old", head.root / "source"), ("new", head.root / "newer")):
        (tree / "usr/lib").mkdir()
        for name, data in (same | {"other": contents.randbytes(BIG)}).items():
            (tree / "usr/lib" / name).write_bytes(data)
            # Of one time in both, so that their layers are the same.
            os.utime(tree / "usr/lib" / name, (1_600_000_000, 1_600_000_000))
        for folder in ("usr/lib", "usr", "."):
            os.utime(tree / folder, (1_600_000_000, 1_600_000_000))
        images[tag] = oci.build([layer_of(tree, names) for names in LAYERS])
        registry.push("lab/killed", tag, images[tag])
    assert len(set(images["old"].layer_digests) & set(images["new"].layer_digests)) == 2
    head.describe_trees()
    with slow_relay(registry.host) as relay:
        yield Site(head=head, relay=relay, old=images["old"], new=images["new"])


def assert_resumed(site: Site, had: dict[str, int], image: Image) -> int:
    """What came before was not fetched again; returns how many downloads went on in the middle."""
    asked = dict(site.relay.fetched)
    resumed = 0
    for digest in image.layer_digests:
        whole = len(image.blobs[digest])
        # A layer that is not asked for was whole; what came whole and was not yet named is hashed again, no more.
        assert asked.get(digest, whole) == had.get(digest, 0), f"{digest}: {had.get(digest, 0)} of {whole} were there"
        resumed += 0 < had.get(digest, 0) < whole
    return resumed


@pytest.mark.parametrize("part", range(PARTS))
def test_kill_9_of_imports_from_a_registry(site: Site, capsys: pytest.CaptureFixture[str], part: int) -> None:
    with capsys.disabled():
        print(f"BOOTSVC_SEED={SEED}", end=" ", flush=True)
    head, verbs, moments = site.head, site.verbs, random.Random(SEED + part)
    site.prepare()
    took = measured(site, verbs)
    killed: Counter[str] = Counter()
    resumed = partial = 0
    order = [name for _ in range(ROUNDS // len(verbs)) for name in verbs]
    moments.shuffle(order)
    for number, name in enumerate(order):
        verb, image = verbs[name], site.old if name == "import" else site.new
        site.prepare()
        # A third of the rounds finds every layer here, and is killed some time later.
        goal = moments.randrange(sum(map(len, image.blobs.values()))) if number % 3 else None
        delay, how = moments.uniform(*took[name]), moments.choice(("wwctl", "wwctl", "group", "supervisor"))
        process = start(site, verb, delay, goal)
        if process.poll() is None:
            kill(process, how)
        output, _ = process.communicate(timeout=DEADLINE)
        killed[name] += process.returncode != 0
        when = f"after {delay:.3f} of {took[name][1]:.3f} s" if goal is None else f"after {goal} bytes"
        try:
            assert_clean(head)
            assert_whole(head, verb)
            had = site.cached()
            partial += any(0 < had.get(digest, 0) < len(image.blobs[digest]) for digest in image.layer_digests)
            resumed += finish(site, verb, image, had)
        except (AssertionError, OSError) as exc:
            told = f"round {number}: {how} of `{name}` killed {when}, seed {SEED}\n{output.decode()}"
            raise AssertionError(f"{told}{exc}") from exc
    with capsys.disabled():
        print(f"{sum(killed.values())} killed, {partial} of them with part of a layer there, {resumed} layers resumed", end=" ")
    assert sum(killed.values()) > ROUNDS // 3, f"most were over before they were killed: {killed}"
    assert partial, "none was killed while a layer came"
    assert resumed >= partial


def start(site: Site, verb: Verb, delay: float, goal: int | None) -> "subprocess.Popen[bytes]":
    """The command, at the moment that it is to be killed: when `goal` bytes have come, or else after `delay` seconds."""
    if goal is not None:
        shutil.rmtree(site.blobs)
        site.relay.pause = PAUSE
    site.relay.sent = 0
    process = site.head.start(verb)
    if goal is not None:
        wait_until(lambda: site.relay.sent >= goal or process.poll() is not None, "nothing comes from the registry")
        return process
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(delay)
    return process


def finish(site: Site, verb: Verb, image: Image, had: dict[str, int]) -> int:
    """The next import, let alone: it ends as the first should have, from what was there; the layers that it resumed."""
    head = site.head
    site.relay.pause = 0.0
    site.relay.fetched.clear()
    (target,) = (name.format(used=head.used) for name in (*verb.changes, *verb.makes))
    there = target == "fresh" and head.catalog.exists("fresh")
    known = head.catalog.exists(target) and head.catalog.provenance(target).digest == image.digest
    assert site.run(verb) == (1 if there else 0)
    assert head.catalog.provenance(target).digest == image.digest
    wanted = head.trees["source" if image is site.old else "newer"]
    assert head.tree(target) == wanted
    assert head.catalog.current(target) is not None or there
    site.cached()
    assert_clean(head)
    return 0 if there or (known and "--update" in verb.args) else assert_resumed(site, had, image)


def measured(site: Site, verbs: dict[str, Verb]) -> dict[str, tuple[float, float]]:
    """As `measure`, with every layer in the cache."""
    took: dict[str, tuple[float, float]] = {}
    for name, verb in verbs.items():
        site.prepare()
        took |= measure(site.head, {name: verb}, prepared=True)
    return took


def test_what_this_test_compares_is_noticed(site: Site) -> None:
    """A harness that cannot fail proves nothing."""
    site.prepare()
    digest = site.old.layer_digests[2]
    site.relay.fetched[:] = [(digest, 0)]
    with pytest.raises(AssertionError, match="5 of"):
        assert_resumed(site, site.cached() | {digest: 5}, site.old)
    blob = site.blobs / digest.partition(":")[2]
    blob.write_bytes(blob.read_bytes()[:-1])
    with pytest.raises(AssertionError, match="is damaged"):
        site.cached()
    (site.blobs / ".alone-x").touch()
    blob.unlink()
    with pytest.raises(AssertionError, match="stays for ever"):
        site.cached()
