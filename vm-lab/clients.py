"""DHCP clients of operating systems, each in a namespace of its own on the lab's bridge, for `lab.py record clients`."""

import os
import signal
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

from process import Service
from recording import Asker
from session import Lab
from surroundings import Host

LEASE_SECONDS = 60
"""The shortest that warewulf.conf allows, so that every client renews soon."""
CONF = {"bootsvc": {"dhcp": {"lease seconds": LEASE_SECONDS}}}
SAID_SECONDS = 90.0
DEVICE = "eth0"
DHCPCD_MOUNTS = "/run /var/lib/dhcpcd"


@dataclass(frozen=True, slots=True, kw_only=True)
class Client:
    """A program: how it is run with a folder of its own, and how it gives its lease back."""

    name: str
    package: str
    command: Callable[[Path], str]
    """For a shell that has its own mounts and host name."""
    mounts: str = ""
    """System folders that are empty ones of its own."""
    release: int | str = signal.SIGTERM
    """A signal, or a command."""
    reboots: bool = False
    """It keeps its lease in a file, and asks for that address when it starts again (INIT-REBOOT)."""
    ends: str = ""
    """The message that is its last one, in place of a renewal and a RELEASE."""
    conflict: bool = False
    """Another machine has the address already."""


def _script(folder: Path, text: str) -> Path:
    path = folder / "script"
    path.write_text(f"#!/bin/sh\n{text}\nexit 0\n")
    path.chmod(0o755)
    return path


def _udhcpc(folder: Path) -> str:
    script = _script(folder, 'case $1 in bound|renew) ip address replace "$ip/$mask" dev "$interface";; esac')
    return f"exec busybox udhcpc -i {DEVICE} -f -R -s {script}"


def _udhcpc_that_asks_first(folder: Path) -> str:
    """It tries by ARP whether the address is free, and declines it if not."""
    return f"exec busybox udhcpc -i {DEVICE} -f -a -s {_script(folder, ':')}"


def _dhclient(folder: Path) -> str:
    """With the arguments that ifupdown gives it, and Debian's own /etc/dhcp/dhclient.conf."""
    script = _script(folder, '[ -n "$new_ip_address" ] && ip address replace "$new_ip_address/24" dev "$interface"')
    files = f"-pf {folder}/pid -lf {folder}/leases -I -df {folder}/leases6"
    return f"exec dhclient -4 -d -i {files} -sf {script} {DEVICE}"


def _dhcpcd(folder: Path) -> str:
    """With Debian's own /etc/dhcpcd.conf."""
    # Its vendor class would name the kernel and the processor of the machine that records.
    return f"exec dhcpcd -4 -B -A -i dhcpcd:Linux:x86_64 -c /bin/true {DEVICE}"


def _dhcpcd_with_an_address(folder: Path) -> str:
    """It asks for everything but the address, which it has."""
    # Told to leave out its ARP probes (-A), this version ends.
    return _dhcpcd(folder).replace(" -A ", f" --inform={folder.joinpath('address').read_text()} ")


def _networkd(folder: Path) -> str:
    network = f"[Match]\\nName={DEVICE}\\n[Network]\\nDHCP=ipv4\\nIPv6AcceptRA=no\\nLinkLocalAddressing=no\\n"
    return " && ".join(
        (
            f"mkdir -p /run/systemd /etc/systemd/network && printf '{network}' >/etc/systemd/network/{DEVICE}.network",
            # Its client identifier is made of this one, and must not tell of the machine that records.
            "echo 00112233445566778899aabbccddeeff >/run/machine-id && mount --bind /run/machine-id /etc/machine-id",
            # With a writable /sys it waits for udev, which no namespace has.
            "mount -o remount,ro /sys",
            "SYSTEMD_LOG_TARGET=console exec /lib/systemd/systemd-networkd",
        )
    )


CLIENTS = (
    Client(name="udhcpc", package="busybox-static", command=_udhcpc),
    Client(name="dhclient", package="isc-dhcp-client", command=_dhclient, release="-r", reboots=True),
    Client(name="dhcpcd", package="dhcpcd-base", command=_dhcpcd, mounts=DHCPCD_MOUNTS, release=signal.SIGALRM),
    Client(name="networkd", package="systemd", command=_networkd, mounts="/run /etc/systemd"),
    Client(name="udhcpc-decline", package="busybox-static", command=_udhcpc_that_asks_first, ends="DECLINE", conflict=True),
    Client(
        name="dhcpcd-inform",
        package="dhcpcd-base",
        command=_dhcpcd_with_an_address,
        mounts=DHCPCD_MOUNTS,
        ends="INFORM",
    ),
)


def asker(client: Client) -> Asker:
    """The node that it is."""
    number = 21 + CLIENTS.index(client)
    address = IPv4Interface(f"10.77.0.{number}/24")
    return Asker(name=client.name, hwaddr=f"52:54:00:b0:07:{number:02x}", address=address)


async def run_clients(lab: Lab, server: Service) -> None:
    """Each gets its node's address, renews it, and gives it back; one that can starts again in between."""
    started = [(client, *await _start(lab, client)) for client in CLIENTS]
    for client, _, service in started:
        if client.ends:
            await _said(server, client, f"{client.ends} received")
            await _end(service, signal.SIGKILL)
    renewing = [each for each in started if not each[0].ends]
    for client, _, _ in renewing:
        # Within a lease nothing but its renewal makes a client ask again.
        await _said(server, client, "ACK", times=2)
    for client, host, service in renewing:
        if client.reboots:
            await _end(service, signal.SIGKILL)
            service = await _run(lab, client, host)
            await _said(server, client, "ACK", times=3)
        if isinstance(client.release, str):
            command = client.command(_folder(lab, client)).removeprefix("exec ").split()
            await host.run(command[0], client.release, *command[1:])
        else:
            await _end(service, client.release)
        await _said(server, client, "RELEASE received")


async def _said(server: Service, client: Client, what: str, *, times: int = 1) -> None:
    """Wait until the server's log has so many of these lines of the client."""
    line = f"dhcp {what} hwaddr={asker(client).hwaddr}".encode()
    await server.says(rb"(?s)" + rb".*".join([line] * times), SAID_SECONDS)


def _folder(lab: Lab, client: Client) -> Path:
    path = lab.head.run.scratch / client.name
    path.mkdir(exist_ok=True)
    (path / "address").write_text(str(asker(client).address))
    return path


async def _start(lab: Lab, client: Client) -> tuple[Host, Service]:
    if client.conflict:
        other = await Host.start(lab, f"rival-of-{client.name}")
        await other.plug(lab.head.network.bridge, DEVICE, asker(client).address)
    host = await Host.start(lab, client.name)
    await host.plug(lab.head.network.bridge, DEVICE, hwaddr=asker(client).hwaddr)
    return host, await _run(lab, client, host)


async def _run(lab: Lab, client: Client, host: Host) -> Service:
    mounts = [f"mount -t tmpfs tmpfs {folder}" for folder in client.mounts.split()]
    command = " && ".join([f"hostname {client.name}", *mounts, client.command(_folder(lab, client))])
    return await host.serve(client.name, ["unshare", "--mount", "--uts", "sh", "-c", command], b"")


async def _end(service: Service, number: int) -> None:
    os.kill(service.process.pid, number)
