"""The unit file: what systemd itself says of it."""

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from appliance import WWCTL

from bootsvc.config import Config, Paths
from bootsvc.process.unit import render


def test_systemd_understands_the_unit(tmp_path: Path, require_tool: Callable[..., Path]) -> None:
    require_tool("systemd-analyze", package="systemd")
    wwctl = tmp_path / "a folder" / "wwctl"
    wwctl.parent.mkdir()
    wwctl.write_text("#!/bin/sh\n")
    wwctl.chmod(0o755)
    unit = tmp_path / "bootsvc.service"
    unit.write_text(render(Config(source=Path("/etc/other 50%.conf")), wwctl))
    run = subprocess.run(["systemd-analyze", "verify", "--man=no", str(unit)], capture_output=True, text=True, timeout=60)
    assert "bootsvc.service" not in run.stderr, run.stderr
    assert f'ExecStart="{wwctl}" --warewulfconf "/etc/other 50%%.conf" server\n' in unit.read_text()
    security = ["systemd-analyze", "security", "--offline=true", "--no-pager", "--threshold=35", str(unit)]
    rated = subprocess.run(security, capture_output=True, text=True, timeout=60)
    assert rated.returncode == 0, rated.stdout[-300:]


def test_it_runs_nothing_that_a_minimal_system_lacks() -> None:
    """Debian's /bin/kill, for one, is procps'."""
    text = render(Config(), Path("/opt/wwctl"))
    assert re.findall(r"^Exec\w+=(\S+)", text, re.MULTILINE) == ["/opt/wwctl", "/bin/sh"]


def test_only_the_folders_of_the_settings_can_be_written() -> None:
    paths = Paths(localstatedir=Path("/srv"), provision=Path("/fast disk/provision"))
    text = render(Config(paths=paths), Path("/usr/bin/wwctl"))
    (line,) = [line for line in text.splitlines() if line.startswith("ReadWritePaths=")]
    assert line == ('ReadWritePaths=-/srv/warewulf/bootsvc -/etc/warewulf -"/fast disk/provision" -/var/cache/warewulf')


@pytest.mark.root
def test_it_is_written_where_systemd_looks(tmp_path: Path) -> None:
    """In a mount namespace, so that this machine gets no unit."""
    conf = tmp_path / "warewulf.conf"
    conf.write_text(f"paths: {{sysconfdir: {tmp_path}/etc, localstatedir: {tmp_path}/lib, cachedir: {tmp_path}/cache}}\n")
    place = "/etc/systemd/system"
    script = f'mount -t tmpfs none {place} && "$@" && stat -c %a {place}/bootsvc.service && cat {place}/bootsvc.service'
    command = [
        "unshare",
        "--mount",
        "sh",
        "-c",
        script,
        "sh",
        str(WWCTL),
        "--warewulfconf",
        str(conf),
        "server",
        "--install-unit",
    ]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    said, mode, *unit = run.stdout.splitlines()
    assert "systemctl daemon-reload && systemctl enable --now bootsvc" in said
    assert mode == "644"
    assert f"ExecStart={WWCTL} --warewulfconf {conf} server" in unit
    assert (tmp_path / "lib/warewulf/bootsvc").is_dir(), "a folder that is missing could not be made later"
