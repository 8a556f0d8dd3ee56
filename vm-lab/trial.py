"""How a scenario is run: import, serve, boot, and prove what it expects."""

import asyncio
import re
from collections.abc import Sequence
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path

import listing
import roots
import yaml
from debian_image import REFERENCE, push_debian
from kvm import choose
from machine import Accel, Firmware, Machine
from msgspec import structs
from odd_tree import add_odd_tree
from process import Service
from receiver import receiver
from rom import be_ordinary
from scenario import Image, Scenario
from session import Lab, status_of
from surroundings import Place, surround
from vm import Vm

from images.errors import Error

NODE = "n1"
HWADDR = "52:54:00:b0:07:01"
OVERLAID = tuple(
    b"/etc/NetworkManager /etc/hostname /etc/hosts /etc/network /etc/resolv.conf /etc/systemd /root/.ssh /warewulf".split()
)
"""What our overlays add to the tiny image, or replace in it: these, and all below them."""
LISTING_SECONDS = 60
SSH_SECONDS = 60.0
LOG_SECONDS = 20.0
SEPARATOR = "--- next ---"


async def run_scenario(lab: Lab, scenario: Scenario, root: Path, kernel: Path) -> None:
    """Import, add the node, serve, boot, and prove what the scenario expects."""
    lab.head.configure(scenario.conf)
    with lab.steps.step(f"Import the {scenario.image.value} image"):
        root = await _import(lab, scenario, root)
        _check_manifest(lab, scenario)
        memory = scenario.memory or await _needed(lab, scenario.image.value)
    with lab.steps.step(f"Add {NODE} and serve"):
        place = await surround(lab, scenario.surroundings, HWADDR)
        await add_node(lab, NODE, None if scenario.discoverable else HWADDR, place.node, scenario.image.value)
        if scenario.node:
            await lab.wwctl("node", "import", "--yes", str(_node_file(lab, scenario)))
        server = await lab.service(lab.head.serve())
    accel = await choose(kernel, roots.static_busybox(), lab.head.run.path)
    with lab.steps.step(f"Boot {NODE}: {scenario.firmware.value}, {memory} MiB, {accel.value}"):
        vm = await _boot(lab, structs.replace(scenario, memory=memory), place, accel, server)
    if scenario.server_log:
        with lab.steps.step("Look for its way in the server's log"):
            await _check_log(lab, server, scenario.server_log)
    if scenario.facts:
        with lab.steps.step(f"Ask {NODE} itself"):
            await _check_facts(lab, scenario, place, vm)
    if scenario.tree:
        with lab.steps.step("Compare the node's tree with what was imported"):
            await _compare(lab, vm, root)


async def add_node(lab: Lab, name: str, hwaddr: str | None, address: IPv4Interface, image: str) -> None:
    """`wwctl node add`, with a serial console; without a hardware address it is to be discovered."""
    await lab.wwctl(
        *("node", "add", name, *(("--discoverable",) if hwaddr is None else ("--hwaddr", hwaddr))),
        *("--ipaddr", str(address.ip), "--netmask", str(address.netmask), "--image", image),
        # On a machine without time for it the emulated timer comes late, and the kernel would do without.
        "--kernelargs=console=ttyS0,no_timer_check",
    )


async def on_node(lab: Lab, vm: Vm, address: IPv4Address, command: str, *, known: bool = False) -> str:
    """What the command printed on the node over ssh; a node that is up but has no sshd yet gets a minute for it.

    `known`: the node must prove itself with the host key of the cluster.
    """
    loop = asyncio.get_running_loop()
    deadline = loop.time() + SSH_SECONDS
    while True:
        vm.console.check()
        answer = await lab.head.ssh(address, command, known=known)
        # 255 is ssh's own failure; any other status is the command's.
        if answer.status != 255 or loop.time() > deadline:
            break
        await asyncio.sleep(0.5)
    if answer.status == 255:
        raise Error(f"{vm.machine.name}: ssh could not run {command!r}", hint=answer.text)
    return answer.text.strip()


async def _import(lab: Lab, scenario: Scenario, root: Path) -> Path:
    """Returns the tree that was imported, where it is one."""
    if scenario.image.is_debian:
        await lab.service(lab.head.serve_registry())
        await push_debian(root, lab.head.run.scratch)
        await lab.wwctl("container", "import", REFERENCE, scenario.image.value)
        return root
    if scenario.image is Image.ODD or scenario.unsigned or scenario.filling:
        root = roots.copy_tiny(root, lab.head.run.scratch / "changed", scenario.compression)
    if scenario.image is Image.ODD:
        add_odd_tree(root)
    if scenario.filling:
        roots.fill(root, scenario.filling)
    if scenario.unsigned:
        roots.take_signature(next(root.glob("boot/vmlinuz-*")))
    await lab.wwctl("container", "import", str(root), scenario.image.value)
    return root


async def _needed(lab: Lab, image: str) -> int:
    """MiB that a node needs, as the doctor says."""
    found = re.search(r"a node needs about (\d+) MiB", await lab.wwctl("image", "check", image))
    if found is None:
        raise Error(f"wwctl image check does not say how much memory {image} needs")
    return int(found[1])


