"""Rounds of kill -9 at seeded random moments of every verb that changes images, as a person would run it.

After each one: every image is whole or absent, nodes boot, and the next command leaves no process, mount, lock or staging.
`BOOTSVC_SEED=N` repeats a run's choices, though not the machine's timing; `BOOTSVC_PROOF=full` takes 300 rounds. What a kill
does to an import from a registry is `test_kill9_registry.py`'s.
"""

import random
import stat
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

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
    half_renamed,
    kill,
    make_head,
    measure,
)  # fmt: skip

from bootsvc.cli.image import noun

pytestmark = pytest.mark.root

ROUNDS, PARTS = 100, 3 if FULL else 1

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
    "export": Verb(args="export --force {used} {root}/exported"),
    "prune": Verb(args="prune --keep 1"),
}


@pytest.fixture
def head(tmp_path: Path, snapshot: Callable[[Path], Snapshot], require_tool: Callable[..., Path]) -> Head:
    require_tool("busybox", package="busybox-static")
    return make_head(tmp_path, snapshot)


@pytest.mark.parametrize("part", range(PARTS))
def test_kill_9_at_random_moments(head: Head, capsys: pytest.CaptureFixture[str], part: int) -> None:
    with capsys.disabled():
        print(f"BOOTSVC_SEED={SEED}", end=" ", flush=True)
    random_moments = random.Random(SEED + part)
    verbs = {name: verb for name, verb in VERBS.items() if name.split()[0] in noun.VERBS}
    took = measure(head, verbs)
    exported = (head.root / "exported").read_bytes()
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
            if name == "export":
                exported = assert_exported(head, exported)
            if verb.again:
                unfinished = head.used in head.catalog.names() or half_renamed(head)
                assert head.wwctl(*head.command(verb)[3:]) == (0 if unfinished else 1), "what was begun is not completed"
                head.used = head.other
                assert_whole(head, verb)
        except (AssertionError, OSError) as exc:
            raise AssertionError(f"{told}{exc}") from exc
    assert sum(killed.values()) > ROUNDS // 3, f"most were over before they were killed: {killed}"


def assert_exported(head: Head, before: bytes) -> bytes:
    """The file is what it was, or all that is to be exported now."""
    found = (head.root / "exported").read_bytes()
    assert head.wwctl("image", "export", "--force", head.used, str(head.root / "again")) == 0
    assert found in (before, (head.root / "again").read_bytes()), "half an export"
    return found


def test_what_this_test_compares_is_noticed(head: Head) -> None:
    """A harness that cannot fail proves nothing."""
    head.prepare()
    assert_whole(head, VERBS["build"])
    (head.catalog.get("used") / "usr/share/deep/er/7").write_text("x")
    with pytest.raises(AssertionError, match="used is not whole"):
        assert_whole(head, VERBS["build"])
    (head.root / "exported").write_bytes(b"half")
    with pytest.raises(AssertionError, match="half an export"):
        assert_exported(head, b"whole")
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
