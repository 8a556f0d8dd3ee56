"""The lab's network: one bridge with the head node's address, and a tap for each virtual machine (pyroute2)."""

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from pathlib import Path

from process import Service
from pyroute2 import AsyncIPRoute

BRIDGE = "br0"
HEAD = IPv4Interface("10.77.0.1/24")
SNAPLEN = 600
"""Bytes kept of a packet: headers and the whole of a DHCP message, little of an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What `build_network` made; it lives in the current network namespace and goes with it."""

    bridge: str
    head: IPv4Interface


async def build_network(bridge: str = BRIDGE, head: IPv4Interface = HEAD) -> Network:
    """Loopback up, and a bridge with the head node's address."""
    async with AsyncIPRoute() as route:
        await route.link("set", index=await _index(route, "lo"), state="up")
    await add_bridge(bridge)
    async with AsyncIPRoute() as route:
        index = await _index(route, bridge)
        await route.addr("add", index=index, address=str(head.ip), prefixlen=head.network.prefixlen)
    return Network(bridge=bridge, head=head)


async def add_bridge(name: str) -> None:
    """A bridge that is up, and has no address."""
    async with AsyncIPRoute() as route:
        await route.link("add", ifname=name, kind="bridge")
        await route.link("set", index=await _index(route, name), state="up")


async def add_tap(bridge: str, name: str) -> str:
    """A tap device on the bridge, for one QEMU to open; returns its name."""
    async with AsyncIPRoute() as route:
        await route.link("add", ifname=name, kind="tuntap", mode="tap")
        await _join(route, bridge, name)
    return name


async def connect(bridge: str, name: str, far_name: str, pid: int) -> None:
    """A cable from the bridge into the network namespace of the process `pid`, where its end is called `far_name`."""
    async with AsyncIPRoute() as route:
        await route.link("add", ifname=name, kind="veth", peer={"ifname": far_name, "net_ns_pid": pid})
        await _join(route, bridge, name)


async def add_route(destination: IPv4Network, gateway: IPv4Address) -> None:
    async with AsyncIPRoute() as route:
        await route.route("add", dst=str(destination), gateway=str(gateway))


async def _join(route: AsyncIPRoute, bridge: str, name: str) -> None:
    port, master = await _index(route, name), await _index(route, bridge)
    await route.link("set", index=port, master=master, state="up")


async def _index(route: AsyncIPRoute, name: str) -> int:
    found: list[int] = await route.link_lookup(ifname=name)
    return found[0]


async def capture(bridge: str, pcap: Path, expression: str = "", *, snaplen: int = SNAPLEN) -> Service:
    """Record what passes the bridge, and matches the expression (pcap-filter(7)), until the service is stopped."""
    command = ["tcpdump", "-i", bridge, "-U", "-n", "-s", str(snaplen), "-Z", "root", "-w", str(pcap)]
    if expression:
        # A few packets, of which the last must not wait in the kernel until the recording ends.
        command += ["--immediate-mode", expression]
    service = await Service.start("tcpdump", command, log=pcap.with_suffix(".log"))
    await service.says(b"listening on", 10)
    return service
