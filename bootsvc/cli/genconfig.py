"""`wwctl genconfig`: what is made of the program itself: manual pages, reference, completion, and files to begin with."""

from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from bootsvc.cli.command import Invocation, Noun, Verb
from images.errors import Error

if TYPE_CHECKING:
    from bootsvc.config import Config

START = {
    "nodeprofiles": {
        "default": {
            "comment": "every node has this profile, unless it names others",
            "runtime overlay": ["hosts", "ssh.authorized_keys"],
            "system overlay": ["wwinit", "wwclient", "hosts", "fstab", "hostname", "ssh.host_keys", "issue", "resolv"],
            "init": "/sbin/init",
            "root": "initramfs",
            "ipxe template": "default",
            "kernel": {"args": ["quiet", "crashkernel=no", "net.ifnames=1"]},
        }
    },
    "nodes": {},
}
"""A nodes.conf to begin with; the overlay of the nodes' network stack is to be added."""


def _man(folder: str) -> None:
    """Write the manual pages into a folder."""
    from bootsvc.cli.manual import manual
    from bootsvc.cli.pages import pages

    _write(Path(folder), manual(pages(), version("bootsvc")))


def _reference(folder: str) -> None:
    """Write the reference, Markdown, into a folder; files of commands that are gone go."""
    from bootsvc.cli.markdown import NOTE, reference
    from bootsvc.cli.pages import pages

    place, files = Path(folder), reference(pages())
    _write(place, files)
    for stale in place.glob("*.md"):
        if stale.name not in files and stale.read_text().startswith(NOTE):
            stale.unlink()


def _completions(folder: str) -> None:
    """Write the completion scripts of bash, zsh and fish into a folder, by the names under which the shells look for them."""
    from bootsvc.cli.completion import script

    root = click.get_current_context().find_root().command
    names = {"bash": "wwctl", "zsh": "_wwctl", "fish": "wwctl.fish"}
    _write(Path(folder), {name: script(shell, root) for shell, name in names.items()})


def _write(folder: Path, files: Mapping[str, str]) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text)
    except OSError as exc:
        raise Error(f"cannot write {exc.filename}: {exc.strerror}", hint="name a folder that can be written to") from exc
    print(f"Wrote {len(files)} files to {folder}")


def _defaults() -> None:
    """Print a nodes.conf to begin with: the profile default."""
    from bootsvc.cli.table import as_yaml

    print(as_yaml(START), end="")


@click.pass_obj
def _print(invocation: Invocation) -> None:
    """Print warewulf.conf with every key that bootsvc uses, defaults filled in."""
    from bootsvc.cli.table import as_yaml

    print(as_yaml(_effective(invocation.config())), end="")


def _effective(config: "Config") -> dict[str, Any]:
    """The configuration in warewulf.conf's own keys."""
    head, dhcp, paths = config.head, config.dhcp, config.paths
    network = {"netmask": str(config.network.netmask), "network": str(config.network.network_address)} if config.network else {}
    start, end = dhcp.range_start, dhcp.range_end
    lent = {"range start": str(start), "range end": str(end)} if start and end else {}
    router = {"router": str(dhcp.router)} if dhcp.router else {}
    return {
        **({"fqdn": config.fqdn} if config.fqdn else {}),
        **({"ipaddr": str(config.ipaddr)} if config.ipaddr else {}),
        **network,
        **({"ipaddr6": str(head.ipaddr6)} if head.ipaddr6 else {}),
        "warewulf": {
            "port": config.http.port,
            "tls": head.warewulf.tls,
            "update interval": head.warewulf.update_interval,
            "host overlay": head.warewulf.host_overlay,
        },
        "dhcp": {"enabled": dhcp.enabled, **lent},
        "tftp": {"enabled": config.tftp.enabled, **({"ipxe": dict(config.tftp.ipxe)} if config.tftp.ipxe else {})},
        "nfs": {
            "enabled": head.nfs.enabled,
            "export paths": [{"path": one.path, "export options": one.options} for one in head.nfs.exports],
            "systemd name": head.nfs.systemd_name,
        },
        "ssh": {"key types": list(head.key_types)},
        "image mounts": [
            {"source": str(one.source), "dest": str(one.dest), "readonly": one.readonly, "copy": one.copy}
            for one in config.image_mounts
        ],
        "paths": {
            "sysconfdir": str(paths.sysconfdir),
            "localstatedir": str(paths.localstatedir),
            "cachedir": str(paths.cachedir),
            "ipxesource": str(paths.ipxesource),
            "wwchrootdir": str(paths.chroots),
            "wwprovisiondir": str(paths.provision),
            "wwoverlaydir": str(paths.overlays),
        },
        "bootsvc": {
            "dhcp": {"lease seconds": dhcp.lease_seconds, **router, "dns": [str(address) for address in dhcp.dns]},
            "router advertisements": dhcp.router_advertisements,
        },
    }


def _folder() -> list[click.Parameter]:
    return [click.Argument(["folder"], metavar="DIR", type=click.Path(file_okay=False))]


genconfig = Noun("genconfig", help="Print or write documents and configuration.", hidden=True)
for _name, _callback in (("man", _man), ("reference", _reference), ("completions", _completions)):
    genconfig.add_command(Verb(_name, callback=_callback, params=_folder(), help=_callback.__doc__))
genconfig.add_command(Verb("defaults", callback=_defaults, help=_defaults.__doc__))
_conf = Noun("warewulfconf", help="The configuration of the server.")
_conf.add_command(Verb("print", callback=_print, help=_print.__doc__))
genconfig.add_command(_conf)
