"""The rules of the test run itself, each tried on a small run of its own."""

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = Path(__file__).parent / "conftest.py"


def _run(folder: Path, source: str, *arguments: str, ci: bool = False) -> subprocess.CompletedProcess[str]:
    (folder / "conftest.py").write_text(CONFTEST.read_text())
    (folder / "pytest.ini").write_text(f"[pytest]\npythonpath = {CONFTEST.parent / 'fixtures'}\nmarkers =\n    root\n    lab\n")
    (folder / "test_inner.py").write_text(source)
    environment = {key: value for key, value in os.environ.items() if key != "BOOTSVC_CI"}
    if ci:
        environment["BOOTSVC_CI"] = "1"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-p", "no:asyncio", "-rA", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, timeout=60)


MISSING_TOOL = "def test_inner(require_tool):\n    require_tool('no-such-tool', package='no-such-package')\n"


def test_a_missing_tool_skips_and_names_the_package(tmp_path: Path) -> None:
    run = _run(tmp_path, MISSING_TOOL)
    assert run.returncode == 0, run.stdout
    assert "no-such-tool is missing (Debian package no-such-package)" in run.stdout
    assert "1 skipped" in run.stdout


def test_in_ci_a_missing_tool_fails(tmp_path: Path) -> None:
    run = _run(tmp_path, MISSING_TOOL, ci=True)
    assert run.returncode == 1, run.stdout
    assert "skipped, though BOOTSVC_CI=1 is set: Skipped: no-such-tool is missing" in run.stdout


def test_in_ci_a_skipped_module_fails(tmp_path: Path) -> None:
    source = "import pytest\npytest.skip('nothing here', allow_module_level=True)\n"
    assert _run(tmp_path, source).returncode == 5  # pytest's "no tests collected"
    run = _run(tmp_path, source, ci=True)
    assert run.returncode == 2, run.stdout
    assert "nothing here" in run.stdout


def test_update_golden_writes_and_fails(tmp_path: Path) -> None:
    source = "import pathlib\ndef test_inner(golden):\n    golden(pathlib.Path('golden/x'), 'new\\n')\n"
    assert "does not exist" in _run(tmp_path, source).stdout

    update = _run(tmp_path, source, "--update-golden")
    assert update.returncode == 1
    assert (tmp_path / "golden" / "x").read_text() == "new\n"
    assert _run(tmp_path, source, "--update-golden").returncode == 0, "nothing is left to change"

    (tmp_path / "golden" / "x").write_text("old\n")
    compare = _run(tmp_path, source)
    assert compare.returncode == 1
    assert (tmp_path / "golden" / "x").read_text() == "old\n"
