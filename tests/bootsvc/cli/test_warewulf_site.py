"""A Warewulf site's own files go through every verb and lose nothing: no comment, no order, no key, no value."""

import json
from collections.abc import Sequence
from difflib import ndiff

import pytest
import yaml
from warewulf_site import FILES, Site, site

__all__ = ["site"]

WARNING = "wwctl: warning: node g02: unknown key 'physics inventory'\n"


def changed(before: Sequence[str], after: Sequence[str]) -> list[str]:
    """The lines that differ, with - or + before them."""
    return [f"{line[0]}{line[2:]}" for line in ndiff(before, after) if line[0] in "-+"]


@pytest.mark.parametrize(
    "line",
    [
        *(f"node list {view} {form}" for view in ("", "-n", "-i", "-l", "-a") for form in ("", "-j", "-y")),
        *(f"profile list {view} {form}" for view in ("", "-a") for form in ("", "-j", "-y")),
        "node export",
        "node export --merged",
        "profile export",
        "upgrade nodes --add-defaults=false --replace-overlays=false",
        "upgrade config",
    ],
)
def test_what_only_reads_changes_nothing(site: Site, line: str) -> None:
    kept = site.nodes_conf.read_bytes(), site.warewulf_conf.read_bytes()
    code, out, err = site.wwctl(line)
    assert code == 0
    assert out
    assert err in ("", WARNING)
    assert (site.nodes_conf.read_bytes(), site.warewulf_conf.read_bytes()) == kept
    if line.endswith("-j"):
        assert json.loads(out)
    elif line.endswith("-y") or "export" in line:
        assert yaml.load(out, yaml.BaseLoader)


def test_lists_show_what_profiles_give(site: Site) -> None:
    nodes = json.loads(site.wwctl("node list -j").out)
    assert list(nodes) == ["g01", "g02", "n01", "n02", "s01.storage", "spare"]
    assert nodes["g01"]["kernel"] == {
        "args": ["crashkernel=no", "net.ifnames=1", "nouveau.modeset=0", "console=ttyS1,115200", "console=tty0"],
        "version": "6.1.90",
    }
    assert [entry["file"] for entry in nodes["g01"]["resources"]["fstab"]] == ["/home", "/opt", "/data"]
    assert nodes["g02"]["image name"] == "debian-12"
    assert "version" not in nodes["g02"]["kernel"]
    assert nodes["g02"]["runtime overlay"] == ["hosts", "ssh.authorized_keys", "nvidia.persistenced"]
    storage = nodes["s01.storage"]
    assert "ifcfg" not in storage["system overlay"]
    assert storage["network devices"]["default"]["tags"]["mode"] == "802.3ad"
    assert storage["network devices"]["port2"] == {"device": "eno2", "tags": {"master": "bond0"}, "hwaddr": "52:54:00:00:01:02"}
    rows = {(row["node"], row["field"]): row for row in json.loads(site.wwctl("node list -a -j").out)}
    assert rows["s01.storage", "cluster"]["profile"] == "SUPERSEDED"
    assert rows["g01", "kernelargs"]["profile"] == "default,gpu,g01"
    assert rows["g01", "ipmipass"] == {
        "node": "g01",
        "field": "ipmipass",
        "profile": "default",
        "value": "0123 # not a comment",
    }
    assert rows["s01.storage", "resources.ignition.flags"]["value"] == '[1, 2.5, true, null, "07"]'


@pytest.mark.parametrize(
    ("line", "lines"),
    [
        ("node set n02 --comment quiet", ['-    comment: "fan #3 is loud: replace"   # ticket 4711',
                                          "+    comment: quiet   # ticket 4711"]),
        ("node set n01 --ipaddr 10.10.1.9", ["-        ipaddr: 10.10.1.1", "+        ipaddr: 10.10.1.9"]),
        ("node set g02 --tagadd rack=R2", ["+    tags:", "+      rack: R2"]),
        ("node set g01 --tagadd rack=R3,row=7", ["-      rack: R2", "+      rack: R3", '+      row: "7"']),
        ("node set g01 --hwaddr 00-25-90-00-00-11", ["-        hwaddr: '00:25:90:00:00:10'",
                                                     "+        hwaddr: 00:25:90:00:00:11"]),
        ("node set spare --image debian-12", ["-  spare: {}", "+  spare:", "+    image name: debian-12"]),
        ("node unset n01 --netname ib0", ["-      ib0:", "-        type: infiniband", "-        device: ib0",
                                          "-        ipaddr: 10.12.1.1", "-        netmask: 255.255.0.0", "-        tags:",
                                          "-          route1: 10.13.0.0/16,10.12.0.254"]),
        ("node unset n02 --comment", ['-    comment: "fan #3 is loud: replace"   # ticket 4711']),
        ("node unset g02 --runtime-overlays", ["-    runtime overlay: [~syncuser]"]),
        ("profile set rocky-9 --kernelversion 6.6", [
            "-      version: 6.1.90   # 6.6 breaks the old InfiniBand cards",
            '+      version: "6.6"   # 6.6 breaks the old InfiniBand cards']),
        ("profile set default --ipmipass 0777", ['-      password: "0123 # not a comment"', '+      password: "0777"']),
        ("profile set debian -O ~ifcfg,~NetworkManager,ifupdown", [
            "-    system overlay: [~ifcfg, ifupdown]", '+    system overlay: ["~ifcfg", "~NetworkManager", ifupdown]']),
        ("profile unset gpu --runtime-overlays", ["-    runtime overlay: [nvidia.persistenced]   # ours"]),
        ("profile set storage --diskname /dev/sdb --diskwipe", ["+      /dev/sdb:", "+        wipe_table: true"]),
        ("profile set storage --fsname /dev/disk/by-partlabel/swap --fswipe=false", ["+        wipe_filesystem: false"]),
        ("node delete n02", None),
        ("profile delete compute", []),
        ("node add n03 -P compute --ipaddr 10.10.1.3", [
            "+  n03:", "+    profiles:", "+      - compute", "+    network devices:", "+      default:",
            "+        ipaddr: 10.10.1.3"]),
        ("profile add row7 -P gpu", ["+  row7:", "+    profiles:", "+      - gpu"]),
    ],
)  # fmt: skip
def test_only_the_lines_of_what_changes_differ(site: Site, line: str, lines: list[str] | None) -> None:
    before = site.lines()
    result = site.wwctl(line, *(["-y"] if line.split()[1] != "add" else []))
    found = changed(before, site.lines())
    assert result.code == (1 if lines == [] else 0), result.err
    if lines is not None:
        assert found == lines
    elif "delete" in line:
        assert found == [f"-{text}" for text in before[before.index("  n02:") : before.index("  # rack 2: the expensive ones")]]
    assert [text for text in site.lines() if text.lstrip().startswith("#")] == [
        text for text in before if text.lstrip().startswith("#")
    ]


