"""The boot script and the kernel arguments, whole."""

from ipaddress import IPv4Address

from netboot import ipxe
from netboot.cmdline import cmdline
from netboot.node import Kernel, Node
from netboot.urls import Urls

URLS = Urls(address=IPv4Address("10.0.0.100"), port=9873)
GENERATION = "sha256:" + "a" * 64
KERNEL = "sha256:" + "b" * 64
NODE = Node(
    id="n1", image_name="debian-12", init="/sbin/init", kernel=Kernel(args=("quiet", "root=/dev/sda1", "console=ttyS0"))
)


def test_script() -> None:
    boot = ipxe.Boot(generation=GENERATION, kernel=KERNEL)
    base = "http://10.0.0.100:9873"
    wwid = "52-54-00-00-00-01"
    assert ipxe.script(NODE, boot, URLS, hwaddr="52:54:00:00:00:01").splitlines() == [
        "#!ipxe",
        "echo bootsvc: n1 boots image debian-12",
        f"kernel {base}/blobs/{KERNEL} initrd=image initrd=system initrd=runtime initrd=end wwid=52:54:00:00:00:01"
        f" bootsvc.generation={GENERATION} init=/sbin/init quiet console=ttyS0 || goto failed",
        f"initrd --name image {base}/generations/{GENERATION}/image || goto failed",
        f"initrd --name system {base}/system/{wwid}?generation={GENERATION}&assetkey=${{asset:uristring}} || goto failed",
        f"initrd --name runtime {base}/runtime/{wwid}?generation={GENERATION}&assetkey=${{asset:uristring}} || goto failed",
        f"initrd --name end {base}/generations/{GENERATION}/end || goto failed",
        "boot || goto failed",
        ":failed",
        f"imgfetch --name report {base}/report/{wwid}?event=failed ||",
        f"echo bootsvc: n1 could not fetch its files from {base}; trying again in 15 s",
        "sleep 15",
        "reboot",
    ]


def test_root_argument_is_left_out() -> None:
    line = cmdline(NODE, hwaddr="52:54:00:00:00:01", generation=GENERATION)
    assert " root=" not in line


def test_unknown_machine_is_told_what_to_type() -> None:
    lines = ipxe.unknown("52:54:00:00:00:01").splitlines()
    assert lines[0] == "#!ipxe"
    assert "wwctl node add NAME --hwaddr 52:54:00:00:00:01" in lines[2]
    assert lines[-1] == "exit 1"


def test_refusal_says_why_and_tries_again() -> None:
    assert ipxe.refusal("image x has not been built").splitlines() == [
        "#!ipxe",
        "echo bootsvc: image x has not been built; trying again in 15 s",
        "sleep 15",
        "reboot",
    ]
