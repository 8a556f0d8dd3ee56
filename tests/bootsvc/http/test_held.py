"""Which artifacts are answered from memory, and for how long."""

import os
from pathlib import Path

import pytest

from bootsvc.artifacts import Artifact
from bootsvc.http import held
from bootsvc.http.held import HeldArtifacts


def artifact(folder: Path, content: bytes, *, etag: str = "sha256:1", padding: int = 0) -> Artifact:
    path = folder / etag
    path.write_bytes(content)
    return Artifact(parts=((path, len(content)),), size=len(content) + padding, etag=etag)


def test_one_that_is_named_by_its_content_is_read_once(tmp_path: Path) -> None:
    small = artifact(tmp_path, b"abc", padding=1)
    kept = HeldArtifacts()
    assert kept.find(small) == b"abc\0"
    os.unlink(small.parts[0][0])
    assert kept.find(small) == b"abc\0"


@pytest.mark.parametrize(("size", "etag"), [(held.MAX_HELD + 1, "sha256:1"), (3, "gz-sha256:1")])
def test_others_are_sent_from_their_files(tmp_path: Path, size: int, etag: str) -> None:
    assert HeldArtifacts().find(artifact(tmp_path, bytes(size), etag=etag)) is None


def test_a_file_that_is_not_what_it_was_is_not_kept(tmp_path: Path) -> None:
    small = artifact(tmp_path, b"abc")
    kept = HeldArtifacts()
    small.parts[0][0].write_bytes(b"ab")
    assert kept.find(small) is None
    small.parts[0][0].unlink()
    assert kept.find(small) is None
    small.parts[0][0].write_bytes(b"abc")
    assert kept.find(small) == b"abc"


def test_the_one_that_nobody_wanted_for_longest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held, "MAX_HELD_TOTAL", 6)
    first, second, third = (artifact(tmp_path, b"abc", etag=f"end-{number}") for number in range(3))
    kept = HeldArtifacts()
    for each in (first, second, first, third):
        assert kept.find(each) == b"abc"
    for each in (first, second, third):
        each.parts[0][0].unlink()
    assert [kept.find(each) for each in (first, second, third)] == [b"abc", None, b"abc"]
