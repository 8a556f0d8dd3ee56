"""What an installed bootsvc holds: a PyPI project owns a top-level `netboot` too, and wheels drop what they do not know."""

import json
import os
import subprocess
import sys
import sysconfig
import zipfile
from collections.abc import Sequence
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PACKAGES = ("bootsvc", "images", "netboot")


def _run(command: Sequence[str | Path], **environment: str) -> str:
    run = subprocess.run(command, cwd=ROOT, env={**os.environ, **environment}, text=True, capture_output=True, timeout=120)
    assert run.returncode == 0, run.stdout + run.stderr
    return run.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    _run([sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT])
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The Python of a clean virtual environment that holds the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("venv")
    _run([sys.executable, "-m", "venv", "--without-pip", folder])
    python = folder / "bin" / "python"
    _run([sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-index", "--no-deps", wheel])
    return python


def test_the_wheel_owns_the_three_names(installed: Path) -> None:
    code = "import json; from importlib.metadata import packages_distributions as p; print(json.dumps(p()))"
    assert json.loads(_run([installed, "-I", "-c", code])) == {name: ["bootsvc"] for name in PACKAGES}


def test_no_dependency_owns_one_of_the_three_names() -> None:
    owners = packages_distributions()
    assert "aiohttp" in owners, "the dependencies are not installed"
    assert {name: owners[name] for name in PACKAGES if owners.get(name, ["bootsvc"]) != ["bootsvc"]} == {}


def test_every_file_of_the_packages_is_in_the_wheel(wheel: Path) -> None:
    """Overlays, the node's init and the templates above all: their names say nothing to a build tool."""
    sources = {
        str(path.relative_to(ROOT)): path
        for package in PACKAGES
        for path in (ROOT / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    for folder in ("netboot/init", "netboot/overlays"):
        assert any(name.startswith(folder) for name in sources), f"{folder} is empty"
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if ".dist-info/" not in name}
        assert packed == set(sources)
        assert [name for name, path in sources.items() if archive.read(name) != path.read_bytes()] == []


def test_wwctl_of_the_wheel_runs(installed: Path) -> None:
    """With the dependencies of this environment, and bootsvc from the wheel alone."""
    code = "import bootsvc.cli.main, netboot; print(bootsvc.cli.main.__file__, netboot.__file__)"
    borrowed = sysconfig.get_path("purelib")
    for path in _run([installed, "-c", code], PYTHONPATH=borrowed, PYTHONSAFEPATH="1").split():
        assert Path(path).is_relative_to(installed.parent.parent)
    usage = _run([installed.parent / "wwctl", "--help"], PYTHONPATH=borrowed)
    assert "container" in usage
    assert "server" in usage
