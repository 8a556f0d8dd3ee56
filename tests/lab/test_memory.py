"""The memory that the doctor names for an image: a machine with exactly so much boots it, one with three quarters says why not.

`BOOTSVC_PROOF=full` takes gzip, content of other kinds and an image of 370 MiB, too, and looks for the least that boots.
"""

import os
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from console import Console, ConsoleFailed
from direct import direct_boot
from head import prepare_head
from kvm import choose
from network import BRIDGE, HEAD, Network
from places import Run
from roots import copy_tiny

from images.compress import Compression

pytestmark = [pytest.mark.lab, pytest.mark.root]

FULL = os.environ.get("BOOTSVC_PROOF") == "full"
SECONDS = 180
MIB = 1 << 20
STEP = 16
"""MiB: as exactly as the figure is told."""


def noise(folder: Path, mib: int) -> None:
    """What no compression makes smaller."""
    contents = random.Random(mib)
    for number in range(mib // 10):
        (folder / f"{number:03}").write_bytes(contents.randbytes(10 * MIB))


def text(folder: Path, mib: int) -> None:
    contents = random.Random(mib)
    for number in range(mib // 10):
        lines = (f"{contents.getrandbits(32):08x} the quick brown fox jumps over the lazy dog\n" for _ in range(10 * MIB // 53))
        (folder / f"{number:03}").write_text("".join(lines))


def small_files(folder: Path, mib: int) -> None:
    """Each takes a page."""
    contents = random.Random(mib)
    for number in range(mib * 256):
        part = folder / f"{number // 500:03}"
        part.mkdir(exist_ok=True)
        (part / str(number)).write_bytes(contents.randbytes(700) + bytes(300))


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    fill: Callable[[Path, int], None]
    mib: int
    compression: Compression = Compression.ZSTD

    def __str__(self) -> str:
        return f"{self.mib} MiB of {self.fill.__name__}, {self.compression.value}"


CASES = [Case(fill=noise, mib=60)]
if FULL:
    CASES += [
        Case(fill=noise, mib=150),
        Case(fill=noise, mib=150, compression=Compression.GZIP),
        Case(fill=text, mib=200),
        Case(fill=small_files, mib=100, compression=Compression.GZIP),
        Case(fill=noise, mib=350),
    ]


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """An image as one file, its kernel, and how many MiB the doctor says that it needs."""

    file: Path
    kernel: Path
    needed: int

    @asynccontextmanager
    async def boot(self, memory: int, busybox: Path) -> AsyncIterator[Console]:
        folder = self.file.parent
        accel = await choose(self.kernel, busybox, folder)
        arguments = "console=ttyS0 no_timer_check loglevel=4"
        async with direct_boot(
            f"n{memory}", self.kernel, self.file, arguments, memory=memory, accel=accel, folder=folder
        ) as console:
            yield console


async def build(tiny_root: Path, folder: Path, case: Case) -> Built:
    run = Run(path=folder)
    run.scratch.mkdir(mode=0o700)
    head = await prepare_head(run, Network(bridge=BRIDGE, head=HEAD))
    root = copy_tiny(tiny_root, folder / "tiny", case.compression)
    (root / "usr/filling").mkdir(parents=True)
    case.fill(root / "usr/filling", case.mib)
    file = folder / "image"
    for arguments in (("import", str(root), "filled"), ("export", "filled", str(file))):
        output = await head.wwctl("container", *arguments)
        assert output.status == 0, output.text
    told = (await head.wwctl("container", "check", "filled")).text
    found = re.search(r"a node needs about (\d+) MiB of memory", told)
    assert found is not None, told
    (kernel,) = root.glob("boot/vmlinuz-*")
    return Built(file=file, kernel=kernel, needed=int(found[1]))


async def boots(built: Built, memory: int, busybox: Path) -> bool:
    """Whether it gets to its shell; that it does not must be a sentence on the console."""
    failure = None
    async with built.boot(memory, busybox) as console:
        try:
            await console.wait("tiny: ready", SECONDS)
        except ConsoleFailed as exc:
            failure = exc.message
        if failure is None:
            return True
        assert "could not unpack the initramfs: Initramfs unpacking failed: write error" in failure
        # The kernel goes on with part of a root, and our init does not.
        console.forgive()
        await console.wait(r"bootsvc init: FAILED: the root file system did not arrive whole \(not enough memory", SECONDS)
        assert "tiny: ready" not in console.text()
        return False


@pytest.mark.parametrize("case", CASES, ids=str)
async def test_the_doctors_figure_is_enough_and_three_quarters_are_not(
    tiny_root: Path, busybox: Path, tmp_path: Path, case: Case, capsys: pytest.CaptureFixture[str]
) -> None:
    built = await build(tiny_root, tmp_path, case)
    assert await boots(built, built.needed, busybox)
    assert not await boots(built, built.needed * 3 // 4, busybox)
    if not FULL:
        return
    enough, less = built.needed, built.needed * 3 // 4 // STEP * STEP
    while enough - less > STEP:
        middle = (enough + less) // 2 // STEP * STEP
        if await boots(built, middle, busybox):
            enough = middle
        else:
            less = middle
    with capsys.disabled():
        print(f"\n{case}: the doctor says {built.needed} MiB, the least that boots is {enough} MiB")
    assert built.needed <= enough * 1.15
