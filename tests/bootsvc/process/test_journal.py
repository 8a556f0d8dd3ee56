"""Whether standard error is systemd's journal, and what is written then."""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from appliance import WWCTL

from bootsvc.process.journal import is_journal


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    ends = os.pipe()
    yield ends
    for end in ends:
        os.close(end)


def stream(descriptor: int) -> str:
    status = os.fstat(descriptor)
    return f"{status.st_dev}:{status.st_ino}"


def test_only_the_stream_that_systemd_names_is_the_journal(pipe: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JOURNAL_STREAM", stream(pipe[1]))
    assert is_journal(pipe[1])
    with open(os.devnull, "wb") as other:
        assert not is_journal(other.fileno())
    assert not is_journal(-1)
    monkeypatch.delenv("JOURNAL_STREAM")
    assert not is_journal(pipe[1])


def test_why_it_does_not_start_is_an_error_there(pipe: tuple[int, int], tmp_path: Path) -> None:
    command = [str(WWCTL), "--warewulfconf", f"{tmp_path}/none", "server"]
    environment = {**os.environ, "JOURNAL_STREAM": stream(pipe[1])}
    subprocess.run(command, stderr=pipe[1], env=environment, timeout=60)
    said = os.read(pipe[0], 4096).decode().splitlines()
    assert said[0].startswith("<3>wwctl: ")
    assert all(line.startswith("<3>(") for line in said[1:])
