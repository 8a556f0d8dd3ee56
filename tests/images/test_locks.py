import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from images.errors import Error
from images.locks import Locked, exclusive


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
    assert path.read_text() == ""


def test_a_lock_deleted_with_its_image_is_taken_anew(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with exclusive(path, holder="delete x"):
        path.unlink()
        with exclusive(path, holder="import x"), pytest.raises(Locked, match="import x"), exclusive(path, holder="y"):
            pass


def test_a_place_that_does_not_exist(tmp_path: Path) -> None:
    with pytest.raises(Error, match=r"cannot open the lock .*: No such file"), exclusive(tmp_path / "no/lock", holder="x"):
        pass
