"""How the script ends: with the exit code, what was registered for the end done, everything written, threads waited for."""

import os
import subprocess
import sys

import pytest

CODE = """
import atexit, sys
from bootsvc.cli.entry import main
atexit.register(print, "at the end")
{extra}
sys.exit(main())
"""
THREAD = "import threading; threading.Thread(target=lambda: (threading.main_thread().join(), print('thread'))).start()"


def script(*args: str, extra: str = "", stdout: int = subprocess.PIPE) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", CODE.format(extra=extra), *args], stdout=stdout, stderr=subprocess.PIPE, text=True, check=False
    )


def test_all_is_written_and_done_before_the_end() -> None:
    done = script("version")
    assert done.returncode == 0
    first, *_, last = done.stdout.splitlines()
    assert first.startswith("wwctl")
    assert last == "at the end"


@pytest.mark.parametrize(("args", "code"), [(("nonsense",), 2), (("--warewulfconf", "/nowhere", "node", "list"), 1)])
def test_the_exit_code_is_the_commands(args: tuple[str, ...], code: int) -> None:
    done = script(*args)
    assert done.returncode == code
    assert done.stderr.startswith("wwctl: ")
    assert done.stdout == "at the end\n"


def test_threads_are_waited_for() -> None:
    done = script("version", extra=THREAD)
    assert done.returncode == 0
    assert done.stdout.splitlines()[-2:] == ["thread", "at the end"]


def test_what_cannot_be_written_is_not_passed_over() -> None:
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        assert script("completion", "bash", stdout=full).returncode != 0
    finally:
        os.close(full)
