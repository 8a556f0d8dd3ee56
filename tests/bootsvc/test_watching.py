"""When a file that changes is read anew."""

import os
from pathlib import Path

from bootsvc.watching import WatchedFile


def test_a_file_is_read_when_it_is_at_rest(tmp_path: Path) -> None:
    path = tmp_path / "nodes.conf"
    path.write_text("nodes: {}")
    watched = WatchedFile(path)
    assert not watched.changed()
    with path.open("w") as file:
        assert not watched.changed(), "it is empty for a moment"
        file.write("nodes:")
        file.flush()
        assert not watched.changed(), "it grows"
    assert watched.changed()
    assert not watched.changed(), "said once"


def test_a_file_that_is_replaced_by_way_of_none(tmp_path: Path) -> None:
    path = tmp_path / "nodes.conf"
    path.write_text("nodes: {}")
    watched = WatchedFile(path)
    os.rename(path, tmp_path / "nodes.conf~")
    assert not watched.changed()
    path.write_text("nodes: {n1: {}}")
    assert [watched.changed() for _ in range(3)] == [False, True, False]
    path.unlink()
    assert [watched.changed() for _ in range(3)] == [False, True, False], "gone for good"


def test_what_is_read_for_another_reason_is_not_read_again(tmp_path: Path) -> None:
    path = tmp_path / "nodes.conf"
    watched = WatchedFile(path)
    path.write_text("nodes: {}")
    watched.reading()
    assert not watched.changed()
    assert not watched.changed()
