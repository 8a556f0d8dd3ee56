"""Composition root: configuration and nodes → services → one TaskGroup; reload when a file changes."""

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import partial
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Protocol

from bootsvc.artifacts import Artifacts
from bootsvc.attached import Attached, AttachedAddresses, GoneInterfaces
from bootsvc.bootfiles import BootFiles
from bootsvc.boots import BootEvent, tells_of_boot
from bootsvc.config import Config
from bootsvc.dhcp.service import DhcpService
from bootsvc.dns.service import DnsService
from bootsvc.errors import PortTaken, PortUnavailable
from bootsvc.http.api import Api
from bootsvc.http.discovery import Discovery
from bootsvc.http.service import HttpService
from bootsvc.http.settings import Listen
from bootsvc.http.stages import Stages
from bootsvc.net.links import Link, find_link, until_gone
from bootsvc.net.neighbours import Neighbours
from bootsvc.net.networks import NetworkSet
from bootsvc.net.ra import RouterAdvertiser
from bootsvc.overlays import HeadNode, describe_server, host_name, places_of
from bootsvc.process import privileges
from bootsvc.process.holders import Holder
from bootsvc.process.notify import Notifier
from bootsvc.registry import Registry
from bootsvc.restart import until_restart
from bootsvc.served_nodes import ServedNodes
from bootsvc.server_urls import ServerUrls
from bootsvc.state import State
from bootsvc.store import Store
from bootsvc.tftp.made import MadeFiles
from bootsvc.tftp.service import TftpService
from bootsvc.tftp.subnets import TftpSubnets
from bootsvc.watching import WatchedFile
from images.catalog import Catalog
from images.errors import Error
from netboot.urls import Urls

log = logging.getLogger(__name__)

STOP_SECONDS = 30.0
"""The stop takes no longer than this besides what `drain seconds` gives to transfers."""
POLL_SECONDS = 0.25
"""How often nodes.conf and warewulf.conf are looked at; what has changed must be at rest for as long."""


class Service(Protocol):
    """Something that runs until it is cancelled."""

    async def run(self, ready: asyncio.Event) -> None: ...


