"""The script of an unknown machine, fetched over a socket: it becomes a node, or shows who it is and asks again."""

import asyncio
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp
import pytest

from bootsvc.config import Config
from bootsvc.dhcp.settings import Mode, Unknown
from bootsvc.http.discovery import MAX_ATTEMPTS, Discovery
from bootsvc.http.service import HttpService
from bootsvc.registry import Registry
from bootsvc.server_urls import ServerUrls
from bootsvc.store import Store
from netboot.urls import Urls

HWADDR, WWID = "52:54:00:00:00:0a", "52-54-00-00-00-0a"
NODES = "nodes:\n  n1:\n    discoverable: true\n    network devices:\n      default:\n        ipaddr: 10.0.0.7\n"


@dataclass
class Site:
    url: str
    nodes_conf: Path
    config: Config = Config()  # noqa: RUF009  # a frozen record
    leased: str | None = HWADDR

    def registry(self) -> Registry:
        """As the server's watch would have it at once."""
        return Registry.build(Store(self.nodes_conf).load())

    async def get(self, path: str) -> tuple[int, str]:
        async with aiohttp.ClientSession() as session, session.get(self.url + path) as answer:
            return answer.status, await answer.text()


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    made = Site(url="", nodes_conf=tmp_path / "nodes.conf")
    made.nodes_conf.write_text(NODES)

    def identify(address: IPv4Address) -> str | None:
        return made.leased if address == IPv4Address("127.0.0.1") else None

    discovery = Discovery(
        Store(made.nodes_conf),
        lambda: made.config,
        made.registry,
        identify,
        ServerUrls(Urls(address=IPv4Address("10.0.0.1"), port=9873)),
    )
    service, ready = HttpService(0, discovery.routes(), host="127.0.0.1"), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(service.run(ready))
        await ready.wait()
        made.url = f"http://127.0.0.1:{service.bound}"
        yield made
        task.cancel()


async def test_a_machine_becomes_the_node_that_waits(site: Site) -> None:
    for _ in range(2):
        status, script = await site.get(f"/discover/{WWID}?uuid=1&serial=2")
        assert (status, script.splitlines()[:2]) == (200, ["#!ipxe", "echo bootsvc: this machine is now node n1"])
        assert f"chain --replace http://10.0.0.1:9873/ipxe/{WWID}?" in script
    node = site.registry().by_hwaddr(HWADDR)
    assert node is not None
    assert (node.id, node.discoverable, str(node.network_devices["default"].ipaddr)) == ("n1", "false", "10.0.0.7")


async def test_without_a_place_it_says_who_it_is_and_asks_again(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    site.nodes_conf.write_text("nodes: {}\n")
    status, script = await site.get(f"/discover/{WWID}?attempt=3")
    assert status == 200
    assert "no node has hardware address 52:54:00:00:00:0a" in script
    assert f"/discover/{WWID}?" in script
    assert "attempt=4" in script
    _, last = await site.get(f"/discover/{WWID}?attempt={MAX_ATTEMPTS}")
    assert last.splitlines()[-1] == "exit 1"
    line = f"http DISCOVER hwaddr={HWADDR} node=- client=127.0.0.1 if=lo: no node is discoverable"
    assert [each for each in caplog.messages if "DISCOVER" in each] == [line, line]


@pytest.mark.parametrize("leased", [None, "52:54:00:00:00:0b"])
async def test_an_address_that_is_not_the_machines_takes_nothing(site: Site, leased: str | None) -> None:
    site.leased = leased
    assert (await site.get(f"/discover/{WWID}"))[0] == 403
    assert (await site.get("/discover/nonsense"))[0] == 400
    assert site.nodes_conf.read_text() == NODES


async def test_where_another_server_gives_addresses_the_network_is_what_counts(site: Site) -> None:
    site.leased = None
    site.config = replace(site.config, dhcp=replace(site.config.dhcp, mode=Mode.PROXY))
    status, script = await site.get(f"/discover/{WWID}")
    assert status == 200
    assert "now node n1" in script


async def test_unknown_machines_may_be_ignored(site: Site) -> None:
    site.config = replace(site.config, dhcp=replace(site.config.dhcp, unknown=Unknown.IGNORE))
    assert (await site.get(f"/discover/{WWID}"))[0] == 404
    assert site.nodes_conf.read_text() == NODES


async def test_machines_that_ask_at_once_share_a_change_and_no_node(site: Site) -> None:
    site.config = replace(site.config, dhcp=replace(site.config.dhcp, mode=Mode.PROXY))
    names = [f"n{number:02}" for number in range(30)]
    site.nodes_conf.write_text("nodes:\n" + "".join(f"  {name}:\n    discoverable: true  # by hand\n" for name in names))
    machines = [f"52:54:00:00:01:{number:02x}" for number in range(32)]
    async with asyncio.TaskGroup() as group:
        paths = [f"/discover/{hwaddr.replace(':', '-')}" for hwaddr in (*machines, *machines[:5])]
        asked = [group.create_task(site.get(path)) for path in paths]
    texts = [task.result()[1] for task in asked]
    registry = site.registry()
    became = {hwaddr: node.id for hwaddr in machines if (node := registry.by_hwaddr(hwaddr)) is not None}
    assert sorted(became.values()) == names
    for hwaddr, text in zip((*machines, *machines[:5]), texts, strict=True):
        expected = f"this machine is now node {became[hwaddr]}" if hwaddr in became else "no node has hardware address"
        assert expected in text
    assert site.nodes_conf.read_text().count("# by hand") == len(names)


async def test_who_goes_away_spoils_nothing_for_others(site: Site) -> None:
    """Both ask for the same machine; the first does not wait for its answer."""
    sock = socket.create_connection(("127.0.0.1", int(site.url.rpartition(":")[2])))
    sock.sendall(f"GET /discover/{WWID} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    sock.close()
    assert "now node n1" in (await site.get(f"/discover/{WWID}"))[1]
