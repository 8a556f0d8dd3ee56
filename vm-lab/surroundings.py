"""Who else is on the node's network: a foreign DHCP server, or a router that relays DHCP; each in a namespace of its own."""

from dataclasses import dataclass
from ipaddress import IPv4Interface

from network import add_bridge, add_route, capture, connect
from process import Service, check
from scenario import Surroundings
from session import Lab

FAR_BRIDGE = "br1"
NEIGHBOUR = IPv4Interface("10.77.0.2/24")
FAR_ROUTER = IPv4Interface("10.78.0.1/24")
NEAR_NODE = IPv4Interface("10.77.0.11/24")
FAR_NODE = IPv4Interface("10.78.0.11/24")
START_SECONDS = 20.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where the node is plugged in, and its address there."""

    bridge: str
    node: IPv4Interface


async def surround(lab: Lab, kind: Surroundings, hwaddr: str) -> Place:
    """Start what the scenario wants around the node with this hardware address, for the rest of the run."""
    near = Place(bridge=lab.head.network.bridge, node=NEAR_NODE)
    match kind:
        case Surroundings.NONE:
            return near
        case Surroundings.DNSMASQ:
            await _dnsmasq(lab, hwaddr)
            return near
        case Surroundings.RELAY:
            await _relay(lab)
            return Place(bridge=FAR_BRIDGE, node=FAR_NODE)


async def _dnsmasq(lab: Lab, hwaddr: str) -> None:
    host = await Host.start(lab, "dnsmasq")
    await host.plug(lab.head.network.bridge, "eth0", NEIGHBOUR)
    first, last = NEIGHBOUR.network[150], NEIGHBOUR.network[199]
    options = [
        *("--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv", "--port=0", "--user=root"),
        *("--log-dhcp", "--log-facility=-", "--dhcp-authoritative", f"--dhcp-leasefile={lab.head.run.scratch}/dnsmasq.leases"),
        *("--interface=eth0", f"--dhcp-range={first},{last},1h", f"--dhcp-host={hwaddr},{NEAR_NODE.ip}"),
    ]
    await host.serve("dnsmasq", ["dnsmasq", *options], b"sockets bound exclusively|DHCP, IP range")


async def _relay(lab: Lab) -> None:
    network = lab.head.network
    await add_bridge(FAR_BRIDGE)
    await lab.service(capture(FAR_BRIDGE, lab.head.run.path / "far-bridge.pcap"))
    router = await Host.start(lab, "router")
    await router.plug(network.bridge, "eth0", NEIGHBOUR)
    await router.plug(FAR_BRIDGE, "eth1", FAR_ROUTER)
    await router.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    await add_route(FAR_ROUTER.network, NEIGHBOUR.ip)
    # -a: with the relay's agent information (option 82).
    relay = ["dhcrelay", "-4", "-d", "--no-pid", "-a", "-id", "eth1", "-iu", "eth0", str(network.head.ip)]
    await router.serve("dhcrelay", relay, b"Sending on +Socket")


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A network namespace, held by a process that does nothing else."""

    lab: Lab
    name: str
    pid: int

    @classmethod
    async def start(cls, lab: Lab, name: str) -> "Host":
        log = lab.head.run.path / f"{name}.log"
        # It says so once it is inside.
        command = ["unshare", "--net", "sh", "-c", "echo inside; exec sleep infinity"]
        service = await lab.service(Service.start(name, command, log=log))
        await service.says(b"inside", START_SECONDS)
        host = cls(lab=lab, name=name, pid=service.process.pid)
        await host.run("ip", "link", "set", "lo", "up")
        return host

    def _inside(self, *command: str) -> list[str]:
        return ["nsenter", f"--target={self.pid}", "--net", *command]

    async def run(self, *command: str) -> str:
        return await check(self._inside(*command))

    async def plug(self, bridge: str, device: str, address: IPv4Interface | None = None, *, hwaddr: str = "") -> None:
        """A cable from the bridge to `device` in the namespace; without an address that is left to DHCP."""
        await connect(bridge, f"{self.name[:8]}-{device}", device, self.pid)
        if hwaddr:
            await self.run("ip", "link", "set", device, "address", hwaddr)
        if address is not None:
            await self.run("ip", "address", "add", str(address), "dev", device)
        await self.run("ip", "link", "set", device, "up")

    async def serve(self, name: str, command: list[str], ready: bytes) -> Service:
        """Start a service there, and wait until its log shows `ready`."""
        log = self.lab.head.run.path / f"{name}.log"
        service = await self.lab.service(Service.start(name, self._inside(*command), log=log))
        await service.says(ready, START_SECONDS)
        return service
