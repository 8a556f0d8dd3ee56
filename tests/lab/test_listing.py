"""Comparing a node's tree with the image."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from listing import differences, parse, scan
from roots import TINY_FILES


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "root"
    (root / "bin").mkdir(parents=True)
    (root / "bin/tool").write_bytes(b"#!/bin/sh\n")
    (root / "bin/tool").chmod(0o4755)
    (root / "bin/link to it").symlink_to("tool")
    os.link(root / "bin/tool", root / "bin/second")
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    return root


def test_the_nodes_own_listing_is_what_scan_finds(tree: Path, busybox: Path, require_tool: Callable[..., Path]) -> None:
    """The node's script runs on the node's busybox, here in a chroot."""
    if os.geteuid() != 0:
        pytest.skip("chroot needs root")
    (tree / "bin/busybox").write_bytes(busybox.read_bytes())
    (tree / "bin/busybox").chmod(0o755)
    for applet in ("find", "stat", "sha256sum"):
        (tree / "bin" / applet).symlink_to("busybox")
    script = (TINY_FILES / "bin/tree-listing").read_text()
    done = subprocess.run(
        ["chroot", str(tree), "/bin/busybox", "sh", "-c", script],
        env={"PATH": "/usr/sbin:/bin"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    arrived = parse(done.stdout)
    expected = scan(tree)
    assert set(expected) <= set(arrived)
    assert list(differences(expected, arrived, ())) == []
    assert arrived["/bin/tool"].mode == 0o104755
    assert arrived["/bin/link to it"].target == "tool"


def test_each_difference_is_told(tree: Path) -> None:
    expected = scan(tree)
    arrived = dict(expected)
    del arrived["/bin/second"]
    arrived["/bin/tool"] = replace(expected["/bin/tool"], digest="0" * 64)
    arrived["/tmp"] = replace(expected["/tmp"], mode=0o040755)
    arrived["/new"] = expected["/bin/tool"]
    found = "\n".join(differences(expected, arrived, ()))
    assert "/bin/second is missing" in found
    assert "/bin/tool is" in found
    assert "/tmp is" in found
    assert len(found.splitlines()) == 3
    assert "/tmp is" not in "\n".join(differences(expected, arrived, ("/tmp",)))
