"""What can go wrong in the server: hostile bytes, requests that are not ours, and mistakes of the administrator."""

import os
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import msgspec

from images.errors import Error


class MalformedPacket(Exception):
    """Bytes that are not the protocol they should be; the only exception that a codec raises.

    `offset` is in bytes: into the datagram, or into the value when `reason` names an option.
    """

    def __init__(self, protocol: str, offset: int, reason: str) -> None:
        super().__init__(protocol, offset, reason)
        self.protocol = protocol
        self.offset = offset
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.protocol}: {self.reason} (byte {self.offset})"


class Ignored(msgspec.Struct, frozen=True):
    """A well-formed request that gets no answer, and why: a value, not an exception."""

    reason: str


class NoInterface(Error):
    """No interface of this machine carries the configured address or network."""

    def __init__(self, ipaddr: IPv4Address | None, network: IPv4Network | None) -> None:
        wanted = ipaddr if ipaddr is not None else network
        super().__init__(
            f"no network interface carries {wanted if wanted is not None else 'a configured network'}",
            hint="set `ipaddr:` in warewulf.conf to an address of this machine on the boot network (`ip -4 addr` lists them)",
        )
        self.ipaddr = ipaddr
        self.network = network


class PortUnavailable(Error):
    """A port that cannot be bound."""

    def __init__(self, address: str, port: int, reason: str) -> None:
        super().__init__(
            f"cannot listen on UDP port {port} of {address}: {reason}",
            hint=f"`ss -ulnp 'sport = :{port}'` shows who holds it; stop that server, or start this one as root",
        )
        self.address = address
        self.port = port
        self.reason = reason


class PortTaken(Error):
    """A port that another program has."""

    def __init__(self, protocol: str, port: int, holder: str) -> None:
        super().__init__(
            f"{protocol.upper()} port {port} is taken by {holder}",
            hint="stop that program"
            + (", or set `warewulf: port` in warewulf.conf" if protocol == "tcp" else "")
            + "; `wwctl server --check` shows what else is in the way",
        )
        self.protocol, self.port, self.holder = protocol, port, holder


class AlreadyServing(Error):
    """Another server works with the same state."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(
            f"`wwctl server` runs already, as process {pid or '?'}",
            hint="it takes over changes by itself; stop it first (`systemctl stop bootsvc`) to start another one",
        )
        self.pid = pid


def access_hint(exc: OSError) -> str:
    """What to do about a file that cannot be used: root is not told to become root."""
    if isinstance(exc, PermissionError):
        if os.geteuid() != 0:
            return "wwctl is meant to run as root: use sudo"
        return "it must be root's, on a file system where root may write (`ls -ld` shows whose it is)"
    return "look at it with `ls -ld`, and at its file system"


class BadState(Error):
    """The state database cannot be used."""

    def __init__(self, path: Path, reason: str, *, hint: str | None = None, no_room: bool = False) -> None:
        """`no_room`: nothing is wrong with it, but its file system is full."""
        super().__init__(
            f"cannot use the state database {path}: {reason}",
            hint=hint or "move the file aside to begin with an empty one; dynamic leases and boot records are then lost",
        )
        self.path = path
        self.no_room = no_room


class SamePort(Error):
    """Two services of ours are to have one port; each with where the settings say so, and what would change that."""

    def __init__(self, protocol: str, port: int, wanted: Sequence[tuple[str, str]], remedies: Sequence[str]) -> None:
        who = " and by ".join(f"{service} ({where})" for service, where in wanted)
        super().__init__(f"{protocol.upper()} port {port} is wanted by {who}", hint=", or ".join(remedies))
        self.protocol, self.port = protocol, port
