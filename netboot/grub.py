"""The GRUB script of one boot, for Secure Boot through the distribution's shim: the kernel comes signed, as GRUB wants it.

Debian 12's signed GRUB speaks TFTP only; newer ones speak HTTP too. What a script names lies under the same paths on both.
"""

from enum import Enum

from netboot.cmdline import cmdline
from netboot.ipxe import RETRY_SECONDS, Boot
from netboot.node import Node
from netboot.urls import Event, Stage, Urls


class Device(Enum):
    """How GRUB fetches."""

    HTTP = "http"
    TFTP = "tftp"


def script(node: Node, boot: Boot, urls: Urls, device: Device, *, hwaddr: str, secure: bool = False) -> str:
    """Boot `node` from the machine whose hardware address is `hwaddr`; what fails is shown and tried again.

    `secure` as for iPXE's script.
    """
    prefix = root(urls, device)
    query = f"?generation={boot.generation}"
    lines = [f'echo "bootsvc: {_spoken(node.id)} boots image {_spoken(node.image_name)}"']
    if node.asset_key:
        # SMBIOS type 3 is the enclosure, whose string at offset 8 is the asset tag.
        lines.append("if smbios --type 3 --get-string 8 --set assetkey; then true; fi")
        query += "&assetkey=$assetkey"
    overlays = [Stage.SYSTEM] if secure or urls.tls else [Stage.SYSTEM, Stage.RUNTIME]
    initrds = [
        urls.path_generation_image(boot.generation),
        *(urls.path_stage(stage, hwaddr) + query for stage in overlays),
        urls.path_generation_end(boot.generation),
    ]
    # GRUB hands the archives over itself; `initrd=` would make the kernel look for files of these names.
    arguments = cmdline(node, hwaddr=hwaddr, generation=boot.generation, initrds=())
    quoted = " ".join(_quoted(word) for word in arguments.split(" ") if word)
    lines += [
        f'if linux "{prefix}{urls.path_blob(boot.kernel)}" {quoted}; then',
        "  if initrd " + " ".join(f'"{prefix}{path}"' for path in initrds) + "; then",
        "    boot",
        "  fi",
        "fi",
        # A kernel that Secure Boot refuses gets here, too.
        f'if cat "{prefix}{urls.path_report(hwaddr, Event.FAILED)}"; then true; fi',
        *_say_and_reboot(f"{node.id} could not be booted from {urls.address}"),
    ]
    return "\n".join(lines) + "\n"


def refusal(reason: str) -> str:
    """For a node that cannot boot now: say why on its screen and try again."""
    return "\n".join(_say_and_reboot(reason)) + "\n"


def unknown(hwaddr: str) -> str:
    """For a machine that no node has: say so, then let the firmware go on to its next boot device."""
    lines = [
        f'echo "bootsvc: no node has hardware address {_spoken(hwaddr)}"',
        f'echo "(on the head node: wwctl node add NAME --hwaddr {_spoken(hwaddr)} --image IMAGE)"',
        f"sleep {RETRY_SECONDS}",
        "exit",
    ]
    return "\n".join(lines) + "\n"


def root(urls: Urls, device: Device) -> str:
    """What stands before every path."""
    return f"(tftp,{urls.address})" if device is Device.TFTP else f"(http,{urls.address}:{urls.port})"


def _say_and_reboot(reason: str) -> list[str]:
    return [f'echo "bootsvc: {_spoken(reason)}; trying again in {RETRY_SECONDS} s"', f"sleep {RETRY_SECONDS}", "reboot"]


def _quoted(word: str) -> str:
    """One word of a command, whatever is in it: single quotes keep all but themselves."""
    return "'" + word.replace("'", "'\\''") + "'"


def _spoken(text: str) -> str:
    """Text for between double quotes, in which GRUB expands `$` and takes a backslash for its own."""
    return "".join(char if char.isprintable() and char.isascii() and char not in '$"\\' else "?" for char in text)
