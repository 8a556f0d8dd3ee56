"""The lab's network: one bridge with the head node's address, and a tap for each virtual machine (pyroute2)."""

from dataclasses import dataclass
from ipaddress import IPv4Interface
from pathlib import Path

from process import Service
from pyroute2 import AsyncIPRoute

BRIDGE = "br0"
HEAD = IPv4Interface("10.77.0.1/24")
SNAPLEN = 256
"""Bytes kept of a packet: headers and the whole of DHCP's options that matter, little of an image."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    """What `build_network` made; it lives in the current network namespace and goes with it."""

    bridge: str
    head: IPv4Interface


async def build_network(bridge: str = BRIDGE, head: IPv4Interface = HEAD) -> Network:
    """Loopback up, and a bridge with the head node's address."""
    async with AsyncIPRoute() as route:
        await route.link("set", index=await _index(route, "lo"), state="up")
        await route.link("add", ifname=bridge, kind="bridge")
        index = await _index(route, bridge)
        await route.addr("add", index=index, address=str(head.ip), prefixlen=head.network.prefixlen)
        await route.link("set", index=index, state="up")
    return Network(bridge=bridge, head=head)


async def add_tap(network: Network, name: str) -> str:
    """A tap device on the bridge, for one QEMU to open; returns its name."""
    async with AsyncIPRoute() as route:
        await route.link("add", ifname=name, kind="tuntap", mode="tap")
        port, bridge = await _index(route, name), await _index(route, network.bridge)
        await route.link("set", index=port, master=bridge, state="up")
    return name


async def _index(route: AsyncIPRoute, name: str) -> int:
    found: list[int] = await route.link_lookup(ifname=name)
    return found[0]


async def capture(network: Network, pcap: Path) -> Service:
    """Record what passes the bridge until the service is stopped."""
    command = ["tcpdump", "-i", network.bridge, "-U", "-n", "-s", str(SNAPLEN), "-Z", "root", "-w", str(pcap)]
    log = pcap.with_suffix(".log")
    service = await Service.start("tcpdump", command, log=log)

    async def listening() -> bool:
        return b"listening on" in log.read_bytes()

    await service.until(listening, 10)
    return service
