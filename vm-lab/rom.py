"""The network card's own iPXE, made to behave as any other PXE ROM does."""

import re

from console import Console

PROMPT = r"iPXE> "
BANNER = "Press Ctrl-B for the iPXE command line"
CTRL_B = b"\x02"
BANNER_SECONDS = 60.0
PROMPT_SECONDS = 20.0


async def be_ordinary(console: Console) -> None:
    """At iPXE's prompt: ask DHCP without iPXE's user class, by which servers know it, and boot what they answer."""
    await console.wait(BANNER, BANNER_SECONDS)
    console.write(CTRL_B)
    await console.wait(PROMPT, PROMPT_SECONDS)
    await _type(console, "set user-class any-rom")
    await console.wait(PROMPT, PROMPT_SECONDS)
    await _type(console, "autoboot net0")


async def _type(console: Console, command: str) -> None:
    """A key at a time: the BIOS keeps no more than fifteen."""
    for key in command:
        console.write(key.encode())
        await console.wait(re.escape(key), PROMPT_SECONDS)
    console.write(b"\r")