def test_every_list_of_changes_can_be_undone(site: Site) -> None:
    """Set and unset what no entry has: the file is again what it was, to the byte."""
    before = site.nodes_conf.read_bytes()
    flags = (
        "--cluster x --primarynet default --tagadd a=1 --ipmitagadd b=2 --netname new --nettagadd c=3 --fsname /dev/x"
        " --fsformat ext4 --diskname /dev/x --partname p --partsize 5 --init /x --ipmiuser u"
    )
    undo = "--cluster --primarynet --tag a --ipmitag b --init --ipmiuser --netname new --fsname /dev/x --diskname /dev/x"
    for which in ("node {} n01", "profile {} gpu"):
        assert site.wwctl(f"{which.format('set')} -y {flags}").code == 0
        assert site.nodes_conf.read_bytes() != before
        assert site.wwctl(f"{which.format('unset')} -y {undo}").code == 0
        assert site.nodes_conf.read_bytes() == before


def test_export_and_import(site: Site) -> None:
    before, values = site.nodes_conf.read_bytes(), site.values()
    for noun, section in (("node", "nodes"), ("profile", "nodeprofiles")):
        for form in ("", "-j"):
            exported = site.wwctl(f"{noun} export {form}").out
            if not form:
                assert yaml.load(exported, yaml.BaseLoader).keys() == values[section].keys()
            again = site.wwctl(f"{noun} import - -y", stdin=exported)
            assert (again.code, again.out) == (0, "No changes to apply.\n")
            assert site.wwctl(f"{noun} import --replace - -y", stdin=exported).out == "No changes to apply.\n"
    assert site.nodes_conf.read_bytes() == before
    nodes = site.wwctl("node export").out
    assert site.wwctl("node delete -y n01,n02,g01,g02,s01.storage,spare").code == 0
    assert site.wwctl("node import - -y", stdin=nodes).code == 0
    assert site.values()["nodeprofiles"] == values["nodeprofiles"]
    assert list(site.values()["nodes"]) == list(values["nodes"])


def test_edit(site: Site) -> None:
    before = site.lines()
    site.edit_with("")
    assert site.wwctl("node edit -y").out == "No changes to apply.\n"
    assert site.wwctl("profile edit -y").out == "No changes to apply.\n"
    assert site.lines() == before
    site.edit_with("s/10.10.2.2/10.10.2.9/", "s/^spare: {}/spare:\\n  comment: cold/", "/^g02:/,$s/owner: x/owner: y/")
    result = site.wwctl("node edit -y")
    assert (result.code, result.err) == (0, WARNING)
    assert changed(before, site.lines()) == [
        "-    physics inventory: {bought: 2021-03-01, owner: x}",
        "+    physics inventory:",
        '+      bought: "2021-03-01"',
        '+      owner: "y"',
        "-        ipaddr: 10.10.2.2",
        "+        ipaddr: 10.10.2.9",
        "-  spare: {}",
        "+  spare:",
        "+    comment: cold",
    ]
    before = site.lines()
    site.edit_with("s/noatime,nodiratime/noatime/")
    assert site.wwctl("profile edit -y storage").code == 0
    assert changed(before, site.lines()) == [
        "-        mount_options: noatime,nodiratime",
        "+        mount_options: noatime",
    ]


def test_upgrade_keeps_what_it_does_not_change(site: Site) -> None:
    before = site.lines()
    assert site.wwctl("upgrade nodes --add-defaults=true --replace-overlays=false").code == 0
    # This default profile lacks nothing.
    assert site.lines() == before
    old = (FILES / "nodes.conf").read_text().replace("    image name: rocky-9", "    container name: rocky-9")
    old = old.replace("      version: 6.1.90   #", "      override: 6.1.90   #")
    site.nodes_conf.write_text(old)
    assert site.wwctl("upgrade nodes --add-defaults=false --replace-overlays=false").code == 0
    found = changed(old.splitlines(), site.lines())
    assert found == [
        "-    container name: rocky-9",
        "+    image name: rocky-9",
        "-      override: 6.1.90   # 6.6 breaks the old InfiniBand cards",
        "+      version: 6.1.90   # 6.6 breaks the old InfiniBand cards",
    ]
    assert (site.nodes_conf.parent / "nodes.conf-old").read_text() == old
