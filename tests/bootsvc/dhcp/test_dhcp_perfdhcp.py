"""Kea's own load generator as the client: it asks as a relay agent for many machines, and gets an answer for each."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from boot_network import BootNetwork

pytestmark = [pytest.mark.root, pytest.mark.usefixtures("perfdhcp")]

RATE, SECONDS, MACHINES = 200, 2, 100
BASE = 0x0C0100000000
NODES = {
    f"n{number}": {
        "network devices": {
            "default": {"hwaddr": (BASE + number).to_bytes(6, "big").hex(":"), "ipaddr": f"10.77.0.{100 + number}"}
        }
    }
    for number in range(MACHINES)
}


@pytest.fixture
def perfdhcp(require_tool: Callable[..., Path]) -> None:
    require_tool("perfdhcp", package="kea-admin")
    require_tool("ip", package="iproute2")


@pytest.mark.parametrize("settings", [{"range": ["10.77.0.100", "10.77.0.230"]}, {"nodes": NODES}], ids=["range", "nodes"])
def test_every_exchange_is_held(boot_network: BootNetwork, settings: dict[str, Any]) -> None:
    served = boot_network.serve(**settings)
    boot_network.on(boot_network.client, "ip", "address", "add", "10.77.0.50/24", "dev", "boot0")
    report = boot_network.on(
        boot_network.client,
        "perfdhcp",
        *("-4", "-r", str(RATE), "-R", str(MACHINES), "-p", str(SECONDS), "-W", "2000000", "-l", "10.77.0.50", "-u"),
        *("-b", f"mac={BASE.to_bytes(6, 'big').hex(':')}", "10.77.0.1"),
        check=False,
    )
    sent = [int(value) for value in re.findall(r"sent packets: (\d+)", report)]
    received = [int(value) for value in re.findall(r"received packets: (\d+)", report)]
    assert len(sent) == len(received) == 2, report
    assert sent[0] >= RATE, report
    # One in a hundred may be lost where a loaded machine gives the client no time to receive.
    assert received[0] >= 0.99 * sent[0], report
    assert received[1] >= 0.99 * sent[1] > 0, report
    # -u counts each address that was given before: every machine has one of its own, and gets that again.
    repeated = [int(value) for value in re.findall(r"non unique addresses: (\d+)", report)]
    assert [count - again for count, again in zip(received, repeated, strict=True)] == [MACHINES, MACHINES], report
    counters = served.stop()["dhcp"]
    assert counters["answered"] >= received[0] + received[1]
    assert counters["malformed"] == counters["unsent"] == counters["unsaved"] == 0
