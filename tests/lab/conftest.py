"""The lab's modules, which are scripts beside each other and no package, and what its tests boot."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

CHECKOUT = Path(__file__).parent.parent.parent
VM_LAB = CHECKOUT / "vm-lab"
# Last, so that no module of the lab hides another one.
sys.path.append(str(VM_LAB))

PREAMBLE = f"import sys\nsys.path.insert(0, {str(VM_LAB)!r})\n"


@pytest.fixture(scope="session")
def tiny_root() -> Path:
    """The tiny image's root directory: busybox, a kernel, virtio modules. Do not change it."""
    import roots

    return roots.tiny_root()


@pytest.fixture(scope="session")
def busybox() -> Path:
    import roots

    return roots.static_busybox()


@pytest.fixture
def lab_script(tmp_path: Path) -> Callable[[str], subprocess.Popen[str]]:
    """Start a Python text that imports the lab's modules, as a process of its own; standard error with its output."""

    def start(text: str) -> subprocess.Popen[str]:
        script = tmp_path / "script.py"
        script.write_text(PREAMBLE + text)
        return subprocess.Popen(
            [sys.executable, "-u", str(script)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path
        )

    return start
