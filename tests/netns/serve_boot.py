"""Run the DHCP, TFTP and router advertisement services in the current network namespace: `serve_boot.py SETTINGS.json`.

SIGHUP has the settings of DHCP read anew. Prints `ready` when all serve, and one line of JSON with the counters when standard
input ends.
"""

import asyncio
import dataclasses
import json
import logging
import signal
import sys
import time
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Any

from bootsvc.config import Config, Paths
from bootsvc.dhcp import service
from bootsvc.dhcp.service import DhcpService
from bootsvc.dhcp.settings import DhcpConfig, Mode, Subnet, Unknown
from bootsvc.net.links import CHECK_SECONDS
from bootsvc.net.ra import RouterAdvertiser
from bootsvc.state import State
from bootsvc.tftp.service import TftpService
from netboot.node import Node, to_node


class Nodes:
    """nodes.conf in memory: hardware address → node."""

    def __init__(self, nodes: dict[str, Any]) -> None:
        self._nodes = [to_node(name, fields) for name, fields in nodes.items()]

    def by_hwaddr(self, hwaddr: str) -> Node | None:
        return next((node for node in self._nodes if hwaddr in (own for own, _ in node.hwaddrs())), None)

    def by_address(self, address: IPv4Address) -> Node | None:
        devices = ((node, device) for node in self._nodes for device in node.network_devices.values())
        return next((node for node, device in devices if device.ipaddr == address), None)

    def reserved(self, address: IPv4Address) -> bool:
        return self.by_address(address) is not None


def load_config(settings: dict[str, Any]) -> Config:
    first, last = settings.get("range") or (None, None)
    return Config(
        ipaddr=IPv4Address(settings["ipaddr"]),
        network=IPv4Network(settings["network"]),
        dhcp=DhcpConfig(
            range_start=IPv4Address(first) if first else None,
            range_end=IPv4Address(last) if last else None,
            lease_seconds=settings.get("lease_seconds", 3600),
            router_advertisements=settings.get("router_advertisements", True),
            mode=Mode(settings.get("mode", "authoritative")),
            unknown=Unknown(settings.get("unknown", "offer")),
            subnets=tuple(
                Subnet(
                    network=IPv4Network(subnet["network"]),
                    range_start=IPv4Address(subnet["range"][0]),
                    range_end=IPv4Address(subnet["range"][1]),
                    router=IPv4Address(subnet["router"]) if "router" in subnet else None,
                )
                for subnet in settings.get("subnets", ())
            ),
        ),
        paths=Paths(ipxesource=Path(settings.get("ipxesource", "/usr/lib/ipxe"))),
    )


async def serve(path: Path) -> None:
    settings = json.loads(path.read_text())
    config, nodes = load_config(settings), Nodes(settings.get("nodes", {}))
    vars(service)["CHECK_SECONDS"] = settings.get("check_seconds", CHECK_SECONDS)

    def reload() -> None:
        nonlocal config
        config = load_config(json.loads(path.read_text()))

    asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, reload)
    state = State.open(Path(settings["state"]))

    def on_event(
        hwaddr: str, node: str | None, stage: str, detail: str, *, size: int = 0, ipaddr: IPv4Address | None = None
    ) -> None:
        state.save_event(hwaddr, node, stage, detail, size, time.time(), ipaddr=ipaddr)

    dhcp = DhcpService(lambda: config, lambda: nodes, state, on_event=on_event, quiet_seconds=settings.get("quiet_seconds", 10))
    tftp = TftpService(
        IPv4Address(settings["ipaddr"]),
        lambda: (config.paths.ipxesource,),
        identify=dhcp.find_hwaddr,
        on_event=on_event,
    )
    advertiser = RouterAdvertiser(lambda: config)
    async with asyncio.TaskGroup() as group:
        services = []
        for each in (dhcp, tftp, advertiser):
            ready = asyncio.Event()
            services.append(group.create_task(each.run(ready)))
            await ready.wait()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        for task in services:
            task.cancel()
    counters = {"dhcp": dataclasses.asdict(dhcp.counters), "tftp": dataclasses.asdict(tftp.counters)}
    print(json.dumps({**counters, "advertisements": advertiser.sent}), flush=True)
    state.close()


if __name__ == "__main__":
    logging.basicConfig(level=logging.DEBUG, format="%(asctime)s %(name)s %(message)s", stream=sys.stderr)
    logging.getLogger("pyroute2").setLevel(logging.WARNING)
    asyncio.run(serve(Path(sys.argv[1])))
