"""The head node of a run: a configuration that keeps everything in the run's directory, `wwctl`, its server, a registry."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from network import Network
from places import WWCTL, Run
from process import Output, Service, check, run

from images.generations import Generations

PORT = 9873
REGISTRY = "127.0.0.1:5000"
START_SECONDS = 30.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Head:
    """What a run's head node is made of."""

    run: Run
    network: Network

    @property
    def conf(self) -> Path:
        return self.run.path / "etc/warewulf/warewulf.conf"

    @property
    def home(self) -> Path:
        """The administrator's home on this head node, with the key that nodes let in."""
        return self.run.path / "etc/home"

    @property
    def key(self) -> Path:
        return self.home / ".ssh/id_ed25519"

    @property
    def known_hosts(self) -> Path:
        return self.home / ".ssh/known_hosts"

    def rootfs(self, image: str) -> Path:
        """An image's tree."""
        return self.run.scratch / "chroots" / image / "rootfs"

    @property
    def generations(self) -> Generations:
        """What was built of its images."""
        return Generations(self.run.scratch / "provision")

    @property
    def _status_url(self) -> str:
        return f"http://{self.network.head.ip}:{PORT}/status"

    @property
    def environment(self) -> dict[str, str]:
        return {"WAREWULFCONF": str(self.conf), "HOME": str(self.home), "NO_COLOR": "1", "PYTHONUNBUFFERED": "1"}

    def configure(self, more: Mapping[str, Any]) -> None:
        """Write warewulf.conf: what keeps everything in the run's directory, and `more`."""
        self.conf.write_text(yaml.safe_dump(_merged(_warewulf_conf(self), more), sort_keys=False))

    async def wwctl(self, *arguments: str, seconds: float = 300) -> Output:
        """Run `wwctl` as the administrator of this head node would."""
        return await run([str(WWCTL), *arguments], env=self.environment, seconds=seconds)

    async def serve(self) -> Service:
        """`wwctl server` in the background, once it answers."""
        log = self.run.path / "server.log"
        service = await Service.start("wwctl server", [str(WWCTL), "server"], log=log, env=self.environment)
        await _answering(service, self._status_url)
        return service

    async def stages(self) -> dict[str, str]:
        """Each node's stage in capitals, as `wwctl node status` shows it, but without the cost of a process."""
        async with aiohttp.ClientSession() as session, session.get(self._status_url) as answer:
            nodes = (await answer.json())["nodes"]
        return {name: node["stage"].upper() for name, node in nodes.items()}

    async def serve_registry(self) -> Service:
        """Debian's docker-registry on loopback, once it answers."""
        storage = self.run.scratch / "registry"
        conf = self.run.path / "etc/registry.yml"
        conf.write_text(
            json.dumps({"version": 0.1, "storage": {"filesystem": {"rootdirectory": str(storage)}}, "http": {"addr": REGISTRY}})
        )
        log = self.run.path / "registry.log"
        service = await Service.start("docker-registry", ["docker-registry", "serve", str(conf)], log=log)
        await _answering(service, f"http://{REGISTRY}/v2/")
        return service

    async def ssh(self, address: IPv4Address, command: str, *, known: bool = False, seconds: float = 30) -> Output:
        """Run a command on a node as root, with the key that its overlay brought.

        `known`: only if the node proves itself with the host key that all nodes get of the overlay ssh.host_keys.
        """
        strict, hosts = ("yes", self.known_hosts) if known else ("no", "/dev/null")
        options = [
            *("BatchMode=yes", f"StrictHostKeyChecking={strict}", f"UserKnownHostsFile={hosts}", "LogLevel=ERROR"),
            *("ConnectTimeout=10", f"IdentityFile={self.key}", "IdentitiesOnly=yes"),
        ]
        flags = [part for option in options for part in ("-o", option)]
        return await run(["ssh", "-F", "/dev/null", *flags, f"root@{address}", command], seconds=seconds)


async def prepare_head(run_: Run, network: Network) -> Head:
    """Write the head node's configuration the administrator's ssh key and that of the nodes' sshd."""
    head = Head(run=run_, network=network)
    head.conf.parent.mkdir(parents=True)
    head.key.parent.mkdir(parents=True, mode=0o700)
    # `wwctl configure ssh` would write into this machine's own /root and /etc, too.
    host_key = head.conf.parent / "keys/ssh_host_ed25519_key"
    host_key.parent.mkdir(mode=0o700)
    for key in (head.key, host_key):
        await check(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bootsvc-lab", "-f", str(key)])
    head.known_hosts.write_text(f"* {host_key.with_suffix('.pub').read_text()}")
    head.configure({})
    # Beside nodes.conf: what a site adds to the keys of root itself.
    shutil.copyfile(head.key.with_suffix(".pub"), head.conf.parent / "authorized_keys")
    return head


def _warewulf_conf(head: Head) -> dict[str, Any]:
    subnet = head.network.head.network
    base, scratch = head.run.path, head.run.scratch
    return {
        "ipaddr": str(head.network.head.ip),
        "netmask": str(subnet.netmask),
        "network": str(subnet.network_address),
        "warewulf": {"port": PORT},
        "dhcp": {"enabled": True, "range start": str(subnet[100]), "range end": str(subnet[199])},
        "tftp": {"enabled": True},
        "paths": {
            "sysconfdir": f"{base}/etc",
            "localstatedir": f"{base}/var",
            "cachedir": f"{scratch}/cache",
            "wwchrootdir": f"{scratch}/chroots",
            "wwprovisiondir": f"{scratch}/provision",
            "wwoverlaydir": f"{base}/etc/overlays",
        },
    }


def _merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    both = {
        key: _merged(below[key], value) if isinstance(value, Mapping) and isinstance(below.get(key), Mapping) else value
        for key, value in above.items()
    }
    return {**below, **both}


async def _answering(service: Service, url: str) -> None:
    """Wait until the service answers with 200."""
    async with aiohttp.ClientSession() as session:

        async def answers() -> bool:
            try:
                async with session.get(url) as answer:
                    return answer.status == 200
            except aiohttp.ClientError:
                return False

        await service.until(answers, START_SECONDS)
