"""kill -9 at seeded random moments, and full disks, while images are built, exported, rolled back and pruned.

After each one the current generation is whole, and the next command takes up the work.
"""

import contextlib
import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from images import prune, store_lock
from images.catalog import Catalog
from images.generation import Generation
from images.rebuild import BuildContext, BuildFailed, rebuild
from images.rollback import NotSwitched, release, roll_back

pytestmark = pytest.mark.root
ROUNDS = 20
SEED = int(os.environ.get("BOOTSVC_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)

WORK = """
import sys, time
from pathlib import Path
from images import prune, store_lock
from images.catalog import Catalog
from images.export import export
from images.rebuild import BuildContext, rebuild
from images.rendition import find_or_make
from images.rollback import release, roll_back
catalog = Catalog(chroots=Path(sys.argv[1]) / "chroots", provision=Path(sys.argv[1]) / "provision")
stored, target = catalog.generations, Path(sys.argv[1]) / "exported"
print("ready", flush=True)
for number in range(1000):
    (catalog.get("img") / f"usr/d{number % 3}/f7").write_text(f"{sys.argv[2]} {number}")
    rebuild(catalog, "img", BuildContext(own=[], built_by="test", now=time.time(), processes=2))
    with store_lock.in_use(catalog.provision):
        export(stored.current("img"), target, force=True)
    find_or_make(stored, stored.current("img"))
    if len(stored.history("img")) > 1:
        roll_back(stored, "img", stored.history("img")[1].digest, by="test", now=time.time())
    with store_lock.alone(catalog.provision):
        prune.apply(stored, prune.plan(stored, (), keep=2, now=time.time()), now=time.time())
    if stored.pin("img"):
        release(stored, "img")
"""


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    made = Catalog(chroots=tmp_path / "chroots", provision=tmp_path / "provision")
    rootfs = made.chroots / "img/rootfs"
    content = random.Random(3)
    for folder in range(3):
        (rootfs / f"usr/d{folder}").mkdir(parents=True)
        for number in range(50):
            (rootfs / f"usr/d{folder}/f{number}").write_bytes(content.randbytes(30_000))
    (rootfs / "bin").mkdir()
    (rootfs / "bin/sh").write_text("sh")
    (rootfs / "boot").mkdir()
    (rootfs / "boot/vmlinuz-6.1.0").write_text("kernel")
    return made


def build(catalog: Catalog) -> Generation:
    return rebuild(catalog, "img", BuildContext(own=[], built_by="test", now=time.time())).generation


def whole(catalog: Catalog) -> Generation:
    """The current generation, each of its files checked."""
    current = catalog.current("img")
    assert current is not None
    assert current.missing() == []
    kernels = [(catalog.kernels.path(kernel.digest), kernel.size) for kernel in current.manifest.kernels]
    for path, _ in [*current.image_files(), *kernels]:
        digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
        assert digest == path.name
    return current


def prune_all(catalog: Catalog) -> None:
    with store_lock.alone(catalog.provision, wait=0):
        prune.apply(catalog.generations, prune.plan(catalog.generations, (), keep=2, now=time.time()), now=time.time())


def test_kill_9_at_random_moments(catalog: Catalog, tmp_path: Path) -> None:
    print(f"BOOTSVC_SEED={SEED}")
    moments = random.Random(SEED)
    build(catalog)
    for number in range(ROUNDS):
        command = [sys.executable, "-c", WORK, str(tmp_path), str(number)]
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == b"ready\n"
            time.sleep(moments.uniform(0, 0.4))  # not waited for: this is the moment
            process.kill()
        assert process.returncode == -signal.SIGKILL
        whole(catalog)
        for built in catalog.generations.history("img"):
            found = catalog.generation(built.digest)
            assert found is not None
            assert found.missing() == []
        exported = tmp_path / "exported"
        if exported.exists():
            assert re.search(rb"\.bootsvc/generation\0+sha256:[0-9a-f]{64}\n", exported.read_bytes()[-600:])
        if catalog.generations.pin("img"):
            release(catalog.generations, "img")
        assert build(catalog).digest == whole(catalog).digest
        prune_all(catalog)
        strays = [path for path in tmp_path.rglob("*") if path.name.startswith((".new-", ".old-", ".staging"))]
        # What an export of this file left goes with the next export of it.
        assert [path for path in strays if path != tmp_path / ".new-exported"] == []


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    place = tmp_path / "provision"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "tmpfs", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("room", [0, 4096, 8192, 12288, 20480, 40960, 65536, 131072, 1 << 20])
def test_a_full_disk_at_any_step_keeps_the_current_generation(catalog: Catalog, small_disk: Path, room: int) -> None:
    first = build(catalog)
    for number in range(3):
        (catalog.get("img") / f"usr/d{number}/f7").write_bytes(random.Random(room).randbytes(200_000))
    free = os.statvfs(small_disk)
    filler = small_disk / "filler"
    with filler.open("wb") as file:
        os.posix_fallocate(file.fileno(), 0, max(4096, free.f_bavail * free.f_frsize - room))
    with pytest.raises(BuildFailed, match="No space left on device") as caught:
        build(catalog)
    assert f"free some space on the file system of {catalog.provision}," in str(caught.value.hint)
    assert whole(catalog).digest == first.digest
    prune_all(catalog)
    assert whole(catalog).digest == first.digest
    with contextlib.suppress(NotSwitched):  # there may be just enough room
        roll_back(catalog.generations, "img", first.digest, by="test", now=time.time())
    assert whole(catalog).digest == first.digest
    filler.unlink()
    if catalog.generations.pin("img"):
        release(catalog.generations, "img")
    second = build(catalog)
    assert second.digest == whole(catalog).digest != first.digest
