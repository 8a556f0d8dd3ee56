"""Many machines that are switched on at once, in the current network namespace: `storm.py SETTINGS.json`.

Each goes DHCP → loader by TFTP → iPXE's DHCP → script → kernel, image and overlays → "up", and tries again as firmware does.
Prints `reached STAGE` when as many are there as the settings say, and at the end one line of JSON: what each one met with.
"""

import asyncio
import json
import random
import re
import resource
import sys
import time
import zlib
from collections import Counter, defaultdict
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any
from uuid import UUID

from pyroute2 import AsyncIPRoute
from storm_dhcp import Asker, Exchange, Wire
from storm_http import Download, HttpFailed
from storm_tftp import TftpFailed, fetch

LOADERS = {0: "undionly.kpxe", 7: "snponly.efi"}
IPXE_WAITS = (1.0, 2.0, 4.0, 8.0)
HTTP_WAITS = (0.2, 0.5, 1.0, 2.0, 4.0, 8.0, 8.0, 8.0)


class Fault(Exception):
    """The server did something wrong."""


class Again(Exception):
    """The machine gives up this attempt, and begins anew with DHCP."""


class Storm:
    """What all machines share: the wire, and a table of who was given what."""

    def __init__(self, settings: dict[str, Any], wire: Wire, route: AsyncIPRoute, index: int) -> None:
        self.settings = settings
        self.wire = wire
        self._route = route
        self._index = index
        self._given: dict[str, int] = {}
        self._named: dict[str, int] = {}
        self._count: Counter[str] = Counter()
        self._adding = asyncio.Lock()
        self.loaders = {name: (Path(settings["loaders"]) / name).read_bytes() for name in LOADERS.values()}

    def reached(self, stage: str, count: int = 1) -> None:
        before = self._count[stage]
        self._count[stage] += count
        if before < self.settings["tell"].get(stage, 0) <= self._count[stage]:
            print(f"reached {stage}", flush=True)

    async def take(self, address: str, number: int, hwaddr: bytes) -> None:
        """Configure an address that a machine was given; the first time it must be nobody's."""
        owner = self._given.setdefault(address, number)
        if owner != number:
            raise Fault(f"{address} was given to machine {owner} before")
        if self._count[address]:
            return
        self._count[address] = 1
        self.wire.hwaddrs[IPv4Address(address).packed] = hwaddr
        async with self._adding:
            await self._route.addr("add", index=self._index, address=address, prefixlen=32)

    def name(self, node: str, number: int) -> None:
        owner = self._named.setdefault(node, number)
        if owner != number:
            raise Fault(f"machine {owner} was node {node} before")


