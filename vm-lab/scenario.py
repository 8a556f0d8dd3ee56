"""Scenarios: a small TOML file each (vm-lab/scenarios), and how one is run."""

import tomllib
from dataclasses import dataclass, fields, replace
from ipaddress import IPv4Address
from pathlib import Path

import listing
import roots
from debian_image import REFERENCE, push_debian
from kvm import choose
from machine import Accel, Firmware, Machine
from odd_tree import add_odd_tree
from places import CHECKOUT
from process import Service
from receiver import receiver
from session import Lab, status_of
from vm import Vm

from images.compress import Compression
from images.errors import Error

FOLDER = CHECKOUT / "vm-lab" / "scenarios"
NODE = "n1"
HWADDR = "52:54:00:b0:07:01"
ADDRESS = IPv4Address("10.77.0.11")
OVERLAID = tuple(
    b"/etc/NetworkManager /etc/hostname /etc/hosts /etc/network /etc/resolv.conf /etc/systemd /root/.ssh /warewulf".split()
)
"""What our overlays add to the tiny image, or replace in it: these, and all below them."""
LISTING_SECONDS = 60


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One machine, what it boots, and what must be seen of it."""

    name: str
    description: str
    firmware: Firmware
    memory: int
    image: str
    """`tiny`; `odd`, the tiny one and all that is easily lost on the way to a node; or `debian`."""
    compression: Compression
    """What the built image must be compressed with."""
    segments: int
    """How many segments it must have at least."""
    console: str
    """A regular expression that the console must show."""
    stage: str
    """What `wwctl node status` must say in the end."""
    seconds: int
    """From power on to that stage."""

    def prepare(self) -> tuple[Path, Path]:
        """The image's root and its kernel; needs the distribution's mirrors the first time."""
        roots.static_busybox()
        if self.image == "debian":
            root = roots.debian_root()
            return root, roots.debian_kernel(root)
        root = roots.tiny_root()
        return root, next(root.glob("boot/vmlinuz-*"))


def load_scenario(name: str) -> Scenario:
    """Read scenarios/NAME.toml; raises Error for a missing file or a wrong key."""
    path = FOLDER / f"{name}.toml"
    if not path.exists():
        known = ", ".join(sorted(scenario.stem for scenario in FOLDER.glob("*.toml")))
        raise Error(f"there is no scenario {name!r}", hint=f"there are: {known}")
    values = tomllib.loads(path.read_text())
    expected = {field.name for field in fields(Scenario)} - {"name"}
    if values.keys() != expected:
        raise Error(f"{path}: the keys differ: {', '.join(sorted(values.keys() ^ expected))}", hint="see vm-lab/README.md")
    firmware, compression = Firmware(values["firmware"]), Compression(values["compression"])
    return Scenario(**{**values, "name": name, "firmware": firmware, "compression": compression})


async def run_scenario(lab: Lab, scenario: Scenario, root: Path, kernel: Path) -> None:
    """Import, add the node, serve, boot, and prove what the scenario expects."""
    with lab.steps.step(f"Import the {scenario.image} image"):
        if scenario.image == "debian":
            await lab.service(lab.head.serve_registry())
            await push_debian(root, lab.head.run.scratch)
            await lab.wwctl("container", "import", REFERENCE, scenario.image)
        else:
            if scenario.image == "odd":
                root = roots.copy_tiny(root, lab.head.run.scratch / "odd", scenario.compression)
                add_odd_tree(root)
            await lab.wwctl("container", "import", str(root), scenario.image)
        _check_manifest(lab, scenario)
    with lab.steps.step(f"Add {NODE} and serve"):
        await add_node(lab, NODE, HWADDR, ADDRESS, scenario.image)
        server = await lab.service(lab.head.serve())
    accel = await choose(kernel, roots.static_busybox(), lab.head.run.path)
    with lab.steps.step(f"Boot {NODE}: {scenario.firmware.value}, {scenario.memory} MiB, {accel.value}"):
        vm = await _boot(lab, scenario, accel, server)
    if scenario.image != "debian":
        with lab.steps.step("Compare the node's tree with what was imported"):
            await _compare(lab, vm, root)


async def add_node(lab: Lab, name: str, hwaddr: str, address: IPv4Address, image: str) -> None:
    """`wwctl node add`, with a serial console."""
    await lab.wwctl(
        *("node", "add", name, "--hwaddr", hwaddr, "--ipaddr", str(address)),
        *("--netmask", str(lab.head.network.head.netmask), "--image", image),
        "--kernelargs=console=ttyS0",
    )


async def _boot(lab: Lab, scenario: Scenario, accel: Accel, server: Service) -> Vm:
    machine = Machine(name=NODE, hwaddr=HWADDR, firmware=scenario.firmware, memory=scenario.memory, accel=accel)
    vm = await lab.boot(machine)
    await vm.console.wait(scenario.console, scenario.seconds)
    lab.steps.held(f"the console shows {scenario.console!r}")
    await lab.stage(vm, server, scenario.stage, scenario.seconds)
    found = status_of(await lab.wwctl("node", "status"), NODE)
    if found != scenario.stage:
        raise Error(f"wwctl node status says {found!r} of {NODE}, and {scenario.stage!r} was expected")
    lab.steps.held(f"wwctl node status says {scenario.stage}")
    return vm


def _check_manifest(lab: Lab, scenario: Scenario) -> None:
    generation = lab.head.generations.current(scenario.image)
    if generation is None:
        raise Error(f"image {scenario.image} has no current generation")
    built, count = generation.manifest.compression, len(generation.manifest.segments)
    if built != scenario.compression.value or count < scenario.segments:
        raise Error(
            f"the image is {count} segments of {built}",
            hint=f"expected: {scenario.segments} or more, of {scenario.compression.value}",
        )
    lab.steps.held(f"the manifest says {count} segments of {built}")


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
