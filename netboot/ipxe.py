"""The iPXE script of one boot (https://ipxe.org/scripting): pins one generation, names its files in unpacking order."""

from dataclasses import dataclass

from netboot.cmdline import cmdline
from netboot.node import Node
from netboot.urls import Event, Stage, Urls

RETRY_SECONDS = 15
"""How long a message stays on the screen before the machine tries again."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Boot:
    """What a node boots: the generation and the kernel's digest (`sha256:…`)."""

    generation: str
    kernel: str


def script(node: Node, boot: Boot, urls: Urls, *, hwaddr: str, secure: bool = False) -> str:
    """Boot `node` from the machine whose hardware address is `hwaddr`; a failed fetch is reported, shown and tried again.

    With `secure` the server gives runtime overlays to privileged ports only, and the node's wwclient fetches its own.
    """
    fetches = {
        "image": urls.generation_image(boot.generation),
        "system": urls.overlay(Stage.SYSTEM, hwaddr, boot.generation),
        "runtime": urls.overlay(Stage.RUNTIME, hwaddr, boot.generation),
        "end": urls.generation_end(boot.generation),
    }
    if secure or urls.tls:
        del fetches["runtime"]
    arguments = cmdline(node, hwaddr=hwaddr, generation=boot.generation, initrds=tuple(fetches))
    lines = [
        "#!ipxe",
        f"echo bootsvc: {_spoken(node.id)} boots image {_spoken(node.image_name)}",
        f"kernel {urls.blob(boot.kernel)} {arguments} || goto failed",
        *(f"initrd --name {name} {url} || goto failed" for name, url in fetches.items()),
        "boot || goto failed",
        ":failed",
        f"imgfetch --name report {urls.report(hwaddr, Event.FAILED)} ||",
        *_say_and_retry(f"{node.id} could not fetch its files from {urls.base}"),
    ]
    return "\n".join(lines) + "\n"


def refusal(reason: str) -> str:
    """For a node that cannot boot now: say why on its screen and try again, so that it comes up once the cause is mended."""
    return "\n".join(["#!ipxe", *_say_and_retry(reason)]) + "\n"


def unknown(hwaddr: str) -> str:
    """For a machine that no node has: say so, then let the firmware go on to its next boot device."""
    lines = [
        "#!ipxe",
        f"echo bootsvc: no node has hardware address {_spoken(hwaddr)}",
        f"echo (on the head node: wwctl node add NAME --hwaddr {_spoken(hwaddr)} --image IMAGE)",
        f"sleep {RETRY_SECONDS}",
        "exit 1",
    ]
    return "\n".join(lines) + "\n"


def who_are_you(hwaddr: str, again: str | None) -> str:
    """For a machine that no node is: show who it is, and ask `again` at that URL; None: go on to the next boot device."""
    lines = [
        "#!ipxe",
        f"echo bootsvc: no node has hardware address {_spoken(hwaddr)}",
        "echo this machine: ${manufacturer} ${product} serial ${serial} uuid ${uuid} address ${ip}",
        f"echo (on the head node: wwctl node add NAME --hwaddr {_spoken(hwaddr)} --image IMAGE,",
        "echo  or wwctl node set NAME --discoverable to make it that node)",
        f"sleep {RETRY_SECONDS}",
        "exit 1" if again is None else f"chain --replace {again} || exit 1",
    ]
    return "\n".join(lines) + "\n"


def discovered(name: str, url: str) -> str:
    """For a machine that has just become a node: say so, and boot as that node."""
    return f"#!ipxe\necho bootsvc: this machine is now node {_spoken(name)}\nchain --replace {url} || reboot\n"


def _say_and_retry(reason: str) -> list[str]:
    return [f"echo bootsvc: {_spoken(reason)}; trying again in {RETRY_SECONDS} s", f"sleep {RETRY_SECONDS}", "reboot"]


def _spoken(text: str) -> str:
    """Text as `echo` can say it: iPXE would expand `${…}`, and take `||`, `&&`, `#`, quotes and line ends for its own."""
    return "".join(char if char.isprintable() and char.isascii() and char not in '$|&#"\\' else "?" for char in text)
