"""Every command, alias and flag of Warewulf 4.7's `wwctl` is taken, but for those that docs/migrating.md leaves out."""

import click
import pytest

from bootsvc.cli.main import command

VALUES = """
--profile -P --comment --cluster -c --image --container -C --ipxe --runtime-overlays -R --runtime --system-overlays -O
--wwinit --init -i --root --primarynet -p --kernelversion --kernelargs -A --ipmiuser --ipmipass --ipmiaddr --ipmigateway
--ipminetmask --ipmiport --ipmiinterface --ipmiescapechar --ipmiwrite --ipmitemplate --type -T --onboot --netdev -N --hwaddr
-H --ipaddr -I --netmask -M --gateway -G --ipaddr6 --prefixlen6 --gateway6 --mtu --netname --diskname --diskwipe --partname
--partnumber --partsize --parttype --partwipe --partcreate --fsname --fsformat --fspath --fswipe
"""
ADDED = "--tagadd --ipmitagadd --nettagadd"
REMOVED = "--tagdel --ipmitagdel --nettagdel --netdel --diskdel --partdel --fsdel"
UNSET = f"{VALUES} --tag --ipmitag --nettag"
OF_NODES = "--discoverable -e --asset"

# Command with its aliases, and its flags.
WORDS = {
    "image": "vnfs container",
    "image build": "| -a --all -f --force --syncuser",
    "image copy": "cp | -b --build",
    "image delete": "rm remove del | -y --yes",
    "image exec": "| -b --bind --syncuser --build -n --node",
    "image import": "pull | -f --force -u --update -b --build --syncuser --nohttps --username --password --platform"
    " --passwd --arch",
    "image kernels": "kernel",
    "image list": "ls | -l --long -k --kernel -s --size -c --chroot --compressed",
    "image rename": "mv | -b --build",
    "image shell": "chroot | -b --bind --syncuser --build -n --node",
    "image show": "| -a --all",
    "image syncuser": "| --write --build",
    "node": "nodes",
    "node add": f"new create | {VALUES} {ADDED} {OF_NODES}",
    "node delete": "rm del remove | -y --yes",
    "node edit": "| --noheader",
    "node export": "",
    "node import": "| -y --yes",
    "node list": "ls | -n --net -i --ipmi -a --all -l --long -y --yaml -j --json",
    "node set": f"modify | {VALUES} {ADDED} {REMOVED} {OF_NODES} -a --all -y --yes -f --force",
    "node status": "| -w --watch -U --update -t --time -l --last -r --reverse -u --unknown",
    "node unset": f"| {UNSET} {OF_NODES} -y --yes -f --force",
    "profile add": f"new create | {VALUES} {ADDED}",
    "profile delete": "rm del remove | -y --yes",
    "profile edit": "| --noheader",
    "profile list": "ls | -a --all -y --yaml -j --json",
    "profile set": f"modify | {VALUES} {ADDED} {REMOVED} -y --yes -f --force",
    "profile unset": f"| {UNSET} -y --yes -f --force",
    "overlay build": "| --workers",
    "overlay chmod": "",
    "overlay chown": "",
    "overlay create": "new add",
    "overlay delete": "rm remove del | -f --force -p --parents",
    "overlay edit": "| -p --parents -m --mode",
    "overlay import": "cp | -o --overwrite -p --parents --workers",
    "overlay info": "variables vars",
    "overlay list": "ls | -a --all -l --long -p --path",
    "overlay mkdir": "| -m --mode",
    "overlay show": "cat | -r --render -q --quiet",
    "configure": "| -a --all",
    "configure dhcp": "",
    "configure hostfile": "",
    "configure nfs": "",
    "configure ssh": "| -t --keytypes",
    "configure tftp": "| -s --show",
    "configure tls": "keys key cert crt | --import --export -f --force",
    "configure warewulfd": "",
    "ssh": "| -n --dryrun -f --fanout -s --sleep --rsh",
    "clean": "",
    "genconfig": "cnf",
    "genconfig man": "",
    "genconfig reference": "",
    "genconfig warewulfconf": "",
    "server": "",
    "upgrade config": "| -i -o",
    "upgrade nodes": "| -i -o --add-defaults --replace-overlays --with-warewulfconf",
    "version": "vers | -f",
    "completion": "",
}
GLOBAL = "-v --verbose -d --debug --warewulfconf --loglevel --emptyconf"
TABLES = [
    "image list", "image show", "image kernels", "image history", "container list", "node list", "node status", "profile list",
    "overlay list", "overlay info", "node export", "profile export",
]  # fmt: skip


def find(words: str) -> click.Command:
    found: click.Command = command()
    for word in words.split():
        assert isinstance(found, click.Group)
        following = found.get_command(click.Context(found), word)
        assert following, f"there is no command {words!r}"
        found = following
    return found


def flags(found: click.Command) -> set[str]:
    return {name for param in found.params for name in (*param.opts, *param.secondary_opts) if name.startswith("-")}


@pytest.mark.parametrize("words", WORDS)
def test_command_with_its_aliases_and_flags(words: str) -> None:
    aliases, _, wanted = WORDS[words].partition("|")
    parent = words.rpartition(" ")[0]
    for spelling in (words, *(f"{parent} {alias}".strip() for alias in aliases.split())):
        missing = {*wanted.split(), *GLOBAL.split()} - flags(find(spelling))
        assert not missing


@pytest.mark.parametrize("words", TABLES)
def test_every_table_comes_as_json_and_yaml(words: str) -> None:
    assert not {"--json", "-j", "--yaml", "-y"} - flags(find(words))