def _node_file(lab: Lab, scenario: Scenario) -> Path:
    """What the scenario says of its node, for `wwctl node import`."""
    path = lab.head.run.path / "etc/node.yaml"
    path.write_text(yaml.safe_dump({NODE: dict(scenario.node)}))
    return path


async def _boot(lab: Lab, scenario: Scenario, place: Place, accel: Accel, server: Service) -> Vm:
    machine = Machine(name=NODE, hwaddr=HWADDR, firmware=scenario.firmware, memory=scenario.memory, accel=accel)
    vm = await lab.boot(machine, place.bridge)
    if machine.firmware is Firmware.BIOS_PXE:
        await be_ordinary(vm.console)
        lab.steps.note("the card's ROM was told not to call itself iPXE")
    begin = asyncio.get_running_loop().time()
    await vm.console.wait(scenario.console, scenario.seconds)
    lab.steps.held(f"the console shows {scenario.console!r}")
    await lab.stage(vm, server, scenario.stage, scenario.seconds)
    lab.steps.note(f"after {asyncio.get_running_loop().time() - begin:.1f} s")
    found = status_of(await lab.wwctl("node", "status"), NODE)
    if found != scenario.stage:
        raise Error(f"wwctl node status says {found!r} of {NODE}, and {scenario.stage!r} was expected")
    lab.steps.held(f"wwctl node status says {scenario.stage}")
    if scenario.discoverable:
        await _check_discovered(lab)
    return vm


async def _check_discovered(lab: Lab) -> None:
    listed = await lab.wwctl("node", "list", "--all", NODE)
    if HWADDR not in listed:
        raise Error(f"wwctl node list does not say that {NODE} has the hardware address {HWADDR}")
    lab.steps.held(f"nodes.conf says that {NODE} is {HWADDR}")


async def _check_log(lab: Lab, server: Service, patterns: tuple[str, ...]) -> None:
    """Each pattern in a line after the one before's; the log's last lines may come a moment late."""
    missing: str | None = None

    async def is_whole() -> bool:
        nonlocal missing
        missing = first_missing(server.log.read_text(errors="replace"), patterns)
        return missing is None

    try:
        await server.until(is_whole, LOG_SECONDS)
    except Error as exc:
        raise Error(f"the server's log does not show {missing!r}, or not in its place", hint=str(server.log)) from exc
    for pattern in patterns:
        lab.steps.held(f"the server's log shows {pattern!r}")


def first_missing(text: str, patterns: Sequence[str]) -> str | None:
    """The first pattern that matches in no line below the line of the one before it; None: they are all there (pure)."""
    lines = iter(text.splitlines())
    for pattern in patterns:
        if not any(re.search(pattern, line) for line in lines):
            return pattern
    return None


def _check_manifest(lab: Lab, scenario: Scenario) -> None:
    generation = lab.head.generations.current(scenario.image.value)
    if generation is None:
        raise Error(f"image {scenario.image.value} has no current generation")
    built, count = generation.manifest.compression, len(generation.manifest.segments)
    if built != scenario.compression.value or count < scenario.segments:
        raise Error(
            f"the image is {count} segments of {built}",
            hint=f"expected: {scenario.segments} or more, of {scenario.compression.value}",
        )
    lab.steps.held(f"the manifest says {count} segments of {built}")


async def _check_facts(lab: Lab, scenario: Scenario, place: Place, vm: Vm) -> None:
    answers = await _answers(lab, scenario, place, vm)
    for fact, answer in zip(scenario.facts, answers, strict=True):
        if re.search(fact.shows, answer.strip(), re.MULTILINE) is None:
            raise Error(f"{NODE}: {fact.command!r} does not show {fact.shows!r}", hint=answer)
        lab.steps.held(f"{fact.command} shows {fact.shows!r}")


async def _answers(lab: Lab, scenario: Scenario, place: Place, vm: Vm) -> list[str]:
    if not scenario.image.is_debian:
        return [(await vm.console.command(fact.command)).text for fact in scenario.facts]
    # One login for all of them: each costs the emulated node a second.
    script = f"; echo '{SEPARATOR}'; ".join(f"( {fact.command} ) 2>&1" for fact in scenario.facts)
    text = await on_node(lab, vm, place.node.ip, script, known=True)
    lab.steps.held("sshd let root in with the head node's key, and proved itself with the cluster's host key")
    return text.split(SEPARATOR)


async def _compare(lab: Lab, vm: Vm, root: Path) -> None:
    async with receiver(lab.head.network.head.ip) as sent:
        command = f"set -o pipefail; {listing.LISTING} | nc {sent.address} {sent.port}"
        reply = await vm.console.command(command, LISTING_SECONDS)
        if reply.status != 0:
            raise Error(f"{listing.LISTING} ended with status {reply.status} on the node", hint=reply.text)
        arrived = listing.parse(await sent.data(LISTING_SECONDS))
    expected = listing.scan(root)
    # The import writes /etc/resolv.conf, at a time of its own.
    expected[b"/etc"] = replace(expected[b"/etc"], mtime=arrived[b"/etc"].mtime)
    wrong = list(listing.differences(expected, arrived, OVERLAID))
    if wrong:
        raise Error(f"{len(wrong)} entries of {len(expected)} differ on the node", hint="\n".join(wrong[:20]))
    lab.steps.held(f"{len(expected)} entries of the image arrived as they are: {', '.join(listing.COMPARED)}")
