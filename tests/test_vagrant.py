"""The Vagrantfile: Debian's vagrant with vagrant-libvirt accepts it, without a network, a box or a hypervisor."""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
VagrantValidate = Callable[[Path], subprocess.CompletedProcess[str]]


@pytest.fixture
def validate(require_tool: Callable[..., Path], tmp_path: Path) -> VagrantValidate:
    vagrant = require_tool("vagrant")
    # Its state stays out of the checkout and out of the user's home.
    state = {"HOME": str(tmp_path), "VAGRANT_HOME": str(tmp_path / "home"), "VAGRANT_DOTFILE_PATH": str(tmp_path / "dot")}
    offline = ["unshare", "--net"] if os.geteuid() == 0 else []

    def run(folder: Path) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", "VAGRANT_CWD": str(folder), **state}
        command = [*offline, str(vagrant), "validate"]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)

    return run


def test_vagrant_accepts_it(validate: VagrantValidate) -> None:
    done = validate(ROOT)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "validated successfully" in done.stdout


def test_vagrant_knows_the_libvirt_provider(validate: VagrantValidate, tmp_path: Path) -> None:
    """Without vagrant-libvirt, or with a word that it does not know, the check above would mean nothing."""
    folder = tmp_path / "broken"
    folder.mkdir()
    text = (ROOT / "Vagrantfile").read_text()
    assert "domain.mgmt_attach = false" in text
    (folder / "Vagrantfile").write_text(text.replace("domain.mgmt_attach = false", "domain.no_such_setting = false"))
    (folder / "vm-lab").symlink_to(ROOT / "vm-lab")
    done = validate(folder)
    assert done.returncode != 0
    assert "no_such_setting" in done.stdout + done.stderr
