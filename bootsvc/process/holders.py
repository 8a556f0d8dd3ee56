"""Which program has a port: /proc/net tells the socket's inode, /proc/PID/fd whose it is."""

import os
import re
import socket
import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

_LISTEN, _UNCONNECTED = 0x0A, 0x07
_STATES = {"tcp": _LISTEN, "udp": _UNCONNECTED}
_SOCKET = re.compile(r"socket:\[(\d+)\]")


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """One bound socket; `pid` and `name` are None and empty where we may not see whose it is."""

    protocol: str
    address: IPv4Address | IPv6Address
    port: int
    pid: int | None
    name: str

    def __str__(self) -> str:
        return "another program" if self.pid is None else f"{self.name} (process {self.pid})"

    def is_in_the_way_of(self, address: IPv4Address | None) -> bool:
        """Whether it may keep us from `address` (None: from all): it has the same one, or all."""
        mapped = self.address.ipv4_mapped if isinstance(self.address, IPv6Address) else None
        own = mapped or self.address
        return address is None or own == address or int(own) == 0


def find_holders(ports: Mapping[tuple[str, int], object]) -> list[Holder]:
    """Who has these (protocol, port)s in this network namespace; this process itself is left out."""
    found = [(inode, sock) for sock, inode in _bound() if sock[:2] in ports]
    if not found:
        return []
    owners = _owners({inode for inode, _ in found})
    own = os.getpid()
    return [
        Holder(protocol=protocol, port=port, address=address, pid=pid, name=name)
        for inode, (protocol, port, address) in found
        for pid, name in [owners.get(inode, (None, ""))]
        if pid != own
    ]


def _bound() -> Iterator[tuple[tuple[str, int, IPv4Address | IPv6Address], int]]:
    for protocol, state in _STATES.items():
        for version in ("", "6"):
            try:
                lines = Path(f"/proc/net/{protocol}{version}").read_text().splitlines()[1:]
            except OSError:
                continue
            for line in lines:
                fields = line.split()
                if int(fields[3], 16) != state:
                    continue
                address, _, port = fields[1].partition(":")
                yield (protocol, int(port, 16), _address(address)), int(fields[9])


def _address(text: str) -> IPv4Address | IPv6Address:
    """The kernel prints words of 32 bits in the machine's own byte order."""
    words = [int(text[index : index + 8], 16) for index in range(0, len(text), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return IPv4Address(packed) if len(packed) == 4 else IPv6Address(socket.inet_ntop(socket.AF_INET6, packed))


def _owners(inodes: set[int]) -> dict[int, tuple[int, str]]:
    found: dict[int, tuple[int, str]] = {}
    for entry in os.scandir("/proc"):
        if not entry.name.isdecimal():
            continue
        try:
            for descriptor in os.scandir(f"/proc/{entry.name}/fd"):
                match = _SOCKET.fullmatch(os.readlink(descriptor.path))
                if match and int(match[1]) in inodes:
                    found.setdefault(int(match[1]), (int(entry.name), _command(entry.name)))
        except OSError:
            # It has ended meanwhile, or is not ours to look into.
            continue
    return found


def _command(pid: str) -> str:
    """The program's name; for a script that of the script, as `wwctl server`."""
    words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    if len(words) > 2 and "python" in Path(words[0]).name and words[1].startswith("/"):
        return " ".join([Path(words[1]).name, *(word for word in words[2:] if word and not word.startswith(("-", "/")))])
    return Path(f"/proc/{pid}/comm").read_text().strip()
