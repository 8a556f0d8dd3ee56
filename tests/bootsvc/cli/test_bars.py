"""Long steps of images show a bar with a rate on a terminal, which vanishes; elsewhere there are plain lines."""

import contextlib
import os
import pty
import random
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from head_node import WWCTL, HeadNode

pytestmark = pytest.mark.root

RATE = r"\d/(\?|[0-9.]+) MB +[0-9.]+ [kMG]B/s"
BIG = 65 << 20


@pytest.fixture
def site(tmp_path: Path) -> Iterator[HeadNode]:
    """An image with one large file that no compressor makes smaller; images and folders have file systems of their own."""
    made = HeadNode(tmp_path)
    (tmp_path / "etc").mkdir()
    for place in (made.chroots, tmp_path / "folder"):
        place.mkdir(parents=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=300m", "bars", place], check=True)
    try:
        for tree in (made.chroots / "img/rootfs", tmp_path / "folder"):
            (tree / "bin").mkdir(parents=True)
            (tree / "bin/sh").write_text("#!/bin/true\n")
            (tree / "bin/sh").chmod(0o755)
            (tree / "big").write_bytes(random.Random(1).randbytes(BIG))
        yield made
    finally:
        for place in (made.chroots, tmp_path / "folder"):
            subprocess.run(["umount", place], check=True)


def on_terminal(site: HeadNode, *args: str) -> str:
    """All that the command writes on one, without what moves the cursor."""
    master, slave = pty.openpty()
    variables = {"COLUMNS": "120", "LINES": "30", "TERM": "xterm"}
    with subprocess.Popen([WWCTL, *args], env=site.environment | variables, stdin=slave, stdout=slave, stderr=slave) as process:
        os.close(slave)
        seen = b""
        with contextlib.suppress(OSError):
            while more := os.read(master, 4096):
                seen += more
        os.close(master)
    assert process.returncode == 0, seen
    return re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", seen.decode())


def test_copy(site: HeadNode) -> None:
    seen = on_terminal(site, "image", "copy", "img", "other")
    assert re.search(f"copying .*{RATE}", seen)
    assert f"Copying {site.chroots}/img/rootfs" in seen
    plain = site.wwctl("image", "copy", "img", "third")
    assert plain.stdout == f"Copying {site.chroots}/img/rootfs\nImage img successfully duplicated as third\n"
    assert plain.stderr == ""


def test_import_of_a_folder(site: HeadNode) -> None:
    seen = on_terminal(site, "image", "import", str(site.root / "folder"), "new")
    assert re.search(f"copying .*{RATE}", seen)
    plain = site.wwctl("image", "import", str(site.root / "folder"), "newer")
    assert plain.stdout == f"Copying {site.root}/folder\n"


def test_export(site: HeadNode) -> None:
    assert site.wwctl("image", "build", "img").returncode == 0
    file = str(site.root / "exported")
    seen = on_terminal(site, "image", "export", "img", file)
    assert re.search(f"writing .*{RATE}", seen)
    plain = site.wwctl("image", "export", "--force", "img", file)
    assert len(plain.stdout.splitlines()) == 1
    assert plain.stderr == ""
