"""Composition root: configuration and nodes → services → one TaskGroup; signals; reload when a file changes."""

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Protocol

from bootsvc.artifacts import Artifacts
from bootsvc.bootfiles import BootFiles
from bootsvc.boots import BootEvent, tells_of_boot
from bootsvc.config import Config
from bootsvc.dhcp.service import DhcpService
from bootsvc.http.api import Api
from bootsvc.http.discovery import Discovery
from bootsvc.http.service import HttpService
from bootsvc.http.stages import Stages
from bootsvc.loading import load, load_aside
from bootsvc.net.links import Link, find_link
from bootsvc.net.neighbours import Neighbours
from bootsvc.net.ra import RouterAdvertiser
from bootsvc.overlays import describe_server
from bootsvc.registry import Registry
from bootsvc.state import State
from bootsvc.store import Identity, Store
from bootsvc.tftp.made import MadeFiles
from bootsvc.tftp.service import TftpService
from images.catalog import Catalog
from images.errors import Error
from netboot.engine import Server
from netboot.urls import Urls

log = logging.getLogger(__name__)

MAX_PROBLEMS = 20
"""Lines logged of what is wrong in nodes.conf."""
POLL_SECONDS = 0.5
"""How soon a change of nodes.conf or warewulf.conf takes effect without anybody telling the server."""


class Service(Protocol):
    """Something that runs until it is cancelled."""

    async def run(self, ready: asyncio.Event) -> None: ...


class Application:
    """The server's state: what was loaded, swapped whole on a change, and the services that ask for it."""

    def __init__(self, config: Config, link: Link, state: State) -> None:
        self._config = config
        self._link = link
        self._state = state
        self._store = Store(config.paths.nodes_conf, config.paths.nodes_cache)
        self._registry = Registry()
        self._nodes_seen: Identity | None = None
        self._config_seen = _identity(config.source)
        self.load_nodes()
        urls = Urls(address=link.address, port=config.http.port, tls=config.http.tls is not None)
        catalog = Catalog(chroots=config.paths.chroots, provision=config.paths.provision)
        self._dhcp = DhcpService(self.config, self.registry, state, on_event=self._on_event)
        artifacts = Artifacts(config, catalog, self.registry, lambda: self._describe(urls))
        files = BootFiles(artifacts, self.registry, urls, catalog.find_rootfs)
        self._neighbours = Neighbours()
        self._tftp = TftpService(
            link.address,
            lambda: (self._config.paths.ipxesource,),
            made=MadeFiles(files, self._identify),
            identify=self._identify,
            on_event=self._on_event,
        )
        stages = Stages(files, self._identify, self.record)
        api = Api(state.last_events, self.registry, self._counters)
        discovery = Discovery(self._store, self.config, self.registry, self._dhcp.find_hwaddr, urls)
        routes = [*stages.routes(), *api.routes(), *discovery.routes()]
        self._http = HttpService(config.http.port, routes, settings=config.http)

    def config(self) -> Config:
        return self._config

    def registry(self) -> Registry:
        return self._registry

    def services(self) -> list[Service]:
        """What the configuration asks for; HTTP last, so that a server which answers `/status` answers DHCP too."""
        services: list[Service] = []
        if self._config.dhcp.enabled:
            services += [self._dhcp, RouterAdvertiser(self.config)]
        if self._config.tftp.enabled:
            services.append(self._tftp)
        return [*services, self._http]

    def load_nodes(self) -> None:
        """Read nodes.conf before anything is served; a broken one leaves no nodes, and says why."""
        self._nodes_seen = self._nodes_identity()
        try:
            self._use(load(self._store, self._config.network or self._link.network, self._registry))
        except Error as exc:
            log.error("nodes.conf is not used: %s", exc)

    async def _reload_nodes(self) -> None:
        """Read nodes.conf anew; a broken one leaves the nodes as they were, and says why."""
        self._nodes_seen = self._nodes_identity()
        try:
            network = self._config.network or self._link.network
            self._use(await load_aside(self._store, network, self._registry))
        except (Error, OSError) as exc:
            log.error("nodes.conf is not used, the nodes stay as they were: %s", exc)

    def _nodes_identity(self) -> Identity | None:
        """None also when the file is out of reach; reading it then says why."""
        try:
            return self._store.identity()
        except OSError:
            return None

    def _use(self, registry: Registry) -> None:
        self._registry = registry
        thief = registry.by_address(self._link.address)
        if thief is not None:
            log.warning("node %s gets no address: its %s is this server's own", thief.id, self._link.address)
        for problem in self._registry.problems[:MAX_PROBLEMS]:
            log.warning("%s", problem)
        if len(registry.problems) > MAX_PROBLEMS:
            log.warning("%d more like these: `wwctl node list` shows them all", len(registry.problems) - MAX_PROBLEMS)
        log.info("%d nodes loaded from %s", len(self._registry.nodes), self._store.path)

    def _load_config(self) -> None:
        self._config_seen = _identity(self._config.source)
        try:
            new = Config.load(self._config.source)
        except Error as exc:
            log.error("warewulf.conf is not used, the settings stay as they were: %s", exc)
            return
        self._config = _reloaded(self._config, new)
        log.info("warewulf.conf loaded")

    async def watch(self, reload: asyncio.Event) -> None:
        """Notice changed files by their identity, or when `reload` is set (SIGHUP)."""
        while True:
            try:
                async with asyncio.timeout(POLL_SECONDS):
                    await reload.wait()
            except TimeoutError:
                pass
            if reload.is_set() or _identity(self._config.source) != self._config_seen:
                self._load_config()
                self._nodes_seen = None
            if reload.is_set() or self._nodes_identity() != self._nodes_seen:
                await self._reload_nodes()
            reload.clear()

    def record(self, event: BootEvent) -> None:
        """Keep an event, unless it says nothing of a boot."""
        if not tells_of_boot(event, self._state.last_event(event.hwaddr)):
            return
        self._state.save_event(event.hwaddr, event.node, event.stage, event.sent, event.size, event.when, ipaddr=event.ipaddr)

    def _on_event(
        self, hwaddr: str, node: str | None, stage: str, detail: str, *, size: int = 0, ipaddr: IPv4Address | None = None
    ) -> None:
        self.record(BootEvent(hwaddr=hwaddr, node=node, stage=stage, sent=detail, size=size, ipaddr=ipaddr, when=time.time()))

    def _identify(self, address: IPv4Address) -> str | None:
        """The machine that has an address now: its neighbours know best, and behind a relay there are only leases."""
        return self._neighbours.find_hwaddr(address) or self._dhcp.find_hwaddr(address)

    def _counters(self) -> Mapping[str, Mapping[str, int]]:
        return {
            "dhcp": asdict(self._dhcp.counters),
            "tftp": asdict(self._tftp.counters),
            "http": asdict(self._http.counters),
        }

    def _describe(self, urls: Urls) -> Server:
        """The head node as overlays see it, now."""
        return describe_server(self._config, urls, self._link.network)