class Application:
    """The server's state: what was loaded, swapped whole on a change, and the services that ask for it."""

    def __init__(self, config: Config, link: Link, state: State, *, holders: Sequence[Holder] = ()) -> None:
        self._loaded = self._config = config
        self._link = link
        self._state = state
        self._holders = holders
        store = Store(config.paths.nodes_conf, config.paths.nodes_cache)
        self._files = WatchedFile(config.source), WatchedFile(store.path)
        self._nodes = ServedNodes(store, self._boot_network, link.address)
        self._nodes.load()
        urls = Urls(address=link.address, port=config.http.port, tls=config.http.tls is not None)
        catalog = Catalog(chroots=config.paths.chroots, provision=config.paths.provision)
        self._dhcp = DhcpService(self.config, self.registry, state, on_event=self._on_event)
        self._addresses = AttachedAddresses(self.config)
        self._dns_addresses: frozenset[IPv4Address] = frozenset()
        self._dns = DnsService(self.config, self.registry, host_name, holder=self._dns_holder, on_serving=self._on_dns)
        artifacts = Artifacts(config, catalog, self.registry, lambda: self._describe(urls))
        self._boot_files = BootFiles(
            artifacts,
            self.registry,
            urls,
            catalog.find_rootfs,
            directories=self._loader_directories,
            subnets=self._subnets,
        )
        self._neighbours = Neighbours()
        self._near: tuple[Config, NetworkSet] | None = None
        self._tftp = self._make_tftp(link.address)
        self._tftp_subnets = TftpSubnets(self.config, self._make_tftp)
        stages = Stages(self._boot_files, self._identify, self.record, state.written)
        api = Api(state.last_events, self.registry, self._counters)
        discovery = Discovery(store, self.config, self.registry, self._find_lessee, ServerUrls(urls, self._subnets))
        routes = [*stages.routes(), *api.routes(), *discovery.routes()]
        somewhere = None if config.http.listen is Listen.ALL else partial(Attached, "http", self.config, boot=True)
        self._http = HttpService(config.http.port, routes, settings=config.http, attached=somewhere)

    def _loader_directories(self) -> tuple[Path, ...]:
        return (self._config.paths.ipxesource,)

    def config(self) -> Config:
        """The settings of now; while DNS is served, this machine is the name server that nodes are told by default."""
        return self._config

    def registry(self) -> Registry:
        return self._nodes.registry

    def _boot_network(self) -> IPv4Network:
        return self._config.network or self._link.network

    @property
    def status(self) -> str:
        """One line for systemd."""
        return f"{len(self.registry().nodes)} nodes, on {self._link.name} ({self._link.address})"

    def services(self) -> list[Service]:
        """What the configuration asks for; DNS first, since DHCP tells of it; HTTP last: if it answers `/status`, all do."""
        services: list[Service] = [self._addresses, GoneInterfaces(self.config)]
        if self._config.dns.enabled:
            services.append(self._dns)
        if self._config.dhcp.enabled:
            subnets = Attached("router advertisements", self.config, self._advertise)
            services += [self._dhcp, RouterAdvertiser(self.config), subnets]
        if self._config.tftp.enabled:
            services += [self._tftp, self._tftp_subnets]
        return [*services, self._http]

    async def _advertise(self, link: Link, begun: asyncio.Event) -> None:
        """On a subnet as on the boot network, unless they share an interface."""
        boot = await find_link(self._config.ipaddr, self._config.network)
        if boot.index == link.index:
            begun.set()
            return await until_gone(link)
        here = RouterAdvertiser(lambda: replace(self._config, ipaddr=link.address, network=link.network))
        await here.run(begun)

    def _make_tftp(self, address: IPv4Address) -> TftpService:
        return TftpService(
            address,
            self._loader_directories,
            made=MadeFiles(self._boot_files, self._identify, address),
            identify=self._identify,
            name_of=self._name_of,
            on_event=self._on_event,
            serves=self._is_near,
        )

    def _is_near(self, address: IPv4Address) -> bool:
        """Whether a machine with this address may be one that boots from here."""
        config = self._config
        if self._near is None or self._near[0] is not config:
            networks = (self._boot_network(), *self._subnets(), *config.tftp.networks)
            self._near = config, NetworkSet.of(networks)
        return address in self._near[1] or self.registry().is_near(address)

    def _subnets(self) -> Sequence[IPv4Network]:
        """Those besides the boot network."""
        return [subnet.network for subnet in self._config.dhcp.subnets]

    def _load_config(self) -> None:
        try:
            new = Config.load(self._loaded.source)
        except Error as exc:
            log.error("warewulf.conf is not used, the settings stay as they were: %s", exc)
            return
        self._loaded, waiting = until_restart(self._loaded, new)
        for name in waiting:
            log.warning("a change of %s in warewulf.conf takes effect when the server is started again", name)
        for warning in new.warnings:
            log.warning("%s", warning)
        self._config = self._with_dns(self._loaded)
        log.info("warewulf.conf loaded")

    def _with_dns(self, config: Config) -> Config:
        return replace(config, dhcp=config.dhcp.with_dns(self._link.address, self._dns_addresses))

    def _on_dns(self, serving: frozenset[IPv4Address]) -> None:
        self._dns_addresses = serving
        self._config = self._with_dns(self._loaded)

    def _holder(self, protocol: str, port: int, address: IPv4Address | None) -> str:
        """Who had the port (of any address: None) when the server was started; later we may not look into other processes."""
        for holder in self._holders:
            if (holder.protocol, holder.port) == (protocol, port) and holder.is_in_the_way_of(address):
                return str(holder)
        return ""

    def _dns_holder(self, protocol: str, port: int) -> str:
        return self._holder(protocol, port, self._link.address)

    async def _reload_nodes(self) -> None:
        """Names are taken over with the nodes that have them, so that nobody meets one without the other."""
        registry = await self._nodes.read()
        link = self._dns.link
        zone = None if link is None else await asyncio.to_thread(self._dns.build, registry.nodes, self._config, link)
        self._nodes.use(registry)
        if zone is not None and self._dns.link is not None:
            self._dns.use(zone)

    async def run(self, stop: asyncio.Event, reload: asyncio.Event) -> None:
        """Every service until `stop` is set; `reload` has all files read anew."""
        notifier = Notifier()
        async with asyncio.TaskGroup() as tasks:
            running = []
            for service in self.services():
                ready = asyncio.Event()
                running.append(tasks.create_task(service.run(ready)))
                await ready.wait()
            running += [tasks.create_task(self.watch(reload, notifier)), tasks.create_task(notifier.beat())]
            privileges.limit_thread()
            notifier.ready(self.status)
            log.info("ready")
            await stop.wait()
            log.info("stopping")
            notifier.stopping(self._config.http.drain_seconds + STOP_SECONDS)
            for task in running:
                task.cancel()

    async def watch(self, reload: asyncio.Event, notifier: Notifier) -> None:
        """Read changed files, or both when `reload` is set (SIGHUP)."""
        config, nodes = self._files
        while True:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await reload.wait()
            except TimeoutError:
                pass
            new_config, new_nodes = config.changed(), nodes.changed()
            if reload.is_set():
                config.reading()
                new_config = True
                reload.clear()
            if not new_config and not new_nodes:
                continue
            nodes.reading()
            notifier.reloading()
            if new_config:
                self._load_config()
            await self._reload_nodes()
            notifier.ready(self.status)

    def explain(self, error: Error) -> Error:
        """A port that cannot be had, by the name of the program that has it."""
        if isinstance(error, PortUnavailable):
            protocol, port = "udp", error.port
        elif isinstance(error, PortTaken):
            protocol, port = error.protocol, error.port
        else:
            return error
        everywhere = protocol == "tcp" and self._loaded.http.listen is Listen.ALL
        holder = self._holder(protocol, port, None if everywhere else self._link.address)
        return PortTaken(protocol, port, holder) if holder else error

    def record(self, event: BootEvent) -> None:
        """Keep an event, unless it says nothing of a boot."""
        if not tells_of_boot(event, self._state.last_event(event.hwaddr)):
            return
        self._state.save_event(event.hwaddr, event.node, event.stage, event.detail, event.size, event.when, ipaddr=event.ipaddr)

    def _on_event(
        self, hwaddr: str, node: str | None, stage: str, detail: str, *, size: int = 0, ipaddr: IPv4Address | None = None
    ) -> None:
        self.record(BootEvent(hwaddr=hwaddr, node=node, stage=stage, sent=detail, size=size, ipaddr=ipaddr, when=time.time()))

    def _identify(self, address: IPv4Address) -> str | None:
        """The machine that has an address now: its neighbours know best, and behind a relay there are only leases."""
        return self._neighbours.find_hwaddr(address) or self._dhcp.find_hwaddr(address)

    def _name_of(self, hwaddr: str) -> str | None:
        node = self.registry().by_hwaddr(hwaddr)
        return None if node is None else node.id

    def _find_lessee(self, address: IPv4Address) -> str | None:
        """The machine that got the address from us, unless another one on the wire has it.

        One machine could ask for addresses in the name of many, and take every node that waits to be discovered.
        """
        leased, seen = self._dhcp.find_hwaddr(address), self._neighbours.find_hwaddr(address)
        return leased if seen is None or seen == leased else None

    def _counters(self) -> Mapping[str, Mapping[str, int]]:
        return {
            "dhcp": asdict(self._dhcp.counters),
            "tftp": asdict(self._tftp.counters) | {f"subnets {key}": n for key, n in self._tftp_subnets.count().items()},
            "http": asdict(self._http.counters),
            "dns": self._dns.count(),
        }

    def _describe(self, urls: Urls) -> HeadNode:
        """The head node as overlays see it, now."""
        config = self._config
        return HeadNode(describe_server(config, urls, self._link.network), places_of(config, self._addresses.now))
