import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from images.errors import Error
from images.locks import Locked, exclusive, exclusive_folder, remove_free


def test_the_second_is_told_who_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive(path, holder="exec debian-12"), pytest.raises(Locked) as caught, exclusive(path, holder="build debian-12"):
        pass
    assert (caught.value.pid, caught.value.holder) == (os.getpid(), "exec debian-12")
    assert caught.value.message == f"`exec debian-12` (process {os.getpid()}) holds {path}"
    assert caught.value.hint is not None
    with exclusive(path, holder="build debian-12"):
        pass


def test_nothing_stays_after_a_crash(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    code = (
        "import sys, pathlib; from images.locks import exclusive\nwith exclusive(pathlib.Path(sys.argv[1]), holder='exec x'):\n"
    )
    code += " print('held', flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        with pytest.raises(Locked, match=rf"`exec x` \(process {process.pid}\)"), exclusive(path, holder="mine"):
            pass
        process.send_signal(signal.SIGKILL)
        process.wait(20)
    other = os.open(path, os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    path.write_text("")  # as on a full disk
    with pytest.raises(Locked, match="another command"), exclusive(path, holder="mine"):
        pass  # the dead holder's name is not given as if it were alive
    os.close(other)
    with exclusive(path, holder="mine"):
        assert path.read_text() == f"{os.getpid()} mine\n"
    assert not path.exists()


def test_a_lock_whose_file_was_removed_is_taken_anew(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive(path, holder="delete x"):
        path.unlink()
        with exclusive(path, holder="import x"), pytest.raises(Locked, match="import x"), exclusive(path, holder="y"):
            pass
        with exclusive(path, holder="import x"):
            os.close(os.open(path, os.O_RDONLY))
    assert not path.exists()


def test_the_file_goes_with_whatever_ends_the_work(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    seen = []

    def work() -> None:
        with exclusive(path, holder="import x"):
            seen.append(path.exists())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert seen == [True]
    assert not path.exists()


def test_a_child_that_holds_the_lock_on_keeps_its_file(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive(path, holder="exec x") as lock:
        child = subprocess.Popen(["cat"], stdin=subprocess.PIPE, pass_fds=(lock.descriptor,))
    with child:
        with pytest.raises(Locked, match="exec x"), exclusive(path, holder="mine"):
            pass
        remove_free(path)
        assert path.exists()
    remove_free(path)
    assert not path.exists()


TURNS = """
import os, sys
from pathlib import Path
from images.locks import Locked, exclusive, remove_free
path, inside, turns = Path(sys.argv[1]), sys.argv[2], 0
while turns < 150:
    try:
        with exclusive(path, holder="turn"):
            os.mkdir(inside)
            os.rmdir(inside)
            turns += 1
    except Locked:
        remove_free(path)
"""


def test_removing_the_files_of_locks_never_lets_two_in(tmp_path: Path) -> None:
    """Processes that take the lock, and remove what seems to be free, as fast as they can."""
    command = [sys.executable, "-c", TURNS, str(tmp_path / "lock"), str(tmp_path / "inside")]
    running = [subprocess.Popen(command) for _ in range(4)]
    assert [process.wait(60) for process in running] == [0] * 4
    assert list(tmp_path.iterdir()) == []


def test_a_folder_is_one_by_whatever_path(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    with (
        exclusive_folder(tmp_path / "real", shown="it"),
        pytest.raises(Locked, match=rf"`.+` \(process {os.getpid()}\) holds it") as caught,
        exclusive_folder(tmp_path / "link", shown="it"),
    ):
        pass
    assert caught.value.pid == os.getpid()
    with exclusive_folder(tmp_path / "link", shown="it") as lock:
        assert lock is not None
    with exclusive_folder(tmp_path / "none", shown="it") as lock:
        assert lock is None


def test_a_place_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"cannot open the lock .*: No such file"), exclusive(tmp_path / "no/lock", holder="x"):
        pass