class Machine:
    """One machine; `met` counts what it had to do again."""

    def __init__(self, storm: Storm, number: int) -> None:
        settings = storm.settings
        self.number = number
        self.rng = random.Random(f"{settings['seed']} {number}")
        self.hwaddr = bytes.fromhex(settings["machines"][number]["hwaddr"].replace(":", ""))
        self.reserved: str | None = settings["machines"][number]["address"]
        self.node: str | None = settings["machines"][number]["node"]
        self.address: str | None = None
        self.met: Counter[str] = Counter()
        self.fault = ""
        self.finished: float | None = None
        self._storm = storm
        self._arch = self.rng.choice(list(LOADERS))
        self._resumes = self.rng.random() < 0.5
        self._uuid = UUID(bytes=self.rng.randbytes(16))
        self._rom, self._ipxe = self._askers()

    def _askers(self) -> tuple[Asker, Asker]:
        pxe = (60, f"PXEClient:Arch:{self._arch:05}:UNDI:003001".encode())
        arch, machine = (93, self._arch.to_bytes(2, "big")), (97, b"\0" + self._uuid.bytes)
        common = [(57, (1472).to_bytes(2, "big")), pxe, arch, machine, (55, bytes((1, 3, 6, 12, 15, 43, 54, 60, 66, 67)))]
        # A ROM's identifier is its UUID or nothing; iPXE's is the hardware address, and later a system's is a DUID.
        rom = [(61, b"\0" + self._uuid.bytes)] if self.rng.random() < 0.7 else []
        ipxe = [(77, b"iPXE"), (175, bytes((0x12, 1, 1, 0x13, 1, 1))), (61, b"\x01" + self.hwaddr)]
        broadcast = self.rng.random() < 0.5
        waits = self._storm.settings["dhcp_waits"]
        return (
            Asker(hwaddr=self.hwaddr, options=[*common, *rom], broadcast=broadcast, waits=waits),
            Asker(hwaddr=self.hwaddr, options=[*common, *ipxe], broadcast=False, waits=IPXE_WAITS),
        )

    async def run(self) -> None:
        started = time.monotonic()
        try:
            while True:
                try:
                    await self._boot()
                    break
                except Again as exc:
                    self.met[f"booted again: {exc}"] += 1
                    await asyncio.sleep(self.rng.uniform(0.5, 1.5))
        except Fault as exc:
            self.fault = f"machine {self.number} ({self.hwaddr.hex(':')}): {exc}"
        else:
            self.finished = time.monotonic() - started

    async def _boot(self) -> None:
        loader = await self._lease(self._rom, self._check_rom)
        self._storm.reached("leased")
        await self._load(loader)
        self._storm.reached("loaded")
        url = await self._lease(self._ipxe, self._check_ipxe)
        await self._follow(url)
        answer = await self._get(f"{url.partition('/ipxe/')[0].partition('/discover/')[0]}/report/{self._wwid}?event=up")
        if bytes(answer.kept) != b"ok\n":
            raise Fault(f"the report was answered {bytes(answer.kept)!r}")

    @property
    def _wwid(self) -> str:
        return self.hwaddr.hex("-")

    async def _lease(self, asker: Asker, check: Callable[[Exchange], str]) -> str:
        exchange = await self._storm.wire.lease(asker)
        self.met["DHCP messages sent again"] += exchange.repeated
        self.met["refused by NAK"] += exchange.refused
        ack = exchange.ack
        given = ack.yiaddr
        if given != exchange.offered:
            raise Fault(f"{exchange.offered} was offered and {given} acknowledged")
        if self.address not in (None, given):
            raise Fault(f"it got {self.address} first and {given} then")
        if self.reserved is not None and given != self.reserved:
            raise Fault(f"it got {given} instead of {self.reserved}")
        first, last = map(IPv4Address, self._storm.settings["range"])
        if self.reserved is None and not first <= IPv4Address(given) <= last:
            raise Fault(f"it got {given}, which is not in the range")
        to = (b"\xff" * 6, "255.255.255.255") if asker.broadcast else (self.hwaddr, given)
        if (ack.to_hwaddr, ack.to_address) != to:
            raise Fault(f"the ACK went to {ack.to_hwaddr.hex(':')} {ack.to_address}")
        if ack.options.get(1) != b"\xff\xff\0\0" or int.from_bytes(ack.options.get(51, b""), "big") < 60:
            raise Fault(f"netmask or lease time is wrong: {ack.options}")
        self.address = given
        await self._storm.take(given, self.number, self.hwaddr)
        return check(exchange)

    def _check_rom(self, exchange: Exchange) -> str:
        ack, loader = exchange.ack, LOADERS[self._arch]
        if (ack.file, ack.options.get(67), ack.siaddr) != (loader, loader.encode(), self._storm.settings["server"]):
            raise Fault(f"boot file {ack.file!r} of {ack.siaddr}")
        return loader

    def _check_ipxe(self, exchange: Exchange) -> str:
        url = exchange.ack.options.get(67, b"").decode()
        if f"/{self._wwid}?" not in url:
            raise Fault(f"the script of another machine: {url}")
        return url

    async def _load(self, loader: str) -> None:
        assert self.address is not None
        server, waits = self._storm.settings["server"], self._storm.settings["tftp_waits"]
        for probe in (True, False) if self._arch else (False,):
            try:
                data, repeated = await fetch(server, self.address, loader, waits, probe=probe)
            except TftpFailed as exc:
                raise Again("TFTP failed") from exc
            self.met["TFTP packets sent again"] += repeated
            if not probe and data != self._storm.loaders[loader]:
                raise Fault(f"{len(data)} bytes of {loader} are not the file's")

    async def _follow(self, url: str) -> None:
        """Do what the script says, as far as boot scripts of ours go."""
        script = await self._get(url)
        for line in bytes(script.kept).decode().splitlines():
            command, _, rest = line.partition(" ")
            said = re.match(r"bootsvc: (?:this machine is now node )?(\S+)(?: boots image .*)?$", rest)
            if command == "echo" and said is not None and ("boots image" in rest or "now node" in rest):
                self._is_node(said[1])
            elif command == "kernel":
                self._check("kernel", await self._get(rest.split()[0]))
            elif command == "initrd":
                name, part = re.match(r"--name (\S+) (\S+)", rest).groups()  # type: ignore[union-attr]
                self._check(name, await self._get(part, counted=name == "image"))
            elif command == "sleep":
                self.met["waited for a place"] += 1
                await asyncio.sleep(float(rest))
            elif command == "chain":
                return await self._follow(rest.split()[1])
            elif command == "boot":
                return None
            elif command in ("reboot", "exit"):
                raise Again(f"the script says so: {bytes(script.kept).decode().splitlines()[1]}")
        raise Fault(f"the script ends without a boot: {bytes(script.kept)!r}")

    def _is_node(self, name: str) -> None:
        if self.node not in (None, name):
            raise Fault(f"it is node {self.node}, and was told {name}")
        self._storm.name(name, self.number)
        self.node = name

    def _check(self, name: str, found: Download) -> None:
        expected = self._storm.settings["digests"]
        if name in expected and found.digest != expected[name]:
            raise Fault(f"{found.received} bytes of the {name} have digest {found.digest}")
        if name == "system" and f"{self.node}\n".encode() not in zlib.decompressobj(47).decompress(bytes(found.kept)):
            raise Fault("the system overlay is not this node's")

    async def _get(self, url: str, *, counted: bool = False) -> Download:
        assert self.address is not None
        url = re.sub(r"\$\{[^}]*\}", lambda match: str(self._uuid) if match[0] == "${uuid}" else "", url)
        on_bytes = (lambda count: self._storm.reached("bytes", count)) if counted else None
        download = Download(self.address, url, resumes=self._resumes, on_bytes=on_bytes)
        for wait in HTTP_WAITS:
            try:
                status = await download.attempt()
            except HttpFailed:
                self.met["HTTP asked again"] += 1
                await asyncio.sleep(wait * self.rng.uniform(0.75, 1.25))
                continue
            self.met["HTTP resumed"] += download.resumed
            if status in (200, 206):
                return download
            raise Again(f"HTTP status {status} of {url.partition('?')[0].rpartition('/')[0]}: {bytes(download.kept[:80])!r}")
        raise Again("HTTP failed")