def _reloaded(old: Config, new: Config) -> Config:
    """`new`, but what the running sockets were made from stays `old`, so that no answer mixes the two."""
    fixed = [name for name in ("ipaddr", "network", "paths", "http") if getattr(new, name) != getattr(old, name)]
    kept = replace(new, **{name: getattr(old, name) for name in fixed})
    if "ipaddr" in fixed or "network" in fixed:
        # The new range lies in the new network.
        kept = replace(kept, dhcp=old.dhcp)
    if new.dhcp.enabled != old.dhcp.enabled:
        fixed.append("dhcp enabled")
        kept = replace(kept, dhcp=replace(kept.dhcp, enabled=old.dhcp.enabled))
    if new.tftp.enabled != old.tftp.enabled:
        fixed.append("tftp enabled")
        kept = replace(kept, tftp=replace(new.tftp, enabled=old.tftp.enabled))
    for name in fixed:
        log.warning("a change of %s in warewulf.conf takes effect when the server is started again", name)
    return kept


def _identity(path: Path) -> tuple[int, int, int, int] | None:
    try:
        info = os.stat(path)
    except OSError:
        return None
    return info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


async def serve(config: Config) -> None:
    """Run every service until SIGTERM or SIGINT. Raises Error when one cannot start: nothing is left half running."""
    link = await find_link(config.ipaddr, config.network)
    state = await asyncio.to_thread(State.open, config.paths.state)
    failure: Error | None = None
    try:
        application = Application(config, link, state)
        stop, reload = asyncio.Event(), asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, reload.set)
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, stop.set)
        await _run_all(application, stop, reload)
    except* Error as group:
        # What is raised here would come out as a group again.
        failure = _first(group)
    finally:
        await asyncio.to_thread(state.close)
    if failure is not None:
        raise failure


async def _run_all(application: Application, stop: asyncio.Event, reload: asyncio.Event) -> None:
    async with asyncio.TaskGroup() as tasks:
        running = [tasks.create_task(application.watch(reload))]
        for service in application.services():
            ready = asyncio.Event()
            running.append(tasks.create_task(service.run(ready)))
            await ready.wait()
        log.info("ready")
        await stop.wait()
        log.info("stopping")
        for task in running:
            task.cancel()


def _first(group: BaseExceptionGroup[Error]) -> Error:
    """The first of the errors that stopped the server; the others are mostly its consequence."""
    inner = group.exceptions[0]
    return _first(inner) if isinstance(inner, BaseExceptionGroup) else inner
