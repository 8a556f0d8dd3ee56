"""`wwctl image export` writes one file that any boot loader can hand to the kernel; half of it is no boot."""

from collections.abc import Awaitable, Callable
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
from images.generation import Manifest, end_archive

pytestmark = [pytest.mark.lab, pytest.mark.root]

SECONDS = 90


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """A file, the generation that it holds, and a kernel for it."""

    file: Path
    digest: str
    manifest: Manifest
    kernel: Path


Export = Callable[[Compression], Awaitable[Exported]]


@pytest.fixture
def export(tiny_root: Path, tmp_path: Path) -> Export:
    async def make(compression: Compression) -> Exported:
        run = Run(path=tmp_path)
        run.scratch.mkdir(mode=0o700)
        # Nothing here goes over a network.
        head = await prepare_head(run, Network(bridge=BRIDGE, head=HEAD))
        root = copy_tiny(tiny_root, tmp_path / "tiny", compression)
        file = tmp_path / "tiny.img"
        for arguments in (("import", str(root), "tiny"), ("export", "tiny", str(file))):
            output = await head.wwctl("container", *arguments)
            assert output.status == 0, output.text
        generation = head.generations.current("tiny")
        assert generation is not None
        (kernel,) = root.glob("boot/vmlinuz-*")
        return Exported(file=file, digest=generation.digest, manifest=generation.manifest, kernel=kernel)

    return make


async def boot(exported: Exported, busybox: Path, until: Callable[[Console], Awaitable[None]]) -> str:
    folder = exported.file.parent
    accel = await choose(exported.kernel, busybox, folder)
    arguments = "console=ttyS0 loglevel=3"
    async with direct_boot("n1", exported.kernel, exported.file, arguments, memory=512, accel=accel, folder=folder) as console:
        await until(console)
        return console.text()


@pytest.mark.parametrize("compression", Compression)
async def test_it_boots_as_it_is(export: Export, busybox: Path, compression: Compression) -> None:
    """No kernel argument of ours says what must arrive."""
    exported = await export(compression)
    assert exported.manifest.compression == compression.value

    async def ready(console: Console) -> None:
        await console.wait("bootsvc init: starting /sbin/init", SECONDS)
        await console.wait("tiny: ready", SECONDS)
        arrived = await console.command("cat /.bootsvc/expected /.bootsvc/generation", SECONDS)
        assert arrived.text.split() == [exported.digest] * 2

    assert "FAILED" not in await boot(exported, busybox, ready)


@pytest.mark.parametrize("cut", ["before its last archive", "in its last segment"])
async def test_half_of_it_is_no_boot(export: Export, busybox: Path, cut: str) -> None:
    exported = await export(Compression.ZSTD)
    content = exported.file.read_bytes()
    end = end_archive(exported.digest)
    assert content.endswith(end)
    missing = len(end) if cut == "before its last archive" else exported.manifest.segments[-1].size // 2
    exported.file.write_bytes(content[:-missing])

    in_a_segment = cut == "in its last segment"
    sentence = "bootsvc init: FAILED: the root file system did not arrive whole"

    async def stopped(console: Console) -> None:
        if in_a_segment:
            with pytest.raises(ConsoleFailed, match="could not unpack the initramfs"):
                await console.wait("no such words", SECONDS)
            # The kernel goes on, and so do we.
            console.forgive()
        await console.wait(sentence, SECONDS)

    text = await boot(exported, busybox, stopped)
    assert ("Initramfs unpacking failed: " in text) == in_a_segment
    assert "tiny:" not in text
