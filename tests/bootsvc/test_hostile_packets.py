"""Hostile packets over the ports of DHCP, TFTP and DNS: real clients are served meanwhile, and memory stays flat.

`BOOTSVC_PROOF=full` sends 1 000 000 of them; `BOOTSVC_SEED=N` repeats a run's choices.
"""

import json
import os
import random
import re
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from appliance import WIDE, LogReader, Server, widen
from boot_network import BootNetwork, output_of
from captured import load_conversations
from scapy.layers.inet import UDP
from scapy.utils import rdpcap

pytestmark = pytest.mark.root

TROUBLE = r"Traceback|^\S+ \S+ (ERROR|CRITICAL) "
FULL = os.environ.get("BOOTSVC_PROOF") == "full"
SEED = int(os.environ.get("BOOTSVC_SEED", "0")) or random.SystemRandom().randrange(1, 1 << 32)
PACKETS = 1_000_000 if FULL else 20_000
GROWTH = 16 << 20
"""Bytes that the second half of the packets may add; tables that strangers fill have caps, which a million packets reach."""
SETTINGS = "bootsvc: {dns: {domain: cluster}}\n"
FLOOD = Path(__file__).parent.parent / "netns" / "flood.py"
CAPTURES = sorted((Path(__file__).parents[1] / "captures").glob("dhcp-*.pcap"))
RECORDED = Path(__file__).parent / "dhcp" / "captures"
LOADER = Path("/usr/lib/ipxe/undionly.kpxe")


def captured() -> list[bytes]:
    """What real firmware and real clients send to port 67."""
    frames = [frame for path in CAPTURES for frame in rdpcap(str(path)) if UDP in frame]
    recorded = [exchange.request for each in load_conversations(RECORDED) for exchange in each.exchanges]
    requests = [sent.data for sent in recorded if sent.destination[1] == 67]
    return [*(bytes(frame[UDP].payload) for frame in frames if frame[UDP].dport == 67), *requests]


def rss(pid: int) -> int:
    """Bytes of memory that a process has."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS:"))
    return int(line.split()[1]) * 1024


def served(server: Server, network: BootNetwork, machine: str, folder: Path) -> None:
    """A machine gets an address, a loader, a name and an answer over HTTP."""
    offered = network.udhcpc("-V", "PXEClient:Arch:00000:UNDI:002001", device="eth0", namespace=machine)
    assert offered is not None
    assert (offered["ip"], offered["boot_file"]) == ("10.77.0.11", LOADER.name)
    loader = folder / "loader"
    server.on_client("curl", "--silent", "--retry", "5", "--output", str(loader), f"tftp://10.77.0.1/{LOADER.name}")
    assert loader.read_bytes() == LOADER.read_bytes()
    while server.short("n1.cluster") != ["10.77.0.11"]:
        pass
    assert json.loads(server.get("/status"))["nodes"]["n1"]


def keep_serving(over: threading.Event, serve: Callable[[], None]) -> int:
    """How often it was done before the end, at least once."""
    rounds = 0
    while not rounds or not over.is_set():
        serve()
        rounds += 1
    return rounds


def test_real_clients_are_served_meanwhile_and_memory_is_flat(
    boot_network: BootNetwork, tmp_path: Path, require_tool: Callable[..., Path]
) -> None:
    require_tool("dig", package="dnsutils")
    widen(boot_network)
    for address in ("10.77.0.50/16", "10.77.0.66/16"):
        boot_network.on(boot_network.client, "ip", "address", "add", address, "dev", "boot0")
    server = Server(boot_network, tmp_path, conf=WIDE, settings=SETTINGS)
    log = LogReader(server.process)
    assert log.ready.wait(60), log.lines
    boot_network.on(boot_network.client, "ip", "link", "set", "boot0", "address", "52:54:00:00:00:aa")
    machine = boot_network.machine("52:54:00:00:00:01")
    settings = tmp_path / "flood.json"
    settings.write_text(
        json.dumps(
            {
                "seed": SEED,
                "packets": PACKETS,
                "server": "10.77.0.1",
                "address": "10.77.0.50",
                "hostile": "10.77.0.66",
                "requests": [message.hex() for message in captured()],
            }
        )
    )
    flood = boot_network.popen(boot_network.client, sys.executable, str(FLOOD), str(settings))
    over = threading.Event()
    with ThreadPoolExecutor(1) as pool:
        clients = pool.submit(keep_serving, over, lambda: served(server, boot_network, machine, tmp_path))
        try:
            assert flood.stdin is not None
            line = output_of(flood).readline()
            assert line == "half\n", line + output_of(flood).read()
            half = rss(server.process.pid)
            flood.stdin.write("\n")
            flood.stdin.flush()
            out = output_of(flood).read()
        finally:
            over.set()
        rounds = clients.result()
    assert flood.wait(10) == 0, out
    after = rss(server.process.pid)
    counters = server.counters()
    print(
        f"\nBOOTSVC_SEED={SEED} {out.splitlines()[-1]} rounds={rounds} half={half >> 20} MiB end={after >> 20} MiB {counters}"
    )
    assert after - half < GROWTH
    received = counters["dhcp"]["received"] + counters["tftp"]["requests"] + counters["tftp"]["malformed"]
    assert received > PACKETS / 3
    assert server.process.poll() is None
    assert max(map(len, log.lines)) < 1000
    assert not [line for line in log.lines if re.search(TROUBLE, line)]
