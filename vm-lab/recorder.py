"""`lab.py record`: runs what `lab.py run` runs, and leaves its conversations as captures for the tests."""

from collections.abc import Iterable
from ipaddress import IPv4Interface
from pathlib import Path
from typing import Any

import clients
import yaml
from recording import Asker, Exchange, conversation, dhcp_exchanges, read_pcap, record, tftp_exchanges, versions, write
from scenario import Scenario, Surroundings
from session import Lab
from surroundings import FAR_NODE, NEAR_NODE
from trial import HWADDR, NODE, run_scenario

from images.errors import Error

CLIENTS = "clients"
"""The name of what is recorded besides scenarios."""
FIRMWARE = ("qemu-system-x86", "ovmf", "seabios", "ipxe-qemu", "ipxe", "busybox-static")
SURROUNDINGS = {Surroundings.NONE: (), Surroundings.DNSMASQ: ("dnsmasq-base",), Surroundings.RELAY: ("isc-dhcp-relay",)}
SECURE = ("shim-signed", "grub-efi-amd64-signed")


async def record_scenario(lab: Lab, scenario: Scenario, root: Path, kernel: Path) -> None:
    """Run the scenario, and write what its machine said once all of it held."""
    pcap = lab.head.run.path / "record.pcap"
    recording = await lab.service(record(lab.head.network.bridge, lab.head.network.head.ip, pcap))
    await run_scenario(lab, scenario, root, kernel)
    await recording.stop()
    where: IPv4Interface = FAR_NODE if scenario.surroundings is Surroundings.RELAY else NEAR_NODE
    packages = (*FIRMWARE, *SURROUNDINGS[scenario.surroundings], *(SECURE if "secure" in scenario.firmware.value else ()))
    title = (scenario.description, versions(packages), f"vm-lab/lab.py record {scenario.name}")
    _write(lab, scenario.name, title, Asker(name=NODE, hwaddr=HWADDR, address=where), pcap)


async def record_clients(lab: Lab) -> None:
    """The clients of operating systems: each is a node with an address of its own."""
    lab.head.configure(clients.CONF)
    pcap = lab.head.run.path / "record.pcap"
    recording = await lab.service(record(lab.head.network.bridge, lab.head.network.head.ip, pcap))
    with lab.steps.step("Add a node for each client and serve"):
        for each in map(clients.asker, clients.CLIENTS):
            address = ("--ipaddr", str(each.address.ip), "--netmask", str(each.address.netmask))
            await lab.wwctl("node", "add", each.name, "--hwaddr", each.hwaddr, *address)
        server = await lab.service(lab.head.serve())
    with lab.steps.step("Each gets its address, renews it and gives it back"):
        await clients.run_clients(lab, server)
    await recording.stop()
    for client in clients.CLIENTS:
        title = (f"{client.name}, in a namespace", versions([client.package]), f"vm-lab/lab.py record {CLIENTS}")
        _write(lab, f"client-{client.name}", title, clients.asker(client), pcap)


def _write(lab: Lab, name: str, title: Iterable[str], asker: Asker, pcap: Path) -> None:
    head = lab.head.network.head.ip
    datagrams = read_pcap(pcap)
    log = (lab.head.run.path / "server.log").read_text(errors="replace")
    found = {"dhcp": dhcp_exchanges(datagrams, head, asker.hwaddr, log)}
    if not found["dhcp"]:
        raise Error(f"{pcap} holds no DHCP message of {asker.hwaddr}", hint="a machine that is up must have asked")
    if asker.name == NODE:
        found["tftp"] = tftp_exchanges(datagrams, head)
    for protocol, exchanges in found.items():
        if exchanges:
            path = write(name, protocol, conversation(title, _conf(lab), asker, exchanges))
            lab.steps.held(f"{path}: {_counted(exchanges)}")


def _conf(lab: Lab) -> dict[str, Any]:
    """What the head node's warewulf.conf says, but for its folders."""
    conf: dict[str, Any] = yaml.safe_load(lab.head.conf.read_text())
    return {key: value for key, value in conf.items() if key != "paths"}


def _counted(exchanges: list[Exchange]) -> str:
    return f"{len(exchanges)} requests, {sum(each.reply is not None for each in exchanges)} replies"
