"""The head node of a run: a configuration that keeps everything in the run's directory, `wwctl`, its server, a registry."""

import json
import shutil
import textwrap
from dataclasses import dataclass
from ipaddress import IPv4Address
from pathlib import Path

import aiohttp
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

    async def ssh(self, address: IPv4Address, command: str, seconds: float = 30) -> Output:
        """Run a command on a node as root, with the key that its overlay brought."""
        options = [
            *("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR"),
            *("ConnectTimeout=10", f"IdentityFile={self.key}", "IdentitiesOnly=yes"),
        ]
        flags = [part for option in options for part in ("-o", option)]
        return await run(["ssh", "-F", "/dev/null", *flags, f"root@{address}", command], seconds=seconds)


async def prepare_head(run_: Run, network: Network) -> Head:
    """Write the head node's configuration and the administrator's ssh key."""
    head = Head(run=run_, network=network)
    head.conf.parent.mkdir(parents=True)
    head.key.parent.mkdir(parents=True, mode=0o700)
    await check(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "bootsvc-lab", "-f", str(head.key)])
    head.conf.write_text(_warewulf_conf(head))
    # Beside nodes.conf: what a site adds to the keys of root itself.
    shutil.copyfile(head.key.with_suffix(".pub"), head.conf.parent / "authorized_keys")
    return head


def _warewulf_conf(head: Head) -> str:
    subnet = head.network.head.network
    base, scratch = head.run.path, head.run.scratch
    return textwrap.dedent(
        f"""\
        ipaddr: {head.network.head.ip}
        netmask: {subnet.netmask}
        network: {subnet.network_address}
        warewulf:
          port: {PORT}
        dhcp:
          enabled: true
          range start: {subnet[100]}
          range end: {subnet[199]}
        tftp:
          enabled: true
        paths:
          sysconfdir: {base}/etc
          localstatedir: {base}/var
          cachedir: {scratch}/cache
          wwchrootdir: {scratch}/chroots
          wwprovisiondir: {scratch}/provision
          wwoverlaydir: {base}/etc/overlays
        """
    )


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
