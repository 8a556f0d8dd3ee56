"""A boot network in namespaces of its own, with the real DHCP, TFTP and router advertisement services on it."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

SERVE = Path(__file__).parent.parent / "netns" / "serve_boot.py"
_numbers = count()


class BootNetwork:
    """Namespaces `server` and `client`, joined by `boot0` (10.77.0.1/24 on the server) and by `other0` (192.168.77.1/24)."""

    def __init__(self, folder: Path) -> None:
        name = f"bootsvc-{os.getpid()}-{next(_numbers)}"
        self.server, self.client = f"{name}s", f"{name}c"
        self._folder = folder
        self._running: list[subprocess.Popen[str]] = []
        self._machines: list[str] = []

    def set_up(self) -> None:
        for namespace in (self.server, self.client):
            _run("ip", "netns", "add", namespace)
            self.on(namespace, "ip", "link", "set", "lo", "up")
            # Link-local addresses are usable at once, without a second of duplicate address detection.
            self.on(namespace, "sysctl", "-q", "net.ipv6.conf.default.accept_dad=0")
        for device, address in (("boot0", "10.77.0.1/24"), ("other0", "192.168.77.1/24")):
            peer = ["peer", "name", device, "netns", self.client]
            self.on(self.server, "ip", "link", "add", device, "type", "veth", *peer)
            self.on(self.server, "ip", "address", "add", address, "dev", device)
            for namespace in (self.server, self.client):
                self.on(namespace, "ip", "link", "set", device, "up")
        self.on(self.client, "ip", "link", "set", "boot0", "address", "52:54:00:00:00:01")

    def tear_down(self) -> None:
        for process in self._running:
            if process.poll() is None:
                process.kill()
            process.communicate()
        for namespace in (*self._machines, self.server, self.client):
            subprocess.run(["ip", "netns", "delete", namespace], check=False, capture_output=True)

    def machine(self, hwaddr: str, *, device: str = "boot0") -> str:
        """A namespace of its own on the client's end of a wire, with the interface eth0."""
        name = f"{self.client}{len(self._machines)}"
        self._machines.append(name)
        _run("ip", "netns", "add", name)
        macvlan = ["netns", name, "address", hwaddr, "type", "macvlan", "mode", "bridge"]
        self.on(self.client, "ip", "link", "add", "link", device, "name", "eth0", *macvlan)
        for link in ("lo", "eth0"):
            self.on(name, "ip", "link", "set", link, "up")
        return name

    def on(self, namespace: str, *command: str, check: bool = True, timeout: float = 60) -> str:
        """Run a command in a namespace; its standard output."""
        return _run("ip", "netns", "exec", namespace, *command, check=check, timeout=timeout)

    def popen(self, namespace: str, *command: str) -> subprocess.Popen[str]:
        """Start a command in a namespace; killed at the end of the test. `ip netns exec` becomes the command itself."""
        process = subprocess.Popen(
            ["ip", "netns", "exec", namespace, *command],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._running.append(process)
        return process

    def serve(self, **settings: Any) -> "Served":
        """Start the services with defaults of this network, and wait until they are ready."""
        path = self._folder / "settings.json"
        base = {"ipaddr": "10.77.0.1", "network": "10.77.0.0/24", "state": str(self._folder / "state.db")}
        path.write_text(json.dumps({**base, **settings}))
        log = self._folder / "server.log"
        command = f'exec "{sys.executable}" "{SERVE}" "{path}" 2>>"{log}"'
        process = self.popen(self.server, "sh", "-c", command)
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line == "ready\n", log.read_text()
        return Served(process, log)

    def udhcpc(self, *options: str, device: str = "boot0", namespace: str = "") -> dict[str, str] | None:
        """What udhcpc was given, as its script sees it; None when nobody answered. It keeps nothing configured."""
        answer = self._folder / "udhcpc.env"
        answer.unlink(missing_ok=True)
        script = self._folder / "udhcpc.sh"
        script.write_text(f'#!/bin/sh\n[ "$1" = bound ] && env > "{answer}"\nexit 0\n')
        script.chmod(0o755)
        command = ["busybox", "udhcpc", "-i", device, "-n", "-q", "-f", "-t", "3", "-T", "1", "-s", str(script), *options]
        self.on(namespace or self.client, *command, check=False)
        if not answer.exists():
            return None
        return dict(line.split("=", 1) for line in answer.read_text().splitlines() if "=" in line)


class Served:
    """The running services."""

    def __init__(self, process: "subprocess.Popen[str]", log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def log(self) -> str:
        return self._log.read_text()

    def kill(self) -> None:
        """As a crash: nothing is flushed."""
        self._process.send_signal(signal.SIGKILL)
        self._process.wait(10)

    def stop(self) -> dict[str, Any]:
        """End the services; their counters."""
        out, _ = self._process.communicate(timeout=20)
        assert self._process.returncode == 0, self.log
        counters: dict[str, Any] = json.loads(out)
        return counters


def _run(*command: str, check: bool = True, timeout: float = 60) -> str:
    run = subprocess.run(command, capture_output=True, text=True, timeout=timeout)
    assert not check or run.returncode == 0, f"{' '.join(command)}: {run.stderr}{run.stdout}"
    return run.stdout


@pytest.fixture
def boot_network(tmp_path: Path) -> Iterator[BootNetwork]:
    network = BootNetwork(tmp_path)
    try:
        network.set_up()
        yield network
    finally:
        network.tear_down()