async def main(settings: dict[str, Any]) -> None:
    rng, started = random.Random(settings["seed"]), time.monotonic()
    wire = Wire(settings["interface"], rng)
    broken: list[str] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: broken.append(repr(context)))
    async with AsyncIPRoute() as route:
        (index,) = await route.link_lookup(ifname=settings["interface"])
        storm = Storm(settings, wire, route, index)
        machines = [Machine(storm, number) for number in range(len(settings["machines"]))]
        wire.open()
        try:
            async with asyncio.timeout(settings["seconds"]), asyncio.TaskGroup() as group:
                for machine in machines:
                    group.create_task(machine.run())
        except TimeoutError:
            pass
        finally:
            wire.close()
    report = _report(machines, time.monotonic() - started)
    report["faults"] += broken
    print(json.dumps(report), flush=True)


def _report(machines: list[Machine], seconds: float) -> dict[str, Any]:
    met: Counter[str] = Counter()
    for machine in machines:
        met += machine.met
    times = sorted(machine.finished for machine in machines if machine.finished is not None)
    addresses: defaultdict[str, list[str]] = defaultdict(list)
    for machine in machines:
        addresses[machine.address or "none"].append(machine.hwaddr.hex(":"))
    return {
        "seconds": seconds,
        "finished": len(times),
        "median": times[len(times) // 2] if times else None,
        "slowest": times[-1] if times else None,
        "faults": [machine.fault for machine in machines if machine.fault],
        "unfinished": [machine.number for machine in machines if machine.finished is None and not machine.fault],
        "met": dict(met),
        "addresses": addresses,
        "nodes": {machine.hwaddr.hex(":"): machine.node for machine in machines},
    }


if __name__ == "__main__":
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 65536), hard))
    asyncio.run(main(json.loads(Path(sys.argv[1]).read_text())))
