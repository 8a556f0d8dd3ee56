"""Real clients, each in a namespace of its own: every one gets an address, renews its lease and gives it back."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from boot_network import BootNetwork, Served

pytestmark = pytest.mark.root

WITHIN_SECONDS = 40
LEASE_SECONDS = 20
"""So short that every client renews within the test's time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RealClient:
    """How one program is run, and how it is told to give its lease back."""

    program: str
    package: str
    command: Callable[[Path], list[str]]
    release: Callable[[BootNetwork, str, "subprocess.Popen[str]", Path], None]


def _start(network: BootNetwork, machine: str, command: list[str], folder: Path) -> "subprocess.Popen[str]":
    """Its output goes to a file: what the client leaves behind must not keep a pipe open."""
    with (folder / "output").open("w") as output:
        full = ["ip", "netns", "exec", machine, *command]
        return subprocess.Popen(full, stdin=subprocess.DEVNULL, stdout=output, stderr=output, text=True)


def _signalled(number: int) -> Callable[[BootNetwork, str, "subprocess.Popen[str]", Path], None]:
    def release(network: BootNetwork, machine: str, process: "subprocess.Popen[str]", folder: Path) -> None:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        # What runs in a PID namespace is the child of the `unshare` that we know.
        assert isinstance(process.args, list)
        os.kill(int(children[0]) if children and "--fork" in process.args else process.pid, number)

    return release


def _script(folder: Path, name: str, text: str) -> str:
    path = folder / name
    path.write_text(f"#!/bin/sh\n{text}\nexit 0\n")
    path.chmod(0o755)
    return str(path)


def _udhcpc(folder: Path) -> list[str]:
    script = _script(folder, "udhcpc.sh", 'case $1 in bound|renew) ip address replace "$ip/$mask" dev "$interface";; esac')
    return ["busybox", "udhcpc", "-i", "eth0", "-f", "-R", "-s", script]


def _dhclient(folder: Path) -> list[str]:
    script = _script(
        folder,
        "dhclient.sh",
        '[ -n "$new_ip_address" ] && ip address replace "$new_ip_address/24" dev "$interface"',
    )
    return ["dhclient", "-4", "-d", "-lf", f"{folder}/leases", "-pf", f"{folder}/pid", "-sf", script, "eth0"]


def _release_dhclient(network: BootNetwork, machine: str, process: "subprocess.Popen[str]", folder: Path) -> None:
    network.on(machine, *_dhclient(folder)[:2], "-r", *_dhclient(folder)[3:])


def _in_mounts(folders: str, command: str, *more: str) -> list[str]:
    """With empty system folders of its own, so that nothing of the machine's is touched."""
    mounts = " && ".join(f"mount -t tmpfs tmpfs {folder}" for folder in folders.split())
    return ["unshare", "--mount", *more, "sh", "-c", f"{mounts} && {command}"]


def _dhcpcd(folder: Path) -> list[str]:
    # Its helper processes outlive it; a PID namespace takes them along.
    together = ("--pid", "--fork", "--kill-child")
    return _in_mounts("/run /var/lib/dhcpcd", "exec dhcpcd -4 -B -A -f /dev/null -c /bin/true eth0", *together)


def _networkd(folder: Path) -> list[str]:
    network = "[Match]\\nName=eth0\\n[Network]\\nDHCP=ipv4\\nIPv6AcceptRA=no\\nLinkLocalAddressing=no\\n"
    prepare = f"mkdir -p /run/systemd /etc/systemd/network && printf '{network}' >/etc/systemd/network/eth0.network"
    # With a writable /sys it waits for udev, which no namespace has.
    prepare += " && mount -o remount,ro /sys"
    return _in_mounts("/run /etc/systemd", f"{prepare} && SYSTEMD_LOG_TARGET=console exec /lib/systemd/systemd-networkd")


PYROUTE2 = """
import asyncio, os, signal, sys
from pyroute2.dhcp.client import AsyncDHCPClient, ClientConfig
from pyroute2.dhcp.hooks import configure_ip, remove_ip
async def main():
    os.chdir(sys.argv[1])
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    async with AsyncDHCPClient(ClientConfig(interface="eth0", hooks=[configure_ip, remove_ip])) as client:
        await client.bootstrap()
        await stop.wait()
asyncio.run(main())
"""


def _pyroute2(folder: Path) -> list[str]:
    return [sys.executable, "-c", PYROUTE2, str(folder)]


CLIENTS = (
    RealClient(program="busybox", package="busybox-static", command=_udhcpc, release=_signalled(signal.SIGTERM)),
    RealClient(program="dhclient", package="isc-dhcp-client", command=_dhclient, release=_release_dhclient),
    RealClient(program="dhcpcd", package="dhcpcd-base", command=_dhcpcd, release=_signalled(signal.SIGALRM)),
    RealClient(program="networkctl", package="systemd", command=_networkd, release=_signalled(signal.SIGTERM)),
    RealClient(program="ip", package="iproute2", command=_pyroute2, release=_signalled(signal.SIGTERM)),
)


def until(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait for something that only the log tells."""
    deadline = time.monotonic() + WITHIN_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what()
        time.sleep(0.1)


Running = tuple[RealClient, str, str, "subprocess.Popen[str]", Path]


def test_each_gets_renews_and_releases(boot_network: BootNetwork, tmp_path: Path, require_tool: Callable[..., Path]) -> None:
    for client in CLIENTS:
        require_tool(client.program, package=client.package)
    served = boot_network.serve(range=["10.77.0.100", "10.77.0.120"], lease_seconds=LEASE_SECONDS)
    running: list[Running] = []
    try:
        for number, client in enumerate(CLIENTS):
            hwaddr = f"52:54:00:00:01:{number:02x}"
            folder = tmp_path / f"client{number}"
            folder.mkdir()
            machine = boot_network.machine(hwaddr)
            running.append((client, hwaddr, machine, _start(boot_network, machine, client.command(folder), folder), folder))
        _watch(boot_network, served, running)
    finally:
        for *_, process, _ in running:
            process.kill()
            process.wait()
    counters = served.stop()["dhcp"]
    assert counters["malformed"] == counters["unsaved"] == counters["unsent"] == 0


def _watch(network: BootNetwork, served: Served, running: list[Running]) -> None:
    def count(pattern: str, hwaddr: str) -> int:
        return len(re.findall(rf"dhcp {pattern} hwaddr={hwaddr}", served.log))

    def missing(pattern: str, least: int) -> str:
        late = [
            (client.program, folder / "output") for client, hwaddr, _, _, folder in running if count(pattern, hwaddr) < least
        ]
        return "".join(f"{program}: no {pattern}: {output.read_text()[-1500:]}\n" for program, output in late)

    # The second ACK is the renewal's: nothing but RENEWING makes a client ask again within a lease.
    until(lambda: not missing("ACK", 2), lambda: f"{missing('ACK', 2)} {served.log[-3000:]}")
    for client, _, machine, process, folder in running:
        client.release(network, machine, process, folder)
    until(lambda: not missing("RELEASE received", 1), lambda: f"{missing('RELEASE received', 1)} {served.log[-3000:]}")
    for client, hwaddr, *_ in running:
        assert count("NAK", hwaddr) == 0, f"{client.program}: {served.log}"
        assert count("OFFER", hwaddr) == 1, f"{client.program} lost its lease in between: {served.log}"
