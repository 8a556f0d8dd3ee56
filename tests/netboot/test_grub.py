"""GRUB's script: what it names, and that no value can put a command into it. GRUB's own parser checks the syntax."""

import subprocess
from collections.abc import Callable
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

import pytest

from netboot import grub
from netboot.grub import Device
from netboot.ipxe import Boot
from netboot.node import Node, to_node
from netboot.urls import Urls

HWADDR = "52:54:00:00:00:01"
BOOT = Boot(generation="sha256:" + "a" * 64, kernel="sha256:" + "b" * 64)
URLS = Urls(address=IPv4Address("10.0.0.1"), port=9873)


def node(**fields: Any) -> Node:
    return to_node("n1", {"image name": "img", **fields})


def made(of: Node, urls: Urls = URLS, device: Device = Device.TFTP) -> str:
    return grub.script(of, BOOT, urls, device, hwaddr=HWADDR)


def test_a_boot_by_tftp() -> None:
    query = f"?generation={BOOT.generation}"
    assert made(node(kernel={"args": ["quiet"]})).splitlines()[:5] == [
        'echo "bootsvc: n1 boots image img"',
        f"if linux \"(tftp,10.0.0.1)/blobs/{BOOT.kernel}\" 'wwid={HWADDR}' 'bootsvc.generation={BOOT.generation}'"
        " 'quiet'; then",
        f'  if initrd "(tftp,10.0.0.1)/generations/{BOOT.generation}/image" "(tftp,10.0.0.1)/system/52-54-00-00-00-01{query}" '
        f'"(tftp,10.0.0.1)/runtime/52-54-00-00-00-01{query}" "(tftp,10.0.0.1)/generations/{BOOT.generation}/end"; then',
        "    boot",
        "  fi",
    ]


def test_what_fails_is_reported() -> None:
    after = made(node()).partition("\nfi\n")[2]
    assert after.startswith('if cat "(tftp,10.0.0.1)/report/52-54-00-00-00-01?event=failed"; then true; fi\n')


def test_by_http_with_an_asset_key_and_tls() -> None:
    script = made(node(**{"asset key": "k"}), Urls(address=IPv4Address("10.0.0.1"), port=80, tls=True), Device.HTTP)
    assert '"(http,10.0.0.1:80)/blobs/' in script
    assert "--set assetkey" in script
    assert "&assetkey=$assetkey" in script
    assert "/runtime/" not in script


HOSTILE = ["a'b", "$(reboot)", '"; reboot; "', "a;reboot", "a\\", "{x}", "#x", "a&b|c"]


@pytest.mark.parametrize("word", HOSTILE)
def test_grub_takes_it_as_it_is_meant(tmp_path: Path, require_tool: Callable[..., Path], word: str) -> None:
    check = require_tool("grub-script-check", package="grub-common")
    path = tmp_path / "grub.cfg"
    path.write_text(made(node(kernel={"args": [word, "last"]}, **{"image name": word})))
    subprocess.run([str(check), str(path)], check=True)
    assert 'echo "bootsvc: n1 boots image ' in path.read_text()
    for script in (grub.refusal(word), grub.unknown(word)):
        path.write_text(script)
        subprocess.run([str(check), str(path)], check=True)
