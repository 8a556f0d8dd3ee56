"""Tells systemd how the server is (sd_notify(3)): a datagram to the socket that $NOTIFY_SOCKET names; else nothing happens."""

import asyncio
import logging
import os
import socket
import time

log = logging.getLogger(__name__)


class Notifier:
    """`watchdog_seconds` is the time within which systemd wants a sign of life, or None."""

    def __init__(self) -> None:
        name = os.environ.pop("NOTIFY_SOCKET", "")
        # A name that begins with @ is in the abstract namespace.
        self._address = "\0" + name[1:] if name.startswith("@") else name
        self.watchdog_seconds = _watchdog_seconds(os.environ)

    def ready(self, status: str) -> None:
        self._send(f"READY=1\nSTATUS={status}")

    def reloading(self) -> None:
        self._send(f"RELOADING=1\nMONOTONIC_USEC={time.monotonic_ns() // 1000}\nSTATUS=reading the configuration")

    def stopping(self, seconds: float) -> None:
        """`seconds` is how long that may take; systemd's own limit (TimeoutStopSec) holds where it is longer."""
        self._send(f"STOPPING=1\nEXTEND_TIMEOUT_USEC={int(seconds * 1_000_000)}\nSTATUS=stopping")

    async def beat(self) -> None:
        """A sign of life now and then, for as long as the loop runs."""
        while self.watchdog_seconds is not None:
            self._send("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_seconds / 3)

    def _send(self, text: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK) as sock:
                sock.sendto(text.encode(), self._address)
        except OSError as exc:
            log.debug("systemd is not told %r: %s", text, exc.strerror)


def _watchdog_seconds(environment: "os._Environ[str]") -> float | None:
    pid = environment.pop("WATCHDOG_PID", "")
    microseconds = environment.pop("WATCHDOG_USEC", "")
    if not microseconds.isdecimal() or (pid and pid != str(os.getpid())):
        return None
    return int(microseconds) / 1_000_000 or None
