"""DATA packets that are kept: of which files, for how long, and how many."""

import os
from pathlib import Path

import pytest

from bootsvc.tftp import frames
from bootsvc.tftp.files import OpenFile
from bootsvc.tftp.frames import FrameCache


def opened(path: Path, data: bytes, cache: FrameCache) -> OpenFile:
    path.write_bytes(data)
    return OpenFile(os.open(path, os.O_RDONLY), cache)


def test_all_blocks_but_the_last(tmp_path: Path) -> None:
    file = opened(tmp_path / "f", b"aaaabbbbc", FrameCache())
    made = file.framed(4)
    assert made is not None
    assert (bytes(made.memory.data), made.size) == (b"\0\3\0\1aaaa\0\3\0\2bbbb", 8)
    assert file.framed(4) is made
    assert file.framed(16) is None, "there is only a last one"
    file.close()


def test_another_version_has_its_own(tmp_path: Path) -> None:
    cache = FrameCache()
    first, second = opened(tmp_path / "f", b"aaaab", cache), opened(tmp_path / "f", b"cccccd", cache)
    made = second.framed(4)
    assert made is not None
    assert bytes(made.memory.data) == b"\0\3\0\1cccc"
    assert first.framed(4) is None, "the file has been written to since it was opened"
    for file in (first, second):
        file.close()


def test_there_is_an_end_to_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "MAX_FRAMED_TOTAL", 40)
    monkeypatch.setattr(frames, "MAX_FRAMED_BLOCKS", 2)
    cache = FrameCache()
    files = [opened(tmp_path / str(number), bytes(9), cache) for number in range(3)]
    assert files[0].framed(1) is None, "too many blocks"
    made = [file.framed(4) for file in files]
    assert files[2].framed(4) is made[2]
    assert files[0].framed(4) is not made[0], "the one that was asked for first was forgotten"
    for file in files:
        file.close()
