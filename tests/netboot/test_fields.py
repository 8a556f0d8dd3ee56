import pytest

from images.errors import Error
from netboot.fields import Field, Kind, Scope, known_keys, node_fields


def field(flag: str) -> Field:
    return next(one for one in node_fields() if one.flag == flag)


# Warewulf 4.7's value flags; a drop-in has them all.
FLAGS = (
    "discoverable asset profile comment cluster image ipxe runtime-overlays system-overlays init root primarynet "
    "kernelversion kernelargs ipmiuser ipmipass ipmiaddr ipmigateway ipminetmask ipmiport ipmiinterface ipmiescapechar "
    "ipmiwrite ipmitemplate type onboot netdev hwaddr ipaddr netmask gateway ipaddr6 prefixlen6 gateway6 mtu "
    "diskwipe partnumber partsize parttype partwipe partcreate fsformat fspath fswipe"
)


def test_flags_are_warewulfs() -> None:
    flags = [one.flag for one in node_fields() if one.flag]
    assert sorted(flags) == sorted(FLAGS.split())
    shorts = {one.flag: one.short for one in node_fields() if one.short}
    assert shorts == {
        "discoverable": "e",
        "profile": "P",
        "cluster": "c",
        "runtime-overlays": "R",
        "system-overlays": "O",
        "init": "i",
        "primarynet": "p",
        "kernelargs": "A",
        "type": "T",
        "netdev": "N",
        "hwaddr": "H",
        "ipaddr": "I",
        "netmask": "M",
        "gateway": "G",
    }


def test_paths() -> None:
    names = {Scope.NETWORK: "ib0", Scope.DISK: "/dev/sda", Scope.PARTITION: "root", Scope.FILESYSTEM: "/dev/sdb"}
    assert field("kernelargs").full_path(names) == ("kernel", "args")
    assert field("netdev").full_path(names) == ("network devices", "ib0", "device")
    assert field("partsize").full_path(names) == ("disks", "/dev/sda", "partitions", "root", "size_mib")
    assert field("fswipe").full_path(names) == ("filesystems", "/dev/sdb", "wipe_filesystem")
    assert field("onboot").kind is Kind.BOOLEAN


@pytest.mark.parametrize(
    ("flag", "text", "value"),
    [
        ("profile", "a, b,,c", ["a", "b", "c"]),
        ("kernelargs", 'quiet,"console=ttyS0,115200"', ["quiet", "console=ttyS0,115200"]),
        ("hwaddr", "52-54-00-12-34-AB", "52:54:00:12:34:ab"),
        ("ipaddr", "10.0.0.1", "10.0.0.1"),
        ("ipaddr6", "FD00:0::1", "fd00::1"),
        ("netmask", "255.255.254.0", "255.255.254.0"),
        ("ipminetmask", "255.0.0.0", "255.0.0.0"),
        ("onboot", "Yes", "true"),
        ("ipmiwrite", "0", "false"),
        ("mtu", "9000", "9000"),
        ("comment", "as it, is", "as it, is"),
    ],
)
def test_parse(flag: str, text: str, value: object) -> None:
    assert field(flag).parse(text) == value


@pytest.mark.parametrize(
    ("flag", "text"),
    [
        ("hwaddr", "x"),
        ("ipaddr", "10.0.0"),
        ("ipaddr", "10.0.0.1/24"),
        ("ipaddr6", "fd00::1/64"),
        ("netmask", "255.0.255.0"),
        ("netmask", "0.0.0.0"),
        ("netmask", "24"),
        ("onboot", "maybe"),
        ("mtu", "67"),
        ("mtu", "١٢٣٤"),
        ("prefixlen6", "129"),
        ("ipmiport", "0"),
    ],
)
def test_parse_refuses(flag: str, text: str) -> None:
    with pytest.raises(Error) as caught:
        field(flag).parse(text)
    assert repr(text) in caught.value.message


@pytest.mark.parametrize(
    ("path", "scope"),
    [
        (("network devices", "ib0", "tags", "x"), (Scope.NETWORK, ("ib0",), ("tags", "x"))),
        (("network devices", "ib0"), (Scope.NETWORK, ("ib0",), ())),
        (("network devices",), (Scope.NODE, (), ("network devices",))),
        (("disks", "a", "wipe_table"), (Scope.DISK, ("a",), ("wipe_table",))),
        (("disks", "a", "partitions", "p", "number"), (Scope.PARTITION, ("a", "p"), ("number",))),
        (("filesystems", "a", "path"), (Scope.FILESYSTEM, ("a",), ("path",))),
        (("kernel", "args"), (Scope.NODE, (), ("kernel", "args"))),
    ],
)
def test_scope_of_a_path(path: tuple[str, ...], scope: tuple[object, ...]) -> None:
    assert Scope.of(path) == scope


def test_profiles_lack_what_only_nodes_have() -> None:
    assert [one.flag for one in node_fields() if one.node_only] == ["discoverable", "asset"]


def test_booleans_of_disks_are_typed() -> None:
    assert field("diskwipe").parse("yes") is True
    assert field("fswipe").parse("0") is False
    with pytest.raises(Error, match="neither true nor false"):
        field("partwipe").parse("maybe")


def test_known_keys() -> None:
    keys = known_keys()
    assert "id" not in keys
    assert keys["kernel"] == {"version": None, "args": None}
    assert "hwaddr" in keys["network devices"][...]
    assert keys["resources"] is None
